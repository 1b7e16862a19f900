"""Adapts a search space to what a sweep has: its images, and the teachers that it was given. Free of torch and Ray."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from raydistill.config import ConfigError
from raydistill.sweep.search.space import Parameter, Space

ALSO_OF_GIVEN_TEACHERS = ("teacher.sources", "teacher.format", "teacher.bank")


def fit_to_images(space: Space, images: int, notify: Callable[[str], None], *, shipped: bool = False) -> Space:
    """Drop the values that `at_most` does not allow, and what depends on them alone.

    Args:
        space: the search space.
        images: training images.
        notify: gets a line for each parameter that loses values.
        shipped: whether the space is the package's own, of which a parameter that keeps no value is not searched.

    Returns: the space with plain lists and ranges.
    Raises: ConfigError for a parameter of a space of one's own that keeps no value, and if nothing is left to search.
    """
    if shipped:
        kept = tuple(each for each in space.parameters if leaves_a_value(each, images))
        gone = [each.path for each in space.parameters if each not in kept]
        if gone and kept:
            notify(f"{', '.join(gone)}: not searched, since all values are too large for {images} training images")
            space = replace(space, parameters=_without(kept, gone))
    fitted: list[Parameter] = []
    limited: dict[str, Parameter] = {}
    for parameter in space.parameters:
        when = {
            parent: tuple(value for value in values if parent not in limited or limited[parent].contains(value))
            for parent, values in parameter.when.items()
        }
        fitted.append(replace(parameter, when=when))
        if parameter.divisor is not None:
            fitted[-1] = limited[parameter.path] = _fitted(fitted[-1], images, notify)
    never = [p.path for p in fitted if not all(p.when.values())]
    if never:
        notify(f"{', '.join(never)}: not searched, since nothing is left of the values that this depends on")
    return replace(space, parameters=_without(fitted, never))


def leaves_a_value(parameter: Parameter, images: int | None) -> bool:
    """Return whether `at_most` leaves something of a parameter, whose value None is for any number of images."""
    if parameter.divisor is None or images is None or None in parameter.values:
        return True
    least = parameter.low if parameter.low is not None else min(parameter.values)
    limit = images // parameter.divisor
    return least <= limit if parameter.values else least < limit


def without_teacher_settings(space: Space, notify: Callable[[str], None]) -> Space:
    """Drop the parameters that decide how teachers are trained, of a sweep whose teachers are given.

    Raises: ConfigError if nothing is left to search.
    """
    useless = [
        p.path for p in space.parameters if p.path.startswith("teacher.") and p.path not in ALSO_OF_GIVEN_TEACHERS
    ]
    if not useless:
        return space
    kept = _without(space.parameters, useless)
    if not kept:
        raise ConfigError(f"{', '.join(useless)}: the teachers are given, so there is nothing to search")
    notify(f"{', '.join(useless)}: not searched, since the teachers are given")
    return replace(space, parameters=kept)


def _without(parameters: Sequence[Parameter], paths: Collection[str]) -> tuple[Parameter, ...]:
    """The parameters without some of them, and without those that depend on these. Parents come first."""
    gone = set(paths)
    for parameter in parameters:
        if gone & parameter.when.keys():
            gone.add(parameter.path)
    return tuple(parameter for parameter in parameters if parameter.path not in gone)


def _fitted(parameter: Parameter, images: int, notify: Callable[[str], None]) -> Parameter:
    assert parameter.divisor is not None
    key, limit = f"parameters.{parameter.path}", images // parameter.divisor
    because = f"{limit} (at_most: {parameter.at_most})"
    if parameter.low is not None and parameter.high is not None:
        if parameter.low >= limit:
            raise ConfigError(f"{key}.min = {parameter.low!r}: leaves nothing to search up to {because}")
        if parameter.high > limit:
            notify(f"{parameter.path}: searched up to {because}")
        return replace(parameter, high=min(parameter.high, limit), divisor=None)
    kept = tuple(value for value in parameter.values if value is None or value <= limit)
    if not kept:
        raise ConfigError(f"{key}.values = {list(parameter.values)!r}: all are above {because}")
    if left_out := [str(value) for value in parameter.values if value not in kept]:
        notify(f"{parameter.path}: {', '.join(left_out)} left out: above {because}")
    return replace(parameter, values=kept, divisor=None)
