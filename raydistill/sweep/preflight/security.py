"""Access to a Ray cluster: mode and token as Ray finds them, and the refusal to start on an open one."""

from __future__ import annotations

import ipaddress
import json
import os
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from raydistill.config import ConfigError

MODE, TOKEN, TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
ANSWER_TIMEOUT_S = 3.0
LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")  # those that Ray replaces by the machine's own address
FIX = "`export RAY_AUTH_MODE=token; ray get-auth-token --generate`, and start the head from that shell"
FIX_PRIVATE = "`unset RAY_AUTH_MODE`: Ray then makes a token by itself"


@dataclass(frozen=True)
class Token:
    """Place of a token, whose value is never stored. `path` is none if it is in the environment."""

    where: str
    path: Path | None = None


# docs/architecture.md#token-check-before-a-sweep
def refuse_open_cluster(address: str | None, mode: str | None) -> None:
    """Refuse a Ray cluster that others can reach and that asks for no token.

    Args:
        address: as in RAY_ADDRESS; none or `local` for a private cluster on this machine.
        mode: RAY_AUTH_MODE.

    Raises: ConfigError that says how to fix it.
    """
    reason, fix = why_open(address, mode)
    if reason:
        raise ConfigError(f"{reason}; {fix}")


def why_open(address: str | None, mode: str | None) -> tuple[str, str]:
    """Return what is wrong with starting on this cluster, and the fix; both empty if nothing is."""
    if is_token(mode):
        return "", ""
    private = not address or address == "local"
    if private and mode is None:
        return "", ""
    where = reached(address)
    if is_loopback(where):
        return "", ""
    shown = "is not set" if mode is None else f"is {mode!r}"
    if private:
        return f"a private Ray would listen on {where} and ask for no token, since {MODE} {shown}", FIX_PRIVATE
    return f"the Ray cluster at {where} would be used without a token, since {MODE} {shown}", FIX


def refuse_open_head(address: str | None, dashboard: str) -> None:
    """Refuse a cluster whose head says that it lets everyone in, whatever this side's mode is.

    A dashboard that cannot be asked from here, or is none, is no proof of either.

    Args:
        address: as for `refuse_open_cluster`.
        dashboard: host and port, as Ray tells a driver.

    Raises: ConfigError that says how to fix it.
    """
    if dashboard and head_mode(dashboard) == "disabled" and not is_loopback(where := reached(address)):
        raise ConfigError(f"the Ray head at {where} runs with {MODE}=disabled and lets everyone in; {FIX}")


def head_mode(dashboard: str) -> str | None:
    """The authentication mode that a dashboard tells everyone; none if it does not answer."""
    try:
        with direct(f"http://{dashboard.removeprefix('http://')}/api/authentication_mode") as answer:
            return str(json.loads(answer.read(4096))["authentication_mode"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def direct(url: str, seconds: float = ANSWER_TIMEOUT_S) -> Any:
    """GET without a token and without a proxy. Raises OSError, ValueError."""
    return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=seconds)


def is_token(mode: str | None) -> bool:
    """Return whether Ray reads this mode as `token`; an unknown one counts as `disabled`."""
    return (mode or "").lower() == "token"


def reached(address: str | None) -> str:
    """The host that Ray connects to, or would listen on: loopback names mean this machine's own address."""
    host, _ = host_and_port(address)
    if host not in LOCAL_NAMES:
        return host
    # Takes a second to import, and most sweeps never ask.
    from ray.util import get_node_ip_address

    return str(get_node_ip_address())


def host_and_port(address: str | None) -> tuple[str, int | None]:
    """Split an address such as `HOST:PORT`, `ray://HOST:PORT`, `auto`, `local` or none, as it is written."""
    if not address or address in ("auto", "local"):
        return "localhost", None
    parts = urlsplit(address if "://" in address else f"//{address}")
    try:
        return parts.hostname or address, parts.port
    except ValueError:
        return parts.hostname or address, None


def is_loopback(host: str) -> bool:
    """Return whether an IP address (or `localhost`) is of this machine alone."""
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return (getattr(found, "ipv4_mapped", None) or found).is_loopback


def find_token() -> Token | None:
    """The first of the places where Ray looks: RAY_AUTH_TOKEN, the file RAY_AUTH_TOKEN_PATH, ~/.ray/auth_token.

    Raises: OSError if the file that RAY_AUTH_TOKEN_PATH names cannot be read.
    """
    if os.environ.get(TOKEN, "").strip():
        return Token(TOKEN)
    named = os.environ.get(TOKEN_PATH)
    path = Path(named) if named else Path.home() / ".ray" / "auth_token"
    if not named and not path.exists():
        return None
    return Token(str(path), path) if path.read_text().strip() else None


def readers(path: Path) -> str:
    """Name others who can read a file (`everyone`, `its group`), through all the folders above it; empty if nobody."""
    modes = [path.stat().st_mode, *(parent.stat().st_mode for parent in path.resolve().parents)]
    for who, read, enter in (("everyone", 0o004, 0o001), ("its group", 0o040, 0o010)):
        # A folder of another group may be entered as anyone.
        if modes[0] & read and all(mode & (enter | 0o001) for mode in modes[1:]):
            return who
    return ""
