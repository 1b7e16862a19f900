"""A limit on checkpoints: the best stay, and never is a running trial's touched."""

import logging
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raydistill.sweep.checkpoint_retention import CheckpointRetention
from raydistill.training.checkpoints import latest_checkpoint, write_checkpoint

KIB = 2**-20  # in GiB


def fill(sweep, key, epochs=(1, 2), size=1024, manifest=b"{}"):
    """Checkpoints of `size` bytes in all per epoch."""
    folder = sweep / "trials" / key
    folder.mkdir(parents=True, exist_ok=True)
    for epoch in epochs:
        (folder / f"epoch-{epoch:05d}.safetensors").write_bytes(b"x" * (size - len(manifest)))
        (folder / f"epoch-{epoch:05d}.json").write_bytes(manifest)
    (folder / "config.yaml").write_text("method: dogo")


def kept(sweep):
    return sorted({path.parent.name for path in sweep.glob("trials/*/epoch-*")})


def names(sweep, key):
    return sorted(path.name for path in (sweep / "trials" / key).iterdir())


def test_without_a_limit_only_older_checkpoints_of_ended_trials_go(tmp_path):
    fill(tmp_path, "a")
    fill(tmp_path, "b")
    assert CheckpointRetention(tmp_path, None).on_trial_end("a", 0.5, True) == []
    assert names(tmp_path, "a") == ["config.yaml", "epoch-00002.json", "epoch-00002.safetensors"]
    assert len(names(tmp_path, "b")) == 5


def test_what_stays_can_be_read(tmp_path):
    for epoch in (1, 2):
        write_checkpoint(tmp_path / "trials" / "a", epoch, {"epoch": epoch, "w": torch.ones(3)})
    CheckpointRetention(tmp_path, 1.0).on_trial_end("a", None, False)
    assert latest_checkpoint(tmp_path / "trials" / "a")["epoch"] == 2


def test_a_state_that_was_never_finished_is_not_the_newest(tmp_path):
    fill(tmp_path, "a", epochs=(1, 2))
    (tmp_path / "trials" / "a" / "epoch-00002.json").unlink()
    CheckpointRetention(tmp_path, None).on_trial_end("a", None, False)
    assert names(tmp_path, "a") == ["config.yaml", "epoch-00001.json", "epoch-00001.safetensors"]


@pytest.mark.parametrize(("goal", "order"), [("maximize", "fswnlmb"), ("minimize", "fwsnbml")])
def test_the_worst_goes_first(tmp_path, goal, order):
    """Incomplete before complete, no score before any, then by score; the best complete one never."""
    ends = {
        "f": (None, False),
        "s": (0.2, False),
        "w": (0.9, False),
        "n": (float("nan"), True),
        "l": (0.1, True),
        "m": (0.3, True),
        "b": (0.8, True),
    }
    retention = CheckpointRetention(tmp_path, 100 * KIB, goal=goal)
    for key, end in ends.items():
        fill(tmp_path, key, epochs=(1,))
        assert retention.on_trial_end(key, *end) == []
    gone = []
    for limit in range(6, -1, -1):
        retention.limit_gib = limit * KIB
        gone += retention.on_trial_end("f", *ends["f"])
    assert gone == list(order[:-1])
    assert kept(tmp_path) == [order[-1]]
    assert names(tmp_path, "s") == ["config.yaml"]


def test_running_protected_and_best_trials_stay_and_one_warning_says_so(tmp_path, caplog):
    retention = CheckpointRetention(tmp_path, 2 * KIB, protected=["teacher-1"])
    for key in ("teacher-1", "running", "best", "donor", "worse"):
        fill(tmp_path, key, epochs=(1,))
    retention.pin("donor")
    with caplog.at_level(logging.WARNING):
        retention.on_trial_end("teacher-1", 0.1, True)
        retention.on_trial_end("donor", 0.0, False)
        retention.on_trial_end("best", 0.9, True)
        assert retention.on_trial_end("worse", 0.5, True) == ["worse"]
        retention.on_trial_end("best", 0.9, True)
    assert kept(tmp_path) == ["best", "donor", "running", "teacher-1"]
    assert len(caplog.records) == 1
    assert "more than" in caplog.text


def test_a_trial_that_runs_again_is_running(tmp_path):
    retention = CheckpointRetention(tmp_path, KIB)
    fill(tmp_path, "a", epochs=(1,))
    retention.on_trial_end("a", 0.1, False)
    retention.on_trial_start("a")
    fill(tmp_path, "b", epochs=(1,))
    assert retention.on_trial_end("b", 0.2, True) == []
    assert kept(tmp_path) == ["a", "b"]


