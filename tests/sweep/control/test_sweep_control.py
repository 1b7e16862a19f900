"""What a running sweep makes of requests, and what its search does then, without a cluster."""

from types import SimpleNamespace

import pytest

from raydistill import config
from raydistill.records.budget import BY_HAND, Budget, Limits
from raydistill.records.journal import Journal
from raydistill.sweep.control.requests import ControlRequest
from raydistill.sweep.control.sweep_control import SweepControl
from raydistill.sweep.search.samplers import make_proposer
from raydistill.sweep.search.space_parser import parse_space
from raydistill.sweep.tune_callback import PhaseStopper
from raydistill.sweep.tune_search import TuneSearch
from raydistill.trial_spec import TrialSpec

SPEC = TrialSpec(config.load({"method": "simclr", "train": {"epochs": 3}}))
PARAMETERS = {"train.lr": {"min": 0.001, "max": 0.1}, "method.tau_c": {"values": [0.1, 0.2]}}


class Mailbox:
    """Stands for the files of requests."""

    def __init__(self):
        self.asked, self.accepted, self.answers = [], {}, []

    def new(self):
        asked, self.asked = self.asked, []
        return iter(asked)

    def accept(self, request):
        self.accepted[request.id] = request

    def answer(self, request, answer):
        self.answers.append((answer.obeyed, answer.text))

    def done(self, request):
        self.accepted.pop(request.id, None)


