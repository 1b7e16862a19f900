"""Images, scripts and what pip installs: pinned, not root's, and readable to a shell."""

import re
import shlex
import shutil
import subprocess

import pytest
from helpers.cluster_files import (
    CLOUDS,
    CLUSTERS,
    NAMES,
    PINS,
    PROJECT,
    ROOT,
    SCRIPTS,
    compose,
    instructions,
    joined,
    load,
    shell_pieces,
    spec,
    text,
)

from raydistill import __version__

pytestmark = pytest.mark.cluster


@pytest.mark.parametrize(("name", "piece"), [pytest.param(n, p, id=n) for n, p in shell_pieces()])
def test_bash_can_read_it(name, piece):
    done = subprocess.run(["bash", "-n"], input=piece, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", [*SCRIPTS, "skypilot setup", "skypilot run"])
def test_shellcheck_finds_nothing(name):
    if not shutil.which("shellcheck"):
        pytest.skip("shellcheck is not installed")
    command = ["shellcheck", "--shell=bash", "--exclude=SC1090,SC1091", "-"]
    piece = dict(shell_pieces())[name]
    done = subprocess.run(command, input=piece, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", ["Dockerfile", "mlflow/Dockerfile"])
def test_images_are_pinned_and_not_roots(name):
    steps = instructions(name)
    known = {"FROM", "ENV", "WORKDIR", "COPY", "RUN", "USER", "EXPOSE", "CMD"}
    assert {step for step, _ in steps} <= known
    assert steps[0][0] == "FROM"
    assert pinned(steps[0][1])
    assert [int(user) for step, user in steps if step == "USER"][-1] > 0
    context = ROOT if name == "Dockerfile" else CLUSTERS / "mlflow"
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for step, arguments in steps:
        if step == "COPY":
            for source in [a for a in arguments.split() if not a.startswith("--")][:-1]:
                assert (context / source).exists(), source
                if context == ROOT:
                    assert {f"!{source}", f"!{source}/"} & set(ignored), f"{source} is not let through"


def pinned(image):
    return bool(re.fullmatch(r"[\w./-]+:v?\d+\.\d+[\w.-]*", image))


def test_a_tag_that_moves_is_no_pin():
    assert pinned("rayproject/ray:2.60.0-py311")
    assert not any(map(pinned, ["rayproject/ray", "rayproject/ray:latest", "postgres:17", "ray:nightly"]))


def images():
    for name in CLOUDS:
        yield from (value for key, value in load(name)["docker"].items() if key.endswith("image"))
    for name in ("kuberay-cluster", "kuberay-job"):
        groups = [spec(name)["headGroupSpec"], *spec(name)["workerGroupSpecs"]]
        yield from (c["image"] for g in groups for c in g["template"]["spec"]["containers"])
    yield from (instructions(name)[0][1] for name in ("Dockerfile", "mlflow/Dockerfile"))
    yield from (service["image"] for service in compose()["services"].values())


def test_versions_are_those_that_ci_ran():
    for image in images():
        assert pinned(image), image
        if image.startswith("rayproject/ray:"):
            version, python = image.partition(":")[2].split("-")
            assert version == PINS["ray"]
            assert python == "py311"
        if "/raydistill:" in image:
            assert image.endswith(f":{__version__}")
        if image.startswith("raydistill-mlflow:"):
            assert image.endswith(f":{PINS['mlflow']}")
    assert PROJECT["requires-python"] == ">=3.11"
    for name in ("kuberay-cluster", "kuberay-job"):
        assert spec(name)["rayVersion"] == PINS["ray"]


def test_everything_that_pip_installs_has_a_version():
    """The same one wherever the package is named."""
    found = {}
    for name in NAMES:
        for line in re.findall(r"pip install (.*?)(?:&&|$|`|\\$)", joined(text(name)), re.M):
            words = [w for w in shlex.split(line, comments=True) if not w.startswith("-")]
            if "--constraint" in line or " -c " in line:
                continue
            for word in words:
                package, _, version = word.partition("==")
                assert version, f"{name}: {word}"
                package = package.partition("[")[0]
                assert found.setdefault(package, version) == version == PINS.get(package, version), package
    assert {"boto3", "mlflow", "azure-identity", "uv", "skypilot"} <= found.keys()
