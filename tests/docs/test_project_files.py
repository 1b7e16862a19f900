"""Files about the project: the version is the same everywhere, and the hooks before a commit run the linters."""

import re
from pathlib import Path

import pytest
import yaml
from packaging.version import Version

from raydistill import __version__

ROOT = Path(__file__).parents[2]


def test_the_citation_names_this_version():
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == __version__


def test_the_changelog_has_this_version_and_the_newest_comes_first():
    versions = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert __version__ in versions
    assert versions == sorted(set(versions), key=Version, reverse=True)


@pytest.mark.parametrize("command", ["ruff check", "ruff format", "mypy"])
def test_hooks_use_the_tools_of_the_environment(command):
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"] == "local"
    (hook,) = (hook for hook in repository["hooks"] if hook["name"] == command)
    assert hook["entry"].startswith(f"python -m {command}")
    assert hook["language"] == "system"


@pytest.mark.parametrize("template", sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.md")), ids=lambda p: p.stem)
def test_issue_templates_have_a_name_and_a_purpose(template):
    header = yaml.safe_load(template.read_text().split("---\n")[1])
    assert header["name"]
    assert header["about"]
