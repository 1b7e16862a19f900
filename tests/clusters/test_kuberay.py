"""The files for KubeRay against the fields of its CRDs."""

import json
import re
import subprocess

import jsonschema
import pytest
import yaml
from helpers.cluster_files import KUBERAY, ROOT, instructions, joined, load, spec, text

pytestmark = pytest.mark.cluster


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
    assert faults(cluster, "RayCluster")
    assert faults(job, "RayJob")


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
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["runAsUser"] > 0
        assert all(c["securityContext"]["allowPrivilegeEscalation"] is False for c in pod["containers"])
        assert [v["persistentVolumeClaim"]["claimName"] for v in pod["volumes"]] == ["raydistill"]
    assert load("kuberay-storage")["metadata"]["name"] == "raydistill"


def test_the_job_cleans_up_after_itself():
    job = load("kuberay-job")["spec"]
    assert job["shutdownAfterJobFinishes"] is True
    assert job["ttlSecondsAfterFinished"] > 0
    assert isinstance(yaml.safe_load(job["runtimeEnvYAML"])["env_vars"], dict)
    assert not set("&;|`$") & set(job["entrypoint"]), "one plain command"
    assert job["entrypoint"].split()[1] == f"{dict(instructions('Dockerfile'))['WORKDIR']}/sweep.py"
    hours = float(re.search(r"--max-hours (\S+)", job["entrypoint"]).group(1))
    assert hours * 3600 < job["activeDeadlineSeconds"], "the sweep ends in order before Kubernetes ends it"
    assert spec("kuberay-job") == spec("kuberay-cluster"), "the cluster that stays is the one that a job makes"


def test_kueue_counts_all_pods_of_the_job_that_the_guide_makes_for_it(tmp_path):
    """Kueue admits a job as a whole, so its workers may not come and go."""
    command = re.search(r"^sed -e .*?job\.yaml > kueue-job\.yaml$", joined(text("README.md")), re.M)
    assert command is not None
    subprocess.run(
        ["bash", "-c", command[0].replace("> kueue-job.yaml", f"> {tmp_path}/made.yaml")], cwd=ROOT, check=True
    )
    before, made = load("kuberay-job"), yaml.safe_load((tmp_path / "made.yaml").read_text())
    cluster = made["spec"]["rayClusterSpec"]
    assert cluster.pop("enableInTreeAutoscaling") is False
    (group,) = cluster["workerGroupSpecs"]
    packs = int(re.search(r"--packs (\d+)", made["spec"]["entrypoint"])[1])
    assert {group.pop(key) for key in ("replicas", "minReplicas", "maxReplicas")} == {packs}
    kept = before["spec"]["rayClusterSpec"]
    del kept["enableInTreeAutoscaling"]
    for key in ("replicas", "minReplicas", "maxReplicas"):
        del kept["workerGroupSpecs"][0][key]
    assert made == before
