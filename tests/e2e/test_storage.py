"""Storage that is no path: a real S3 server holds sweeps, checkpoints, artifacts and images."""

import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.builders.datafiles import folder
from helpers.secret_addresses import AWKWARD, SECRET
from helpers.servers.buckets import BUCKET, s3_server
from helpers.servers.ports import free_ports

from raydistill import storage
from raydistill.artifacts.store import ArtifactError, open_store
from raydistill.config import ConfigError, DataConfig, load
from raydistill.data.sources import load_dataset
from raydistill.records import journal as journals
from raydistill.records.journal import Journal, read_records
from raydistill.storage import Remote, StorageError, local_copy, sizes, to_path
from raydistill.sweep.checkpoint_retention import CheckpointRetention
from raydistill.sweep.workers.local_launcher import LAUNCHER
from raydistill.training.checkpoint_files import finished
from raydistill.training.checkpoints import latest_checkpoint, write_checkpoint
from raydistill.training.failures import ERROR_FILE, remove_traceback, write_traceback
from raydistill.trial_spec import TrialSpec

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with s3_server(tmp_path_factory.mktemp("s3") / "log") as environment:
        yield environment


@pytest.fixture
def bucket(server, request, tmp_path, monkeypatch):
    """A folder of this test's own, and a cache."""
    monkeypatch.setenv("RAYDISTILL_CACHE", str(tmp_path / "cache"))
    return Remote(f"s3://{BUCKET}/{request.node.name.replace('[', '-').replace(']', '')}")


class TestRemote:
    def test_has_the_part_of_a_path_that_is_used(self, bucket):
        file = bucket / "trials" / "t0001" / "epoch-00002.json"
        assert not bucket.exists()
        assert list(bucket.iterdir()) == []
        file.write_text("two")
        (bucket / "trials" / "t0001" / "epoch-00002.safetensors").write_bytes(b"12345")
        assert (file.name, file.stem, file.suffix, str(file.parent)) == (
            "epoch-00002.json",
            "epoch-00002",
            ".json",
            f"{bucket}/trials/t0001",
        )
        assert file.with_suffix(".safetensors").read_bytes() == b"12345"
        assert (file.read_text(), file.is_file(), file.parent.is_dir(), bucket.exists()) == ("two", True, True, True)
        assert bucket.glob("trials/*/epoch-*.json") == [file]
        assert bucket.glob("*.json") == []
        assert sizes(bucket, "trials/*/epoch-*.safetensors") == {"trials/t0001/epoch-00002.safetensors": 5}
        assert [path.name for path in (bucket / "trials").iterdir()] == ["t0001"]
        assert file.stat().st_size == 3
        assert pickle.loads(pickle.dumps(file)) == file
        file.unlink()
        file.unlink(missing_ok=True)
        with pytest.raises(FileNotFoundError):
            file.read_bytes()

    @pytest.mark.parametrize(
        ("uri", "said"),
        [
            ("s3://", "s3://bucket/folder"),
            ("nowhere://a/b", "nowhere"),
            ("s3://[x/y", "storage"),
            ("s3://key:hush@bucket/x", "environment"),
            ("s3://key:hu/sh@bucket/x", "environment"),
            ("s3://bucket/x?secret_key=hush", "environment"),
        ],
    )
    def test_addresses_that_cannot_be_are_refused_without_their_secrets(self, server, uri, said):
        with pytest.raises(StorageError, match=said) as caught:
            to_path(uri).exists()
        assert "hush" not in str(caught.value)
        assert "hu/sh" not in str(caught.value)

    @pytest.mark.slow
    def test_a_storage_that_does_not_answer_is_a_wrong_setting_at_once(self, tmp_path):
        (port,) = free_ports(1)
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, str(ROOT / "sweep.py"), "--method", "simclr", "--storage", "s3://bucket/runs"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=100,
            env=os.environ
            | {
                "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
                "AWS_ACCESS_KEY_ID": "a",
                "AWS_SECRET_ACCESS_KEY": "b",
                "AWS_EC2_METADATA_DISABLED": "true",
            },
        )
        assert done.returncode == 2, done.stderr
        assert "does not answer" in done.stderr
        assert "Traceback" not in done.stderr
        assert time.monotonic() - began < 60

    def test_what_fails_for_a_moment_is_tried_again(self, bucket, monkeypatch):
        monkeypatch.setattr(storage, "PAUSES_S", (0.01, 0.01))
        calls = []

        def flaky(error):
            calls.append(error)
            if len(calls) < 3:
                raise error
            return "there"

        assert storage._retry(lambda: flaky(OSError("connection reset"))) == "there"
        calls.clear()
        with pytest.raises(OSError, match="ACCESS_DENIED"):
            storage._retry(lambda: flaky(OSError("AWS Error ACCESS_DENIED")))
        assert len(calls) == 1

    def test_pauses_differ_between_workers(self, monkeypatch):
        slept = []
        monkeypatch.setattr(storage, "PAUSES_S", (1.0, 2.0, 4.0))
        monkeypatch.setattr(storage.time, "sleep", slept.append)

        def refuse():
            raise OSError("connection reset")

        drawn = iter([0.0, 0.5, 1.0])
        with pytest.raises(OSError, match="connection reset"):
            storage._retry(refuse, draw=lambda: next(drawn))
        assert slept == [1.0, 1.5, 2.0]

    @pytest.mark.parametrize("address", AWKWARD.values(), ids=AWKWARD)
    def test_an_address_with_a_secret_is_refused_without_it(self, address):
        with pytest.raises(StorageError, match="credentials by the environment") as caught:
            to_path(address)
        assert SECRET not in str(caught.value)

    def test_an_address_of_this_machine_is_a_path(self, tmp_path):
        assert to_path(f"file://{tmp_path}") == to_path(str(tmp_path)) == tmp_path

    def test_a_copy_is_made_once_for_each_state(self, bucket):
        file = bucket / "a.txt"
        file.write_text("one")
        first = local_copy(file)
        assert (first.read_text(), local_copy(file)) == ("one", first)
        file.write_text("another")
        assert local_copy(file).read_text() == "another"
        with pytest.raises(StorageError, match="does not exist"):
            local_copy(bucket / "nothing")


