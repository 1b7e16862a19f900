"""Checks of the baselines beside every winner that the search space allows, before Ray starts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from raydistill import config as configuration
from raydistill.config import Config, ConfigError
from raydistill.sweep.plan import SweepPlan
from raydistill.sweep.preflight.checks import decisive_combinations
from raydistill.sweep.search.baselines import Baseline, baselines_of, incomparable


def check_baselines(plan: SweepPlan, build: Callable[[Config], object]) -> tuple[str, ...]:
    """Refuse a baseline that cannot be built beside one of the winners that the search may find.

    A baseline that takes one teacher is refused beside several, searched or fixed: with one of them alone it would
    know less than the winner, and the number of teachers would be compared instead of the methods.

    Args:
        plan: of the sweep.
        build: builds the method of a configuration.

    Returns: the names of those that may get a row with their own augmentation.
    Raises: ConfigError, which names the baseline, the winner's settings and what `build` said.
    """
    tried = set()
    own_augmentations: dict[str, None] = {}
    for chosen, baseline, winner in _compared(plan):
        try:
            config = plan.baseline_config(baseline, winner)
            made_of = (baseline.name, config.method, config.teacher if config.method.teacher_output() else None)
            if made_of in tried:
                continue
            tried.add(made_of)
            build(config)
            if plan.with_own_augmentation(baseline, config) is not None:
                own_augmentations[baseline.name] = None
        except ValueError as error:
            problem = str(error).removeprefix(f"baseline {baseline.name}: ")
            if not chosen:
                raise ConfigError(f"baseline {baseline.name}: {problem}") from None
            shown = ", ".join(f"{path} = {value!r}" for path, value in chosen.items())
            raise ConfigError(
                f"baseline {baseline.name}: {problem}, if the search finds {shown}; narrow the search with --set, or "
                "leave the baseline out"
            ) from None
    return tuple(own_augmentations)


def describe_baselines(plan: SweepPlan, notify: Callable[[str], None]) -> None:
    """Say what is special about the baselines of the base configuration.

    Args:
        plan: of the sweep.
        notify: gets the lines.
    """
    settings = plan.settings
    for baseline in baselines_of(settings.baselines, settings.base):
        if settings.preset != plan.baseline_preset(baseline):
            notify(
                f"baseline {baseline.name}: {baseline.method} has no preset {settings.preset!r}; its own settings are "
                f"those of {plan.baseline_preset(baseline)!r}"
            )
        if not settings.baseline_trials:
            continue
        if paths := incomparable(baseline, settings.space, settings.base.method.name):
            notify(
                f"baseline {baseline.name}: {', '.join(paths)} not searched, since metric.name = 'loss' does not "
                "compare between their values"
            )
        if not plan.baseline_space(baseline, plan.baseline_config(baseline, settings.base)).parameters:
            notify(f"baseline {baseline.name}: there is nothing to search, so it is only trained")


def _compared(plan: SweepPlan) -> Iterator[tuple[dict[str, Any], Baseline, Config]]:
    """Yield each baseline beside the base configuration, then beside every winner that decides how it is built.

    With them go the winner's settings that are not those of the base configuration.
    """
    settings = plan.settings
    base = configuration.dump(settings.base)
    for chosen in ({}, *decisive_combinations(settings)):
        try:
            winner = settings.resolve(chosen)
        except ConfigError:  # such a trial fails, and wins nothing
            continue
        changed = {}
        for path, value in chosen.items():
            section, _, name = path.partition(".")
            if base[section].get(name) != value:
                changed[path] = value
        for baseline in baselines_of(settings.baselines, winner):
            yield changed, baseline, winner
