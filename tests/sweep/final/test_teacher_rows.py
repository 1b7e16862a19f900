"""Rows of teachers: which ones differ, what they are called, and which are scored again after a resume."""

import itertools
from types import SimpleNamespace

import pytest
from helpers.builders.runs import TINY
from hypothesis import given
from hypothesis import strategies as st

from raydistill import config
from raydistill.experiments.catalogue import load_experiment
from raydistill.experiments.scales import Given, load_scale, scaled, scaled_anyway
from raydistill.experiments.table import describe_experiment, protocol_note
from raydistill.records.journal import TrialRecord
from raydistill.sweep.final import references
from raydistill.sweep.final.choice import Choice
from raydistill.sweep.final.references import kept_rows
from raydistill.sweep.final.teacher_rows import Referred, refer, teacher_rows

TAUGHT = config.dump(config.load({"method": "simreg"}))


def runs(*teachers):
    """A run for each seed; the arguments are the keys of its teachers, none of a method without any."""
    found = []
    for seed, keys in enumerate(teachers):
        method = {"method": "simreg", "teacher": {"count": len(keys)}} if keys else {"method": TINY}
        plain = config.dump(config.load(method))
        found.append(TrialRecord(f"seed{seed}", {}, plain, keys={"teachers": list(keys)} if keys else {}))
    return found


def named(arms, labels=None):
    return {row.name: (row.keys, row.arms) for row in teacher_rows(arms, labels or {})}


def test_one_teacher_of_all_arms_is_called_teacher():
    arms = {"simclr": runs((), ()), "deep": runs(("a",), ("a",)), "linear": runs(("a",))}
    assert named(arms, {"deep": ["resnet50"]}) == {"teacher": (("a",), ("deep", "linear"))}
    assert named({"simclr": runs((), ())}) == {}


def test_different_teachers_have_the_names_by_which_they_are_given():
    arms = {"from-50": runs(("a",), ("a",)), "from-101": runs(("b",)), "small-from-50": runs(("a",))}
    labels = {"from-50": ["resnet50"], "from-101": ["resnet101"], "small-from-50": ["resnet50"]}
    assert named(arms, labels) == {
        "teacher-resnet50": (("a",), ("from-50", "small-from-50")),
        "teacher-resnet101": (("b",), ("from-101",)),
    }


def test_names_that_do_not_tell_them_apart_give_way_to_the_arms():
    arms = {"short": runs(("a",)), "long": runs(("b",)), "again": runs(("b",))}
    labels = {arm: ["resnet50"] for arm in arms}
    assert list(named(arms, labels)) == ["teacher-short", "teacher-long"]
    arms = {"pair": runs(("a", "b")), "other": runs(("c",))}
    assert list(named(arms)) == ["teacher-pair-1", "teacher-pair-2", "teacher-other"]


def test_several_teachers_of_an_arm_are_numbered_and_shared_by_position():
    arms = {"one": runs(("a",)), "two": runs(("a", "b")), "three": runs(("a", "b", "c"))}
    assert named(arms) == {
        "teacher-1": (("a",), ("one", "two", "three")),
        "teacher-2": (("b",), ("two", "three")),
        "teacher-3": (("c",), ("three",)),
    }
    assert list(named({"all": runs(("a", "b"))}, {"all": ["byol", "swav"]})) == ["teacher-byol", "teacher-swav"]


def test_teachers_that_the_seeds_redraw_are_entries_of_one_row():
    """An arm of which a seed failed has a part of them."""
    arms = {"deep": runs(("a0",), ("a1",)), "linear": runs(("a1",))}
    assert named(arms) == {"teacher": (("a0", "a1"), ("deep", "linear"))}


