"""The search of a sweep's baselines: rows, arms, roles, and a driver that is killed in its midst."""

import json
import shutil

import pytest
import yaml
from mlflow import MlflowClient

from raydistill import config
from raydistill.records.journal import Journal
from raydistill.sweep.search.space_parser import load_space
from raydistill.sweep.settings import SweepSettings

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
BASE = {
    "method": {"name": "dogo", "backbones": ["resnet10_w4", "resnet10_w4"], "hidden_dim": 16, "projection_dim": 8},
    "data": {"limit": 60, "batch_size": 16, "image_size": 8},
    "train": {"epochs": 2, "lr": 0.01},
    "eval": {"probe_epochs": 3},
}


class TestTheSearchOfBaselines:
    """Two baselines, one of them the method itself; then a driver that is killed in the search of the second."""

    KEYS = ("baseline-simclr-t0000", "baseline-simclr-t0001", "baseline-dogo-lambda_kd-0-t0000")

    @pytest.fixture(scope="class")
    def done(self, ray_cluster, tmp_path_factory):
        from raydistill.sweep.run import run_sweep

        folder = tmp_path_factory.mktemp("baselines")
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
            baselines=("simclr", "dogo:lambda_kd=0"),
            baseline_trials=2,
            learners=1,
            threads=1,
        )
        first = run_sweep(settings)
        journal = settings.directory / "journal.jsonl"
        lines = journal.read_text().splitlines(keepends=True)
        cut = next(i for i, line in enumerate(lines) if json.loads(line)["key"] == self.KEYS[-1])
        kept = "".join(lines[: cut + 2])
        journal.write_text(kept)
        for trial in (settings.directory / "trials").iterdir():
            if f'"{trial.name}"' not in kept or trial.name == self.KEYS[-1]:
                shutil.rmtree(trial)
        return settings, first, lines, kept, run_sweep(settings, resume=True)

    def test_each_has_a_row_that_its_search_found(self, done):
        settings, first, *_ = done
        names = [row.name for row in first.rows]
        assert names[0] == "dogo"
        assert {"simclr-searched", "dogo-lambda_kd-0-searched"} < set(names)
        trials = Journal(settings.directory / "journal.jsonl").trials
        for row in first.rows:
            if row.name.endswith("-searched"):
                assert len(row.scores) == 2
                keys = [key for key in trials if key.startswith(f"baseline-{row.name.removesuffix('-searched')}-t")]
                assert len(keys) == 2
                assert row.scores[0]["val_knn"] == max(trials[key].last("val_knn") for key in keys)

    def test_every_arm_trains_the_same_student_on_the_same_views_for_as_long(self, done):
        settings, *_ = done
        trials = Journal(settings.directory / "journal.jsonl").trials
        arms = [record.spec.config for key, record in trials.items() if key.startswith(("baseline-", "final-"))]
        assert len(arms) >= 7
        assert {arm.method.student_backbone() for arm in arms} == {"resnet10_w4"}
        assert len({arm.method.student_recipes() for arm in arms}) == 1
        assert len({(arm.train.epochs, arm.train.optimizer, arm.data.batch_size) for arm in arms}) == 1

    def test_a_resumed_sweep_goes_on_in_the_middle_of_a_baselines_search(self, done):
        settings, first, lines, kept, again = done
        text = (settings.directory / "journal.jsonl").read_text()
        assert text.startswith(kept)
        events = [(e["event"], e["key"], e.get("epoch")) for e in map(json.loads, text.splitlines())]
        assert len(events) == len(set(events)) == len(lines)
        assert [row.name for row in again.rows] == [row.name for row in first.rows]
        assert again.table == first.table

    def test_mlflow_tells_the_roles_apart(self, done):
        settings, *_ = done
        client = MlflowClient(settings.tracking_uri)
        experiment = client.get_experiment_by_name("raydistill")
        runs = client.search_runs([experiment.experiment_id], "tags.`raydistill.sweep` = 's'")
        roles = {run.info.run_name: run.data.tags.get("raydistill.role") for run in runs}
        assert {roles[key] for key in self.KEYS} == {"baseline"}
        assert roles["t0000"] == "search"
