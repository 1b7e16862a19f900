"""A sweep and an export of version 0.1.0, and a sweep that was interrupted then, opened with the present version."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from helpers import commands
from safetensors.torch import load_file

import raydistill
from raydistill import cli
from raydistill.records.journal import read_records
from raydistill.records.leaderboard import LeaderboardEntry, render
from raydistill.sweep.workers.local_launcher import LAUNCHER
from raydistill.training.checkpoints import latest_checkpoint

ROOT = Path(__file__).parents[2]
STORED = ROOT / "tests" / "stored" / "v0.1.0"
MAX_STORED_BYTES = 2**20
FINALS = ["final-simclr-default-seed0", "final-simclr-tuned-seed0"]
SEARCHED = ["t0000", "t0001", "t0002"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder in which commands run, with the finished sweep among its `runs` and the export in `exports`."""
    shutil.copytree(STORED / "finished", tmp_path / "runs", symlinks=True)
    shutil.copytree(STORED / "exports", tmp_path / "exports")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


def run(*words):
    """A command that ends well."""
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    assert not ended.value.code


def test_what_is_stored_is_small_and_names_no_machine():
    files = [path for path in STORED.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < MAX_STORED_BYTES
    texts = [path.read_text() for path in files if path.suffix in (".json", ".jsonl", ".yaml", ".md")]
    assert not [text for text in texts if "/home/" in text or "/root/" in text]


def test_its_journal_and_its_leaderboard_are_read():
    sweep = STORED / "finished" / "dogo-1"
    records = read_records(sweep / "journal.jsonl")
    assert sorted(records) == [*FINALS, *SEARCHED]
    assert {record.outcome for record in records.values()} == {"finished"}
    assert {record.epochs for record in records.values()} == {3}
    rows = [LeaderboardEntry(**row) for row in json.loads((sweep / "results.json").read_text())]
    assert render(rows, ["val_knn"]) + "\n" == (sweep / "table.md").read_text()


def test_load_sweep_reads_it(here):
    sweep = raydistill.load_sweep("dogo-1")
    trials = sweep.trials()
    assert (sweep.method, sweep.metric) == ("dogo", "val_knn")
    assert list(trials[trials.role == "search"].index) == SEARCHED
    assert trials["train.lr"][SEARCHED].between(3e-4, 1e-2).all()
    assert trials.val_knn[sweep.winner] == trials.val_knn[SEARCHED].max()
    assert sweep.curves("loss").shape == (3, 5)
    assert sweep.winner_config.train.lr == trials["train.lr"][sweep.winner]
    table = sweep.leaderboard()
    assert list(table.configuration[:3]) == ["dogo", "simclr-default", "simclr-tuned"]
    assert table.test_probe[:3].notna().all()


def test_load_sweep_reads_the_interrupted_one():
    sweep = raydistill.load_sweep(STORED / "interrupted" / "dogo-1")
    assert sweep.winner is None
    assert sweep.winner_config is None
    assert sweep.leaderboard().empty
    assert list(sweep.trials().outcome) == ["finished", "unfinished"]
    assert list(sweep.trials().epochs) == [3, 1]


@pytest.mark.slow
def test_another_mlflow_takes_it_in_and_the_report_is_written(here):
    run("track", "dogo-1", "--tracking-uri", "sqlite:///fresh.db")
    run("report", "dogo-1", "--tracking-uri", "sqlite:///fresh.db", "--format", "md", "--out", "report.md")
    report = (here / "report.md").read_text()
    assert raydistill.load_sweep("dogo-1").winner in report
    assert "simclr-tuned" in report


def test_its_winner_is_trained_again(here, capsys):
    sweep = raydistill.load_sweep("dogo-1")
    known = read_records(here / "runs/dogo-1/journal.jsonl")[sweep.winner].results
    run("train", "dogo-1", "--out", "again", "--device", "cpu", "--threads", "1")
    assert "epoch 3/3" in capsys.readouterr().out
    metrics = latest_checkpoint(here / "again")["metrics"]
    assert metrics["loss"] == pytest.approx(known[3]["loss"], rel=1e-3)  # on the same processor it is the same
    assert metrics["val_knn"] == pytest.approx(known[3]["val_knn"], abs=0.05)


def test_its_winner_exported_now_has_the_weights_of_the_old_export(here):
    run("export", "dogo-1", "--format", "safetensors", "--out", "new")
    old, new = (load_file(here / folder / "encoder.safetensors") for folder in ("exports/dogo-1-safetensors", "new"))
    assert old.keys() == new.keys()
    assert all(torch.equal(old[name], new[name]) for name in old)


def test_the_old_export_gives_the_numbers_that_it_gave(here):
    reference = np.load(STORED / "reference.npz")
    for source in ("exports/dogo-1-safetensors", "dogo-1"):
        encoder = raydistill.load_encoder(source)
        assert encoder.image_size == reference["images"].shape[-1]
        with torch.inference_mode():
            found = encoder(torch.from_numpy(reference["images"])).numpy()
        np.testing.assert_allclose(found, reference["embeddings"], rtol=1e-4, atol=1e-5)


def test_embed_writes_the_embeddings_that_it_wrote(here):
    words = ["--split", "val", "--set", "data.limit=8", "--out", "now.parquet", "--device", "cpu"]
    run("embed", "exports/dogo-1-safetensors", "digits", *words)
    old, new = pq.read_table(STORED / "embeddings.parquet"), pq.read_table(here / "now.parquet")
    assert new.schema.equals(old.schema)
    for name in ("image", "split", "label", "class"):
        assert new[name].to_pylist() == old[name].to_pylist()
    np.testing.assert_allclose(new["embedding"].to_pylist(), old["embedding"].to_pylist(), rtol=1e-4, atol=1e-5)


def test_the_interrupted_one_is_resumed_without_the_file_of_its_space(here, capsys):
    folder = here / "runs" / "dogo-1"
    shutil.rmtree(folder)
    shutil.copytree(STORED / "interrupted" / "dogo-1", folder)
    run("sweep", *(STORED / "options.txt").read_text().split(), "--resume", "--dry-run")
    planned = yaml.safe_load("sweep: " + capsys.readouterr().out.partition("sweep: ")[2])
    assert planned["search_space"] == yaml.safe_load((folder / "sweep.yaml").read_text())["space"]


@pytest.mark.slow
@pytest.mark.e2e
def test_the_interrupted_one_goes_on_to_its_end(ray_cluster, here):
    folder = here / "runs" / "dogo-1"
    shutil.rmtree(folder)
    shutil.copytree(STORED / "interrupted" / "dogo-1", folder)
    before = (folder / "journal.jsonl").read_text()
    words = (STORED / "options.txt").read_text().split()
    words += ["--search-space", str(STORED / "space.yaml"), "--resume"]
    done = commands.run(*words, program="sweep.py", cwd=here, **{LAUNCHER: "local"})
    assert done.returncode == 0, done.stderr
    after = (folder / "journal.jsonl").read_text()
    assert after.startswith(before)
    results = [(e["key"], e["epoch"]) for e in map(json.loads, after.splitlines()) if e["event"] == "result"]
    assert len(results) == len(set(results)), "the unfinished trial went on from its checkpoint"
    sweep = raydistill.load_sweep("dogo-1")
    finals = ["final-simclr-default-seed0", "final-simclr-same-settings-seed0"]
    assert {*SEARCHED, *finals} <= set(sweep.trials().index)
    assert set(sweep.trials().outcome) == {"finished"}
    assert set(sweep.trials().epochs) == {3}
    configs = [e["config"] for e in map(json.loads, after.splitlines()) if "config" in e]
    of_before = {(c["data"].get("kind", "photographs"), c["eval"].get("probe", "dogo")) for c in configs}
    assert of_before == {("photographs", "dogo")}, "augmented and scored as they were"
    assert {"dogo", "simclr-default", "simclr-same-settings"} <= set(sweep.leaderboard().configuration)
    assert yaml.safe_load((folder / "winner.yaml").read_text())["method"]["name"] == "dogo"
