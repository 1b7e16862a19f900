"""The linear probe learns where its features are."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from raydistill.evaluation import probe
from raydistill.evaluation.probe import PROBE_PRESETS, linear_probe


def test_every_tensor_of_a_step_is_beside_the_features(monkeypatch):
    """With tensors that only pretend to be on a GPU: a mixture of devices is an error there too."""
    monkeypatch.setattr(
        probe, "accuracy", lambda split, weights: float(torch.nn.functional.linear(split[0], *weights).shape[0])
    )
    with FakeTensorMode():
        split = torch.empty(100, 8, device="cuda"), torch.zeros(100, dtype=torch.int64, device="cuda")
        _, _, weights = probe._fit(split, split, 3, PROBE_PRESETS["dogo"], 2, 0)
    assert {each.device.type for each in weights} == {"cuda"}


@pytest.mark.gpu
@pytest.mark.parametrize("preset", PROBE_PRESETS)
def test_a_gpu_learns_what_the_cpu_learns(preset):
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(5, 16, generator=generator)
    labels = torch.randint(5, (600,), generator=generator)
    rows = centres[labels] + 0.7 * torch.randn(600, 16, generator=generator)
    splits = [(part, own) for part, own in zip(rows.split(200), labels.split(200), strict=True)]
    found = []
    for device in ("cpu", "cuda"):
        (train, a), (val, b), (test, c) = [(part.to(device), own) for part, own in splits]
        options = {"test": test, "test_labels": c, "classes": 5, "preset": preset, "epochs": 8}
        found.append(linear_probe(train, a, val, b, **options))
    assert found[1].test_logits.device.type == "cuda"
    assert found[1].test == pytest.approx(found[0].test, abs=0.03)
