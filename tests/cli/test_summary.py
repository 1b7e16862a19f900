"""What a sweep says at its end, and how an interrupted one goes on."""

import sys
from pathlib import Path

import pytest

from raydistill.cli.sweeping import summary
from raydistill.config import EvalConfig
from raydistill.records.leaderboard import LeaderboardEntry


def said(**scores):
    return list(summary.legend([LeaderboardEntry("dogo", {}, 2, [scores])], EvalConfig(ks=(1, 4))))


def test_the_legend_explains_the_columns_that_there_are():
    lines = said(val_knn=0.5, test_knn=0.5, test_probe=0.5)
    assert lines[0] == "val_knn, test_knn: k-NN accuracy (%) averaged over k = 1, 4"
    assert not any("instance" in line for line in lines)
    assert not any("few" in line or "rank" in line or "draws" in line for line in lines)
    assert any("over 10 draws" in line for line in said(test_knn_1_labels=0.5))
    bare = said(val_instance=0.5, test_instance=0.4, val_rank=12.0)
    assert any(line.startswith("val_rank: ") for line in bare)
    assert bare[0].startswith("val_instance, test_instance: ")
    assert not any("k-NN" in line or "probe" in line for line in bare)


def test_the_legend_says_which_k_is_the_headline_and_what_the_error_is():
    scores = {"val_knn": 0.5, "test_knn": 0.5, "test_knn_1": 0.4, "val_mse": 0.2, "test_mse": 0.3}
    row = LeaderboardEntry("simreg", {}, 2, [scores])
    lines = list(summary.legend([row], EvalConfig(knn="simreg")))
    assert lines[0] == "val_knn, test_knn: k-NN accuracy (%) with k = 20, ties broken at random"
    assert lines[1] == "test_knn_1: the same with k = 1"
    assert lines[2].startswith("val_mse, test_mse: squared distance")
    assert not any("mse" in line for line in said(val_knn=0.5))


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["sweep.py", "--method", "dogo"], "python sweep.py --method dogo --name dogo-1 --resume"),
        (["sweep.py", "--name", "a b", "--trials", "3"], "python sweep.py --name 'a b' --trials 3 --resume"),
        (["sweep.py", "--name", "x", "--resume"], "python sweep.py --name x --resume"),
    ],
)
def test_the_whole_command_goes_on_with_an_interrupted_sweep(monkeypatch, typed, expected):
    monkeypatch.setattr(sys, "argv", typed)
    assert summary.how_to_resume("dogo-1") == expected


def test_a_program_that_is_not_on_the_path_is_named_where_it_lies(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    folder = Path(".venv/bin")
    folder.mkdir(parents=True)
    (folder / "raydistill").touch()
    monkeypatch.setattr(sys, "executable", str(tmp_path / folder / "python"))
    monkeypatch.setenv("PATH", "")
    assert summary.program("raydistill") == ".venv/bin/raydistill"
    assert summary.program("mlflow") == "mlflow", "not there either"
    (tmp_path / folder / "raydistill").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / folder))
    assert summary.program("raydistill") == "raydistill"
