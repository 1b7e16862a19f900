"""Every experiment that ships can be planned and described; only the short benchmark is left out here."""

import pytest
import yaml

from raydistill.cli.sweeping.dry_run import describe
from raydistill.experiments.catalogue import experiment_names
from raydistill.sweep.arms.prepare import prepare_experiment
from raydistill.sweep.preflight import step_benchmark
from raydistill.sweep.preflight.step_benchmark import StepTimings

TIMINGS = StepTimings(
    shared_seconds=0.01,
    learner_seconds=0.02,
    evaluation_seconds=0.1,
    checkpoint_seconds=0.01,
    checkpoint_bytes=2**20,
    steps_per_epoch=9,
    start_seconds=1.0,
    prepare_seconds=0.0,
    parameters=1000,
)


@pytest.mark.parametrize("name", experiment_names())
def test_it_can_be_planned_and_described(name, tmp_path, monkeypatch):
    monkeypatch.setattr(step_benchmark, "benchmark_step", lambda *_, **__: TIMINGS)
    places = {"storage": tmp_path / "runs", "artifacts": tmp_path / "artifacts"}
    plan = prepare_experiment(name, "smoke", notify=lambda line: None, tracking_uri="sqlite:///x.db", **places)
    said = yaml.safe_load(describe(plan))
    assert said["experiment"]["name"] == name
    assert list(said["work"]["arms"]) == [arm.name for arm in plan.arms]
    assert said["work"]["runs"] == len(plan.arms) * (plan.seeds + max(plan.arm_trials - 1, 0))
    assert "about" in said["estimate"]["time"]
    assert not (tmp_path / "runs").exists()
