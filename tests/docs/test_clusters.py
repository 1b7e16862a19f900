"""The files in clusters/ against what reads them, and what they promise: a token everywhere, pins, no secrets."""

import configparser
import copy
import json
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

import click
import jsonschema
import pytest
import ray.autoscaler
import typer
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.scripts.scripts import cli as ray_cli

from raydistill import __version__, config
from raydistill.cli import app
from raydistill.presets import load_preset

pytestmark = pytest.mark.cluster
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


# --- `ray up` ---


def accept(cluster):
    """Ray's own check, as `ray up` does before it speaks to a cloud. Returns what Ray makes of it."""
    prepared = prepare_config(copy.deepcopy(cluster))
    validate_config(prepared)
    return prepared


@pytest.fixture(autouse=True)
def in_root(monkeypatch):
    """Paths in the files are those of a clone's root."""
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("name", RAY_UP)
def test_ray_takes_the_file(name):
    cluster = load(name)
    prepared = accept(cluster)
    for key in ("setup_commands", "head_setup_commands", "worker_setup_commands", "initialization_commands"):
        assert key in cluster, f"without {key} Ray's defaults are run, which install a nightly Ray"
    assert not any("nightly" in command or "wheels/latest" in command for command in commands(prepared))


@pytest.mark.parametrize("name", RAY_UP)
@pytest.mark.parametrize(
    "plant",
    [
        lambda c: c.update(max_worker=4),
        lambda c: c.update(idle_timeout_minutes="five"),
        lambda c: c["auth"].update(ssh_password="x"),
        lambda c: c["provider"].pop("type"),
    ],
)
def test_ray_refuses_a_planted_fault(name, plant):
    cluster = load(name)
    plant(cluster)
    with pytest.raises((jsonschema.ValidationError, ValueError, KeyError)):
        accept(cluster)


@pytest.mark.parametrize("name", CLOUDS)
def test_gpu_nodes_come_and_go_spot_first(name):
    cluster = load(name)
    accept(cluster)
    types = cluster["available_node_types"]
    head = types.pop(cluster["head_node_type"])
    assert "GPU" not in head["resources"]
    spot, fallback = types["gpu-spot"], types["gpu-on-demand"]
    assert spot["priority"] > fallback["priority"]
    assert spot["resources"] == fallback["resources"] and spot["resources"]["GPU"] > 0
    assert spot["min_workers"] == fallback["min_workers"] == 0
    assert max(spot["max_workers"], fallback["max_workers"]) <= cluster["max_workers"]
    assert cluster["idle_timeout_minutes"] > 0
    words = r"spot|maxPrice|instanceTerminationAction"
    assert re.search(words, json.dumps(spot), re.I) and not re.search(words, json.dumps(fallback), re.I)


@pytest.mark.parametrize("name", CLOUDS)
def test_a_node_type_with_an_unknown_field_is_refused(name):
    cluster = load(name)
    cluster["available_node_types"]["gpu-spot"]["prioritty"] = 1
    with pytest.raises(jsonschema.ValidationError, match="prioritty"):
        accept(cluster)


@pytest.mark.parametrize("name", RAY_UP)
def test_what_is_mounted_exists(name):
    for remote, local in load(name)["file_mounts"].items():
        assert local.startswith("~") or (ROOT / local).exists(), (remote, local)


def machine(name, kind):
    return load(name)["available_node_types"][kind]["node_config"]


@pytest.mark.parametrize("kind", ["head", "gpu-spot", "gpu-on-demand"])
def test_azure_machines_have_the_parameters_of_rays_template(kind):
    template = Path(ray.autoscaler.__file__).parent / "_private" / "_azure" / "azure-vm-template.json"
    known = json.loads(template.read_text())["parameters"].keys() | {"availability_zone"}
    parameters = machine("azure", kind)["azure_arm_parameters"]
    assert parameters.keys() <= known
    assert not {**parameters, "vmsize": "x"}.keys() <= known


@pytest.mark.parametrize("kind", ["head", "gpu-spot", "gpu-on-demand"])
def test_aws_machines_are_as_ec2_takes_them(kind):
    session = pytest.importorskip("botocore.session").get_session()
    validate = pytest.importorskip("botocore.validate").ParamValidator().validate
    shape = session.get_service_model("ec2").operation_model("RunInstances").input_shape
    asked = machine("aws", kind) | {"MinCount": 1, "MaxCount": 1}
    assert not validate(asked, shape).has_errors()
    assert validate(asked | {"Spot": True}, shape).has_errors()