@given(
    st.dictionaries(st.sampled_from("pqrst"), st.lists(st.sampled_from("abcd"), max_size=3, unique=True), min_size=1),
    st.dictionaries(st.sampled_from("pqrst"), st.lists(st.sampled_from(["n", "m"]), max_size=3)),
)
def test_every_teacher_has_one_row_and_names_differ(arms, labels):
    rows = teacher_rows({arm: runs(tuple(keys)) for arm, keys in arms.items()}, labels)
    keys = list(itertools.chain.from_iterable(row.keys for row in rows))
    assert sorted(keys) == sorted(set(itertools.chain.from_iterable(arms.values())))
    assert len({row.name for row in rows}) == len(rows)
    for row in rows:
        assert all(set(row.keys) <= set(arms[arm]) for arm in row.arms)


def test_an_experiment_refers_to_its_first_arm_with_a_teacher_that_came_to_its_end():
    records = {
        ("alone", 0): runs(())[0],
        ("failed", 0): runs(("a",))[0],
        ("deep", 0): runs(("b",))[0],
        ("linear", 0): runs(("a",))[0],
    }
    for (name, _), record in records.items():
        record.outcome = "failed" if name == "failed" else "finished"
    arms = tuple(SimpleNamespace(name=name) for name in ("alone", "failed", "deep", "linear"))
    settings = SimpleNamespace(arms=arms, experiment={"teacher_labels": {"deep": ["x"], "linear": ["y"]}})
    best_first = Choice([SimpleNamespace(name=name) for name in ("linear", "deep", "alone", "failed")], [], records)
    found = refer(settings, best_first)
    assert found.of == "deep"
    assert found.runs == [records["deep", 0]]
    assert found.described() == {
        "references_of": "deep",
        "teachers_of": {"teacher-x": ["deep"], "teacher-y": ["linear"]},
    }


@pytest.mark.parametrize(
    ("name", "scale", "labels"),
    [
        ("sssd/label-fractions", "cpu", {"r50-200": ["resnet50"], "r101-200": ["resnet101"]}),
        ("simreg/teachers", "cpu", {"byol-simreg": ["byol"], "swav-simreg": ["swav"]}),
        ("simreg/multi-teacher", "paper", {"linear-moco-swav": ["moco", "swav"]}),
        ("simreg/multi-teacher", "cpu", {"linear-three": []}),  # MoCo v2's, of other seeds
        ("ours/simreg-many-teachers", "cpu", {"one": ["resnet50"], "two": []}),
    ],
)
def test_labels_are_those_of_the_file(name, scale, labels):
    found = describe_experiment(scaled_anyway(load_experiment(name), load_scale(scale)))["teacher_labels"]
    assert {arm: found[arm] for arm in labels} == labels


def test_labels_of_given_teachers_are_the_names_they_are_given_by():
    given_teachers = Given(teachers=("moco=a.pt", "byol=b.pt", "swav=c.pt"))
    ready = scaled(load_experiment("simreg/multi-teacher"), load_scale("cpu"), given_teachers)
    assert describe_experiment(ready)["teacher_labels"]["4-layers-three"] == ["moco", "byol", "swav"]


def test_published_teachers_have_names_that_rows_can_have():
    """A row of a published teacher stands beside ours only if both have one name."""
    experiment = load_experiment("simreg/teachers")
    described = describe_experiment(scaled_anyway(experiment, load_scale("cpu")))
    arms = {arm: runs((labels[0],)) for arm, labels in described["teacher_labels"].items()}
    rows = named(arms, described["teacher_labels"])
    assert {name for name in experiment.published if name.startswith("teacher")} == set(rows)
    note = protocol_note({**described, "teachers_of": {name: list(of) for name, (_, of) in rows.items()}})
    assert "Teachers: teacher-byol of byol-compress-2q, byol-compress-1q, byol-simreg; teacher-swav of swav-" in note


def stored(rows, **changes):
    made = {"config": TAUGHT, "teachers": ["a"], "runs": {"final-deep-seed0": {"epoch": 1}}, "rows": rows}
    names = ["pixels", "untrained", *rows]
    entries = [{"name": name, "settings": {}, "epochs": 0, "scores": [{"test_knn": 0.5}]} for name in names]
    return {"of": made | changes, "rows": entries}


