"""What a device can do decides the precision that `auto` means."""

import subprocess
import sys

import pytest
import torch

from raydistill.models.backbones import Backbone
from raydistill.training.devices import Clock, has_bf16, is_unsound, sound_kernels

TRAINED = """
import torch
from raydistill.models.backbones import Backbone
from raydistill.training.devices import is_unsound, sound_kernels

for width in range(1, 8):
    for size, images in ((8, 6), (12, 16), (32, 32)):
        net = Backbone(f"resnet10_w{width}", stem="narrow", image_size=size).to(memory_format=torch.channels_last)
        batch = torch.randn(images, 3, size, size).contiguous(memory_format=torch.channels_last)
        for _ in range(5):
            loss = net(batch).square().sum()
            with sound_kernels(unsound=is_unsound(net, batch.device)):
                loss.backward()
print("whole")
"""


@pytest.mark.slow
def test_narrow_networks_are_trained_within_their_memory():
    """oneDNN of torch 2.15 ends the process on a CPU without AVX-512, at the latest when its memory is freed."""
    done = subprocess.run([sys.executable, "-c", TRAINED], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "whole\n"), done.stderr[-500:]


@pytest.mark.parametrize(
    ("capability", "width", "taken"),
    [("AVX2", 4, False), ("AVX2", 8, True), ("DEFAULT", 7, False), ("AVX512", 4, True)],
)
def test_onednn_is_left_out_only_where_it_is_unsound(monkeypatch, capability, width, taken):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    network = Backbone(f"resnet10_w{width}", stem="narrow", image_size=12)
    before = torch.backends.mkldnn.enabled
    with sound_kernels(unsound=is_unsound(network, torch.device("cpu"))):
        assert torch.backends.mkldnn.enabled is (taken and before)
    assert torch.backends.mkldnn.enabled is before


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
