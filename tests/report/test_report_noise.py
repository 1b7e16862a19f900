"""What a report says of noise, and of trials that lost to a near equal over the seeds."""

from dataclasses import replace

import pytest
from helpers.builders.sweeps import EPOCHS, Trial, made_up, whole

from raydistill.records.leaderboard import LeaderboardEntry
from raydistill.report.comparison import against, baselines, by_seed, finalists, metrics
from raydistill.report.conclusion import against_baseline, conclusion

IMAGES = {"raydistill.images": '{"val": 400}'}


def trial(key, score):
    return Trial(key, {"train.lr": 0.01}, [{"val_knn": score, "loss": 1.0}] * EPOCHS)


def row(name, values, runs):
    return LeaderboardEntry(name, {}, EPOCHS, [{"val_knn": value} for value in values], runs)


@pytest.fixture
def decided():
    """t0000 was best in the search, by less than its standard error of 2 points; t0001 is better over the seeds."""
    names = [f"final-{name}-seed{i}" for name in ("dogo-t0000", "dogo-t0001") for i in (1, 2)]
    trials = [trial("t0000", 0.8), trial("t0001", 0.79), trial("t0002", 0.7), *(trial(name, 0.8) for name in names)]
    rows = [
        row("dogo", [0.79, 0.82, 0.81], ["t0001", "final-dogo-t0001-seed1", "final-dogo-t0001-seed2"]),
        row("simclr-searched", [0.75, 0.76], ["baseline-simclr-t0001", "final-simclr-searched-t0001-seed2-2"]),
        row("pixels", [0.1], []),
        row("t0000", [0.8, 0.7, 0.72], ["t0000", "final-dogo-t0000-seed1", "final-dogo-t0000-seed2"]),
        row("t0002", [0.7], ["t0002"]),
    ]
    return made_up(trials, rows, {"raydistill.winner": "t0001", "raydistill.outcome": "finished"} | IMAGES)


def test_the_standard_error_the_spread_and_the_change_of_place_are_said(decided):
    # Pooled by hand: squares of 0.000467, 0.00005 and 0.0056 over 5 degrees of freedom.
    said = (
        "One run's val_knn has a standard error of 2.0 points (400 validation images); 2 of 3 trials trained to the "
        "end are within one standard error of the best. Over seeds, val_knn has a standard deviation of 3.50 points, "
        "pooled over 3 configurations. t0000 was best in the search, and t0001 has the better mean over seeds."
    )
    assert said in conclusion(decided)
    assert against_baseline(decided).endswith(said)
    before = replace(decided, rows=[], tags=decided.tags | {"raydistill.winner": ""})
    assert "standard error of 2.0 points" in conclusion(before)
    assert against_baseline(before) == ""


def test_scores_belong_to_the_seeds_of_the_rows_own_runs(decided):
    winner, baseline = finalists(decided)
    assert by_seed(decided, winner, "val_knn") == {0: 0.79, 1: 0.82, 2: 0.81}
    assert by_seed(decided, baseline, "val_knn") == {0: 0.75, 2: 0.76}
    assert (baselines(decided), metrics(decided)) == ([baseline], ["val_knn"])
    found = against(decided, baseline, "val_knn")
    assert (found.paired, found.seeds) == (True, 2)


def test_a_sweep_that_does_not_know_its_images_speaks_of_seeds_alone():
    sweep = whole(8)
    text = conclusion(sweep)
    assert "standard error" not in text
    assert "Over seeds, val_knn has a standard deviation of" in text
    assert "was best in the search" not in text
    assert "standard error" in conclusion(replace(sweep, tags=sweep.tags | IMAGES))


def test_the_winners_trial_is_known_where_its_own_run_was_trained_again(decided):
    for key, best in (("final-dogo-t0001-seed1", "t0001"), ("final-dogo-t0000-seed2", "t0000")):
        assert replace(decided, tags=decided.tags | {"raydistill.winner": key}).best == best
