"""The rows of teachers: one for each teacher that differs, named by what tells it from the others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from raydistill.records.journal import TrialRecord
from raydistill.sweep.final.choice import Choice
from raydistill.sweep.settings import SweepSettings

TEACHER = "teacher"
Place = tuple[str, int]  # a configuration, and the position among its teachers, from 0


@dataclass(frozen=True)
class TeacherRow:
    """A teacher and its row.

    Args:
        name: `teacher`; of several `teacher-` and what tells them apart.
        keys: in the store; several where each seed of a final has a teacher of its own.
        arms: that learned from it, in the order of the file.
        taught: a run that learned from it.
    """

    name: str
    keys: tuple[str, ...]
    arms: tuple[str, ...]
    taught: TrialRecord


@dataclass(frozen=True)
class Referred:
    """Runs and teachers that the references are made from.

    Args:
        of: the configuration whose untrained student has a row.
        runs: its runs that came to their end, one for each seed.
        teachers: of a search those of its winner, of an experiment those of all arms.
    """

    of: str
    runs: list[TrialRecord]
    teachers: list[TeacherRow]

    def described(self) -> dict[str, object]:
        """Return what an experiment's table says about its references."""
        return {"references_of": self.of, "teachers_of": {row.name: list(row.arms) for row in self.teachers}}


def refer(settings: SweepSettings, choice: Choice) -> Referred:
    """Choose what the references are made from: the winner, or the first arm with a teacher, and all arms' teachers.

    The order is that of the file, so that a resume chooses the same arm whatever the scores became.

    Args:
        settings: the sweep.
        choice: its final configurations and their runs.
    """
    order = [arm.name for arm in settings.arms] or [choice.chosen[0].name]
    runs: dict[str, list[TrialRecord]] = {name: [] for name in order}
    for (name, _), record in choice.finished().items():
        if name in runs:
            runs[name].append(record)
    ended = {name: found for name, found in runs.items() if found}
    taught = next((name for name, found in ended.items() if found[0].spec.teachers), None)
    of = taught or next(iter(ended), order[0])
    return Referred(of, runs[of], teacher_rows(ended, settings.experiment.get("teacher_labels", {})))


def teacher_rows(runs: Mapping[str, Sequence[TrialRecord]], labels: Mapping[str, Sequence[str]]) -> list[TeacherRow]:
    """A row for each teacher that differs, in the order of the configurations.

    A teacher is named by its label where labels tell all of them apart, else by its position, else by the first
    configuration that has it.

    Args:
        runs: of each configuration, at least one.
        labels: of each configuration's teachers, in their order; none where there are no names.
    """
    keys: list[dict[str, None]] = []
    places: list[list[Place]] = []
    for name, records in runs.items():
        for position, column in enumerate(zip(*(record.spec.teachers or () for record in records), strict=True)):
            same = next((index for index, known in enumerate(keys) if not known.keys().isdisjoint(column)), None)
            if same is None:
                keys.append({})
                places.append([])
                same = len(keys) - 1
            keys[same] |= dict.fromkeys(column)
            places[same].append((name, position))
    names = _names(places, labels)
    return [
        TeacherRow(name, tuple(own), tuple(dict.fromkeys(arm for arm, _ in at)), runs[at[0][0]][0])
        for name, own, at in zip(names, keys, places, strict=True)
    ]


def _names(places: Sequence[Sequence[Place]], labels: Mapping[str, Sequence[str]]) -> list[str]:
    """The rows' names, by the places of each teacher."""
    if len(places) == 1:
        return [TEACHER]
    by_label = [{labels[arm][at] for arm, at in own if at < len(labels.get(arm, ()))} for own in places]
    if all(by_label) and _apart(min(each) for each in by_label):
        return [f"{TEACHER}-{min(each)}" for each in by_label]
    positions = [{at for _, at in own} for own in places]
    if all(len(each) == 1 for each in positions) and _apart(at for each in positions for at in each):
        return [f"{TEACHER}-{min(each) + 1}" for each in positions]
    counts = {arm: sum(arm == other for own in places for other, _ in own) for own in places for arm, _ in own}
    first = [own[0] for own in places]
    return [f"{TEACHER}-{arm}" if counts[arm] == 1 else f"{TEACHER}-{arm}-{at + 1}" for arm, at in first]


def _apart(values: Iterable[object]) -> bool:
    """Return whether no value comes twice."""
    found = list(values)
    return len(set(found)) == len(found)
