"""docs/export.md: its commands are run as they are typed, and its Python too."""

import os
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.builders.datafiles import folder, pixels, save
from helpers.builders.runs import journal, trial

from raydistill.cli import main
from raydistill.export.resolve import resolve_run
from raydistill.tracking.tracker import Tracker

PAGE = (Path(__file__).parents[2] / "docs" / "export.md").read_text()
PEERS = {"name": "dogo", "backbones": ["resnet10_w4", "resnet10_w8"], "hidden_dim": 8, "projection_dim": 8}


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def threads():
    """The page chooses a number of threads; tests that follow need theirs."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.usefixtures("threads")
def test_the_pages_commands_and_python_do_what_it_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sweep = tmp_path / "runs" / "dogo-1"
    trial(sweep / "trials" / "t0003", PEERS)
    journal(sweep, t0003="finished")
    (sweep / "winner").symlink_to("trials/t0003")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    tracker = Tracker(uri, "raydistill", "dogo-1", params={}, system_metrics=False)
    tracker.start_trial("t0003", {})
    assert tracker.close("finished") == 0
    folder(tmp_path / "path" / "to" / "images")
    save(tmp_path / "image.png", pixels())

    here = [block for block in blocks("bash") if "--push" not in block]  # test_hub.py has a Hub
    for line in dict.fromkeys(line for block in here for line in block.splitlines()):
        with pytest.raises(SystemExit) as ended:
            main(shlex.split(line)[1:])
        assert ended.value.code == 0, line

    made = {path.name for path in (tmp_path / "exports").iterdir()} | {"encoders"}
    assert made == {"dogo-1-timm", "dogo-1-peer_2-safetensors", "dogo-1-torch-export", "dogo-1-mlflow", "encoders"}
    assert (tmp_path / "again" / "epoch-00001.safetensors").exists()
    assert resolve_run("longer", tmp_path / "runs", "").epoch == 20

    timm, registry, _, table = blocks("python")
    known = {}
    exec(table, known)
    assert known["embeddings"].shape == (24, 32)
    assert known["scores"] == {"val_knn": 0.5}
    found = []
    for code in (timm, registry):
        monkeypatch.chdir(tmp_path / "exports" / "dogo-1-timm")
        monkeypatch.syspath_prepend("")
        (Path.cwd() / "image.png").write_bytes((tmp_path / "image.png").read_bytes())
        exec(code, known := {})
        for name in ("load", "preprocess"):
            sys.modules.pop(name, None)
        found.append(np.asarray(known["embeddings"].detach() if code == timm else known["embeddings"]))
    assert np.abs(found[0] - found[1]).max() <= 1e-5 * np.abs(found[0]).max()
    assert os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"
