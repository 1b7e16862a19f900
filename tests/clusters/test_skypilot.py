"""The file for SkyPilot against the fields of its tasks."""

import pytest
from helpers.cluster_files import load

pytestmark = pytest.mark.cluster


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
    assert choices[0]["use_spot"]
    assert not choices[-1]["use_spot"]
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