def test_a_resume_keeps_every_row_that_follows_from_the_same():
    rows = {"teacher-a": ["a"], "teacher-b": ["b"]}
    made = stored(rows)["of"]
    assert set(kept_rows(stored(rows), made)) == {"pixels", "untrained", *rows}
    # Another checkpoint is another student; pixels and teachers are as they were.
    assert set(kept_rows(stored(rows), made | {"runs": {"final-deep-seed0": {"epoch": 2}}})) == {"pixels", *rows}
    # A teacher that is new is scored, and one whose name changed is not.
    later = made | {"rows": {"teacher-1": ["a"], "teacher-2": ["c"]}}
    kept = kept_rows(stored(rows), later)
    assert set(kept) == {"pixels", "untrained", "teacher-1"}
    assert kept["teacher-1"].name == "teacher-1"
    # Other scores: nothing is as it was.
    other = config.dump(config.load({"method": "simreg", "eval": {"knn": "dino"}}))
    assert kept_rows(stored(rows), made | {"config": other}) == {}
    assert kept_rows({}, made) == {}


def test_rows_of_a_version_that_scored_one_arm_are_kept_by_their_names():
    known = stored({"teacher": ["a"]})
    del known["of"]["rows"], known["of"]["config"]["train"]["patience"]
    made = stored({"teacher": ["a"]})["of"]
    assert set(kept_rows(known, made)) == {"pixels", "untrained", "teacher"}


@pytest.fixture
def tasks(monkeypatch):
    """Names of the rows that each task scores; a task that has the row `teacher-broken` fails."""
    found = []

    def remote(*args, only, rows, **options):
        found.append(list(only))
        return {name: [{"test_knn": 0.5}] * (2 if name == "untrained" else 1) for name in only}

    def get(scores):
        if "teacher-broken" in scores:
            raise RuntimeError("no such teacher")
        return scores

    fake = SimpleNamespace(
        remote=lambda **needs: lambda function: SimpleNamespace(remote=remote),
        get=get,
        exceptions=SimpleNamespace(RayError=RuntimeError),
    )
    monkeypatch.setattr(references, "ray", fake)
    return found


def started(folder, named, notes):
    records = runs(("a",), ("a",))
    arms = {"deep": records} | {f"arm-{key}": runs((key,)) for key in named}
    labels = {arm: [arm.removeprefix("arm-")] for arm in arms}
    driver = SimpleNamespace(
        directory=folder, trial_directory=folder.joinpath, progress=SimpleNamespace(note=notes.append)
    )
    settings = SimpleNamespace(arms=["deep"], gpu=False, artifacts=folder, teachers={})
    return references.start_references(settings, driver, Referred("deep", records, teacher_rows(arms, labels)))()


def test_a_resume_scores_only_rows_that_are_missing(tmp_path, tasks):
    notes = []
    first = started(tmp_path, ["b", "c", "d"], notes)
    assert tasks == [["pixels", "untrained", "teacher-deep", "teacher-b"], ["teacher-c", "teacher-d"]]
    assert [row.name for row in first] == [*tasks[0], *tasks[1]]
    assert set(first[2].settings) == {"teacher.backbone", "teacher.method"}
    assert first[2].epochs > 0
    tasks.clear()
    assert started(tmp_path, ["b", "c", "d"], notes) == first
    assert tasks == []
    more = started(tmp_path, ["b", "c", "d", "e"], notes)
    assert tasks == [["teacher-e"]]
    assert more[:-1] == first
    assert notes == []


def test_rows_of_a_task_that_failed_are_left_out_and_tried_again(tmp_path, tasks):
    notes = []
    rows = started(tmp_path, ["b", "c", "broken"], notes)
    assert [row.name for row in rows] == ["pixels", "untrained", "teacher-deep", "teacher-b"]
    assert notes == ["warning: the references teacher-c, teacher-broken could not be scored: no such teacher"]
    tasks.clear()
    started(tmp_path, ["b", "c", "broken"], notes)
    assert tasks == [["teacher-c", "teacher-broken"]]
