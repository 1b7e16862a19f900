"""The examples of docs/api.md, run in order in one process and an empty folder."""

import re
from pathlib import Path

import pytest

from raydistill.sweep.workers.local_launcher import LAUNCHER

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.slow
@pytest.mark.e2e
def test_the_examples_run_in_order(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv(LAUNCHER, "local")
    names: dict = {}
    for number, block in enumerate(BLOCKS):
        exec(compile(block, f"docs/api.md, block {number}", "exec"), names)
    assert len(BLOCKS) == 7
    assert names["embeddings"].shape == (4, names["result"].encoder.dim)
    assert set(names["scores"]) == set(names["other"]) == {"val_knn", "test_knn", "val_probe", "test_probe"}
    assert "did you mean 'train'?" in capsys.readouterr().out
    trials = names["trials"]
    assert list(trials[trials.role == "search"].outcome) == ["finished", "finished"]
    assert {"dogo", "simclr-same-settings"} <= set(names["sweep"].leaderboard().configuration)
    assert names["sweep"].winner in trials.index
    assert (names["plan"].name, names["plan"].trials) == ("simclr-1", 4)


def test_the_page_names_every_option_of_a_sweep():
    from raydistill.sweep.options import SweepOptions

    (sentence,) = re.findall(r"The options are those of .*?: (.*?)\. ", PAGE)
    assert re.findall(r"`(\w+)`", sentence) == list(SweepOptions.__annotations__)
