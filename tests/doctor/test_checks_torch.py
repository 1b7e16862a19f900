"""What is said of torch, torchvision and GPUs."""

import os
import shutil

import pytest
from helpers.commands import ROOT
from helpers.diagnosis import checks, doctor, planted, setup_in

from raydistill.doctor import checks_torch


@pytest.mark.slow
def test_torchvision_of_another_build_and_no_gpu(tmp_path):
    """What torchvision's compiled half says beside a torch that it was not built for."""
    stub = tmp_path / "stub"
    (stub / "torchvision").mkdir(parents=True)
    (stub / "torchvision" / "__init__.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    given = {"PYTHONPATH": f"{stub}{os.pathsep}{ROOT}", "CUDA_VISIBLE_DEVICES": ""}
    code, findings = doctor(tmp_path, "--gpu", examinations=checks("torch"), **given)
    assert code == 1
    planted(findings, "torch", "operator torchvision::nms does not exist", "--force-reinstall 'torch")
    planted(findings, "GPU", "CUDA_VISIBLE_DEVICES=''", "unset CUDA_VISIBLE_DEVICES")


class PretendedTorch:
    """As much of torch as the checks of GPUs look at."""

    __version__ = "2.15.0"

    class version:  # noqa: N801 - as torch calls it
        cuda = "13.2"

    class cuda:  # noqa: N801
        @staticmethod
        def is_available():
            import warnings

            warnings.warn("The NVIDIA driver on your system is too old (found version 12020)", stacklevel=1)
            return False


@pytest.mark.parametrize(
    ("wanted", "driver", "status", "said"),
    [
        (True, True, "fault", "the NVIDIA driver on your system is too old"),
        (None, True, "fault", "a driver is here, and torch finds no GPU"),
        (True, False, "fault", "asked for, and there is none"),
        (None, False, "ok", "none; networks train on the CPU"),
    ],
)
def test_a_gpu_that_torch_does_not_find(tmp_path, monkeypatch, wanted, driver, status, said):
    monkeypatch.setattr(checks_torch, "DRIVER", tmp_path if driver else tmp_path / "missing")
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    old = "The NVIDIA driver on your system is too old (found version 12020)"
    finding = checks_torch._no_gpu(PretendedTorch, setup_in(tmp_path, gpu=wanted), old)
    assert finding.status == status
    assert said.lower() in finding.message.lower()


def test_all_reduce_of_one_on_the_cpu(tmp_path):
    checks_torch.reduce(0, 1, str(tmp_path / "meet"), "gloo")
