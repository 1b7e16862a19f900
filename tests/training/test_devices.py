"""What a device can do decides the precision that `auto` means."""

import pytest
import torch

from raydistill.training.devices import has_bf16


@pytest.mark.parametrize(("capability", "expected"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_bf16_is_for_cards_that_compute_in_it(monkeypatch, capability, expected):
    """A T4 (7.5) emulates it: torch says that it is supported, and convolutions fail or crawl."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert has_bf16(torch.device("cuda", 0)) is expected


def test_a_cpu_trains_in_float32():
    assert not has_bf16(torch.device("cpu"))
