"""What a device can do decides the precision that `auto` means."""

import pytest
import torch

from raydistill.training.devices import Clock, has_bf16


@pytest.mark.parametrize(("capability", "expected"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_bf16_is_for_cards_that_compute_in_it(monkeypatch, capability, expected):
    """A T4 (7.5) emulates it: torch says that it is supported, and convolutions fail or crawl."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert has_bf16(torch.device("cuda", 0)) is expected


def test_a_cpu_trains_in_float32():
    assert not has_bf16(torch.device("cpu"))


def test_a_gpus_work_is_timed_by_its_events_and_not_by_the_host(monkeypatch):
    """The host is done with a launch at once; the GPU here works 20 ms for each."""
    worked, waited = [0.0], []

    class Event:
        def __init__(self, *, enable_timing):
            assert enable_timing

        def record(self, stream):
            assert stream == "of cuda:0"
            self.at = worked[0]

        def synchronize(self):
            waited.append(self)

        def elapsed_time(self, later):
            assert later in waited, "the work may not be done yet"
            return later.at - self.at

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"of {device}")
    clock = Clock(torch.device("cuda", 0))
    spans = []
    for _ in range(3):
        began = clock.mark()
        worked[0] += 20
        spans.append((began, clock.mark()))
    assert clock.seconds(spans) == pytest.approx(0.06)


def test_a_cpus_work_is_timed_by_the_host():
    clock = Clock(torch.device("cpu"))
    began = clock.mark()
    end = clock.mark()
    assert clock.seconds([(began, end), (began, end)]) == pytest.approx(2 * (end - began))
    assert end >= began
