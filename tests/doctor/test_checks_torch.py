"""What is said of torch, torchvision and GPUs."""

import os
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
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


def pretended_gpus(names, capabilities, peers=True):
    """As much of torch as is asked about GPUs that compute."""
    cuda = SimpleNamespace(
        device_count=lambda: len(names),
        get_device_name=lambda index: names[index],
        get_device_capability=lambda device: capabilities[getattr(device, "index", device)],
        can_device_access_peer=lambda a, b: peers,
        nccl=SimpleNamespace(version=lambda: (2, 30, 1)),
    )
    distributed = SimpleNamespace(is_available=lambda: True, is_nccl_available=lambda: True)
    return SimpleNamespace(
        cuda=cuda,
        version=SimpleNamespace(cuda="13.2", hip=None),
        distributed=distributed,
        device=lambda kind, index: SimpleNamespace(type=kind, index=index),
        multiprocessing=SimpleNamespace(spawn=lambda *given, **named: None),
    )


@pytest.mark.parametrize(
    ("names", "capabilities", "peers", "expected"),
    [
        (["A100"], [(8, 0)], True, {"GPU": ("ok", "1 x A100, CUDA 13.2, driver 580.95.05")}),
        (["T4"], [(7, 5)], True, {"GPU": ("ok", "T4 without bf16, so networks train in float32")}),
        (["V100"], [(7, 0)], True, {"GPU": ("warning", "V100: torch's CUDA 13 is built for Turing and later")}),
        (["L4", "L4"], [(8, 9)] * 2, False, {"peer access": ("ok", "2 of 2 pairs"), "all-reduce": ("ok", "over 2")}),
        (["H100", "H100"], [(9, 0)] * 2, True, {"peer access": ("ok", "all 2 GPUs reach each other's memory")}),
    ],
)
def test_gpus_that_compute(tmp_path, monkeypatch, names, capabilities, peers, expected):
    driver = tmp_path / "version"
    driver.write_text(
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build  (dvs-builder)\n"
    )
    monkeypatch.setattr(checks_torch, "DRIVER", driver)
    pretended = pretended_gpus(names, capabilities, peers)
    monkeypatch.setattr(checks_torch, "check_computes", lambda device: None)
    monkeypatch.setattr(checks_torch, "has_bf16", lambda device: capabilities[device.index] >= (8, 0))
    found = {finding.name: finding for finding in checks_torch._gpus(pretended)}  # of one name the last
    for name, (status, said) in expected.items():
        assert found[name].status == status
        assert said in found[name].message


def test_a_gpu_that_does_not_compute_is_named_with_its_number(monkeypatch):
    def failing(device):
        if device.index == 1:
            raise RuntimeError("cuda:1 of node-3 does not compute (no kernel image is available)")

    monkeypatch.setattr(checks_torch, "check_computes", failing)
    monkeypatch.setattr(checks_torch, "has_bf16", lambda device: True)
    (found,) = checks_torch._gpus(pretended_gpus(["L4", "K80"], [(8, 9), (3, 7)]))
    assert found.status == "fault"
    assert "1 (K80): cuda:1 of node-3 does not compute (no kernel image is available)" in found.message


def test_the_guides_cuda_is_that_of_the_torch_that_is_pinned():
    """docs and doctor speak of CUDA 13, its driver and its oldest cards."""
    pinned = re.search(r"^torch==(\S+)$", (ROOT / "constraints.txt").read_text(), re.M)
    if torch.__version__.partition("+")[0] != pinned[1]:
        pytest.skip("another torch than the one in constraints.txt")
    major = torch.version.cuda.partition(".")[0]
    assert f"PyTorch's CUDA {major} wants an NVIDIA driver of 580" in (ROOT / "clusters" / "README.md").read_text()
    assert f"torch's CUDA {major} is built for Turing" in Path(checks_torch.__file__).read_text()
