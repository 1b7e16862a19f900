"""The files for `ray up` against Ray's own check and the machines that each cloud offers."""

import json
import re
import tomllib
from pathlib import Path

import jsonschema
import pytest
import ray.autoscaler
from helpers.cluster_files import CLOUDS, PROJECT, RAY_UP, ROOT, accept, commands, load, text

pytestmark = pytest.mark.cluster


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
    assert spot["resources"] == fallback["resources"]
    assert spot["resources"]["GPU"] > 0
    assert spot["min_workers"] == fallback["min_workers"] == 0
    assert max(spot["max_workers"], fallback["max_workers"]) <= cluster["max_workers"]
    assert cluster["idle_timeout_minutes"] > 0
    words = r"spot|maxPrice|instanceTerminationAction"
    assert re.search(words, json.dumps(spot), re.I)
    assert not re.search(words, json.dumps(fallback), re.I)


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


@pytest.mark.parametrize("name", CLOUDS)
def test_nodes_of_a_cloud_install_nothing_when_they_start(name):
    """A GPU is paid for from the first minute; the head has the cloud's own library alone."""
    cluster = load(name)
    assert cluster["setup_commands"] == cluster["worker_setup_commands"] == []
    assert all("raydistill" not in command for command in cluster["head_setup_commands"])
    built = re.search(r"docker build --file clusters/Dockerfile --tag (\S+) ", text("README.md"))
    assert built is not None
    assert cluster["docker"]["image"] == built[1]


@pytest.mark.parametrize("name", sorted(set(RAY_UP) - set(CLOUDS)))
def test_all_that_pip_builds_from_is_mounted(name):
    folders = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-dir"].values()
    wanted = {"pyproject.toml", PROJECT["readme"], *PROJECT["license-files"], "raydistill", *folders}
    mounted = {local: remote for remote, local in load(name)["file_mounts"].items()}
    assert {Path(mounted[local]).name for local in wanted} == wanted
    assert len({Path(mounted[local]).parent for local in wanted}) == 1


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
