"""What analysis/regimes.py and analysis/rates.py measured is kept, and a second run measures what is missing."""

import importlib.util
import json
from pathlib import Path

import pandas as pd
import pytest

SEEDS = ["seed/0/val_knn", "seed/1/val_knn"]
FOLDER = Path(__file__).parents[2] / "analysis"


@pytest.fixture
def script(request):
    spec = importlib.util.spec_from_file_location(request.param, FOLDER / f"{request.param}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(script, monkeypatch, tmp_path):
    def run(*words):
        monkeypatch.setattr("sys.argv", [script.__name__, "--out", str(tmp_path), *words])
        script.main()
        return json.loads((tmp_path / f"{script.__name__}.json").read_text())

    return run


@pytest.mark.parametrize("script", ["regimes"], indirect=True)
def test_arms_that_were_measured_are_left_alone(script, run, monkeypatch):
    measured = []

    def trained(method, settings, seed):
        if len(measured) == 3:
            raise KeyboardInterrupt
        measured.append((settings["data.kind"], seed))
        return {"test_knn": 0.5 + seed / 10}

    monkeypatch.setattr(script, "trained", trained)
    monkeypatch.setattr(script, "pixels", lambda settings: {"raw pixels": lambda: [{"test_knn": 0.9}]})
    with pytest.raises(KeyboardInterrupt):
        run("--only", "crops")
    del measured[:]
    assert list(run("--only", "crops")["crops"]) == ["raw pixels", "photographs", "characters"]
    assert measured == [("characters", 0), ("characters", 1)]
    assert "| photographs | 2     | 55.0 ± 7.1 |" in script.report(run("--only", "crops"))


@pytest.mark.parametrize("script", ["rates"], indirect=True)
def test_a_method_that_was_measured_is_left_alone(script, run, monkeypatch):
    known = {"train.optimizer": "adam", "train.lr": 0.003, "train.warmup_epochs": 0.0, "scores": [0.9, 0.7]}
    measured = []
    monkeypatch.setattr(script, "measure", lambda method, seeds, work: measured.append(method) or [known])
    run("--only", "dogo")
    run("--only", "dogo", "seed")
    assert measured == ["dogo", "seed"]


@pytest.mark.parametrize("script", ["rates"], indirect=True)
def test_points_are_ordered_by_the_mean_of_their_seeds(script):
    rows = [
        {"train.optimizer": "sgd", "train.lr": 0.1, "train.warmup_epochs": 2.0, "val_knn": 0.6, "scores": (0.5, 0.7)},
        {
            "train.optimizer": "adam",
            "train.lr": 0.003,
            "train.warmup_epochs": 0.0,
            "val_knn": 0.8,
            "scores": (0.9, 0.7),
        },
    ]
    trials = pd.DataFrame([{**row, **dict(zip(SEEDS, row.pop("scores"), strict=True))} for row in rows])
    found = script.points(trials, 2)
    assert [(point["train.optimizer"], point["scores"]) for point in found] == [
        ("adam", [0.9, 0.7]),
        ("sgd", [0.5, 0.7]),
    ]
    page = script.report({"simclr": found})
    assert "| 1    | adam      | 0.003 | 0              | 80.0    | preset |" in page
    assert "vary by 14.1 points over seeds" in page
