"""No sweep on a cluster that lets strangers in, and no secret in what is printed."""

import http.server
import json
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from helpers.commands import refused, run

from raydistill.config import ConfigError
from raydistill.sweep.preflight import security

ROOT = Path(__file__).parents[3]
OWN, AWAY = "192.0.2.2", "192.0.2.7"  # of the range that is nobody's (RFC 5737)


@pytest.fixture
def own(monkeypatch):
    """This machine's address as Ray finds it: one that others can reach, until the test says otherwise."""

    def be(address):
        monkeypatch.setattr("ray.util.get_node_ip_address", lambda: address)

    be(OWN)
    return be


@contextmanager
def answering(answers, host="127.0.0.1"):
    """An http server with these JSON documents by path; its port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            found = answers.get(self.path)
            self.send_response(200 if found else 401)
            self.end_headers()
            self.wfile.write(json.dumps(found).encode())

        def log_message(self, *_): ...

    server = http.server.ThreadingHTTPServer((host, 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


@pytest.mark.fault(23)
@pytest.mark.parametrize("mode", [None, "disabled", "", "tokens"])
@pytest.mark.parametrize(
    ("address", "named"),
    [
        (f"{AWAY}:6379", AWAY),
        (f"ray://{AWAY}:10001", AWAY),
        ("[2001:db8::7]:6379", "2001:db8::7"),
        ("head.example:6379", "head.example"),
        ("auto", OWN),
        ("127.0.0.1:6379", OWN),  # Ray takes it for this machine's own address, where others reach it as well
        ("localhost:6379", OWN),
    ],
)
def test_a_cluster_that_others_reach_is_refused_without_a_token(own, address, named, mode):
    with pytest.raises(ConfigError, match="without a token, since RAY_AUTH_MODE") as refused:
        security.refuse_open_cluster(address, mode)
    assert f"cluster at {named} " in str(refused.value)
    assert "export RAY_AUTH_MODE=token; ray get-auth-token --generate" in str(refused.value)


@pytest.mark.fault(23)
@pytest.mark.parametrize("address", [None, "", "local"])
def test_a_private_cluster_is_refused_if_its_token_was_switched_off(own, address):
    with pytest.raises(ConfigError, match=rf"listen on {OWN}.*unset RAY_AUTH_MODE"):
        security.refuse_open_cluster(address, "disabled")


@pytest.mark.parametrize("mode", ["token", "TOKEN"])
@pytest.mark.parametrize("address", [None, "auto", "127.0.0.1:6379", f"{AWAY}:6379", f"ray://{AWAY}:10001"])
def test_with_a_token_any_cluster_is_accepted(own, address, mode):
    security.refuse_open_cluster(address, mode)


def test_a_private_cluster_is_accepted_as_it_is(own):
    security.refuse_open_cluster(None, None)


@pytest.mark.parametrize("mode", [None, "disabled"])
@pytest.mark.parametrize("address", [None, "auto", "127.0.0.1:6379", "localhost:6379", "[::1]:6379", "127.0.0.2:6379"])
def test_loopback_is_accepted(own, address, mode):
    own("127.0.0.1")
    security.refuse_open_cluster(address, mode)


@pytest.mark.parametrize(("kept", "code"), [("0", 0), ("1", 1)])
def test_loopback_is_what_ray_makes_of_it(kept, code):
    """With this variable at 0 Ray keeps to loopback on Linux too."""
    if subprocess.run(["hostname", "-I"], capture_output=True, text=True).stdout.split() in ([], ["127.0.0.1"]):
        pytest.skip("this machine has no other address")
    script = "from raydistill.sweep.preflight.security import refuse_open_cluster as r; r('127.0.0.1:6379', 'disabled')"
    environment = os.environ | {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": kept, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stderr


@pytest.mark.fault(23)
def test_a_head_that_says_it_is_open_is_refused_whatever_this_side_wants(own):
    with answering({"/api/authentication_mode": {"authentication_mode": "disabled"}}) as port:
        with pytest.raises(ConfigError, match=f"Ray head at {AWAY} runs with RAY_AUTH_MODE=disabled"):
            security.refuse_open_head(f"{AWAY}:6379", f"127.0.0.1:{port}")
        own("127.0.0.1")
        security.refuse_open_head("127.0.0.1:6379", f"127.0.0.1:{port}")


def test_a_head_with_a_token_or_without_a_dashboard_is_accepted(own):
    with answering({"/api/authentication_mode": {"authentication_mode": "token"}}) as port:
        security.refuse_open_head(f"{AWAY}:6379", f"127.0.0.1:{port}")
    security.refuse_open_head(f"{AWAY}:6379", f"127.0.0.1:{port}")
    security.refuse_open_head(f"{AWAY}:6379", "")


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    """`sweep.py` with a tiny configuration, without variables of whoever runs the tests."""
    for name in [name for name in os.environ if name.startswith("RAY_")]:
        monkeypatch.delenv(name)
    import ray

    # The command runs in this process, where the session's cluster may be; its own would have none.
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    small = ["--set", "data.limit=40", "--set", "data.batch_size=16", "--set", "data.image_size=8"]
    return partial(run, "--method", "dogo", *small, cwd=tmp_path, program="sweep.py")


@pytest.mark.fault(23)
def test_the_launcher_refuses_before_anything_is_written(sweep, tmp_path):
    refused(
        sweep(RAY_ADDRESS=f"{AWAY}:6379"),
        f"error: the Ray cluster at {AWAY} would be used without a token",
    )
    assert not list(tmp_path.iterdir())


def test_no_password_is_printed(sweep):
    done = sweep("--tracking-uri", "http://ada:sesame99@127.0.0.1:1")
    assert done.returncode == 1, done.stderr
    assert "http://***@127.0.0.1:1" in done.stdout
    assert "sesame99" not in done.stdout + done.stderr


def test_a_token_is_found_where_ray_looks(tmp_path, monkeypatch):
    for name in (security.TOKEN, security.TOKEN_PATH):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert security.find_token() is None
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("\n")
    assert security.find_token() is None
    (tmp_path / ".ray" / "auth_token").write_text("abc")
    assert security.find_token().path == tmp_path / ".ray" / "auth_token"
    monkeypatch.setenv(security.TOKEN_PATH, str(tmp_path / "missing"))
    with pytest.raises(FileNotFoundError):
        security.find_token()
    monkeypatch.setenv(security.TOKEN, "abc")
    assert security.find_token() == security.Token(security.TOKEN)
    assert "abc" not in repr(security.find_token())
