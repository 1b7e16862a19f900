"""What became of a trial, by its journal."""

from types import SimpleNamespace

import pytest

from raydistill.records.budget import Budget, Limits
from raydistill.records.journal import TrialRecord
from raydistill.sweep.context import SweepContext, length_of, outcome_of


def record(results, epochs=10):
    return TrialRecord("teacher-0123", {}, {"train": {"epochs": epochs}}, results=results)


@pytest.mark.parametrize(
    ("results", "length", "outcome"),
    [
        ({}, 10, "stopped_early"),
        ({9: {"loss": 1.0}}, 10, "stopped_early"),
        ({10: {"loss": 1.0}}, 10, "finished"),
        # With `train.patience` the learner says when it will end.
        ({4: {"last_epoch": 10.0}}, 10, "stopped_early"),
        ({4: {"last_epoch": 5.0}}, 5, "stopped_early"),
        ({4: {"last_epoch": 5.0}, 5: {"last_epoch": 5.0}}, 5, "finished"),
    ],
)
def test_a_trial_has_finished_with_its_last_epoch(results, length, outcome):
    assert length_of(record(results)) == length
    assert outcome_of(record(results), failed=False) == outcome
    assert outcome_of(record(results), failed=True) == "failed"


@pytest.mark.parametrize(("gpu", "per_gpu", "counted"), [(True, 1, 3), (True, 2, 2), (True, 4, 1), (False, 4, 3)])
def test_workers_that_share_a_gpu_cost_one(tmp_path, gpu, per_gpu, counted):
    budget = Budget(Limits(), clock=lambda: 0.0)
    plan = SimpleNamespace(settings=SimpleNamespace(gpu=gpu, packs_per_gpu=per_gpu))
    parts = dict.fromkeys(("broker", "broker_name", "journal", "tracker", "progress", "retention"))
    context = SweepContext(directory=tmp_path, budget=budget, plan=plan, **parts)
    context.count(3)
    assert budget._in_use == counted
