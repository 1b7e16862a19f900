"""The files in clusters/ and what they say, as their tests read them."""

import copy
import re
import tomllib
from pathlib import Path

import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parents[2]
CLUSTERS = ROOT / "clusters"
README = CLUSTERS / "README.md"
CLOUDS = ["aws", "gcp", "azure"]
RAY_UP = [*CLOUDS, "on-premise"]
KUBERAY = {
    "kuberay-cluster": "RayCluster",
    "kuberay-job": "RayJob",
    "kuberay-storage": "PersistentVolumeClaim",
}
SCRIPTS = ["slurm.sh", "mlflow/serve.sh", "mlflow/serve-team.sh"]
FILES = sorted(p for p in CLUSTERS.rglob("*") if p.is_file())
NAMES = [str(p.relative_to(CLUSTERS)) for p in FILES]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINS = dict(
    line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")
)


def text(name):
    return (CLUSTERS / name).read_text()


def load(name):
    return yaml.safe_load(text(f"{name}.yaml"))


def spec(name):
    """The cluster that a KubeRay file asks for."""
    body = load(name)["spec"]
    return body.get("rayClusterSpec", body)


def accept(cluster):
    """Ray's own check, as `ray up` does before it speaks to a cloud. Returns what Ray makes of it."""
    prepared = prepare_config(copy.deepcopy(cluster))
    validate_config(prepared)
    return prepared


def commands(cluster):
    return [command for key, value in cluster.items() if key.endswith("_commands") for command in value]


def instructions(name):
    """(instruction, arguments) of a Dockerfile."""
    lines = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", text(name), flags=re.M)).splitlines()
    return [tuple(line.split(maxsplit=1)) for line in lines if line.strip()]


def compose():
    return yaml.safe_load(text("mlflow/compose.yaml"))


def joined(content):
    return re.sub(r"\\\n\s*", "", content)


def shell_pieces():
    """Every piece of shell in the files, with a name."""
    yield from ((name, text(name)) for name in SCRIPTS)
    yield from ((f"skypilot {part}", load("skypilot")[part]) for part in ("setup", "run"))
    yield "kuberay-job", load("kuberay-job")["spec"]["entrypoint"]
    for name in RAY_UP:
        yield from ((name, command) for command in commands(load(name)))
    for number, block in enumerate(re.findall(r"```bash\n(.*?)```", README.read_text(), re.S)):
        yield f"README {number}", block
