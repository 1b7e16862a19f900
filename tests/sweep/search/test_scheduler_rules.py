"""Schedulers played out trial by trial, without a cluster: everybody ends, and the right ones at their full budget."""

from types import SimpleNamespace

import pytest
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from raydistill.sweep.search.schedulers import SweepBOHB, SweepHyperBand, SweepMedian


class Fake:
    def __init__(self, number):
        self.trial_id, self.status, self.is_saving = f"t{number}", Trial.PENDING, False
        self.number, self.epoch, self.config = number, 0, {"key": f"t{number}"}


class Controller:
    """The part of Tune's controller that the schedulers touch."""

    def __init__(self, scheduler):
        self.scheduler, self.trials = scheduler, []
        self.search_alg = SimpleNamespace(
            searcher=SimpleNamespace(on_pause=lambda key: None, on_unpause=lambda key: None)
        )

    def get_trials(self):
        return self.trials

    def get_live_trials(self):
        return [trial for trial in self.trials if trial.status != Trial.TERMINATED]

    def stop_trial(self, trial):
        if trial.status in (Trial.PAUSED, Trial.PENDING):
            self.scheduler.on_trial_remove(self, trial)
        else:
            self.scheduler.on_trial_complete(self, trial, {})
        trial.status = Trial.TERMINATED


def play(kind, trials, epochs, *, eta=3, fails=None, every=1):
    """The trials after all have ended, or stand still; `fails`: (trial, epoch) of one that does."""
    scheduler = kind(time_attr="epoch", max_t=epochs, reduction_factor=eta, stop_last_trials=False)
    scheduler.set_search_properties("val_knn", "max")
    controller = Controller(scheduler)
    for number in range(trials):
        controller.trials.append(Fake(number))
        scheduler.on_trial_add(controller, controller.trials[-1])
    while True:
        while (chosen := scheduler.choose_trial_to_run(controller)) is not None:
            chosen.status = Trial.RUNNING
        running = [trial for trial in controller.trials if trial.status == Trial.RUNNING]
        if not running:
            return controller.trials
        for trial in running:
            if trial.status == Trial.RUNNING:
                step(controller, trial, epochs, fails, every)


def step(controller, trial, epochs, fails, every):
    trial.epoch += 1
    scored = trial.epoch % every == 0 or trial.epoch == epochs
    result = {"epoch": trial.epoch, **({"val_knn": float(trial.number)} if scored else {})}
    if fails == (trial.number, trial.epoch):
        decision, result = TrialScheduler.STOP, {"failure": "nan", "done": True}
    elif trial.epoch == epochs:
        decision = TrialScheduler.STOP
    else:
        decision = controller.scheduler.on_trial_result(controller, trial, result)
    if decision == TrialScheduler.STOP:
        controller.scheduler.on_trial_complete(controller, trial, result)
        trial.status = Trial.TERMINATED
    elif decision == TrialScheduler.PAUSE:
        trial.status = Trial.PAUSED


@pytest.mark.parametrize("kind", [SweepHyperBand, SweepBOHB])
@pytest.mark.parametrize(("trials", "epochs", "eta"), [(8, 10, 3), (20, 50, 3), (16, 100, 3), (7, 4, 2)])
def test_what_is_left_of_a_bracket_gets_its_full_budget(kind, trials, epochs, eta):
    ended = play(kind, trials, epochs, eta=eta)
    full = [trial.number for trial in ended if trial.epoch == epochs]
    assert all(trial.status == Trial.TERMINATED for trial in ended)
    assert max(full) == trials - 1, "the best trial"
    assert len(full) < trials


@pytest.mark.fault(1)
@pytest.mark.parametrize("kind", [SweepHyperBand, SweepBOHB])
def test_whichever_trial_fails_whenever_the_others_end(kind):
    for epoch in range(1, 11):
        for number in range(12):
            ended = play(kind, 12, 10, fails=(number, epoch))
            assert all(trial.status == Trial.TERMINATED for trial in ended), (number, epoch)
            assert any(trial.epoch == 10 for trial in ended), (number, epoch)


@pytest.mark.parametrize("kind", [SweepHyperBand, SweepBOHB])
def test_epochs_without_a_score_pass(kind):
    ended = play(kind, 12, 10, every=2)
    assert all(trial.status == Trial.TERMINATED for trial in ended)
    assert any(trial.epoch == 10 for trial in ended)


@pytest.mark.fault(1)
def test_the_median_takes_no_account_of_a_failed_trial():
    scheduler = SweepMedian(time_attr="epoch", grace_period=1, min_samples_required=1)
    scheduler.set_search_properties("val_knn", "max")
    controller = Controller(scheduler)
    failed, other = Fake(0), Fake(1)
    scheduler.on_trial_result(controller, failed, {"epoch": 1, "val_knn": 0.5})
    scheduler.on_trial_complete(controller, failed, {"failure": "nan", "done": True})
    assert scheduler.on_trial_result(controller, other, {"epoch": 1, "val_knn": 0.6}) == TrialScheduler.CONTINUE