class Work:
    """A sweep of four trials in its search, with what surrounds the control."""

    def __init__(self, folder, search="random", role="search"):
        self.inbox, self.journal, self.budget = Mailbox(), Journal(folder / "journal.jsonl"), Budget(Limits())
        parameters = {path: each for path, each in PARAMETERS.items() if search != "grid" or "values" in each}
        space = {"method": search, "parameters": parameters}
        self.space = parse_space(space, "space", "simclr", {})
        self.notes = []
        self.control = SweepControl(self.inbox, self.journal, self.budget, self.space, self.notes.append)
        self.proposer = make_proposer(self.space, trials=4, seed=0, directory=folder, name="s")
        prefix = "" if role == "search" else f"{role}-simclr-"
        self.phase = SimpleNamespace(
            role=role,
            trials=4,
            metric="val_knn",
            goal="maximize",
            key=lambda index: f"{prefix}t{index:04d}",
            scheduler=object if role in ("search", "baseline") else None,
            proposer=self.proposer,
            resolve=SPEC.assign,
            seeds=1,
            population=False,
            together=False,
            stop=self.budget.exhausted,
        )
        context = SimpleNamespace(
            broker=SimpleNamespace(status=SimpleNamespace(remote=lambda: {"room": 9})),
            broker_name="b",
            journal=self.journal,
            control=self.control,
            plan=SimpleNamespace(complete=lambda spec: spec),
            trial_directory=lambda key: folder / key,
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("raydistill.sweep.tune_search.ray.get", lambda answer: answer)
            keys = [self.phase.key(index) for index in range(4)]
            self.search = TuneSearch(context, self.phase, [], keys)
        self.stopper = PhaseStopper(context, self.phase, self.search)

    def begin(self):
        trial = self.search.suggest(f"tune-{len(self.search.given)}")
        return trial["key"] if isinstance(trial, dict) else trial

    def finish(self, key, outcome="finished"):
        self.journal.result(key, 3, {"val_knn": 0.5})
        self.journal.end(key, outcome)
        self.search.running.discard(key)
        self.control.ended(key)

    def ask(self, action, **content):
        """Return whether it is obeyed, and the answer."""
        self.inbox.asked.append(ControlRequest(f"{len(self.inbox.answers)}", action, **content))
        assert self.control.look(self.phase, self.search.unproposed) == self.inbox.answers[-1][0]
        return self.inbox.answers[-1]


@pytest.fixture
def work(tmp_path):
    return Work(tmp_path)


def test_a_trial_that_is_stopped_ends_with_its_next_result_and_no_other(work):
    assert [work.begin(), work.begin()] == ["t0000", "t0001"]
    assert work.ask("stop", trials=("t0001",)) == (True, "t0001 ends with the running epoch")
    assert (work.stopper("tune-0", {}), work.stopper("tune-1", {})) == (False, True)
    assert not work.stopper.stop_all()
    assert work.begin() == "t0002", "the search goes on"
    work.finish("t0001", "stopped_early")
    assert not work.control.stops("t0001")
    assert work.inbox.accepted == {}


@pytest.mark.parametrize(
    ("trials", "why"),
    [
        (("t0009",), "t0009: there is no such trial"),
        (("t0000",), "t0000 has ended already: finished"),
        (("t0001", "t0000"), "t0000 has ended already: finished"),
        (("final-simclr-seed1",), "final-simclr-seed1 is no trial of a search that runs; --now ends the whole sweep"),
    ],
)
def test_what_cannot_be_stopped_is_refused_and_nothing_is_stopped(work, trials, why):
    work.finish(work.begin())
    work.begin()
    work.journal.propose("final-simclr-seed1", {}, SPEC)
    obeyed, text = work.ask("stop", trials=trials)
    assert not obeyed
    assert text.startswith(why)
    assert not work.control.stops("t0001")
    assert work.notes == []


def test_a_search_that_is_stopped_begins_nothing_and_ends_when_its_epochs_have(work):
    work.finish(work.begin())
    work.begin()
    obeyed, text = work.ask("stop")
    assert obeyed
    assert text.startswith("the search ends with the running epochs, after 2 of 4 trials; each baseline")
    assert work.begin() == "FINISHED"
    assert work.stopper("tune-1", {})
    assert not work.stopper.stop_all(), "t0001 trains its epoch to the end"
    work.finish("t0001", "stopped_early")
    assert work.stopper.stop_all()
    assert work.budget.stopped_by_hand()
    assert work.ask("stop") == (False, f"this search ends already: {BY_HAND}")
    assert not work.ask("add", settings={"train.lr": 0.01})[0]


def test_a_search_without_a_finished_trial_is_not_stopped(work):
    work.begin()
    obeyed, text = work.ask("stop")
    assert not obeyed
    assert text.startswith("no trial of this search has been trained to its end")
    assert not work.stopper.stop_all()


@pytest.mark.parametrize("role", ["teacher", "final"])
def test_outside_of_a_search_only_the_whole_sweep_can_be_stopped(tmp_path, role):
    work = Work(tmp_path, role=role)
    obeyed, text = work.ask("stop")
    assert not obeyed
    assert "--now ends the whole sweep in order" in text
    assert not work.ask("add", settings={"train.lr": 0.01})[0]


def test_now_ends_the_sweep_as_an_interruption_does(work):
    work.inbox.asked.append(ControlRequest("0", "stop", now=True))
    with pytest.raises(KeyboardInterrupt):
        work.control.look(work.phase, [])
    assert work.inbox.answers == [(True, "the sweep ends in order, and resumes where it was")]


@pytest.mark.parametrize("search", ["random", "bayes", "grid"])
def test_settings_that_are_added_come_next_and_count_as_one_of_the_trials(tmp_path, search):
    work = Work(tmp_path, search)
    work.begin()
    given = {"method.tau_c": 0.2}
    assert work.ask("add", settings=given) == (True, "method.tau_c = 0.2: tried next, as one of the 4 trials")
    key = work.begin()
    record = work.journal.trials[key]
    assert (key, record.added, record.settings["method.tau_c"]) == ("t0001", True, 0.2)
    assert work.space.contains(record.settings), "what was not given is searched"
    assert work.inbox.accepted == {}
    assert Journal(work.journal.path).trials["t0001"].added
    if search == "grid":
        assert work.ask("add", settings=given)[1].endswith("every point of the grid with these values was tried")
        assert work.begin() == "FINISHED", "no point twice"
    else:
        assert not work.journal.trials[work.begin()].added


def test_what_is_outside_of_the_space_or_has_no_room_is_refused(work):
    assert work.ask("add", settings={"train.lr": 5.0})[1].startswith("train.lr = 5.0: train.lr never has this value")
    for _ in range(3):
        work.begin()
    assert work.ask("add", settings={"train.lr": 0.01})[0]
    obeyed, text = work.ask("add", settings={"train.lr": 0.02})
    assert not obeyed
    assert text.startswith("all 4 trials have begun or are taken")
