"""The linear probe learns where its features are."""

from types import SimpleNamespace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from raydistill.evaluation import final, online, probe
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


@pytest.mark.parametrize("crowded", [False, True])
def test_features_that_a_gpu_has_no_room_for_are_scored_on_the_cpu(monkeypatch, crowded):
    """The second attempt is told not to keep them; any other failure is the caller's."""
    tried = []

    def scored(*given, keep, few):
        tried.append(keep)
        if keep:
            raise torch.OutOfMemoryError("CUDA out of memory") if crowded else ValueError("features are not finite")
        return {"test_knn": 0.5}, torch.empty(0), torch.empty(0)

    monkeypatch.setattr(final, "has_room", lambda *given: True)
    monkeypatch.setattr(final, "_score_by", scored)
    given = (None, None, None, torch.device("cpu"), None)
    if crowded:
        assert final._score(*given, few=False)[0] == {"test_knn": 0.5}
    else:
        with pytest.raises(ValueError, match="not finite"):
            final._score(*given, few=False)
    assert tried == ([True, False] if crowded else [True])


@pytest.mark.parametrize(("free", "room"), [(1e5, False), (2e6, True)])
def test_room_is_counted_with_what_is_made_of_the_features(monkeypatch, free, room):
    monkeypatch.setattr(online, "free_memory_of", lambda device: free)
    images = SimpleNamespace(bank=range(1000), val=range(100), test=range(100), classes=range(10))
    network = torch.nn.Linear(2, 2)
    assert not online.has_room(network, images, torch.device("cuda")), "it does not say how wide its features are"
    network.dim = 32
    assert online.has_room(network, images, torch.device("cuda")) is room
