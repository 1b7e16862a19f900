"""Python and the dependencies against what the package itself declares."""

from __future__ import annotations

import platform
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from raydistill.doctor.check_result import CheckResult, Setup

PACKAGE = "raydistill"
# The same library, packed otherwise.
ALSO = {"faiss-gpu": "faiss-cpu", "faiss-cpu": "faiss-gpu"}
KNOWN = {
    "ray": "CVE-2023-48022 and CVE-2025-62593: whoever reaches the job API, also through a browser, runs code here",
    "mlflow": "CVE-2026-2033 and CVE-2026-53995, fixed in 3.17.2",
    "torch": "CVE-2025-32434 and CVE-2026-24747: weights_only could be got round",
}


def check_versions(_: Setup) -> Iterator[CheckResult]:
    """One line if all is as declared, else one for each that is not."""
    python, requirements = declared()
    name = "versions"
    bad = 0
    if not SpecifierSet(python).contains(platform.python_version(), prereleases=True):
        bad += 1
        yield CheckResult(
            name,
            "fault",
            f"Python {platform.python_version()}, wanted {python}",
            f"make a virtual environment with a Python {python}",
        )
    wanted = [each for each in requirements if each.marker is None or each.marker.evaluate({"extra": ""})]
    for requirement in wanted:
        found = installed(requirement.name)
        if found is not None and requirement.specifier.contains(found, prereleases=True):
            continue
        bad += 1
        what = f"{requirement.name} {found or 'is not installed'}, wanted {requirement.specifier}"
        if found and requirement.name in KNOWN:
            what += f" (below it: {KNOWN[requirement.name]})"
        requirement.marker = None
        yield CheckResult(name, "fault", what, f"pip install '{requirement}'")
    if not bad:
        yield CheckResult(name, "ok", f"Python {platform.python_version()}, {len(wanted)} dependencies as declared")


def declared() -> tuple[str, list[Requirement]]:
    """The Pythons and the dependencies that the package asks for.

    Raises: FileNotFoundError if it is neither installed nor in its source folder.
    """
    try:
        own = metadata.distribution(PACKAGE)
        return own.metadata["Requires-Python"] or "", [Requirement(text) for text in own.requires or []]
    except metadata.PackageNotFoundError:
        # A Ray job runs from a copy of the source, not installed.
        project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
        return project["requires-python"], [Requirement(text) for text in project["dependencies"]]


def installed(name: str) -> str | None:
    for each in (name, ALSO.get(name)):
        try:
            if each:
                return metadata.version(each)
        except metadata.PackageNotFoundError:
            continue
    return None
