"""What became of a trial, by its journal."""

import pytest

from raydistill.records.journal import TrialRecord
from raydistill.sweep.context import length_of, outcome_of


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