@pytest.mark.parametrize("kind", ["head", "gpu-spot", "gpu-on-demand"])
def test_gcp_machines_are_as_compute_engine_takes_them(kind):
    documents = Path(pytest.importorskip("googleapiclient").__file__).parent / "discovery_cache" / "documents"
    schemas = json.loads((documents / "compute.v1.json").read_text())["schemas"]

    def unknown(value, schema):
        schema = schemas.get(schema.get("$ref"), schema)
        if isinstance(value, list):
            return [found for each in value for found in unknown(each, schema["items"])]
        if not isinstance(value, dict):
            return [] if value in schema.get("enum", [value]) else [value]
        known = schema["properties"]
        return [key for key in value if key not in known] + [
            found for key in value if key in known for found in unknown(value[key], known[key])
        ]

    asked = machine("gcp", kind)
    assert not unknown(asked, schemas["Instance"])
    assert unknown(asked | {"scheduling": {"provisioningModel": "CHEAP"}}, schemas["Instance"]) == ["CHEAP"]


# --- KubeRay ---


def faults(document, kind):
    """What the fields of the CRD do not allow in a document."""
    schema = json.loads((ROOT / "tests" / "schemas" / "kuberay.json").read_text())
    validator = jsonschema.Draft202012Validator(schema | {"$ref": f"#/$defs/{kind}"})
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(document)]


@pytest.mark.parametrize("name", KUBERAY)
def test_the_fields_are_those_of_the_crd(name):
    document = load(name)
    assert document["kind"] == KUBERAY[name]
    assert faults(document, KUBERAY[name]) == []


@pytest.mark.parametrize(
    "plant",
    [
        lambda s: s.update(enableInTreeAutoscaler=True),
        lambda s: s["authOptions"].update(mode="tokens"),
        lambda s: s["autoscalerOptions"].update(version=2),
        lambda s: s["workerGroupSpecs"][0].pop("maxReplicas"),
        lambda s: s["workerGroupSpecs"][0].update(minReplicas="0"),
        lambda s: s["headGroupSpec"]["rayStartParams"].update({"num-gpus": 0}),
        lambda s: s["headGroupSpec"]["template"]["spec"].update(container=[]),
        lambda s: s["headGroupSpec"]["template"]["spec"]["containers"][0].pop("name"),
        lambda s: s["headGroupSpec"]["template"]["spec"]["containers"][0]["env"].append({"value": "x"}),
    ],
)
def test_a_planted_wrong_field_is_refused(plant):
    cluster, job = load("kuberay-cluster"), load("kuberay-job")
    plant(cluster["spec"])
    plant(job["spec"]["rayClusterSpec"])
    assert faults(cluster, "RayCluster") and faults(job, "RayJob")


