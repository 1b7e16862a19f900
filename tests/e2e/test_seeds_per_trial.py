"""Trials of two seeds in a tiny sweep: means decide everywhere, and the first seed is what a trial keeps."""

from dataclasses import replace
from statistics import fmean

import pytest
import yaml

from raydistill import config
from raydistill.records.budget import Limits
from raydistill.records.journal import Journal, role_of
from raydistill.records.leaderboard import is_reference
from raydistill.records.scores import read_scores
from raydistill.report import load
from raydistill.report.conclusion import conclusion
from raydistill.sweep.search.space_parser import load_space
from raydistill.sweep.settings import SweepSettings
from raydistill.training.checkpoints import latest_checkpoint

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
BASE = {
    "method": {"name": "dogo", "backbones": ["resnet10_w4", "resnet10_w4"], "hidden_dim": 16, "projection_dim": 8},
    "data": {"limit": 60, "batch_size": 16, "image_size": 8},
    "train": {"epochs": 1, "lr": 0.01},
    "eval": {"probe_epochs": 3},
}
SEEDS = 2


@pytest.fixture(scope="module")
def done(ray_cluster, tmp_path_factory):
    from raydistill.sweep.run import run_sweep

    folder = tmp_path_factory.mktemp("seeds")
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
        seeds_per_trial=SEEDS,
        baseline_trials=1,
        images={"val": 60},
        threads=1,
        limits=Limits(epochs=100),
    )
    first = run_sweep(settings)
    journal = (settings.directory / "journal.jsonl").read_text()
    return settings, first, journal, run_sweep(replace(settings), resume=True)


def test_trials_of_searches_report_means_and_other_runs_their_own_scores(done):
    settings, *_ = done
    trials = Journal(settings.directory / "journal.jsonl").trials
    assert {role_of(key) for key in trials} == {"search", "baseline", "final"}
    for key, record in trials.items():
        assert record.outcome == "finished"
        scores = record.seed_scores("val_knn")
        assert len(scores) == (0 if role_of(key) == "final" else SEEDS)
        state = latest_checkpoint(settings.directory / "trials" / key)
        assert state["metrics"]["val_knn"] == record.own("val_knn")
        if scores:
            assert record.last("val_knn") == fmean(scores)
            assert record.last("pack_learners") in (SEEDS, 2 * SEEDS)


def test_the_table_ranks_by_means_and_scores_the_first_seed(done):
    settings, first, *_ = done
    trials = Journal(settings.directory / "journal.jsonl").trials
    rows = {row.name: row for row in first.rows if not is_reference(row.name)}
    best, other = sorted(("t0000", "t0001"), key=lambda key: trials[key].last("val_knn"), reverse=True)
    assert rows["dogo"].runs[0] == best
    assert (settings.directory / "winner").resolve().name == best
    assert rows["dogo"].scores[0]["val_knn"] == trials[best].own("val_knn")
    assert rows[other].scores == [rows[other].scores[0]]
    assert rows[other].scores[0]["val_knn"] == trials[other].last("val_knn")
    assert all("test_knn" in score for score in rows["simclr-searched"].scores)
    assert other in first.table


def test_each_seed_counts_in_the_budget(done):
    settings, *_ = done
    values = yaml.safe_load((settings.directory / "budget.json").read_text())
    finals = sum(role_of(key) == "final" for key in Journal(settings.directory / "journal.jsonl").trials)
    assert values["epochs"] == 3 * SEEDS + finals


def test_a_resume_trains_nothing_and_finds_the_same(done):
    settings, first, journal, again = done
    assert (settings.directory / "journal.jsonl").read_text() == journal
    assert again.table == first.table


def test_mlflow_and_the_report_keep_the_means(done):
    settings, first, *_ = done
    sweep = load(settings.tracking_uri, "s")
    trials = Journal(settings.directory / "journal.jsonl").trials
    winner = first.rows[0].runs[0]
    assert sweep.best == winner
    assert sweep.score(winner) == trials[winner].last("val_knn")
    assert sweep.score(winner, "test_knn") == read_scores(settings.directory / "trials" / winner).values["test_knn"]
    assert sweep.by_seed(["t0000", "t0001"]) == [trials[key].seed_scores("val_knn") for key in ("t0000", "t0001")]
    assert not [name for name in sweep.scores if name.startswith("seed/")]
    assert "the mean of 2 seeds" in conclusion(sweep)
