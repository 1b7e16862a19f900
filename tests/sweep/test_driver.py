"""Trials that no scheduler decides about, without a cluster: the driver itself asks the broker for their epochs."""

from functools import partial
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
import ray

from raydistill import config
from raydistill.records.journal import Journal
from raydistill.sweep import driver as module
from raydistill.sweep.context import Phase
from raydistill.sweep.driver import Driver, SweepError
from raydistill.sweep.search.samplers import FixedProposer
from raydistill.training.messages import EpochResult
from raydistill.trial_spec import TrialSpec

SPEC = TrialSpec(config.load({"method": "simclr", "train": {"epochs": 2}}))
KEYS = ["final-a", "final-b", "final-c"]


class Answer:
    """Stands for Ray's reference to what a call returns; the call is made with it."""

    def __init__(self, call):
        try:
            self.value, self.error = call(), None
        except ray.exceptions.RayError as error:
            self.value, self.error = None, error

    def get(self):
        if self.error is not None:
            raise self.error
        return self.value


class Trained:
    """Stands for the broker's actor: every epoch is trained at once, and `broken` fails with its first one."""

    def __init__(self, room=2, broken=()):
        self.room, self.broken = room, broken
        self.joined, self.running, self.most, self.left = {}, {}, 0, []

    def __getattr__(self, name):
        answer = getattr(type(self), f"on_{name}")
        return SimpleNamespace(remote=lambda *arguments: Answer(partial(answer, self, *arguments)))

    def on_expect(self, trials):
        self.expected = trials

    def on_status(self):
        return {"room": self.room, "workers": 1, "shares": {}}

    def on_join(self, request):
        self.joined[request.key] = request
        self.running[request.key] = request.last_delivered_epoch
        self.most = max(self.most, len(self.running))

    def on_next(self, key):
        if key in self.broken:
            return EpochResult(key, error="loss is nan")
        self.running[key] = epoch = self.running[key] + 1
        return EpochResult(key, epoch, {"loss": 1.0 / epoch}, done=epoch == 2, offsets=((0, 1),))

    def on_leave(self, key):
        self.running.pop(key)
        self.left.append(key)


@pytest.fixture
def work(tmp_path, monkeypatch):
    """Runs a phase without a scheduler; returns what the broker saw and the records."""
    monkeypatch.setattr(module.ray, "get", Answer.get)
    monkeypatch.setattr(module.ray, "wait", lambda asked, timeout: (asked[:1], asked[1:]))
    monkeypatch.setattr(module.tune, "Tuner", lambda *_, **__: pytest.fail("no scheduler, no Tune"))
    journal = Journal(tmp_path / "journal.jsonl")

    def work(broker):
        quiet = MagicMock()
        quiet.on_trial_end.return_value = []
        settings = SimpleNamespace(gpu=False, packs_per_gpu=1)
        plan = SimpleNamespace(complete=lambda spec: spec, settings=settings)
        budget = MagicMock(to_dict=dict)
        driver = Driver(tmp_path, broker, "broker", journal, quiet, quiet, budget, quiet, plan)
        new = [{"final": key} for key in KEYS if key not in journal.trials]
        phase = Phase(
            role="final",
            trials=len(KEYS),
            epochs=2,
            metric="val_knn",
            goal="maximize",
            proposer=FixedProposer(new),
            key=lambda index: KEYS[index],
            resolve=lambda chosen: SPEC,
        )
        return {record.key: record for record in driver.run(phase)}

    work.journal = journal
    return work


def test_each_trains_to_its_end_and_no_more_at_once_than_there_is_room_for(work):
    broker = Trained(room=2)
    records = work(broker)
    assert list(records) == KEYS
    assert {record.outcome for record in records.values()} == {"finished"}
    assert all(record.results == {1: {"loss": 1.0}, 2: {"loss": 0.5}} for record in records.values())
    assert {record.offsets for record in records.values()} == {((0, 1),)}
    assert (broker.expected, broker.most, sorted(broker.left), broker.running) == (3, 2, KEYS, {})


def test_one_that_fails_ends_with_its_cause_and_the_others_go_on(work):
    records = work(Trained(broken=["final-b"]))
    assert {key: record.outcome for key, record in records.items()} == dict(
        zip(KEYS, ["finished", "failed", "finished"], strict=True)
    )
    assert records["final-b"].message == "loss is nan"
    assert records["final-b"].results == {}


def test_an_interrupted_one_goes_on_behind_its_last_epoch_and_one_that_ended_does_not_run_again(work):
    for key in KEYS[:2]:
        work.journal.propose(key, {}, SPEC)
        work.journal.result(key, 1, {"loss": 1.0})
    work.journal.end("final-b", "failed", "loss is nan")
    broker = Trained()
    records = work(broker)
    assert {key: request.last_delivered_epoch for key, request in broker.joined.items()} == {"final-a": 1, "final-c": 0}
    assert [records[key].outcome for key in KEYS] == ["finished", "failed", "finished"]
    assert sorted(records["final-a"].results) == [1, 2]


def test_a_broker_that_dies_ends_the_sweep_with_its_cause(work):
    class Dying(Trained):
        def on_next(self, key):
            raise ray.exceptions.RayActorError(error_msg="The actor died: out of memory")

    with pytest.raises(SweepError, match="the trials of the final ended: The actor died: out of memory"):
        work(Dying())


def test_processes_of_trials_are_on_the_drivers_node_and_take_no_core(monkeypatch, tmp_path):
    """On a GPU node they would keep it from going when idle."""
    asked = []

    def with_resources(trainable, resources):
        asked.append(resources)
        raise KeyboardInterrupt

    monkeypatch.setattr(module.tune, "with_resources", with_resources)
    monkeypatch.setattr(module.ray.util, "get_node_ip_address", lambda: "10.0.0.1")
    phase = SimpleNamespace(goal="maximize")
    with pytest.raises(KeyboardInterrupt):
        Driver._tune(SimpleNamespace(directory=tmp_path), phase, MagicMock(), MagicMock(), MagicMock(), 1)
    ((name, share),) = asked[0].items()
    assert name == "node:10.0.0.1"
    assert share <= 0.001, "a node has one of it, and a thousand trials must fit"
