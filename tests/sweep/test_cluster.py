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
def test_a_signal_that_is_lost_while_ray_starts_is_remembered(steps, monkeypatch):
    def init(**_):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except Terminated:
            steps.append("lost")

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(Terminated), connected_cluster():
        steps.append("gone on")
    assert steps == ["lost", "ending", "ended"]


@pytest.mark.fault(4)
def test_the_exit_of_rays_own_handler_is_a_signal(steps, monkeypatch):
    def init(**_):
        raise SystemExit(15)

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(Terminated) as stopped, connected_cluster():
        steps.append("gone on")
    assert stopped.value.signum == signal.SIGTERM
