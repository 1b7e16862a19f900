"""Progress lines say what a person wants to know."""

from raydistill.sweep.progress import ProgressReporter


def make(**values):
    lines, now = [], [0.0]
    progress = ProgressReporter(
        trials=4, epochs=10, metric="val_knn", goal="maximize", write=lines.append, clock=lambda: now[0], **values
    )
    return progress, lines, now


def test_trials_epochs_best_and_time_left():
    progress, lines, now = make()
    progress.started("a")
    progress.started("b")
    now[0] = 12
    progress.tick([0.25])
    assert lines[-1] == (
        "[00:12] 0 of 4 trials, 2 running, 0 trial-epochs (epoch 25% done), waiting for the first epoch"
    )
    progress.result("a", 1, 0.5)
    progress.result("b", 1, 0.25)
    now[0] = 20
    progress.ended("b", "stopped_early")
    assert lines[-1] == "[00:20] b stopped early after 1 of 10 epochs, val_knn 0.2500"
    for epoch in range(2, 11):
        progress.result("a", epoch, 0.5 + epoch / 100)
    now[0] = 110
    progress.ended("a", "finished")
    progress.tick()
    # Two trials of 5.5 epochs on average are left, at 110 s for 11 epochs.
    assert lines[-1] == "[01:50] 2 of 4 trials, 0 running, 11 trial-epochs, best val_knn 0.6000 (a), about 2 min left"


def test_each_seed_of_a_searchs_trial_counts_as_an_epoch_and_those_of_the_final_as_one():
    progress, _, now = make(seeds=3, later=5)
    for epoch in range(1, 11):
        progress.result("t0000", epoch, 0.5)
    now[0] = 60
    progress.ended("t0000", "finished")
    # 90 learner-epochs of three trials and 50 of later runs, at 2 s each.
    assert progress.status() == (
        "1 of 4 trials, 0 running, 30 trial-epochs, best val_knn 0.5000 (t0000), about 5 min left"
    )
    progress.final(2)
    progress.result("final-dogo-seed1", 1, None)
    assert "31 trial-epochs" in progress.status()


def test_it_speaks_only_now_and_then_and_names_causes():
    progress, lines, now = make(every=10)
    progress.tick()
    now[0] = 9
    progress.tick()
    assert lines == []
    now[0] = 11
    progress.tick()
    progress.tick()
    assert len(lines) == 1
    progress.ended("x", "failed", "ssl_1 = nan")
    assert lines[-1].endswith("x failed after 0 of 10 epochs: ssl_1 = nan")


def test_what_ended_before_a_resume_counts_but_not_in_the_pace():
    progress, _, now = make()
    progress.already("a", 10, 0.7)
    now[0] = 5
    assert (
        progress.status()
        == "1 of 4 trials, 0 running, 10 trial-epochs, best val_knn 0.7000 (a), waiting for the first epoch"
    )


def test_the_best_is_the_trial_that_would_win_by_its_last_score():
    progress, _, _ = make()
    progress.result("a", 1, 0.9)
    progress.result("b", 1, 0.5)
    assert "best val_knn 0.9000 (a)" in progress.status()
    progress.result("a", 2, 0.4)
    assert "best val_knn 0.5000 (b)" in progress.status(), "a score of before counts no more"
    for epoch in range(3, 11):
        progress.result("a", epoch, 0.45)
    progress.ended("a", "finished")
    assert "best val_knn 0.4500 (a)" in progress.status(), "trained to its end, it ranks before others"
    progress.result("final-simclr-seed0", 1, None)
    assert "best val_knn 0.4500 (a)" in progress.status()
    progress.result("c", 1, 0.99)
    progress.ended("c", "failed", "nan")
    assert "0.99" not in progress.status()


def test_the_final_is_in_the_time_left_and_in_full():
    progress, _, now = make(later=2)
    for key in "abcd":
        progress.result(key, 1, 0.5)
        progress.ended(key, "stopped_early")
    now[0] = 40
    assert "about 3 min left" in progress.status(), "20 epochs at 10 s"
    progress.final(3)
    assert "about 5 min left" in progress.status(), "three runs of ten epochs"
    for key in ("x", "y", "z"):
        for epoch in range(1, 11):
            progress.result(key, epoch, None)
        progress.ended(key, "finished")
    assert progress.status().endswith("nearly done")


def test_the_best_of_a_baselines_search_is_its_own_and_the_final_shows_the_winner():
    progress, _, _ = make(later=9)
    progress.result("a", 1, 0.9)
    progress.ended("a", "stopped_early")
    before = progress.trials
    progress.baseline(4)
    assert (progress.trials, progress.later) == (before + 4, 5)
    assert "best" not in progress.status()
    progress.result("baseline-simclr-t0000", 1, 0.5)
    assert "best val_knn 0.5000 (baseline-simclr-t0000)" in progress.status()
    progress.baseline(4)
    progress.final(3)
    assert "best val_knn 0.9000 (a)" in progress.status()


def test_the_time_left_counts_what_follows_the_seeds_of_near_equal_trials():
    progress, _, now = make(later=9)
    progress.result("a", 10, 0.9)
    progress.ended("a", "finished")
    progress.trials = 1
    now[0] = 10
    progress.final(2, later=5)
    assert progress.status().endswith("about 12 min left"), "seven runs of ten epochs, each epoch 10 s"
    progress.baseline(3)
    assert (progress.trials, progress.later) == (6, 2)
    progress.final(2)
    assert (progress.trials, progress.later) == (8, 0)


def test_minimising():
    progress = ProgressReporter(trials=2, epochs=1, metric="loss", goal="minimize", write=print)
    progress.result("a", 1, 3.0)
    progress.result("b", 1, 2.0)
    assert "best loss 2.0000 (b)" in progress.status()


def test_a_teacher_has_a_length_of_its_own():
    progress, lines, now = make()
    progress.started("teacher-0", 40)
    progress.result("teacher-0", 20, None)
    now[0] = 100
    # One of 4 trials runs: its 20 other epochs, and 3 trials of 10, at 100 s for the first report.
    assert progress.status().endswith("1 running, 20 trial-epochs, about 83 min left")
    progress.ended("teacher-0", "finished", "its score has settled, val_knn 0.9000")
    assert lines[-1].endswith("teacher-0 finished after 20 of 40 epochs: its score has settled, val_knn 0.9000")
