"""Near-equal trials and two searched baselines: the seeds decide; rows, arms and roles; a sweep that is cut short.

The standard error is up to 50 points, so that all trials are near equals.
"""

import json
import shutil
from statistics import fmean

import pytest
import yaml
from mlflow import MlflowClient

from raydistill import config
from raydistill.records.journal import Journal
from raydistill.records.leaderboard import is_reference
from raydistill.report import load
from raydistill.report.comparison import by_seed, finalists
from raydistill.sweep.search.space_parser import load_space
from raydistill.sweep.settings import SweepSettings
from raydistill.sweep.workers.local_launcher import LocalLauncher

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
BASE = {
    "method": {"name": "dogo", "backbones": ["resnet10_w4", "resnet10_w4"], "hidden_dim": 16, "projection_dim": 8},
    "data": {"limit": 60, "batch_size": 16, "image_size": 8},
    "train": {"epochs": 2, "lr": 0.01},
    "eval": {"probe_epochs": 3},
}
# One of the baselines is the method itself. By row: the start of its trials' keys.
SEARCHED = {
    "dogo": "",
    "simclr-searched": "baseline-simclr-",
    "dogo-lambda_kd-0-searched": "baseline-dogo-lambda_kd-0-",
}
CUT = "baseline-dogo-lambda_kd-0-t0000"


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("baselines")
    path = folder / "space.yaml"
    path.write_text(yaml.safe_dump({"method": "random", "parameters": {"train.lr": {"min": 0.001, "max": 0.02}}}))
    return SweepSettings(
        name="s",
        storage=folder / "runs",
        tracking_uri=f"sqlite:///{folder}/mlflow.db",
        base=config.load(BASE),
        space=load_space(path, "dogo", {}),
        trials=2,
        seeds=2,
        finalists=2,
        baselines=("simclr", "dogo:lambda_kd=0"),
        baseline_trials=2,
        images={"val": 1},
        learners=1,
        threads=1,
    )


def run(settings, **options):
    from raydistill.sweep.run import run_sweep

    return run_sweep(settings, launcher=LocalLauncher, **options)


@pytest.fixture(scope="module")
def first(ray_cluster, settings):
    return run(settings)


def trials(settings):
    return Journal(settings.directory / "journal.jsonl").trials


def test_the_seeds_of_every_arm_decide_and_only_the_chosen_have_test_scores(settings, first):
    known = trials(settings)
    rows = {row.name: row for row in first.rows if not is_reference(row.name)}
    assert first.rows[0].name == "dogo"
    for place, prefix in SEARCHED.items():
        (beaten,) = [row for name, row in rows.items() if name in (f"{prefix}t0000", f"{prefix}t0001")]
        chosen = rows[place]
        assert {chosen.runs[0], beaten.runs[0]} == {f"{prefix}t0000", f"{prefix}t0001"}
        assert {key for key in known if key.startswith(f"{prefix}t")} == {f"{prefix}t0000", f"{prefix}t0001"}
        for row in (chosen, beaten):
            assert len(row.runs) == 2
            assert [score["val_knn"] for score in row.scores] == [known[key].last("val_knn") for key in row.runs]
        assert fmean(s["val_knn"] for s in chosen.scores) >= fmean(s["val_knn"] for s in beaten.scores)
        assert all("test_knn" in score for score in chosen.scores)
        assert not any(name.startswith("test") for score in beaten.scores for name in score)
        assert not any((settings.directory / "trials" / key / "scores.json").exists() for key in beaten.runs)
    assert sum(key.startswith("final-") for key in known) <= settings.final_runs
    assert (settings.directory / "winner").resolve().name == rows["dogo"].runs[0]


def test_every_arm_trains_the_same_student_on_the_same_views_for_as_long(settings, first):
    arms = [record.spec.config for key, record in trials(settings).items() if key.startswith(("baseline-", "final-"))]
    assert len(arms) >= 7
    assert {arm.method.student_backbone() for arm in arms} == {"resnet10_w4"}
    assert len({arm.method.student_recipes() for arm in arms}) == 1
    assert len({(arm.train.epochs, arm.train.optimizer, arm.data.batch_size) for arm in arms}) == 1


def test_mlflow_tells_the_roles_apart(settings, first):
    client = MlflowClient(settings.tracking_uri)
    experiment = client.get_experiment_by_name("raydistill")
    runs = client.search_runs([experiment.experiment_id], "tags.`raydistill.sweep` = 's'")
    roles = {run.info.run_name: run.data.tags.get("raydistill.role") for run in runs}
    assert {roles[key] for key in ("baseline-simclr-t0000", "baseline-simclr-t0001", CUT)} == {"baseline"}
    assert roles["t0000"] == "search"


def test_the_report_pairs_the_rows_by_seed(settings, first):
    sweep = load(settings.tracking_uri, "s")
    assert sweep.best == first.rows[0].runs[0]
    assert all(set(by_seed(sweep, row, "test_knn")) == {0, 1} for row in finalists(sweep))


def test_a_resume_trains_nothing_and_finds_the_same(settings, first):
    journal = (settings.directory / "journal.jsonl").read_bytes()
    again = run(settings, resume=True)
    assert (settings.directory / "journal.jsonl").read_bytes() == journal
    assert again.table == first.table
    assert json.loads((settings.directory / "results.json").read_text())[0]["runs"] == first.rows[0].runs


def test_a_resumed_sweep_goes_on_in_the_middle_of_a_baselines_search(settings, first):
    journal = settings.directory / "journal.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    begun = next(i for i, line in enumerate(lines) if json.loads(line).get("key") == CUT)
    kept = "".join(lines[: begun + 2])
    journal.write_text(kept)
    for trial in (settings.directory / "trials").iterdir():
        if f'"{trial.name}"' not in kept or trial.name == CUT:
            shutil.rmtree(trial)
    for scored in (settings.directory / "results.json", *settings.directory.glob("trials/*/scores.json")):
        scored.unlink()  # which a sweep that was cut there has not
    again = run(settings, resume=True)
    text = journal.read_text()
    assert text.startswith(kept)
    events = [(e["event"], e.get("key"), e.get("epoch")) for e in map(json.loads, text.splitlines())]
    assert len(events) == len(set(events)) == len(lines)
    assert [row.name for row in again.rows] == [row.name for row in first.rows]
    assert again.table == first.table
