"""Checkpoints: whole or refused, never silent, never unpickled."""

import errno
import hashlib
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from helpers.builders.states import as_of_0_1, same

from raydistill.training import checkpoints
from raydistill.training.checkpoint_files import CheckpointError, write_atomically
from raydistill.training.checkpoints import PendingCheckpoint, latest_checkpoint, read_checkpoint, write_checkpoint


def state(value):
    return {"w": torch.full((3,), value), "nested": {"list": [1, None, "x", torch.tensor(2)], 7: 0.5}, "epoch": 1}


def test_round_trip_keeps_types_and_integer_keys(tmp_path):
    original = {"bf16": torch.ones(2, dtype=torch.bfloat16), "empty": {}, "shared": torch.arange(4)[::2]} | state(1.5)
    read = read_checkpoint(write_checkpoint(tmp_path, 1, original))
    assert read["nested"][7] == 0.5
    assert read["nested"]["list"][:3] == [1, None, "x"]
    assert read["bf16"].dtype == torch.bfloat16
    assert torch.equal(read["shared"], torch.tensor([0, 2]))
    assert read["empty"] == {}


def test_the_newest_are_kept(tmp_path):
    for epoch in (1, 2, 3, 10):
        write_checkpoint(tmp_path, epoch, state(epoch), keep=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "epoch-00003.json",
        "epoch-00003.safetensors",
        "epoch-00010.json",
        "epoch-00010.safetensors",
    ]
    assert latest_checkpoint(tmp_path)["w"][0] == 10


def test_none_where_there_is_none(tmp_path):
    assert latest_checkpoint(tmp_path / "missing") is None


@pytest.mark.fault(7)
@pytest.mark.parametrize("damage", ["truncated", "flipped", "manifest"])
def test_damage_is_named_and_the_one_before_is_read(tmp_path, caplog, damage):
    write_checkpoint(tmp_path, 1, state(1))
    path = write_checkpoint(tmp_path, 2, state(2))
    payload = bytearray(path.read_bytes())
    if damage == "truncated":
        path.write_bytes(payload[:-5])
    elif damage == "flipped":
        payload[-2] ^= 1
        path.write_bytes(payload)
    else:
        path.with_suffix(".json").write_text("{")
    assert latest_checkpoint(tmp_path)["w"][0] == 1
    assert path.name in caplog.text
    with pytest.raises(CheckpointError, match=path.name):
        read_checkpoint(path)


@pytest.mark.fault(7)
def test_nothing_whole_is_an_error_not_a_fresh_start(tmp_path):
    path = write_checkpoint(tmp_path, 1, state(1))
    path.write_bytes(b"")
    with pytest.raises(CheckpointError, match="none of the 1 checkpoints"):
        latest_checkpoint(tmp_path)


@pytest.mark.fault(8)
@pytest.mark.parametrize("kind", ["pickle", "torch"])
def test_a_pickle_is_refused_and_not_executed(tmp_path, kind):
    victim = tmp_path / "executed"

    class Bomb:
        def __reduce__(self):
            return Path.touch, (victim,)

    path = write_checkpoint(tmp_path, 1, state(1))
    if kind == "pickle":
        path.write_bytes(pickle.dumps(Bomb()))
    else:
        torch.save(Bomb(), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_suffix(".json").write_text(json.dumps({"epoch": 1, "bytes": 0, "sha256": digest}))
    with pytest.raises(CheckpointError, match="not a checkpoint of this software"):
        read_checkpoint(path)
    assert not victim.exists()


@pytest.mark.fault(6)
def test_a_kill_while_writing_leaves_the_one_before(tmp_path):
    """A process that writes checkpoints without end is killed at many moments."""
    code = (
        "import sys, torch; from pathlib import Path; from raydistill.training.checkpoints import write_checkpoint\n"
        "d = Path(sys.argv[1]); n = 0\n"
        "while True:\n"
        "    n += 1; write_checkpoint(d, n, {'w': torch.full((200_000,), n)}); print(n, flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for _ in range(5):
        done = int(process.stdout.readline())
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    read = latest_checkpoint(tmp_path)
    assert read["w"][0] >= done
    assert (read["w"] == read["w"][0]).all()


@pytest.mark.fault(6)
@pytest.mark.parametrize("step", ["write", "rename"])
def test_an_error_at_any_step_leaves_the_old_file(tmp_path, monkeypatch, step):
    path = tmp_path / "x"
    write_atomically(path, b"old")

    def broken(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*((os, "fsync") if step == "write" else (Path, "replace")), broken)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.fault(10)
def test_full_storage_is_a_clear_error(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match=r"epoch-00001.safetensors: cannot be written \(No space left"):
        write_checkpoint(tmp_path, 1, state(1))


def test_tensors_are_written_while_other_work_goes_on(tmp_path, monkeypatch):
    """A thread writes them; what is known at the end, such as scores, comes last and makes the checkpoint whole."""
    write_checkpoint(tmp_path, 1, state(1) | {"metrics": {}})
    going, seen = threading.Event(), []
    honest = checkpoints.write_atomically

    def slow(path, payload):
        if path.suffix == ".safetensors":
            seen.append(threading.current_thread() is not threading.main_thread())
            assert going.wait(10)
        honest(path, payload)

    monkeypatch.setattr(checkpoints, "write_atomically", slow)
    pending = [PendingCheckpoint(folder, 2, state(2)) for folder in (tmp_path, tmp_path / "other")]
    assert latest_checkpoint(tmp_path)["w"][0] == 1, "nothing is finished yet"
    going.set()
    for each in pending:
        path = each.finish(state(2) | {"metrics": {"val_knn": 61.5}})
        assert read_checkpoint(path)["metrics"] == {"val_knn": 61.5}
        assert read_checkpoint(path)["w"][0] == 2
    assert seen == [True, True]


def test_scores_that_were_changed_on_disk_are_damage(tmp_path):
    path = write_checkpoint(tmp_path, 1, {"metrics": {"val_knn": 61.5}})
    manifest = path.with_suffix(".json")
    manifest.write_text(manifest.read_text().replace("61.5", "71.5"))
    with pytest.raises(CheckpointError, match="checksum mismatch"):
        read_checkpoint(path)


@pytest.mark.fault(10)
def test_a_full_disk_under_the_thread_is_said_by_name(tmp_path, monkeypatch):
    def full(path, payload):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoints, "write_atomically", full)
    with pytest.raises(CheckpointError, match=r"epoch-00003\.safetensors: cannot be written \(No space left"):
        PendingCheckpoint(tmp_path, 3, state(1)).finish(state(1))


def test_a_checkpoint_of_version_0_1_opens(tmp_path):
    (tmp_path / "old").mkdir()
    old = as_of_0_1(write_checkpoint(tmp_path, 1, state(2.5)), tmp_path / "old")
    assert same(read_checkpoint(old), read_checkpoint(tmp_path / "epoch-00001.safetensors"))
