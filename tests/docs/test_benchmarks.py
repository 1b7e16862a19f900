"""Every benchmark explains itself and prints one JSON object as its last line."""

import importlib
import importlib.util
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers.commands import run_script

from raydistill.options import METHODS

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "analysis" / "benchmarks"
SCRIPTS = sorted(path for path in FOLDER.glob("*.py") if path.name != "measure.py")
NEEDS = {"augment.py": ["kornia"], "evaluation.py": ["lightly"], "throughput.py": ["kornia", "lightly"]}


def run(path, *arguments):
    if missing := [name for name in NEEDS.get(path.name, ()) if importlib.util.find_spec(name) is None]:
        pytest.skip(f"needs {', '.join(missing)}: pip install -e '.[benchmarks]'")
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
def test_the_gpu_benchmark_runs_on_a_cpu(tmp_path):
    """All parts, at tiny sizes; results are kept after each of them."""
    output = run(ROOT / "analysis" / "benchmarks" / "gpu.py", "--device", "cpu", "--out", str(tmp_path / "gpu.json"))
    result = json.loads(output.splitlines()[-1])
    assert result == json.loads((tmp_path / "gpu.json").read_text())
    assert result["failed"] == {}
    assert set(result["methods"].values()) == {0.0}
    assert set(result["methods"]) == set(METHODS)
    assert set(result["epoch"]) > {"views", "teacher", "steps", "scores", "checkpoints begun"}
    assert all(each["trial_epochs_per_hour"] > 0 for each in result["packs"].values())


def test_a_part_that_fails_on_a_gpu_loses_none_of_the_others(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(FOLDER))
    gpu = importlib.import_module("gpu")

    def broken(setting):
        raise SystemExit("a repeat gave 0, an illegal memory access")

    monkeypatch.setattr(gpu, "PARTS", {"a": lambda setting: {"x": 1}, "b": broken, "c": lambda setting: {"y": 2}})
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--device", "cpu", "--out", str(tmp_path / "gpu.json")])
    assert gpu.main() == 1
    kept = json.loads((tmp_path / "gpu.json").read_text())
    assert (kept["a"], kept["c"]) == ({"x": 1}, {"y": 2})
    assert "illegal memory access" in kept["failed"]["b"]


def test_the_startup_benchmark_takes_medians_of_a_sweeps_own_timings(monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(FOLDER))
    startup = importlib.import_module("startup")
    moments = {"settings": 2.0, "ray": 6.0, "ready": 7.0, "worker": 10.0, "step": 11.5, "epoch": 100.0}
    names = [getattr(startup, name.upper()) for name in moments]
    launched = []

    def sweep(command, cwd, env, **_):
        folder = Path(cwd) / "runs" / "s"
        folder.mkdir(parents=True)
        later = float(len(launched))
        found = {name: at + later for name, at in zip(names, moments.values(), strict=True)}
        (folder / "timings.json").write_text(json.dumps(found))
        launched.append((command[2:], env.get(startup.LAUNCHER)))
        return SimpleNamespace(returncode=0, stdout="a table", stderr="")

    monkeypatch.setattr(startup.subprocess, "run", sweep)
    monkeypatch.setattr(sys, "argv", ["startup.py", "--repeats", "3", "--launcher", "ray"])
    startup.main()
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert len(launched) == 4, "the first one is dropped"
    assert {launcher for _, launcher in launched} == {"ray"}
    assert "--trials" in launched[0][0]
    assert "--trials" not in launched[1][0], "README's own sweep"
    assert (result["first_step_s"], result["of_which_ray_s"]) == (13.5, 7.0)
    assert result["after_last_epoch_s"] == pytest.approx(result["total_s"] - 102, abs=0.02)


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


def test_the_evaluation_benchmark_compares_equal_predictions():
    result = json.loads(run(ROOT / "analysis" / "benchmarks" / "evaluation.py", "--quick").splitlines()[-1])
    check_spreads(result, {"knn_vs_lightly", "probe_multi_vs_single"})


@pytest.mark.soak
@pytest.mark.slow
def test_the_search_benchmark_runs():
    result = json.loads(run(ROOT / "analysis" / "benchmarks" / "search_live.py", "--quick").splitlines()[-1])
    assert 0 < result["grid_best"] <= 1
    low, high = result["search_seconds_spread"]
    assert 0 < low <= result["search_seconds"] <= high
