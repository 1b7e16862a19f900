"""The method that CONTRIBUTING.md adds: put into a copy of the package as told there, it conforms and trains."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
LOSS = """
import numpy, torch
from raydistill.methods.barlow import barlow_twins

a, b = 100 * torch.randn(2, 12, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
c = numpy.corrcoef(a.T, b.T)[:5, 5:]
expected = sum((1 - c[i, j]) ** 2 if i == j else 5e-3 * c[i, j] ** 2 for i in range(5) for j in range(5))
assert abs(barlow_twins(a, b, 5e-3).item() / expected - 1) < 1e-6, expected
"""


def insert(path, after, text):
    """Put `text` behind the line `after`."""
    content = path.read_text()
    assert content.count(after) == 1, f"{path.name} has no line {after!r}"
    path.write_text(content.replace(after, after + text))


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the package and of the conformance suite, with the three blocks where CONTRIBUTING.md puts them."""
    section = (ROOT / "CONTRIBUTING.md").read_text().partition("## Add a method\n")[2].partition("\n## ")[0]
    file, line, row = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    root = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "raydistill", root / "raydistill", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "tests/conftest.py", "tests/methods/test_conformance.py"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, root / name)
    shutil.copytree(ROOT / "tests" / "helpers", root / "tests" / "helpers")
    (root / "raydistill/methods/barlow.py").write_text(file)
    insert(root / "raydistill/options/__init__.py", "METHODS: dict[str, str] = {\n", line)
    insert(root / "tests/helpers/rows.py", "ROWS = {\n", row)
    return root


def run(project, *arguments):
    """Run Python in the copy; its standard output."""
    environment = os.environ | {"PYTHONPATH": str(project), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=project, env=environment, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_the_example_conforms(project):
    said = run(project, "-m", "pytest", "tests/methods/test_conformance.py", "-k", "barlow", "-p", "no:cacheprovider")
    assert int(re.search(r"(\d+) passed", said)[1]) > 3


@pytest.mark.slow
def test_the_example_trains(project):
    config = {
        "method": {"name": "barlow", "backbone": "resnet10_w4", "projection_dim": 8},
        "data": {"limit": 40, "batch_size": 16, "image_size": 8},
        "train": {"epochs": 1},
    }
    (project / "config.yaml").write_text(yaml.safe_dump(config))
    said = run(project, "-m", "raydistill", "train", "config.yaml")
    assert re.search(r"^epoch 1/1 .*loss \d+\.\d+", said, re.MULTILINE), said


@pytest.mark.slow
def test_the_examples_loss_is_the_papers(project):
    run(project, "-c", LOSS)
