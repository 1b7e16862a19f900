"""What keeps Ray from starting is found at once, and said in a line, before a sweep has its name."""

import http.server
import socket
import threading

import pytest
from helpers.commands import launch, refused

from raydistill.sweep.preflight.ray_start import LONGEST_SOCKET, SOCKET, why_no_socket, why_unreachable

TINY = ["--method", "simclr", "--set", "data.limit=40", "--set", "data.batch_size=16", "--no-baseline-search"]


@pytest.fixture
def listening():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def dashboard():
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("address", [None, "", "auto", "local"])
def test_addresses_that_ray_finds_by_itself_are_left_to_it(address):
    assert why_unreachable(address) == ("", "")


def test_an_address_that_answers_is_taken(listening, monkeypatch):
    monkeypatch.setattr("raydistill.sweep.preflight.ray_start.TIMEOUT_S", 0.2)
    assert why_unreachable(listening) == ("", "")


def test_what_is_wrong_with_an_address_is_said(dashboard):
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed = f"127.0.0.1:{server.getsockname()[1]}"
    assert why_unreachable(closed)[0] == f"{closed} takes no connection: Connection refused"
    assert "the address of Ray's dashboard" in why_unreachable(f"http://{closed}")[0]
    assert why_unreachable(dashboard)[0] == f"{dashboard} is the port of Ray's dashboard"
    assert why_unreachable("head")[0] == "head names no port"


def test_a_path_that_is_too_long_for_sockets_is_said(monkeypatch):
    room = LONGEST_SOCKET - len(f"/ray/{SOCKET}")
    monkeypatch.setenv("RAY_TMPDIR", "/" + "x" * (room - 1))
    assert why_no_socket() == ("", "")
    monkeypatch.setenv("RAY_TMPDIR", "/" + "x" * room)
    reason, fix = why_no_socket()
    assert f"would have {LONGEST_SOCKET + 1} bytes" in reason
    assert "export RAY_TMPDIR" in fix


@pytest.mark.slow
@pytest.mark.fault(13)
@pytest.mark.parametrize(
    ("of_ray", "said"),
    [
        ({"RAY_ADDRESS": "127.0.0.1:1", "RAY_AUTH_MODE": "token"}, "RAY_ADDRESS: 127.0.0.1:1 takes no connection"),
        ({"RAY_TMPDIR": "{folder}/" + "x" * 100}, "is too long a path: sockets in it"),
    ],
    ids=["dead-address", "long-sockets"],
)
def test_a_sweep_that_cannot_start_leaves_no_name_behind(tmp_path, of_ray, said):
    of_ray = {name: value.format(folder=tmp_path) for name, value in of_ray.items()}
    refused(launch(*TINY, cwd=tmp_path, program="sweep.py", **of_ray), said)
    assert not list((tmp_path / "runs").glob("*/*"))
