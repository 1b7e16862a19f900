"""What is said of versions that are too old or not installed."""

from importlib import metadata

import pytest
from helpers.diagnosis import doctor, planted

from raydistill.doctor import checks_versions


@pytest.mark.parametrize(
    ("package", "version", "said"),
    [
        ("ray", "2.49.2", "CVE-2025-62593"),
        ("mlflow", "3.9.0", "CVE-2026-53995"),
        ("optuna", None, "is not installed, wanted >=5"),
    ],
)
def test_a_dependency_below_its_floor(tmp_path, monkeypatch, package, version, said):
    real = metadata.version

    def fake(name):
        if name == package and version is None:
            raise metadata.PackageNotFoundError(name)
        return version if name == package else real(name)

    monkeypatch.setattr(metadata, "version", fake)
    code, findings = doctor(tmp_path)
    assert code == 1
    planted(findings, "versions", f"{package} {version or 'is not'}", said, f"pip install '{package}")


def test_the_floors_are_above_the_known_holes():
    _, requirements = checks_versions.declared()
    floors = {each.name: next(iter(each.specifier)).version for each in requirements if each.specifier}
    assert tuple(map(int, floors["mlflow"].split("."))) >= (3, 17, 2)
    assert tuple(map(int, floors["ray"].split("."))) >= (2, 60)
