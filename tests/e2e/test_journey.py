"""From README's first command to a report, an encoder that timm loads, and embeddings: as typed, on a small sweep."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from helpers.builders.datafiles import png

from raydistill.config import DataConfig
from raydistill.data.images import decode
from raydistill.data.sources import open_source
from raydistill.records.journal import Journal
from raydistill.sweep.display.timings import CLOSED, EPOCH, RAY, READY, SCORES, SETTINGS, STEP, WORKER
from raydistill.sweep.workers.local_launcher import LAUNCHER

ROOT = Path(__file__).parents[2]
SMALL = {
    "data.limit": 60,
    "data.batch_size": 16,
    "data.image_size": 8,
    "eval.probe_epochs": 2,
    "method.backbones": "[resnet10_w4, resnet10_w4]",
    "method.objectives": "[simclr]",
}


def typed(*words, cwd, **environment):
    done = subprocess.run(
        [sys.executable, *words], cwd=cwd, env=os.environ | environment, capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def digit(name):
    """The image (8, 8, 3) that a row of embeddings names."""
    _, split, _, number = name.split()
    return decode(open_source(DataConfig())[split], int(number)).permute(1, 2, 0).numpy()


def best_of_its_search(sweep, name, prefix):
    """Without `--finalists` the best trial of a baseline's search has its row."""
    trials = Journal(sweep / "journal.jsonl").trials
    found = [trial.last("val_knn") for key, trial in trials.items() if key.startswith(prefix)]
    (row,) = [row for row in json.loads((sweep / "results.json").read_text()) if row["name"] == name]
    assert len(found) == len(row["scores"]) == 2
    assert row["scores"][0]["val_knn"] == max(found)


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_three_more_commands_lead_to_a_report_and_an_encoder(tmp_path):
    small = [f"--set={path}={value}" for path, value in SMALL.items()]
    said = typed(
        str(ROOT / "sweep.py"),
        "--method",
        "dogo",
        "--trials",
        "2",
        "--epochs",
        "1",
        "--seeds",
        "2",
        "--threads",
        "1",
        "--timings",
        *small,
        cwd=tmp_path,
        **{LAUNCHER: "process"},
    )
    assert "raydistill report dogo-1" in said
    moments = [line.split("|")[1].strip() for line in said.splitlines() if re.search(r"\| \d+\.\d s +\|", line)]
    assert moments == [SETTINGS, RAY, READY, WORKER, STEP, EPOCH, SCORES, CLOSED]
    best_of_its_search(tmp_path / "runs" / "dogo-1", "simclr-searched", "baseline-simclr-t")
    (block,) = re.findall(r"<!-- journey -->\n```bash\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    for program, *words in map(shlex.split, block.splitlines()):
        assert program == "raydistill"
        typed("-m", "raydistill", *words, cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert "dogo-1" in (tmp_path / "runs/dogo-1/report.html").read_text()
    embeddings = pq.read_table(tmp_path / "embeddings.parquet")
    assert embeddings["embedding"].type.list_size == 32
    assert embeddings.num_rows > 1000
    loaded = """
import sys
sys.modules["raydistill"] = None
import numpy as np
from load import load
from preprocess import preprocess
np.save("seen.npy", load()(preprocess([open("digit.png", "rb").read()])).detach().numpy())
"""
    folder = tmp_path / "exports/dogo-1-timm"
    row = next(row for row in embeddings.to_pylist() if row["split"] == "test" and row["class"] == "7")
    (folder / "digit.png").write_bytes(png(digit(row["image"])))
    typed("-c", loaded, cwd=folder)
    expected, found = np.array(row["embedding"]), np.load(folder / "seen.npy")
    assert found.shape == (1, 32)
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
