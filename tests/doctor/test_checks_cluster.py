"""What is said of tokens, open doors and ports of Ray clusters."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from helpers.diagnosis import SECRET, doctor, listening, planted, setup_in

from raydistill.doctor import checks_cluster


@pytest.mark.fault(23)
def test_an_address_and_no_token_mode(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "192.0.2.7:6379")
    monkeypatch.setattr(checks_cluster, "TIMEOUT_S", 0.2)
    code, findings = doctor(tmp_path)
    assert code == 1
    planted(findings, "token", "without a token, since RAY_AUTH_MODE is not set", "export RAY_AUTH_MODE=token")
    planted(findings, "Ray address", "192.0.2.7:6379 takes no connection")


def test_an_address_and_no_token(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    with listening() as port:
        code, findings = doctor(tmp_path, "--address", f"127.0.0.1:{port}")
    assert code == 1
    planted(
        findings, "token", f"there is none for the Ray cluster at 127.0.0.1:{port}", "ray get-auth-token --generate"
    )


def test_a_head_that_runs_here_and_no_token(tmp_path, monkeypatch):
    with listening() as port:
        folder = Path(os.environ["RAY_TMPDIR"]) / "ray"
        folder.mkdir()
        (folder / "ray_current_cluster").write_text(f"127.0.0.1:{port}")
        _, findings = doctor(tmp_path)
        planted(findings, "token", f"at 127.0.0.1:{port}")
        monkeypatch.setenv("RAY_AUTH_TOKEN", SECRET)
        code, findings = doctor(tmp_path)
    assert code == 0
    assert [each["found"] for each in findings if each["name"] == "token" and each["status"] == "warning"]
    assert SECRET not in json.dumps(findings)


def test_a_token_that_others_can_read(tmp_path, monkeypatch):
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    try:
        folder.chmod(0o755)
        path = folder / "token"
        path.write_text(SECRET)
        path.chmod(0o644)
        monkeypatch.setenv("RAY_AUTH_MODE", "token")
        monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(path))
        code, findings = doctor(tmp_path)
        assert code == 1
        planted(findings, "token", f"{path} can be read by everyone", f"chmod 600 {path}")
        assert SECRET not in json.dumps(findings)
        path.chmod(0o640)
        planted(doctor(tmp_path)[1], "token", "can be read by its group")
        path.chmod(0o644)
        folder.chmod(0o700)  # nobody comes near it
        assert doctor(tmp_path)[0] == 0
    finally:
        shutil.rmtree(folder)


def test_a_token_file_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "missing"))
    code, findings = doctor(tmp_path)
    assert code == 1
    planted(findings, "token", "RAY_AUTH_TOKEN_PATH names cannot be read", "unset RAY_AUTH_TOKEN_PATH")


@pytest.mark.fault(23)
def test_an_open_dashboard(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", SECRET)
    with listening("0.0.0.0", {"version": "4", "ray_version": "2.60.0"}) as port:
        code, findings = doctor(tmp_path, "--address", f"http://127.0.0.1:{port}")
        assert code == 1
        planted(findings, "exposure", f"dashboard at 0.0.0.0:{port} asks for no token", "--dashboard-host 127.0.0.1")
    with listening("127.0.0.1", {"version": "4", "ray_version": "2.60.0"}) as port:
        _, findings = doctor(tmp_path, "--address", f"http://127.0.0.1:{port}")
        assert [each["status"] for each in findings if each["name"] == "exposure"] == ["warning"]
    with listening("0.0.0.0", {"another": "service"}) as port:
        _, findings = doctor(tmp_path, "--address", f"http://127.0.0.1:{port}")
        assert [each["status"] for each in findings if each["name"] == "exposure"] == ["ok"]


@contextmanager
def pretending(folder, program, *arguments, body="import time; time.sleep(60)", **environment):
    """A process that looks like a part of Ray."""
    script = folder / program
    script.write_text(body)
    given = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")} | environment
    process = subprocess.Popen([sys.executable, str(script), *arguments], env=given, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.fault(23)
@pytest.mark.parametrize(("mode", "statuses"), [("disabled", ["fault"]), ("token", [])])
def test_a_head_that_asks_for_no_token(tmp_path, mode, statuses):
    body = "import socket\ns = socket.create_server(('0.0.0.0', 0))\nprint(s.getsockname()[1], flush=True)\ns.accept()"
    with pretending(tmp_path, "gcs_server", body=body, RAY_AUTH_MODE=mode) as process:
        port = process.stdout.readline().strip()
        found = [each for each in checks_cluster.check_exposure(setup_in(tmp_path)) if f":{port} " in each.message]
        assert [each.status for each in found] == statuses


def test_two_clusters_that_want_one_port(tmp_path, monkeypatch):
    agent = "--dashboard_agent_command=python agent.py --listen-port={} --log-dir=x"
    first = pretending(tmp_path, "raylet", agent.format(52999), "--gcs-address=192.0.2.2:1001")
    second = pretending(tmp_path, "raylet", agent.format(52999), "--gcs-address=192.0.2.2:1002")
    other = pretending(tmp_path, "raylet", agent.format(52998), "--gcs-address=192.0.2.2:1003")
    with first, second, other:
        time.sleep(0.3)
        found = [each for each in checks_cluster.check_agent_ports(setup_in(tmp_path)) if "52999" in each.message]
        assert [each.status for each in found] == ["warning"]
        assert "192.0.2.2:1001, 192.0.2.2:1002" in found[0].message
        assert "--dashboard-agent-listen-port" in found[0].fix
