"""What a sweep writes down of its machine never keeps it from starting."""

import torch

from raydistill.sweep.environment import environment


def test_it_names_versions_and_machine():
    found = environment()
    assert found["torch"].startswith(torch.__version__.split("+")[0])
    assert found["cpu"]
    assert found["gpu"]


def test_a_gpu_that_cuda_cannot_use_is_none(monkeypatch):
    def broken(index):
        raise RuntimeError("The NVIDIA driver on your system is too old")

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", broken)
    assert environment()["gpu"] == "none"
