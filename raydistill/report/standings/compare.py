"""Standings: configurations of several sweeps, ranked where their conditions are equal, and what keeps others out."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from raydistill.records.intervals import Estimate, estimate

FACTORS = ("data", "student", "budget", "protocol")
METRICS = ("test_probe", "test_knn")
Scores = Mapping[str, Mapping[Hashable, float]]


@dataclass(frozen=True)
class Unknown:
    """Value that nothing in the store tells. Within a sweep it equals itself, between sweeps nothing."""

    sweep: str

    def __str__(self) -> str:
        return "unknown"


Parts = tuple[tuple[str, "str | Unknown"], ...]


@dataclass(frozen=True)
class Conditions:
    """The four things that must be equal before two scores are compared, each as named values.

    Args:
        data: the images and their splits.
        student: the network, and the size of the images that it sees.
        budget: the length of its training, and how many trials its settings were searched with.
        protocol: of k-NN and linear probe.
    """

    data: Parts
    student: Parts
    budget: Parts
    protocol: Parts

    def differences(self, other: Conditions) -> list[str]:
        """The values that differ from another's, by factor: `budget: epochs 16 instead of 8`."""
        found = []
        for factor in FACTORS:
            ours, theirs = dict(getattr(self, factor)), dict(getattr(other, factor))
            names = [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]
            changes = [f"{name} {_against(ours.get(name), theirs.get(name))}" for name in names]
            found += [f"{factor}: {', '.join(changes)}"] if changes else []
        return found


@dataclass(frozen=True)
class Contender:
    """One configuration with its scores on test.

    Args:
        method: that trained it; of a baseline with settings of its own its name, `dogo-lambda_kd-0`.
        name: of its row in the sweep's table: `dogo`, `simclr-searched`, `pixels`.
        conditions: under which it was trained and scored.
        configuration: all its settings but the seeds, as text; equal ones are one configuration.
        scores: by metric and seed.
        sweeps: names of the sweeps that have it.
        views: augmentation of the student's views.
        source: name of the data.
        settings: the searched ones.
        reference: whether no method trained it as a student: raw pixels, the untrained student, a teacher.
    """

    method: str
    name: str
    conditions: Conditions
    configuration: str
    scores: Scores
    sweeps: tuple[str, ...]
    views: str = ""
    source: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    reference: bool = False

    def estimate(self, metric: str) -> Estimate | None:
        """Mean over seeds with its 95 % interval; None without such a score."""
        values = self.scores.get(metric)
        return estimate(values.values()) if values else None

    @property
    def seeds(self) -> int:
        """Number of seeds that have any score."""
        return len({seed for values in self.scores.values() for seed in values})


@dataclass(frozen=True)
class Standing:
    """All configurations under equal conditions, best first, and the references of their sweeps."""

    conditions: Conditions
    rows: tuple[Contender, ...]
    references: tuple[Contender, ...] = ()

    @property
    def methods(self) -> list[str]:
        """The methods of its rows, by the best of each."""
        return list(dict.fromkeys(row.method for row in self.rows))

    @property
    def sweeps(self) -> list[str]:
        """The sweeps of its rows."""
        return sorted({sweep for row in self.rows for sweep in row.sweeps})

    @property
    def comparable(self) -> bool:
        """True where it has several methods."""
        return len(self.methods) > 1


def standings(contenders: Iterable[Contender], metric: str) -> list[Standing]:
    """Rank configurations where data, student, budget and protocol are all equal; the largest standing comes first.

    Equal configurations are one row, whose seeds are those of all their sweeps. A seed that several sweeps have counts
    once. Where its scores differ, the rows stay apart, since they are no further draws.
    """
    by_conditions: dict[Conditions, list[Contender]] = {}
    for contender in contenders:
        by_conditions.setdefault(contender.conditions, []).append(contender)
    found = [
        Standing(
            conditions,
            tuple(_ranked(pool(each for each in several if not each.reference), metric)),
            tuple(_ranked(pool(each for each in several if each.reference), metric)),
        )
        for conditions, several in by_conditions.items()
    ]
    return sorted(
        (each for each in found if each.rows),
        key=lambda each: (-len(each.methods), -len(each.rows), each.sweeps, str(each.conditions)),
    )


def pool(contenders: Iterable[Contender]) -> list[Contender]:
    """Make one of those that share conditions and configuration, unless a common seed has different scores."""
    found: dict[tuple[Conditions, str, bool], list[Contender]] = {}
    for contender in contenders:
        own = found.setdefault((contender.conditions, contender.configuration, contender.reference), [])
        for i, other in enumerate(own):
            if _agree(contender.scores, other.scores):
                own[i] = _joined(other, contender)
                break
        else:
            own.append(contender)
    return [each for several in found.values() for each in several]


def measure(standing: Standing, others: Sequence[Standing]) -> Standing | None:
    """The standing that another is held against: the largest one with several methods, else the largest; None alone."""
    rest = [each for each in others if each is not standing]
    return next((each for each in rest if each.comparable), next(iter(rest), None))


def _agree(ours: Scores, theirs: Scores) -> bool:
    ours_seeds, theirs_seeds = ({seed for values in each.values() for seed in values} for each in (ours, theirs))
    return all(
        ours.get(metric, {}).get(seed) == theirs.get(metric, {}).get(seed)
        for seed in ours_seeds & theirs_seeds
        for metric in {*ours, *theirs}
    )


def _joined(first: Contender, second: Contender) -> Contender:
    scores = {
        metric: {**first.scores.get(metric, {}), **second.scores.get(metric, {})}
        for metric in {**first.scores, **second.scores}
    }
    return replace(first, scores=scores, sweeps=tuple(dict.fromkeys((*first.sweeps, *second.sweeps))))


def _ranked(contenders: Iterable[Contender], metric: str) -> list[Contender]:
    def place(contender: Contender) -> tuple[bool, float, str, tuple[str, ...]]:
        found = contender.estimate(metric)
        return found is None, -found.mean if found else 0.0, contender.name, contender.sweeps

    return sorted(contenders, key=place)


def _against(ours: str | Unknown | None, theirs: str | Unknown | None) -> str:
    if isinstance(ours, Unknown) and isinstance(theirs, Unknown):
        return "unknown in both"
    return f"{_shown(ours)} instead of {_shown(theirs)}"


def _shown(value: str | Unknown | None) -> str:
    return "none" if value is None else str(value)
