"""Every benchmark explains itself and prints one JSON object as its last line."""

import importlib.util
import json
from pathlib import Path

import pytest
from helpers.commands import run_script

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "analysis" / "benchmarks"
SCRIPTS = sorted(path for path in FOLDER.glob("*.py") if path.name != "measure.py")
NEEDS = {"augment.py": "kornia", "throughput.py": "lightly"}


def run(path, *arguments):
    if path.name in NEEDS and importlib.util.find_spec(NEEDS[path.name]) is None:
        pytest.skip(f"needs {NEEDS[path.name]}: pip install -e '.[benchmarks]'")
    return run_script(path, *arguments)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_it_explains_itself(path):
    text = run(path, "--help")
    assert "--quick" in text
    assert "python analysis/benchmarks/" in text


def check_spreads(result, names):
    """Every ratio is above zero and comes with its spread."""
    assert set(result) == names | {f"{name}_spread" for name in names}
    for name in names:
        low, high = result[f"{name}_spread"]
        assert 0 < low <= result[name] <= high


@pytest.mark.slow
def test_the_gpu_benchmark_runs_on_a_cpu():
    result = json.loads(run(ROOT / "analysis" / "benchmarks" / "gpu.py", "--quick", "--device", "cpu").splitlines()[-1])
    assert result["device"] == "cpu"
    assert set(result["parity"].values()) == {0.0}
    assert all(value > 0 for value in result["images_per_second"].values())


@pytest.mark.slow
def test_the_teacher_bank_benchmark_compares_equal_losses():
    output = run(ROOT / "analysis" / "benchmarks" / "teacher_bank.py", "--quick", "--images", "160", "--repeats", "3")
    result = json.loads(output.splitlines()[-1])
    check_spreads(result, {"seed_speedup", "simreg_speedup"})


@pytest.mark.slow
def test_the_packs_benchmark_compares_equal_trials():
    result = json.loads(run(ROOT / "analysis" / "benchmarks" / "packs.py", "--quick", "--some", "0").splitlines()[-1])
    check_spreads(result, {"pack_vs_serial", "pack_vs_students_only"})


@pytest.mark.slow
def test_the_fused_benchmark_steps_each_learner_by_its_own_gradient():
    result = json.loads(run(ROOT / "analysis" / "benchmarks" / "fused.py", "--quick").splitlines()[-1])
    check_spreads(result["resnet10_w4"], {"fused_2"})


@pytest.mark.soak
@pytest.mark.slow
def test_the_search_benchmark_runs():
    result = json.loads(run(ROOT / "analysis" / "benchmarks" / "search.py", "--quick").splitlines()[-1])
    assert 0 < result["grid_best"] <= 1
    low, high = result["search_seconds_spread"]
    assert 0 < low <= result["search_seconds"] <= high
