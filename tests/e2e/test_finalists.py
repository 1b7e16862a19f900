"""Near-equal trials of a tiny sweep: their seeds decide, the losers get no test score, and a resume adds nothing."""

import json
from dataclasses import replace
from statistics import fmean

import pytest
import yaml

from raydistill import config
from raydistill.records.journal import Journal
from raydistill.records.leaderboard import is_reference
from raydistill.report import load
from raydistill.report.comparison import by_seed, finalists
from raydistill.sweep.search.space_parser import load_space
from raydistill.sweep.settings import SweepSettings

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
BASE = {
    "method": {"name": "dogo", "backbones": ["resnet10_w4", "resnet10_w4"], "hidden_dim": 16, "projection_dim": 8},
    "data": {"limit": 60, "batch_size": 16, "image_size": 8},
    "train": {"epochs": 1, "lr": 0.01},
    "eval": {"probe_epochs": 3},
}


@pytest.fixture(scope="module")
def done(ray_cluster, tmp_path_factory):
    from raydistill.sweep.run import run_sweep

    folder = tmp_path_factory.mktemp("finalists")
    path = folder / "space.yaml"
    path.write_text(yaml.safe_dump({"method": "random", "parameters": {"train.lr": {"min": 0.001, "max": 0.02}}}))
    settings = SweepSettings(
        name="s",
        storage=folder / "runs",
        tracking_uri=f"sqlite:///{folder}/mlflow.db",
        base=config.load(BASE),
        space=load_space(path, "dogo", {}),
        trials=2,
        seeds=2,
        finalists=2,
        baseline_trials=2,
        images={"val": 1},  # a standard error of up to 50 points, so that all trials are near equals
        threads=1,
    )
    first = run_sweep(settings)
    journal = (settings.directory / "journal.jsonl").read_text()
    return settings, first, journal, run_sweep(replace(settings), resume=True)


def test_the_seeds_of_both_arms_decide_and_only_the_chosen_have_test_scores(done):
    settings, first, *_ = done
    trials = Journal(settings.directory / "journal.jsonl").trials
    rows = {row.name: row for row in first.rows if not is_reference(row.name)}
    for place, prefix in (("dogo", ""), ("simclr-searched", "baseline-simclr-")):
        (beaten,) = [row for name, row in rows.items() if name in (f"{prefix}t0000", f"{prefix}t0001")]
        chosen = rows[place]
        assert {chosen.runs[0], beaten.runs[0]} == {f"{prefix}t0000", f"{prefix}t0001"}
        for row in (chosen, beaten):
            assert len(row.runs) == 2
            assert [score["val_knn"] for score in row.scores] == [trials[key].last("val_knn") for key in row.runs]
        assert fmean(s["val_knn"] for s in chosen.scores) >= fmean(s["val_knn"] for s in beaten.scores)
        assert all("test_knn" in score for score in chosen.scores)
        assert not any(name.startswith("test") for score in beaten.scores for name in score)
        assert not any((settings.directory / "trials" / key / "scores.json").exists() for key in beaten.runs)
    assert sum(key.startswith("final-") for key in trials) <= settings.final_runs
    assert (settings.directory / "winner").resolve().name == rows["dogo"].runs[0]


def test_a_resume_trains_nothing_and_finds_the_same(done):
    settings, first, journal, again = done
    assert (settings.directory / "journal.jsonl").read_text() == journal
    assert again.table == first.table
    assert json.loads((settings.directory / "results.json").read_text())[0]["runs"] == first.rows[0].runs


def test_the_report_pairs_the_rows_by_seed(done):
    settings, first, *_ = done
    sweep = load(settings.tracking_uri, "s")
    assert sweep.best == first.rows[0].runs[0]
    assert all(set(by_seed(sweep, row, "test_knn")) == {0, 1} for row in finalists(sweep))