def test_checkpoints_are_written_kept_and_read(bucket):
    for epoch in (1, 2, 3):
        write_checkpoint(bucket, epoch, {"epoch": epoch, "weights": torch.full((3,), float(epoch))})
    assert [path.stem for path in finished(bucket)] == ["epoch-00003", "epoch-00002"]
    assert latest_checkpoint(bucket)["weights"].tolist() == [3.0] * 3
    (bucket / "epoch-00003.safetensors").write_bytes(b"cut short")
    assert latest_checkpoint(bucket)["epoch"] == 2


def test_the_traceback_of_a_trial_is_written_and_removed_there(bucket):
    trial = bucket / "trials" / "t0000"
    remove_traceback(str(trial))  # there is none yet
    write_traceback(str(trial), ValueError("the cause"))
    assert (trial / ERROR_FILE).read_text() == "ValueError: the cause\n"
    remove_traceback(str(trial))
    assert not (trial / ERROR_FILE).exists()


def test_the_keeper_counts_and_deletes_there(bucket):
    for key in ("t0000", "t0001"):
        write_checkpoint(bucket / "trials" / key, 1, {"x": torch.zeros(1000)})
    retention = CheckpointRetention(bucket, 5000 / 2**30)
    assert retention.total() > 8000
    assert retention.on_trial_end("t0000", 0.1, True) == []
    assert retention.on_trial_end("t0001", 0.2, True) == ["t0000"]
    assert finished(bucket / "trials" / "t0000") == []
    assert retention.total() < 5000


def test_a_journal_grows_in_parts_and_is_found_again(bucket, monkeypatch):
    monkeypatch.setattr(journals, "PART_BYTES", 500)
    first = Journal(bucket / "journal.jsonl")
    for number in range(6):
        first.propose(f"t{number:04d}", {"lr": 0.1}, TrialSpec(load({"method": "simclr"})))
        first.result(f"t{number:04d}", 1, {"loss": float(number)})
    first.close()
    assert len(bucket.glob("journal.jsonl*")) > 2
    assert Journal(Remote(f"{bucket}?region=us-east-1") / "journal.jsonl").trials == first.trials
    again = Journal(bucket / "journal.jsonl")
    assert again.trials == first.trials
    again.end("t0005", "finished")
    records = read_records(bucket / "journal.jsonl")
    assert list(records) == [f"t{number:04d}" for number in range(6)]
    assert records["t0005"].outcome == "finished"


