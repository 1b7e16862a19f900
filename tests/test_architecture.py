"""Arrows point one way, and the core runs without Ray, MLflow, Optuna and faiss."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "raydistill"
FOUNDATION = {"errors", "config", "options", "redaction", "locks", "machine", "storage", "table", "trial_spec"}
MAY_IMPORT = {
    "options": set(),
    "errors": set(),
    "config": {"errors", "options"},
    "redaction": set(),
    "locks": {"errors"},
    "machine": set(),
    "table": set(),
    "storage": {"errors", "config", "redaction", "locks"},
    "trial_spec": {"config"},
    "losses": set(),
    "data": FOUNDATION,
    "models": FOUNDATION,
    "methods": FOUNDATION | {"losses", "models", "data"},
    "presets": {"config"},
    "artifacts": FOUNDATION | {"data", "models", "methods"},
    "training": FOUNDATION | {"artifacts", "methods", "models", "data"},
    "planning": FOUNDATION | {"presets", "artifacts", "methods", "models", "data", "training"},
    "evaluation": FOUNDATION | {"artifacts", "methods", "data", "training"},
    "records": FOUNDATION | {"training"},
    "experiments": FOUNDATION | {"presets", "records"},
    "tracking": FOUNDATION | {"records", "training"},
    "sweep": FOUNDATION
    | {"methods", "presets", "planning", "artifacts", "data", "training", "evaluation", "records", "tracking"}
    | {"experiments"},
    "doctor": {"machine", "redaction", "data", "sweep", "training", "tracking"},
    "report": FOUNDATION | {"experiments", "records", "tracking", "training"},
    "export": FOUNDATION | {"artifacts", "data", "methods", "models", "training", "evaluation", "records", "tracking"},
    "cli": FOUNDATION
    | {
        "doctor",
        "experiments",
        "export",
        "report",
        "presets",
        "planning",
        "artifacts",
        "sweep",
        "evaluation",
        "training",
        "methods",
        "data",
        "records",
        "tracking",
    },
    "api": FOUNDATION | {"data", "evaluation", "export", "presets", "records", "report", "sweep", "training"},
    "__main__": {"cli"},
    # For type checkers alone; the package imports nothing of its own until a public name is asked for.
    "__init__": {"api", "config", "errors", "methods", "options", "sweep"},
}
CORE = FOUNDATION | {"losses", "data", "models", "methods", "presets", "artifacts", "training", "planning"}
FORBIDDEN = ("ray", "mlflow", "optuna", "faiss", "lightning")


def part_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            if name.startswith("raydistill."):
                yield name.split(".")[1]


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_down(path):
    part = part_of(path)
    known = {p.name.removesuffix(".py") for p in PACKAGE.iterdir()}
    wrong = {name for name in imports(path) if name in known} - MAY_IMPORT[part] - {part}
    assert not wrong, f"{path.name} may not import {sorted(wrong)}"


def modules():
    files = [p for p in PACKAGE.rglob("*.py") if part_of(p) in CORE]
    return [".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for p in files]


@pytest.mark.slow
def test_the_core_imports_and_trains_without_ray_mlflow_optuna_and_faiss():
    code = f"""
import sys, importlib
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {FORBIDDEN!r}:
            raise ImportError("not in the core: " + name)
sys.meta_path.insert(0, Refuse())
for name in {modules()!r}:
    importlib.import_module(name)
from raydistill import config
from raydistill.training.single import train
from raydistill.trial_spec import TrialSpec
options = {{"name": "dogo", "backbones": ["resnet10_w4", "resnet10_w4"]}}
data = {{"limit": 40, "batch_size": 16, "image_size": 8}}
values = {{"method": options, "data": data, "train": {{"epochs": 1}}}}
print(train(TrialSpec(config.load(values)), None, evaluate=lambda *_: {{}}).metrics["loss"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) > 0


def test_every_package_of_the_house_is_listed():
    parts = {part_of(path) for path in PACKAGE.rglob("*.py")}
    assert parts == set(MAY_IMPORT)


@pytest.mark.parametrize("module", ["broker", "worker_group", "trainable"])
def test_processes_that_only_pass_messages_start_without_torch(module):
    """Each is a link of the chain that a group's first step waits for."""
    code = f"import sys, raydistill.sweep.workers.{module}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.stdout.strip() == "False", done.stderr


def test_a_sweep_starts_without_what_takes_long_to_import():
    """docs/architecture.md#late-imports"""
    heavy = {"torchvision", "timm", "sklearn", "scipy", "mlflow", "faiss", "torch._dynamo"}
    code = f"""
import sys, raydistill.sweep.run
from raydistill.config import DataConfig
from raydistill.data.sources import load_dataset
load_dataset(DataConfig())
print(sorted({heavy!r} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.stdout.strip() == "[]", done.stderr


def test_a_worker_can_read_no_preset():
    """What a sweep has decided is passed to its workers; a preset that has changed since would decide otherwise."""
    code = (
        "import sys, raydistill.sweep.workers.worker_loop\n"
        "print(sorted({name.split('.')[1] for name in sys.modules if name.startswith('raydistill.')}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert "'training'" in done.stdout, done.stderr
    assert "'presets'" not in done.stdout
    assert "'planning'" not in done.stdout


def imported_modules(path, known):
    """The package's own modules that a module imports, anywhere in it but for type checkers."""
    tree = ast.parse(path.read_text())
    for_types = [n for n in ast.walk(tree) if isinstance(n, ast.If) and "TYPE_CHECKING" in ast.unparse(n.test)]
    left_out = {node for branch in for_types for node in ast.walk(branch)}
    for node in ast.walk(tree):
        if node in left_out:
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in known else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_no_modules_import_each_other_in_a_circle():
    known = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in PACKAGE.rglob("*.py")
    }
    arrows = {name: {n for n in imported_modules(path, known) if n in known} - {name} for name, path in known.items()}
    while leaves := [name for name, targets in arrows.items() if not targets & arrows.keys()]:
        for name in leaves:
            del arrows[name]
    assert arrows == {}, "these import each other, or something that does"


@pytest.mark.parametrize(
    ("room", "without"), [("records", {"ray", "torch", "mlflow", "optuna"}), ("tracking", {"ray", "torch", "optuna"})]
)
def test_what_reports_read_starts_without_the_machinery(room, without):
    names = [f"raydistill.{room}.{path.stem}" for path in (PACKAGE / room).glob("*.py") if path.stem != "__init__"]
    code = f"import importlib, sys\nfor n in {names!r}: importlib.import_module(n)\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stderr
    assert not without & set(done.stdout.split())