@pytest.mark.parametrize("name", ["kuberay-cluster", "kuberay-job"])
def test_kuberay_scales_from_nothing_and_runs_as_nobody_special(name):
    cluster = spec(name)
    assert cluster["enableInTreeAutoscaling"] is True
    assert cluster["autoscalerOptions"]["version"] == "v2"
    (group,) = cluster["workerGroupSpecs"]
    assert group["minReplicas"] == group["replicas"] == 0 < group["maxReplicas"]
    assert group["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    for part in (cluster["headGroupSpec"], group):
        pod = part["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] > 0
        assert all(c["securityContext"]["allowPrivilegeEscalation"] is False for c in pod["containers"])
        assert [v["persistentVolumeClaim"]["claimName"] for v in pod["volumes"]] == ["raydistill"]
    assert load("kuberay-storage")["metadata"]["name"] == "raydistill"


def test_the_job_cleans_up_after_itself():
    job = load("kuberay-job")["spec"]
    assert job["shutdownAfterJobFinishes"] is True and job["ttlSecondsAfterFinished"] > 0
    assert isinstance(yaml.safe_load(job["runtimeEnvYAML"])["env_vars"], dict)
    assert not set("&;|`$") & set(job["entrypoint"]), "one plain command"
    assert job["entrypoint"].split()[1] == f"{dict(instructions('Dockerfile'))['WORKDIR']}/sweep.py"
    hours = float(re.search(r"--max-hours (\S+)", job["entrypoint"]).group(1))
    assert hours * 3600 < job["activeDeadlineSeconds"], "the sweep ends in order before Kubernetes ends it"
    assert spec("kuberay-job") == spec("kuberay-cluster"), "the cluster that stays is the one that a job makes"


# --- SkyPilot ---

# Field names of SkyPilot 0.14's task and resources schemas.
SKY_TASK = {
    "name",
    "workdir",
    "event_callback",
    "num_nodes",
    "resources",
    "file_mounts",
    "service",
    "pool",
    "setup",
    "run",
    "envs",
    "secrets",
    "inputs",
    "outputs",
    "config",
    "volumes",
}
SKY_RESOURCES = {
    "infra",
    "cpus",
    "memory",
    "instance_type",
    "use_spot",
    "job_recovery",
    "disk_size",
    "disk_tier",
    "network_tier",
    "ports",
    "labels",
    "image_id",
    "autostop",
    "priority",
    "accelerators",
    "any_of",
    "ordered",
}


def test_skypilots_fields():
    task = load("skypilot")
    assert task.keys() <= SKY_TASK
    choices = task["resources"]["ordered"]
    assert task["resources"].keys() | {key for choice in choices for key in choice} <= SKY_RESOURCES
    assert choices[0]["use_spot"] and not choices[-1]["use_spot"]
    assert "ports" not in task["resources"]
    assert all(value is None for value in task["secrets"].values()), "given at launch, from the environment"


def test_skypilots_own_parser():
    sky = pytest.importorskip("sky")

    def parse(task):
        return sky.Task.from_yaml_config(
            task, env_overrides=[("BUCKET", "s3://bucket")], secrets_overrides=[("MLFLOW_TRACKING_URI", "http://host")]
        )

    assert len(parse(load("skypilot")).resources) == len(load("skypilot")["resources"]["ordered"])
    with pytest.raises(ValueError, match="memry"):
        parse(load("skypilot") | {"resources": {"memry": "16+"}})


# --- scripts and images ---


def shell_pieces():
    """Every piece of shell in the files, with a name."""
    yield from ((name, text(name)) for name in SCRIPTS)
    yield from ((f"skypilot {part}", load("skypilot")[part]) for part in ("setup", "run"))
    yield "kuberay-job", load("kuberay-job")["spec"]["entrypoint"]
    for name in RAY_UP:
        yield from ((name, command) for command in commands(load(name)))
    for number, block in enumerate(re.findall(r"```bash\n(.*?)```", README.read_text(), re.S)):
        yield f"README {number}", block


def commands(cluster):
    return [command for key, value in cluster.items() if key.endswith("_commands") for command in value]


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


def instructions(name):
    """(instruction, arguments) of a Dockerfile."""
    lines = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", text(name), flags=re.M)).splitlines()
    return [tuple(line.split(maxsplit=1)) for line in lines if line.strip()]


@pytest.mark.parametrize("name", ["Dockerfile", "mlflow/Dockerfile"])
def test_images_are_pinned_and_not_roots(name):
    steps = instructions(name)
    known = {"FROM", "ENV", "WORKDIR", "COPY", "RUN", "USER", "EXPOSE", "CMD"}
    assert {step for step, _ in steps} <= known
    assert steps[0][0] == "FROM" and pinned(steps[0][1])
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
            assert version == PINS["ray"] and python == "py311"
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


# --- MLflow ---


def compose():
    return yaml.safe_load(text("mlflow/compose.yaml"))


def test_compose_asks_for_every_password():
    services = compose()["services"]
    assert set(services) == {"postgres", "s3", "mlflow"}
    for service in services.values():
        assert "privileged" not in service
        for key, value in service["environment"].items():
            if re.search("PASSWORD|SECRET|KEY", key):
                assert re.fullmatch(r"\$\{\w+:\?\}", value), key
    for published in [port for service in services.values() for port in service.get("ports", [])]:
        assert published.startswith("127.0.0.1:")
    assert compose()["networks"]["inside"] == {"internal": True}
    assert services["postgres"]["networks"] == services["s3"]["networks"] == ["inside"]


def test_the_environment_that_the_guide_writes_is_all_that_compose_asks_for():
    asked = set(re.findall(r"\$\{(\w+):\?\}", text("mlflow/compose.yaml")))
    written = set(re.findall(r"^([A-Z0-9_]+)=", README.read_text(), re.M))
    assert asked <= written
    needed = set(re.findall(r"\$\{(\w+):\?\}", text("mlflow/serve-team.sh")))
    assert needed <= compose()["services"]["mlflow"]["environment"].keys()


def test_mlflow_checks_hosts_and_people():
    alone, team = server("mlflow/serve.sh"), server("mlflow/serve-team.sh")
    assert alone["host"] == "127.0.0.1" and "*" not in alone["allowed_hosts"]
    assert team["app_name"] == "basic-auth" and team["allowed_hosts"] == "$MLFLOW_SERVER_ALLOWED_HOSTS"
    assert not alone["disable_security_middleware"] and not team["disable_security_middleware"]
    auth = configparser.ConfigParser()
    auth.read_string(text("mlflow/auth.ini"))
    assert "admin_password" not in auth["mlflow"]
    for uri in (auth["mlflow"]["database_uri"], team["backend_store_uri"]):
        parts = urlsplit(uri)
        assert parts.scheme == "postgresql+psycopg2", "without a driver SQLAlchemy takes one that is not in the image"
        assert parts.username == "mlflow" and parts.password is None
    for name in ("mlflow/serve.sh", "mlflow/serve-team.sh"):
        assert "MLFLOW_ALLOW_PICKLE_DESERIALIZATION=false" in text(name)


def server(name):
    """The options of the command that a script starts, as MLflow parses them."""
    from mlflow.cli import cli

    words = shlex.split(re.search(r"mlflow server (.*)", joined(text(name))).group(1).replace("$port", "5000"))
    return cli.commands["server"].make_context("server", words).params


# --- a token everywhere ---


def open_doors(name, content):
    """Where a file starts or describes a Ray cluster that asks for no token, or shows the dashboard to all."""
    found = [
        f"dashboard on {host}"
        for host in re.findall(r"dashboard-host[=: \"']+([\w.:]+)", content)
        if host not in ("127.0.0.1", "localhost")
    ]
    if name.endswith(".yaml") and name.removesuffix(".yaml") in RAY_UP:
        cluster = yaml.safe_load(content)
        started = [c for c in commands(accept(cluster)) if "ray start" in c]
        if len(started) != 2:
            found.append("Ray's own start commands")
        found += [c for c in started if not re.search(r"RAY_AUTH_MODE=token ray start", c)]
        if not any(remote.endswith("/.ray/auth_token") for remote in cluster["file_mounts"]):
            found.append("no token on the nodes")
        if not any("--dashboard-host=127.0.0.1" in c for c in started if "--head" in c):
            found.append("dashboard of the head")
    elif name.startswith("kuberay-") and "kind: Ray" in content:
        body = yaml.safe_load(content)["spec"]
        body = body.get("rayClusterSpec", body)
        if body.get("authOptions", {}).get("mode") != "token":
            found.append("authOptions")
        if body["headGroupSpec"].get("serviceType") != "ClusterIP":
            found.append("serviceType")
    elif name == "README.md":
        for block in re.findall(r"```bash\n(.*?)```", content, re.S):
            if "ray start" in block and not re.search(r"RAY_AUTH_MODE=token.*ray start", block, re.S):
                found.append(block)
    elif name == "skypilot.yaml":
        if yaml.safe_load(content)["envs"].get("RAY_AUTH_MODE") != "token":
            found.append("RAY_AUTH_MODE")
    elif name == "Dockerfile":
        if not re.search(r"^ENV (?:.*\\\n)*.*RAY_AUTH_MODE=token", content, re.M):
            found.append("RAY_AUTH_MODE")
    elif re.search(r"ray (start|symmetric-run)", content):
        before = re.split(r"^\s*(?:srun )?ray (?:start|symmetric-run)", content, flags=re.M)[0]
        found += [] if re.search(r"^export RAY_AUTH_MODE=token$", before, re.M) else ["RAY_AUTH_MODE"]
        found += [] if "ray get-auth-token --generate" in before else ["no token"]
    return found


@pytest.mark.fault(23)
@pytest.mark.parametrize("name", NAMES)
def test_no_ray_head_without_a_token(name):
    assert open_doors(name, text(name)) == []


@pytest.mark.fault(23)
@pytest.mark.parametrize(
    ("name", "there", "instead"),
    [
        *((f"{cloud}.yaml", "RAY_AUTH_MODE=token ray start --head", "ray start --head") for cloud in RAY_UP),
        *((f"{cloud}.yaml", "RAY_AUTH_MODE=token ray start --address", "ray start --address") for cloud in RAY_UP),
        *((f"{cloud}.yaml", "--dashboard-host=127.0.0.1", "--dashboard-host=0.0.0.0") for cloud in RAY_UP),
        *((f"{cloud}.yaml", "--dashboard-host=127.0.0.1", "") for cloud in RAY_UP),
        ("aws.yaml", "/home/ray/.ray/auth_token", "/home/ray/token"),
        ("gcp.yaml", "worker_start_ray_commands:", "rsync_filter:"),
        ("kuberay-cluster.yaml", "mode: token", "mode: disabled"),
        ("kuberay-job.yaml", "mode: token", "mode: disabled"),
        ("kuberay-cluster.yaml", "serviceType: ClusterIP", "serviceType: LoadBalancer"),
        ("kuberay-job.yaml", 'num-gpus: "0"', "dashboard-host: 0.0.0.0"),
        ("slurm.sh", "export RAY_AUTH_MODE=token", "export RAY_AUTH_MODE=disabled"),
        ("slurm.sh", "ray get-auth-token --generate", "true"),
        ("slurm.sh", "--dashboard-host 127.0.0.1", "--dashboard-host 0.0.0.0"),
        ("skypilot.yaml", "RAY_AUTH_MODE: token", "RAY_AUTH_MODE: disabled"),
        ("Dockerfile", "RAY_AUTH_MODE=token", "RAY_AUTH_MODE=disabled"),
        ("README.md", "export RAY_AUTH_MODE=token\nray get-auth-token --generate\nray start", "ray start"),
    ],
)
def test_an_open_door_is_seen(name, there, instead):
    content = text(name)
    assert there in content
    assert open_doors(name, content.replace(there, instead))


# --- secrets ---

SECRETS = [
    r"AKIA[0-9A-Z]{16}",
    r"-----BEGIN [A-Z ]*PRIVATE KEY",
    r"\b(?:ghp|gho|glpat|hf|xox[bap])[_-][A-Za-z0-9_-]{16,}",
    r"//[^\s/:@$]+:[^\s/@$]+@",
    r"(?i)\w*(?:password|passwd|secret|token|api_?key|access_?key)\w*[\"']?[ \t]*[:=][ \t]*[\"']?"
    r"(?![$~/]|YOUR_|null|required\b|token\b|auth_token\b)[A-Za-z0-9+/=_-]{6,}",
]


def leaks(content):
    return [match.group() for pattern in SECRETS for match in re.finditer(pattern, content)]


@pytest.mark.parametrize("name", NAMES)
def test_no_secret_in_a_file(name):
    assert leaks(text(name)) == []


@pytest.mark.parametrize(
    "planted",
    [
        "key: AKIA" + "ABCDEFGHIJKLMNOP",
        "POSTGRES_PASSWORD: " + "mlflow1",
        "RAY_AUTH_TOKEN=" + "0123456789abcdef",
        "aws_secret_access_key = " + "wJalrXUtnFEMI",
        "postgresql://mlflow:" + "hunter2@db/mlflow",
        "-----BEGIN RSA " + "PRIVATE KEY-----",
        "token hf_" + "abcdefghijklmnopqrst",
    ],
)
def test_a_secret_would_be_seen(planted):
    assert leaks(planted)


def test_a_file_with_passwords_goes_nowhere():
    for ignore in (".gitignore", ".rayignore"):
        assert "*.env" in (ROOT / ignore).read_text().splitlines()


# --- what is to be typed ---


def joined(content):
    return re.sub(r"\\\n\s*", "", content)


def plain(command):
    """A command without the shell's variables and what the reader puts in."""
    command = re.sub(r'"\$\{(?:resume|sweep)\[@\]\}"|"\$@"', "", command)
    values = {
        "$BUCKET": "s3://bucket",
        "$HOME": "/home/me",
        "$SLURM_JOB_ID": "7",
        "$SLURM_JOB_NUM_NODES": "2",
        "$SLURM_CPUS_PER_TASK": "8",
        "${SLURM_GPUS_ON_NODE:-0}": "4",
        "$head:$port": "10.0.0.1:6379",
        "$RAY_HEAD_IP": "10.0.0.1",
        "PRICE": "1.5",
    }
    for name, value in values.items():
        command = command.replace(name, value)
    words = shlex.split(command)
    assert not any("$" in word for word in words), command
    return words


def sweeps():
    """(file, arguments) of every sweep that a file runs or a guide types."""
    for name, piece in shell_pieces():
        for arguments in re.findall(r"python (?:/\S+/)?sweep\.py ([^\n|;]*)", joined(piece)):
            yield name, plain(arguments)
        for arguments in re.findall(r"^sweep=\((.*)\)$|slurm\.sh (--.*)$", piece, re.M):
            yield name, plain("".join(arguments))
    for arguments in re.findall(r"`python sweep\.py ([^`]*)`", README.read_text()):
        yield "README", plain(arguments)


def test_every_sweep_that_is_typed_is_one_that_the_command_takes():
    sweep = typer.main.get_command(app).commands["sweep"]
    seen = []
    for name, words in sweeps():
        if not words:  # of slurm.sh, which holds its arguments in an array
            continue
        given = sweep.make_context("sweep", words).params
        chosen = dict(map(config.parse_setting, given["settings"] or []))
        config.load(config.assign(load_preset(given["method"], given["preset"]), chosen))
        if given["name"]:
            assert given["gpu"], f"{name}: no GPU is there at the start"
        seen.append(name)
    assert {"slurm.sh", "skypilot run", "kuberay-job"} <= set(seen) and len(seen) > 8


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--method", "dogo", "--pack", "4"], "--pack"),
        (["--method", "dogo", "--packs", "x"], "integer"),
        (["--packs", "4"], "method"),
    ],
)
def test_a_wrong_sweep_would_be_seen(words, complaint):
    with pytest.raises(Exception, match=complaint):
        typer.main.get_command(app).commands["sweep"].make_context("sweep", words)


