"""A Ray head of a test's own, as a user would start one: its token, its ports, its folders. Ended by process ids."""

import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from helpers.servers.ports import free_ports, wait_until_listening

RAY = str(Path(sys.executable).with_name("ray"))


@dataclass
class Head:
    """`address` for drivers and nodes, `dashboard` for jobs, `environment` of whoever talks to it."""

    address: str
    dashboard: str
    environment: dict[str, str]
    folder: Path
    process: psutil.Process

    def run(self, *command, timeout=240, **more):
        return subprocess.run(
            [RAY, *command], env=self.environment, capture_output=True, text=True, timeout=timeout, **more
        )

    def children(self):
        return self.process.children(recursive=True)


@contextmanager
def ray_head(home, *, cpus=2, node_types=None, idle_minutes=0.1):
    """`node_types`: resources of the workers that an autoscaler may start on this machine, by their names."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    environment |= {
        "RAY_AUTH_MODE": "token",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(home),
        "RAY_FAKE_CLUSTER": "1",
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "AUTOSCALER_HEARTBEAT_TIMEOUT_S": "10",
    }
    token = subprocess.run(
        [RAY, "get-auth-token", "--generate"], env=environment, capture_output=True, text=True, timeout=60
    )
    assert token.returncode == 0, token.stderr
    port, dashboard, agent = free_ports(3)
    # Sockets have short names.
    folder = Path("/tmp") / f"raydistill-{os.getpid()}-{port}"
    command = [
        RAY,
        "start",
        "--head",
        "--block",
        f"--num-cpus={cpus}",
        f"--port={port}",
        "--dashboard-host=127.0.0.1",
        f"--dashboard-port={dashboard}",
        f"--dashboard-agent-listen-port={agent}",
        f"--temp-dir={folder}",
        "--disable-usage-stats",
    ]
    address = f"127.0.0.1:{port}"
    if node_types is not None:
        config = home / "autoscaler.json"
        config.write_text(json.dumps(autoscaler(node_types, cpus, address, idle_minutes)))
        command.append(f"--autoscaling-config={config}")
    with (home / "head.log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    head = Head(address, f"http://127.0.0.1:{dashboard}", environment, folder, psutil.Process(process.pid))
    try:
        wait_until_up(head)
        yield head
    finally:
        children = head.children()
        process.terminate()
        _, alive = psutil.wait_procs([*children, head.process], timeout=10)
        for each in alive:
            each.kill()
        process.wait(10)
        shutil.rmtree(folder, ignore_errors=True)


def wait_until_up(head):
    """Wait until jobs can be listed; the command is not launched in vain, since that takes seconds of imports."""
    wait_until_listening(urlsplit(head.dashboard).port)
    for _ in range(20):
        listed = head.run("job", "list", "--address", head.dashboard, timeout=60)
        if listed.returncode == 0:
            return
        time.sleep(0.5)
    raise AssertionError(listed.stderr)


def autoscaler(node_types, cpus, address, idle_minutes):
    """What Ray's own AutoscalingCluster writes; its template is not in the wheel of 2.60."""
    nodes = {
        name: {"resources": resources, "node_config": {}, "min_workers": 0, "max_workers": 2}
        for name, resources in node_types.items()
    }
    nodes["ray.head.default"] = {"resources": {"CPU": cpus}, "node_config": {}, "max_workers": 0}
    return {
        "cluster_name": "test",
        "max_workers": 2,
        "upscaling_speed": 1.0,
        "idle_timeout_minutes": idle_minutes,
        "provider": {
            "type": "fake_multinode",
            "gcs_address": address,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
            "use_node_id_as_ip": True,
        },
        "available_node_types": nodes,
        "head_node_type": "ray.head.default",
        "auth": {},
        "docker": {},
        "initialization_commands": [],
        "setup_commands": [],
        "head_setup_commands": [],
        "worker_setup_commands": [],
        "head_start_ray_commands": [],
        "worker_start_ray_commands": [],
        "file_mounts": {},
        "cluster_synced_files": [],
        "file_mounts_sync_continuously": False,
        "rsync_exclude": [],
        "rsync_filter": [],
    }
