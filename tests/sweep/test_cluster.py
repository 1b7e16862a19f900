"""Signals while a cluster is used: the sweep ends once, in order, and Ray is shut down whole."""

import os
import signal

import pytest
import ray

from raydistill.sweep.cluster import Terminated, connected_cluster


@pytest.fixture
def steps(monkeypatch):
    """What happens, in order, with Ray's start and end replaced; Ray's own handler ends the process."""
    happened = []

    def init(**_):
        happened.append("started")
        signal.signal(signal.SIGTERM, lambda *_: pytest.fail("Ray's own handler"))

    def shutdown():
        happened.append("ending")
        os.kill(os.getpid(), signal.SIGTERM)  # a second one, while Ray ends
        happened.append("ended")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", shutdown)
    return happened


@pytest.mark.fault(4)
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP])
def test_a_second_signal_does_not_stop_the_end(steps, signum):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Terminated) as stopped, connected_cluster():
        os.kill(os.getpid(), signum)
        steps.append("gone on")
    assert stopped.value.signum == signum
    assert steps == ["started", "ending", "ended"]
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.fault(4)
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_ray_starts_waits_until_it_has_started(steps, monkeypatch, signum):
    def init(**_):
        steps.append("starting")
        os.kill(os.getpid(), signum)
        steps.append("started")

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(Terminated) as stopped, connected_cluster():
        steps.append("gone on")
    assert stopped.value.signum == signum
    assert steps == ["starting", "started", "ending", "ended"]


@pytest.mark.fault(4)
def test_ray_gets_no_handler_of_its_own_while_it_starts(steps, monkeypatch):
    given = ray._private.utils.set_sigterm_handler

    def own(*_):
        steps.append("by Ray")

    def init(**_):
        ray._private.utils.set_sigterm_handler(own)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(Terminated), connected_cluster():
        steps.append("gone on")
    assert steps == ["ending", "ended"]
    assert ray._private.utils.set_sigterm_handler is given