def test_every_other_raydistill_command_exists():
    known = typer.main.get_command(app).commands
    for name, piece in shell_pieces():
        for command in re.findall(r"^\s*raydistill (\w+)", piece, re.M):
            assert command in known, name


def ray_words():
    for name, piece in shell_pieces():
        for command in re.findall(r"(?:^|[;\s/`])ray ((?:[a-z]+-)*[a-z]+ ?[^\n|;&>)]*)", joined(piece), re.M):
            yield name, plain(command)
    for command in re.findall(r"`ray ((?:up|down|job|exec|dashboard|rsync-down) [^`]*)`", README.read_text()):
        yield "README", plain(command)


def test_every_ray_command_is_one_that_ray_takes(monkeypatch):
    for variable in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(variable, raising=False)
    seen = set()
    for name, words in ray_words():
        command, group = ray_cli, ray_cli
        while isinstance(group, click.Group):
            assert words[0] in group.commands, (name, words)
            command = group = group.commands[words[0]]
            seen.add(words.pop(0))
        if command.name != "symmetric_run":  # hands unknown options on to `ray start`
            command.make_context(command.name, words)
        else:
            start = words[words.index("--num-cpus") : words.index("--")]
            ray_cli.commands["start"].make_context("start", ["--head", *start])
            ray_cli.commands["start"].make_context("start", ["--address", "10.0.0.1:6379", *start])
    assert {"up", "down", "start", "stop", "dashboard", "submit", "exec", "rsync-down", "symmetric-run"} <= seen


def test_a_wrong_ray_option_would_be_seen():
    with pytest.raises(click.UsageError):
        ray_cli.commands["start"].make_context("start", ["--head", "--dashboard-hosts=127.0.0.1"])


def test_the_guide_names_every_file_and_leads_somewhere():
    guide = README.read_text()
    for name in set(NAMES) - {"README.md"}:
        assert name.split("/")[0] in guide, name
    anchors = {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in re.findall(r"^## (.*)", guide, re.M)}
    assert set(re.findall(r"\]\(#([^)]+)\)", guide)) <= anchors


@pytest.mark.parametrize(
    "section", ["AWS, Google Cloud, Azure", "Machines that you have", "Kubernetes", "Slurm", "SkyPilot"]
)
def test_each_guide_goes_from_preparing_to_tearing_down(section):
    part = re.search(rf"^## {section}\n(.*?)(?=^## |\Z)", README.read_text(), re.M | re.S).group(1)
    bold = " ".join(re.findall(r"\*\*(.*?)\*\*", part)).lower()
    for step in ("prepare", "launch", "submit", "watch", "fetch", "tear down"):
        assert step in bold, step
    assert "cost" in part
