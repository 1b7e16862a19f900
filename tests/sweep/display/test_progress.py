"""Progress lines say what a person wants to know."""

import re
from pathlib import Path
from statistics import median

import pytest

from raydistill.sweep.display.progress import ProgressReporter


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
    progress.tick({"a": 0.25, "b": 0.25})
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
    # Two trials are left, of 8.5 epochs: the mean of four as long as expected, of 10 and of 1. 98 s took 10.5 epochs.
    assert lines[-1] == "[01:50] 2 of 4 trials, 0 running, 11 trial-epochs, best val_knn 0.6000 (a), about 3 min left"


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
    progress, _, _ = make(later=2, later_searched=9)
    progress.result("a", 1, 0.9)
    progress.ended("a", "stopped_early")
    before = progress.trials
    progress.baseline(4)
    assert (progress.trials, progress.later, progress.later_searched) == (before + 4, 2, 5)
    assert "best" not in progress.status()
    progress.result("baseline-simclr-t0000", 1, 0.5)
    assert "best val_knn 0.5000 (baseline-simclr-t0000)" in progress.status()
    progress.baseline(4)
    progress.final(3)
    assert "best val_knn 0.9000 (a)" in progress.status()


def test_the_time_left_counts_what_follows_the_seeds_of_near_equal_trials():
    progress, _, now = make(later=4, later_searched=3)
    progress.result("a", 10, 0.9)
    progress.ended("a", "finished")
    progress.trials = 1
    now[0] = 10
    progress.final(2, later=2)
    assert progress.status().endswith("about 12 min left"), "seven runs of ten epochs, each epoch 10 s"
    progress.baseline(3)
    assert (progress.trials, progress.later, progress.later_searched) == (6, 2, 0)
    progress.final(2)
    assert (progress.trials, progress.later, progress.later_searched) == (8, 0, 0)


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


RECORDED = Path(__file__).parents[2] / "stored" / "progress_of_dogo.log"
OVER = 277  # seconds of the recorded sweep, which began to train at about 15


def seconds_of(line):
    minutes, seconds = re.match(r"\[(\d+):(\d+)\]", line).groups()
    return 60 * int(minutes) + int(seconds)


class Replay:
    """The printed lines of `--method dogo --trials 16` on the digits and two cores, told again to another reporter."""

    ENDED = re.compile(r"\[[\d:]+\] (\S+) (finished|stopped early) after (\d+) of")
    STATUS = re.compile(r"(\d+) of \d+ trials, (\d+) running, (\d+) trial-epochs")

    def __init__(self, progress, now):
        self.progress, self.now = progress, now
        self.lines = RECORDED.read_text().splitlines()
        ends = [self.ENDED.match(line) for line in self.lines]
        self.lengths = {end[1]: int(end[3]) for end in ends if end}
        self.done = {}
        self.phase = "t0"

    def train(self, key, epochs):
        self.progress.started(key)
        for epoch in range(self.done.get(key, 0) + 1, epochs + 1):
            self.progress.result(key, epoch, 0.5)
        self.done[key] = max(epochs, self.done.get(key, 0))

    def to(self, running, epochs):
        """Train the next `running` trials until all have so many epochs together, side by side."""
        waiting = [key for key in self.lengths if key.startswith(self.phase) and key not in self.progress._ended]
        beside = waiting[:running]
        for key in beside:
            self.train(key, 0)
        while sum(self.done.values()) < epochs:
            able = [key for key in beside if self.done[key] < self.lengths[key]]
            if not able:
                return
            key = min(able, key=self.done.get)
            self.train(key, self.done[key] + 1)

    def estimates(self):
        """The time and the seconds left that the reporter says, wherever the sweep told its status."""
        for line in self.lines:
            self.now[0] = seconds_of(line)
            if "searching the baseline" in line:
                self.progress.baseline(16)
                self.phase = "baseline"
            elif "the search is over" in line:
                self.progress.final(7)
                self.phase = "final"
            elif end := self.ENDED.match(line):
                self.train(end[1], int(end[3]))
                self.progress.ended(end[1], end[2].replace(" ", "_"))
            elif told := self.STATUS.search(line):
                self.to(int(told[2]), int(told[3]))
                done = [int(share) / 100 for share in re.findall(r"(\d+)% done", line)]
                shares = dict.fromkeys(self.progress._running, done[0]) if done else {}
                self.progress.tick(shares)
                if left := re.search(r"about (\d+) (min|s) left", self.progress.status(shares)):
                    yield self.now[0], int(left[1]) * (60 if left[2] == "min" else 1)


def test_the_time_left_is_near_the_truth_from_the_first_epoch_on():
    now = [0.0]
    progress = ProgressReporter(
        trials=16,
        epochs=10,
        metric="val_knn",
        goal="maximize",
        later=7,
        later_searched=16,
        expected=4.56,  # of ASHA with its first rung at 2 and eta 3
        write=lambda text: None,
        clock=lambda: now[0],
    )
    ratios = [left / (OVER - when) for when, left in Replay(progress, now).estimates() if when < OVER - 60]
    assert len(ratios) == 19
    assert ratios[0] == pytest.approx(1, abs=0.5), "the sweep's own estimate was 3.9 times too long then"
    assert median(ratios) < 1.6
    assert max(ratios) < 2.2, "the baseline's epochs take less than half as long, which nobody knows before they begin"
    assert min(ratios) > 0.7


def test_while_nothing_moves_the_pace_falls_slowly_and_what_is_repeated_is_no_progress():
    progress, _, now = make(later=0)
    for key in "abcd":
        progress.started(key)
    for now[0] in (1.0, 11.0, 21.0):
        for key in "abcd":
            progress.result(key, int(now[0] // 10) + 1, 0.5)
        progress.tick()
    assert progress.status().endswith("about 49 s left"), "28 epochs; 12 took 21 s"
    for now[0] in (80.0, 140.0):  # its worker has died
        progress.tick(dict.fromkeys("abcd", 0.0))
    assert progress.status().endswith("about 15 min left"), "28 epochs; the last four took 129 s"


def test_a_trial_has_its_own_share_of_an_epoch_and_several_seeds_count():
    progress, _, now = make(seeds=2)
    progress.started("t0000", done=4)
    progress.started("t0001", done=4)
    now[0] = 5
    progress.tick({"t0000": 0.5})
    now[0] = 10
    progress.result("t0000", 5, 0.5)
    now[0] = 40
    shown = progress.snapshot({"t0000": 0.75})
    assert [trial.done for trial in shown.running] == [5.75, 4]
    # 4.25 and 6 epochs of two seeds, and two trials of ten; from 1 to 3.5 epochs took 35 s.
    assert shown.left == "about 14 min left"
