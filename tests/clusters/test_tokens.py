"""No file starts a Ray cluster that asks for no token or shows its dashboard to all."""

import re

import pytest
import yaml
from helpers.cluster_files import NAMES, RAY_UP, accept, commands, text

pytestmark = pytest.mark.cluster


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
