"""A finished sweep goes on with more trials: it knows the earlier ones, trains what is new, and says what it saw."""

import json
from dataclasses import replace

import pytest
import yaml

from raydistill import config
from raydistill.records.journal import Journal, read_finals
from raydistill.records.layout import SCORES_FILE
from raydistill.report import load
from raydistill.report.caveats import caveats
from raydistill.report.summary import summarize
from raydistill.sweep.search.space_parser import load_space
from raydistill.sweep.settings import SweepSettings
from raydistill.sweep.workers.local_launcher import LocalLauncher

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.fixture(scope="module")
def extended(ray_cluster, tmp_path_factory):
    """The sweep before and after: its settings, its result, its journal and the times of its test scores."""
    from raydistill.sweep.run import run_sweep

    folder = tmp_path_factory.mktemp("more")
    path = folder / "space.yaml"
    parameters = {"method.tau_kd": {"min": 0.05, "max": 1.0}}
    path.write_text(yaml.safe_dump({"method": "bayes", "parameters": parameters}))
    base = {
        "method": {"name": "dogo", "backbones": ["resnet10_w4", "resnet10_w4"], "hidden_dim": 16, "projection_dim": 8},
        "data": {"limit": 60, "batch_size": 16, "image_size": 8},
        "train": {"epochs": 1, "lr": 0.01},
        "eval": {"probe_epochs": 3},
    }
    settings = SweepSettings(
        name="s",
        storage=folder / "runs",
        tracking_uri=f"sqlite:///{folder}/mlflow.db",
        base=config.load(base),
        space=load_space(path, "dogo", {}),
        trials=2,
        seeds=2,
        baseline_trials=1,
        threads=1,
    )
    found = []
    for number in (2, 4):
        plan = replace(settings, trials=number)
        result = run_sweep(plan, resume=number > 2, launcher=LocalLauncher)
        journal = Journal(plan.directory / "journal.jsonl")
        scored = {p.parent.name: p.stat().st_mtime_ns for p in plan.directory.glob(f"trials/*/{SCORES_FILE}")}
        found.append((plan, result, journal, scored))
    return found


def test_the_search_goes_on_and_no_trial_of_before_is_trained_again(extended):
    (_, _, before, _), (plan, _, after, _) = extended
    assert [key for key in after.trials if key.startswith("t")] == ["t0000", "t0001", "t0002", "t0003"]
    for key, record in before.trials.items():
        assert after.trials[key] == record
    assert len({str(after.trials[key].settings) for key in after.trials if key.startswith("t")}) == 4, "nothing twice"
    events = [json.loads(line) for line in (plan.directory / "journal.jsonl").read_text().splitlines()]
    trained = [(event["key"], event["epoch"]) for event in events if event["event"] == "result"]
    assert len(trained) == len(set(trained)), "no epoch twice"


def test_the_sampler_knows_all_trials(extended):
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    plan, *_ = extended[1]
    storage = JournalStorage(JournalFileBackend(str(plan.directory / "optuna.journal")))
    study = optuna.load_study(study_name="s", storage=storage)
    known = [(trial.user_attrs["key"], trial.state.name) for trial in study.trials]
    assert known == [(f"t{number:04d}", "COMPLETE") for number in range(4)]


def test_scores_of_before_are_reused_and_the_table_says_that_they_were_seen(extended):
    (plan, first, _, scored), (_, second, _, again) = extended
    assert {key: again[key] for key in scored} == scored, "no score of before is made anew"
    finals = read_finals(plan.directory / "journal.jsonl")
    assert [final.runs["dogo"] for final in finals] == [first.rows[0].runs, second.rows[0].runs]
    more = finals[1].trials - finals[0].trials
    assert (finals[0].trials, more >= 2) == (3, True)
    said = f"test scored again after {more} more trials: its scores were seen before, after 3 trials of the searches"
    assert said in second.table
    assert "test scored again" not in first.table


def test_the_report_says_it_too(extended):
    plan = extended[1][0]
    sweep = load(plan.tracking_uri, "s")
    assert sum("test scored again after" in line.lower() for line in caveats(sweep)) == 1
    note = summarize(sweep).note
    assert "test scored again after" in note
    assert "scored once" not in note
