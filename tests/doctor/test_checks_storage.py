"""What is said of folders and disks that cannot be written or are full."""

import os
import shutil
from collections import namedtuple

import pytest
from helpers.diagnosis import doctor, planted

from raydistill.doctor import checks_storage


@pytest.mark.fault(10)
def test_storage_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    code, findings = doctor(tmp_path, "--storage", tmp_path / "file" / "runs")
    assert code == 1
    planted(findings, "storage", str(tmp_path / "file"), "is a file, not a folder", "--storage")


Usage = namedtuple("Usage", "total used free")


@pytest.mark.fault(10)
@pytest.mark.parametrize(
    ("usage", "name", "said"),
    [
        (Usage(100 * 2**30, 99.9 * 2**30, 0.1 * 2**30), "free disk", "storage: 0.1 GiB free"),
        (Usage(1000 * 2**30, 960 * 2**30, 40 * 2**30), "free disk", "over 95% full, where Ray stops"),
    ],
)
def test_a_full_disk(tmp_path, monkeypatch, usage, name, said):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    code, findings = doctor(tmp_path)
    assert code == 1
    planted(findings, name, said)


def test_storage_by_address(tmp_path):
    assert checks_storage.written("storage", (tmp_path / "bucket").as_uri()).status == "ok"
    assert list(tmp_path.glob("bucket/*")) == []
    (tmp_path / "file").write_text("")
    assert checks_storage.written("storage", (tmp_path / "file" / "bucket").as_uri()).status == "fault"
    assert checks_storage.written("storage", "nothing://bucket/x").status == "fault"


def test_a_disk_that_is_full_when_it_comes_to_it(tmp_path, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    found = checks_storage.written("artifacts", str(tmp_path))
    assert found.status == "fault"
    assert "No space left" in found.message
    assert "make room" in found.fix
