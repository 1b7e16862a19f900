"""Ray: who may talk to it, what is listening here, and what clusters on one machine take from each other."""

from __future__ import annotations

import json
import os
import re
import socket
import urllib.error
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from raydistill.doctor.check_result import CheckResult, Setup
from raydistill.sweep.preflight import security
from raydistill.sweep.preflight.ray_start import ray_folder, why_no_socket, why_unreachable
from raydistill.sweep.preflight.security import MODE, TOKEN_PATH, host_and_port, is_loopback, is_token

DASHBOARD_PORT = 8265
TIMEOUT_S = 3.0
RESTART = (
    "`ray stop; export RAY_AUTH_MODE=token; ray get-auth-token --generate; ray start --head --dashboard-host 127.0.0.1`"
)
AGENT_PORT = re.compile(r"--listen-port[= ](\d+)")


def check_token(setup: Setup) -> Iterator[CheckResult]:
    """Check the token: the launcher's rules, and that nobody else can read it."""
    name, address, mode = "token", setup.address, os.environ.get(MODE)
    reason, fix = security.why_open(address, mode)
    if reason:
        yield CheckResult(name, "fault", reason, fix)
        return
    head = None if address else local_head()
    try:
        token = security.find_token()
    except OSError as error:
        yield CheckResult(
            name,
            "fault",
            f"the file that {TOKEN_PATH} names cannot be read: {error.strerror}",
            f"`unset {TOKEN_PATH}`, or let it name the file with the head's token",
        )
        return
    others = security.readers(token.path) if token and token.path else ""
    if token and others:
        wanted = address or head or is_token(mode)
        yield CheckResult(
            name,
            "fault" if wanted else "warning",
            f"{token.where} can be read by {others}",
            f"chmod 600 {token.where}",
        )
    elif not token and (head or (address and is_token(mode))):
        yield CheckResult(
            name,
            "fault",
            f"there is none for the Ray cluster at {address or head}",
            "copy the head's ~/.ray/auth_token here and `chmod 600` it; on the head itself, "
            "`ray get-auth-token --generate` before it starts",
        )
    elif head and not is_token(mode):
        yield CheckResult(
            name,
            "warning",
            f"a Ray head runs at {head}, and {MODE} is not set here; jobs will be refused",
            "`export RAY_AUTH_MODE=token`",
        )
    elif token:
        yield CheckResult(name, "ok", f"in {token.where}")
    elif address:
        yield CheckResult(name, "ok", "none needed: the cluster is on loopback")
    else:
        yield CheckResult(name, "ok", "Ray makes one for a private cluster")


def check_address(setup: Setup) -> Iterator[CheckResult]:
    """Check whether anything takes connections at the cluster's address."""
    reason, fix = why_unreachable(setup.address)
    if reason:
        yield CheckResult("Ray address", "fault", reason, fix)
    elif setup.address not in (None, "", "auto", "local"):
        yield CheckResult("Ray address", "ok", f"{setup.address} takes connections")


def check_sockets(_: Setup) -> Iterator[CheckResult]:
    """Check whether the paths of Ray's sockets are short enough for the system."""
    reason, fix = why_no_socket()
    yield CheckResult("Ray's sockets", *(("fault", reason, fix) if reason else ("ok", f"they fit into {ray_folder()}")))


def check_exposure(setup: Setup) -> Iterator[CheckResult]:
    """Dashboards that answer without a token, here and at the address, and heads here that ask for none."""
    name, bad = "exposure", False
    host, port = host_and_port(setup.address)
    web = port if (setup.address or "").startswith(("http://", "https://")) else None
    listening = listeners()
    dashboards, heads = processes("dashboard.py"), processes("gcs_server")
    asked: set[tuple[str, int]] = set()
    for ip, number, process in listening:
        if process in dashboards or number in (DASHBOARD_PORT, web):
            asked.add((ip, number))
    if host not in security.LOCAL_NAMES:
        asked.add((host, web or DASHBOARD_PORT))
    for ip, number in sorted(asked):
        if not answers_everyone(ip, number):
            continue
        bad = True
        own = is_loopback(ip)
        who = "who is on this machine" if own else "whoever reaches it"
        yield CheckResult(
            name,
            "warning" if own else "fault",
            f"the Ray dashboard at {shown(ip, number)} asks for no token: {who} can run code (CVE-2023-48022)",
            RESTART,
        )
    for ip, number, process in listening:
        if process in heads and not is_loopback(ip) and mode_of(heads[process]) is False:
            bad = True
            yield CheckResult(
                name,
                "fault",
                f"the Ray head of process {process} listens on {shown(ip, number)} and asks for no token",
                RESTART,
            )
    if not bad:
        yield CheckResult(name, "ok", "no Ray dashboard or head lets strangers in")


def check_agent_ports(_: Setup) -> Iterator[CheckResult]:
    """The first cluster on a machine has the port of the agent that starts jobs; the others' jobs find none."""
    clusters: dict[str, set[str]] = defaultdict(set)
    for process in processes("raylet").values():
        command = " ".join(process.info["cmdline"])
        port, head = AGENT_PORT.search(command), re.search(r"--gcs-address=(\S+)", command)
        if port and port[1] != "0" and head:
            clusters[port[1]].add(head[1])
    clashes = {port: sorted(heads) for port, heads in clusters.items() if len(heads) > 1}
    for number, both in clashes.items():
        yield CheckResult(
            "agent port",
            "warning",
            f"the Ray clusters {', '.join(both)} on this machine want port {number} for their "
            "agents; jobs of all but the first end with 'No available agent' (sweeps started by hand do not mind)",
            "start the others with `ray start --dashboard-agent-listen-port=PORT`, or end them",
        )
    if not clashes:
        yield CheckResult(
            "agent port", "ok", f"{sum(map(len, clusters.values()))} Ray clusters here, no port wanted twice"
        )


def listeners() -> list[tuple[str, int, int | None]]:
    """Address, port and process of what listens here; a process of others is none. Empty where one may not look."""
    import psutil

    try:
        found = psutil.net_connections("tcp")
    except psutil.AccessDenied:
        return []
    return [
        (each.laddr.ip, each.laddr.port, each.pid) for each in found if each.laddr and each.status == psutil.CONN_LISTEN
    ]


def processes(program: str) -> dict[int, Any]:
    """Running programs of this name, by process id: a binary of Ray's, or a script that Python runs."""
    import psutil

    found = {}
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or []
        if any(Path(part).name == program for part in command[:2]):
            found[process.pid] = process
    return found


def mode_of(process: Any) -> bool | None:
    """Return whether a process was started with token authentication; None if it cannot be asked."""
    import psutil

    try:
        return is_token(process.environ().get(MODE))
    except psutil.Error:
        return None


def local_head() -> str | None:
    """The address of the head that `ray start` left running on this machine."""
    try:
        address = (ray_folder() / "ray_current_cluster").read_text().strip()
        host, port = host_and_port(address)
        socket.create_connection((host, port or 0), TIMEOUT_S).close()
    except OSError:
        return None
    return address


def shown(ip: str, port: int) -> str:
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


def answers_everyone(ip: str, port: int) -> bool:
    """Return whether a Ray dashboard tells its version to a stranger."""
    place = shown({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(ip, ip), port)
    try:
        with security.direct(f"http://{place}/api/version", TIMEOUT_S) as answer:
            return "ray_version" in json.loads(answer.read(4096))
    except (urllib.error.HTTPError, OSError, ValueError, TypeError):
        return False