class TestArtifacts:
    def make(self, folder):
        (folder / "rows.npy").write_bytes(b"rows")

    def test_what_one_machine_made_another_finds(self, bucket, monkeypatch, tmp_path):
        made = open_store(bucket).get("bank", {"a": 1}, self.make)
        monkeypatch.setenv("RAYDISTILL_CACHE", str(tmp_path / "elsewhere"))
        store = open_store(bucket)
        assert [entry.key for entry in store.entries()] == [made.name]
        found = store.get("bank", {"a": 1}, lambda folder: pytest.fail("it was made already"))
        assert found != made
        assert (found / "rows.npy").read_bytes() == b"rows"
        store.remove(store.entries()[0])
        assert store.entries() == []
        assert store.find("bank", {"a": 1}) is None

    def test_the_longest_unused_go_beyond_the_limit(self, bucket):
        store = open_store(bucket, 0.0)
        store.get("bank", {"a": 1}, self.make)
        kept = store.get("bank", {"a": 2}, self.make)
        assert [entry.key for entry in store.entries()] == [kept.name]

    def test_what_could_not_be_sent_does_not_pass_for_made(self, bucket, monkeypatch):
        def refuse(self, source):
            raise OSError("no room")

        store = open_store(bucket)
        with monkeypatch.context() as broken:
            broken.setattr(Remote, "upload", refuse)
            with pytest.raises(ArtifactError, match="no room"):
                store.get("bank", {"a": 1}, self.make)
        assert store.find("bank", {"a": 1}) is None

    def test_what_is_in_use_is_not_the_longest_unused(self, bucket, monkeypatch):
        monkeypatch.setattr("raydistill.artifacts.store.SECONDS_BETWEEN_TOUCHES", 0.0)
        store = open_store(bucket)
        for a in (1, 2):
            store.get("bank", {"a": a}, self.make)
            time.sleep(1.1)
        used = store.find("bank", {"a": 1})
        assert store.entries()[0].key == used.name

    def test_a_bucket_that_refuses_is_named(self, bucket):
        with pytest.raises(ArtifactError, match="s3://not-there"):
            open_store(Remote("s3://not-there/x")).get("bank", {"a": 1}, self.make)


def test_images_there_are_the_images_here(bucket, tmp_path):
    here = folder(tmp_path / "images")
    (bucket / "images").upload(here)
    settings = {"image_size": 10, "batch_size": 2}
    there, local = (load_dataset(DataConfig(source=str(s), **settings)) for s in (bucket / "images", here))
    assert len(there.train) == len(local.train)
    for mine, its in zip(there.train.fetch(torch.arange(3)), local.train.fetch(torch.arange(3)), strict=True):
        assert np.array_equal(mine, its)


def test_a_folder_that_is_not_there_is_a_wrong_setting(bucket):
    with pytest.raises(ConfigError, match="does not exist"):
        load_dataset(DataConfig(source=str(bucket / "nothing"), image_size=10, batch_size=2))


@pytest.mark.e2e
@pytest.mark.slow
def test_a_whole_sweep_lives_there_and_is_resumed_from_there(bucket, tmp_path):
    """Images, teacher, journal, checkpoints and results: nothing of it stays on this machine."""
    here = folder(tmp_path / "images", per_class=20)
    (bucket / "images").upload(here)
    (tmp_path / "space.yaml").write_text("method: bayes\nparameters: {train.lr: {min: 0.001, max: 0.01}}\n")
    tiny = {
        "method.backbone": "resnet10_w4",
        "teacher.backbone": "resnet10_w4",
        "teacher.epochs": 1,
        "method.queue_size": 16,
        "data.batch_size": 16,
        "data.image_size": 8,
        "eval.ks": "[1, 5]",
    }
    command = [
        sys.executable,
        str(ROOT / "sweep.py"),
        "--method",
        "seed",
        "--name",
        "s",
        "--search-space",
        "space.yaml",
        "--seeds",
        "1",
        "--threads",
        "1",
        "--learners",
        "2",
        "--no-baseline-search",
        "--storage",
        f"{bucket}/runs",
        "--data",
        f"{bucket}/images",
        "--trials",
        "3",
        "--epochs",
        "3",
        *(f"--set={key}={value}" for key, value in tiny.items()),
    ]
    sweep, local = bucket / "runs" / "s", os.environ | {LAUNCHER: "local"}
    first = subprocess.Popen(command, cwd=tmp_path, env=local, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 150
    while not any(r.outcome for key, r in records(sweep).items() if key.startswith("t0")):
        assert time.monotonic() < deadline
        assert first.poll() is None
        time.sleep(0.3)
    first.kill()
    first.wait()
    done = subprocess.run([*command, "--resume"], cwd=tmp_path, env=local, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stdout + done.stderr
    found = records(sweep)
    assert sorted(key for key in found if key.startswith("t0")) == ["t0000", "t0001", "t0002"]
    assert {record.outcome for record in found.values()} == {"finished"}
    assert "| seed" in (sweep / "table.md").read_text()
    assert [entry.kind for entry in open_store(bucket / "runs" / "_artifacts").entries()] == ["teacher"]
    assert latest_checkpoint(sweep / "trials" / "t0000")["epoch"] == 3
    assert not (tmp_path / "runs").exists()
    assert not (tmp_path / "artifacts").exists()
    assert (sweep / "trials" / (sweep / "winner.txt").read_text()).is_dir()
    winner = subprocess.run(
        [
            sys.executable,
            "-m",
            "raydistill",
            "train",
            f"{sweep}/winner.yaml",
            "--artifacts",
            f"{bucket}/runs/_artifacts",
            "--threads",
            "1",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert winner.returncode == 0, winner.stderr
    assert "epoch 3/3" in winner.stdout


def records(sweep):
    return read_records(sweep / "journal.jsonl") if (sweep / "journal.jsonl").exists() else {}
