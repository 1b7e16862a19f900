"""Checks of a search space against the sweep's data and workers, before Ray starts. Free of torch and Ray."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

from raydistill.config import Config, ConfigError, paths, takes
from raydistill.sweep.search.space import Parameter, Space
from raydistill.sweep.settings import SweepSettings

BATCH_SIZE = "data.batch_size"
COMPANIES = 32  # draws of the other parameters in which a value is tried
MAX_COMBINATIONS = 256  # beyond so many, each value is tried beside a few draws of the others


def check_batch_sizes(space: Space, workers: int, images: int) -> None:
    """Refuse a space whose `data.batch_size` can take a value that `workers` or `images` do not allow.

    Args:
        space: the search space.
        workers: of a pack; a batch must divide among them.
        images: training images; a batch may not be larger.

    Raises:
        ConfigError: names the parameter, the value and what would be accepted.
    """
    for parameter in space.parameters:
        if parameter.path == BATCH_SIZE:
            for value in _telling(parameter):
                _check(value, workers, images)


def check_values(plan: SweepSettings, build: Callable[[Config], object]) -> None:
    """Refuse a space with a value of the method that cannot be built, whatever is beside it.

    Real numbers have only bounds, which the space's reader has checked; names, lists and whole numbers may ask for a
    network that there is not, or for more than the data have.

    Raises: ConfigError, which names the parameter, the value and what `build` said.
    """
    fields = paths(plan.base.method.name)
    for parameter in plan.space.parameters:
        if parameter.path.startswith("method.") and not takes(fields[parameter.path], float):
            for value in _telling(parameter):
                if (problem := _problem(plan, parameter, value, build)) is not None:
                    raise ConfigError(f"parameters.{parameter.path} = {value!r}: {problem}")


def _problem(
    plan: SweepSettings, parameter: Parameter, value: Any, build: Callable[[Config], object]
) -> ValueError | None:
    """Return the error of a value in every combination; None: it can be built in one of them."""
    problem = None
    for chosen in _companies(plan.space, parameter, value, COMPANIES):
        try:
            build(plan.resolve(chosen))
        except ValueError as error:
            problem = error
        else:
            return None
    return problem


def decisive_combinations(plan: SweepSettings) -> list[dict[str, Any]]:
    """Return the searched values that decide which networks there are, in every combination: names, lists, counts.

    Of a range of whole numbers they are the first two and the last. Where there are too many combinations, each value
    stands beside a few draws of the others.
    """
    fields = paths(plan.base.method.name)
    parameters = plan.space.parameters
    wanted = {
        p.path for p in parameters if p.path.startswith(("method.", "teacher.")) and not takes(fields[p.path], float)
    }
    for parameter in reversed(parameters):  # parents come before the parameters that depend on them
        if parameter.path in wanted:
            wanted |= parameter.when.keys()
    decisive = tuple(
        replace(p, distribution="categorical", values=tuple(_telling(p)), low=None, high=None, q=None)
        for p in parameters
        if p.path in wanted
    )
    space = replace(plan.space, parameters=decisive)
    found = list(islice(space.combinations(), MAX_COMBINATIONS + 1))
    if len(found) <= MAX_COMBINATIONS:
        return found
    draws = max(1, MAX_COMBINATIONS // sum(len(p.values) for p in decisive))
    return [each for p in decisive for value in p.values for each in _companies(space, p, value, draws)]


def _companies(space: Space, parameter: Parameter, value: Any, draws: int) -> Iterator[dict[str, Any]]:
    """Yield settings in which a parameter has a value and the others are drawn; at most so many."""
    rng = random.Random(0)

    def suggest(other: Parameter) -> Any:
        if other.path == parameter.path:
            return value
        wanted = parameter.when.get(other.path)
        return other.sample(rng) if wanted is None else rng.choice(wanted)

    for _ in range(draws):
        chosen = space.propose(suggest)
        if parameter.path in chosen:
            yield chosen


def _check(value: Any, workers: int, images: int) -> None:
    if value % workers:
        problem = f"does not divide among {workers} workers; use multiples of {workers} (q_uniform for a range)"
    elif value > images:
        problem = f"is larger than the {images} training images; use at most {images - images % workers}"
    else:
        return
    raise ConfigError(f"parameters.{BATCH_SIZE} = {value!r}: {problem}")


def _telling(parameter: Parameter) -> list[Any]:
    """Every value; of a range, which may be very long, the first two, whose step all others repeat, and the last."""
    if parameter.high is None:
        return list(parameter.values)
    return [*islice(parameter.points(), 2), parameter.round(parameter.high)]
