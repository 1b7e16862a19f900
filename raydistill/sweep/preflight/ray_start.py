"""Checks of what keeps Ray from starting or being reached; Ray itself would wait, or fail in many lines."""

from __future__ import annotations

import http.client
import os
import socket
import sys
import urllib.error
import urllib.request
from pathlib import Path

from raydistill.sweep.preflight.security import host_and_port

TIMEOUT_S = 3.0
LONGEST_SOCKET = 103 if sys.platform == "darwin" else 107  # bytes, of the system
SOCKET = "session_2026-01-01_00-00-00_000000_0000000/sockets/plasma_store"  # as Ray 2.60 names it


def ray_folder() -> Path:
    """Folder in which Ray puts logs, sockets and what does not fit into memory, as Ray finds it."""
    default = os.environ.get("TMPDIR", "/tmp") if sys.platform.startswith("linux") else "/tmp"
    return Path(os.environ.get("RAY_TMPDIR", default)) / "ray"


def why_unreachable(address: str | None) -> tuple[str, str]:
    """Return what is wrong with a cluster's address, and the fix; both empty if nothing is found.

    Args:
        address: as in RAY_ADDRESS; none or `local` for a private cluster on this machine.
    """
    if not address or address in ("auto", "local"):
        return "", ""
    if address.startswith(("http://", "https://")):
        return (
            f"{address} is the address of Ray's dashboard, which jobs are submitted to",
            "`unset RAY_ADDRESS` and submit with `ray job submit --address ...`, or give the head's HOST:PORT (6379)",
        )
    host, port = host_and_port(address)
    if port is None:
        return f"{address} names no port", "write HOST:PORT, as `ray start` printed it"
    try:
        socket.create_connection((host, port), TIMEOUT_S).close()
    except OSError as error:
        return (
            f"{address} takes no connection: {error.strerror or error}",
            "start the head (`ray start --head`), open the port to this machine, or fix or unset RAY_ADDRESS",
        )
    if "://" not in address and _speaks_http(host, port):
        return f"{address} is the port of Ray's dashboard", "give the head's own, as `ray start` printed it (6379)"
    return "", ""


def why_no_socket() -> tuple[str, str]:
    """Return what is wrong with Ray's folder as a place of sockets, and the fix; both empty if nothing is."""
    folder = ray_folder()
    length = len(os.fsencode(folder / SOCKET))
    if length <= LONGEST_SOCKET:
        return "", ""
    return (
        f"{folder} is too long a path: sockets in it would have {length} bytes, and {LONGEST_SOCKET} are possible",
        "`export RAY_TMPDIR` to a short one, such as /tmp",
    )


def _speaks_http(host: str, port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://{host}:{port}/api/version", timeout=TIMEOUT_S).close()
    except urllib.error.HTTPError:
        return True
    except (OSError, ValueError, http.client.HTTPException):
        return False
    return True
