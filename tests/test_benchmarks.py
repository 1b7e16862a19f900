"""Every benchmark explains itself and prints one JSON object as its last line."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPTS = sorted(path for path in (ROOT / "analysis" / "benchmarks").glob("*.py"))
NEEDS = {"augment.py": "kornia", "throughput.py": "lightly"}


def run(path, *arguments):
    if path.name in NEEDS and importlib.util.find_spec(NEEDS[path.name]) is None:
        pytest.skip(f"needs {NEEDS[path.name]}: pip install -e '.[benchmarks]'")
    done = subprocess.run(
        [sys.executable, str(path), *arguments], capture_output=True, text=True, timeout=280,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_it_explains_itself(path):
    text = run(path, "--help")
    assert "--quick" in text
    assert "python analysis/benchmarks/" in text


@pytest.mark.slow
def test_the_gpu_benchmark_runs_on_a_cpu():
    result = json.loads(run(ROOT / "analysis" / "benchmarks" / "gpu.py", "--quick", "--device", "cpu").splitlines()[-1])
    assert result["device"] == "cpu"
    assert set(result["parity"].values()) == {0.0}
    assert all(value > 0 for value in result["images_per_second"].values())
