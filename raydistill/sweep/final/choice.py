"""The choice between near-equal trials: each is trained with every seed, and the best mean on validation wins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from raydistill.records.journal import TrialRecord
from raydistill.records.noise import near_best
from raydistill.sweep.final.finalists import FinalConfig
from raydistill.sweep.settings import SweepSettings

Runs = dict[tuple[str, int], TrialRecord]


@dataclass(frozen=True)
class Choice:
    """Final configurations after their runs.

    `chosen` stand in the table under the names of their places, and are scored on test. `passed_over` lost theirs to
    a near-equal trial. `runs` has the runs of both, by name and seed.
    """

    chosen: list[FinalConfig]
    passed_over: list[FinalConfig]
    runs: Runs

    def finished(self) -> Runs:
        """The runs that came to their end."""
        return {run: record for run, record in self.runs.items() if record.outcome == "finished"}


# docs/architecture.md#seeds-between-near-equal-trials
def candidates(settings: SweepSettings, ranked: list[TrialRecord], trials: int) -> list[TrialRecord]:
    """Return the trials among which the seeds choose: those within one standard error of the best, and not too many.

    Args:
        settings: of the sweep, which say how many at most.
        ranked: trials of one search that were trained to the end, best first.
        trials: that the search was to try.
    """
    metric = settings.space.metric
    values = [record.last(metric) or 0.0 for record in ranked]
    seeds = [record.seed_scores(metric) for record in ranked]
    return ranked[: min(near_best(metric, values, settings.validation_images, seeds), settings.candidates(trials))]


def choose(
    final_configs: list[FinalConfig], runs: Mapping[tuple[str, int], TrialRecord], metric: str, goal: str
) -> Choice:
    """Choose the best configuration of each place by its mean validation score over the seeds, never by test.

    A configuration of which a run failed loses to one that has more seeds. Of equals the first one wins.

    Args:
        final_configs: one or more for each place.
        runs: of all of them, by name and seed.
        metric: validation score of the search.
        goal: maximize or minimize.
    """
    places: dict[str, list[FinalConfig]] = {}
    for final_config in final_configs:
        places.setdefault(final_config.place or final_config.name, []).append(final_config)
    sign = 1 if goal == "maximize" else -1

    def worth(final_config: FinalConfig) -> tuple[int, float]:
        found = scores(final_config.name, runs, metric)
        return len(found), sign * sum(found) / len(found) if found else 0.0

    best = {place: max(several, key=worth) for place, several in places.items()}
    passed_over = [each for place, several in places.items() for each in several if each is not best[place]]
    passed_over.sort(key=worth, reverse=True)
    names = {final_config.name: place for place, final_config in best.items()}
    return Choice(
        [replace(final_config, name=place, place="") for place, final_config in best.items()],
        passed_over,
        {(names.get(name, name), seed): record for (name, seed), record in runs.items()},
    )


def scores(name: str, runs: Mapping[tuple[str, int], TrialRecord], metric: str) -> list[float]:
    """Return the scores of a configuration's runs that finished.

    Args:
        name: of the configuration.
        runs: of all configurations, by name and seed.
        metric: which score.
    """
    ended = [record for (run, _), record in runs.items() if run == name and record.outcome == "finished"]
    return [value for record in ended if (value := record.own(metric)) is not None]