def test_the_best_so_far_may_go_once_there_is_a_better_one(tmp_path):
    retention = CheckpointRetention(tmp_path, KIB)
    for key, score in (("a", 0.1), ("b", 0.2), ("c", 0.15)):
        fill(tmp_path, key)
        retention.on_trial_end(key, score, True)
    assert kept(tmp_path) == ["b"]


def test_the_best_of_each_search_stays(tmp_path):
    keys = {"t0000": 0.9, "t0001": 0.8, "baseline-simclr-t0000": 0.1, "baseline-simclr-t0001": 0.2}
    keeper = CheckpointRetention(tmp_path, 0.0)
    for key in keys:
        fill(tmp_path, key)
    for key, score in keys.items():
        keeper.on_trial_end(key, score, True)
    assert kept(tmp_path) == ["baseline-simclr-t0001", "t0000"]


def test_what_ended_before_a_resume_is_known_and_stays_until_room_is_made(tmp_path):
    for key in "abc":
        fill(tmp_path, key)
    retention = CheckpointRetention(tmp_path, 0.0)
    for key, score in (("a", 0.1), ("b", 0.2)):
        assert retention.on_trial_end(key, score, True, make_room=False) == []
    retention.pin("a")
    assert retention.on_trial_end("c", 0.3, True) == ["b"]


def test_what_a_population_copies_from_counts(tmp_path):
    carried = tmp_path / "ray" / "tune-search" / "t0000" / "checkpoint_000001"
    carried.mkdir(parents=True)
    (carried / "epoch-00001.safetensors").write_bytes(b"x" * 100)
    assert CheckpointRetention(tmp_path, None).total() == 100


def test_files_that_are_gone_and_a_missing_sweep_are_passed_over(tmp_path):
    retention = CheckpointRetention(tmp_path / "none", 0.0)
    assert retention.on_trial_end("a", None, False) == []
    assert retention.total() == 0


def test_another_process_may_delete_the_same_files(tmp_path, monkeypatch):
    fill(tmp_path, "a")
    unlink = Path.unlink

    def twice(path, *arguments):
        unlink(path)
        unlink(path, *arguments)

    monkeypatch.setattr(Path, "unlink", twice)
    assert CheckpointRetention(tmp_path, 0.0).on_trial_end("a", None, False) == []
    assert names(tmp_path, "a") == ["config.yaml"]


def test_storage_that_refuses_does_not_end_the_sweep(tmp_path, monkeypatch, caplog):
    fill(tmp_path, "a")

    def refuse(path, *_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refuse)
    assert CheckpointRetention(tmp_path, 0.0).on_trial_end("a", None, False) == []
    assert "cannot be deleted (Permission denied)" in caplog.text


def test_the_manifest_is_deleted_before_its_state(tmp_path, monkeypatch):
    fill(tmp_path, "a")
    deleted = []
    unlink = Path.unlink
    monkeypatch.setattr(Path, "unlink", lambda path, *a: (deleted.append(path.name), unlink(path, *a))[1])
    CheckpointRetention(tmp_path, 0.0).on_trial_end("a", None, False)
    for epoch in ("epoch-00001", "epoch-00002"):
        assert deleted.index(f"{epoch}.json") < deleted.index(f"{epoch}.safetensors")


trials = st.lists(
    st.tuples(st.integers(1, 3), st.integers(10, 3000), st.none() | st.floats(0, 1), st.booleans(), st.booleans()),
    max_size=8,
)


@settings(max_examples=60, deadline=None)
@given(trials, st.integers(0, 8), st.sampled_from(["maximize", "minimize"]), st.sets(st.integers(0, 7)))
def test_within_the_limit_unless_only_needed_ones_remain(ends, limit, goal, protected):
    with tempfile.TemporaryDirectory() as folder:
        sweep, safe = Path(folder), {f"t{i}" for i in protected}
        retention = CheckpointRetention(sweep, limit * KIB, goal=goal, protected=safe)
        ended, running = {}, set()
        for i, (epochs, size, score, complete, runs) in enumerate(ends):
            key = f"t{i}"
            fill(sweep, key, epochs=range(epochs), size=size)
            if runs:
                running.add(key)
                continue
            removed = retention.on_trial_end(key, score, complete)
            ended[key] = (score, complete)
            assert not set(removed) & (safe | running)
            full = [k for k, (s, c) in ended.items() if c and s is not None]
            best = (max if goal == "maximize" else min)(full, key=lambda k: ended[k][0], default=None)
            left = set(kept(sweep))
            assert safe & set(ended) | running <= left
            if best is not None:
                assert any(k in left for k in full if ended[k][0] == ended[best][0])
            needed = safe | running | {k for k, (s, c) in ended.items() if c and (not full or s == ended[best][0])}
            assert retention.total() <= limit * 1024 or left <= needed
            for k in left & set(ended):
                assert len(list((sweep / "trials" / k).glob("epoch-*"))) == 2
