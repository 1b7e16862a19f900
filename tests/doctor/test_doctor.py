"""`raydistill doctor`: 0 on a healthy set-up, and each planted fault is named with 1 and a way to mend it."""

import http.server
import json
import os
import resource
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import namedtuple
from contextlib import closing, contextmanager
from importlib import metadata
from pathlib import Path

import pytest
from typer.testing import CliRunner

from raydistill.cli import app
from raydistill.doctor import checks_cluster, checks_machine, checks_storage, checks_torch, checks_versions, diagnostics
from raydistill.doctor.check_result import CheckResult, Setup
from raydistill.doctor.diagnostics import CHECKS, DiagnosticCheck, run_checks
from raydistill.doctor.subprocess_check import in_subprocess
from raydistill.redaction import redact_environment
from raydistill.tracking.client import connect

ROOT = Path(__file__).parents[2]
QUICK = tuple(each for each in CHECKS if each.name not in ("torch", "MLflow"))
SECRET = "sesame-4711"


@pytest.fixture(autouse=True)
def untouched(monkeypatch, tmp_path):
    """No cluster, token, tracking server or folder of whoever runs the tests."""
    for name in list(os.environ):
        if name.startswith(("RAY_", "MLFLOW_")):
            monkeypatch.delenv(name)
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))


def setup_in(folder, **given):
    values = {"storage": folder / "runs", "artifacts": folder / "artifacts", "tracking_uri": f"sqlite:///{folder}/m.db"}
    return Setup(**{name: str(value) for name, value in values.items()} | given)


def doctor(folder, *arguments, environment=None, before=None):
    """The command in a process of its own, as it is typed; its exit code, and its findings by name."""
    given = os.environ | {"PYTHONPATH": str(ROOT)} | (environment or {})
    done = subprocess.run(
        [sys.executable, "-m", "raydistill", "doctor", "--json", *map(str, arguments)],
        cwd=folder,
        env=given,
        capture_output=True,
        text=True,
        timeout=75,
        preexec_fn=before,
    )
    assert "Traceback" not in done.stderr
    document = json.loads(done.stdout)
    assert document["healthy"] is (done.returncode == 0)
    return done.returncode, document["findings"]


def planted(findings, name, *said):
    """The fault of that name; it says these words, and how to mend it."""
    faults = [each for each in findings if each["name"] == name and each["status"] == "fault"]
    assert faults, findings
    for text in said:
        assert any(text in each["found"] + each["mend"] for each in faults), faults
    assert all(each["mend"] for each in faults)
    return faults


def in_process(folder, arguments, monkeypatch, examinations=QUICK):
    """The command with patched libraries: without the checks that a process of its own makes."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(diagnostics, "CHECKS", examinations)
    done = CliRunner().invoke(app, ["doctor", "--json", *map(str, arguments)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, json.loads(done.stdout)["findings"]


@contextmanager
def listening(host="127.0.0.1", answer=None):
    """A server on a free port: with an answer an http server, without one it takes connections and says nothing."""
    if answer is None:
        with closing(socket.create_server((host, 0))) as server:
            yield server.getsockname()[1]
        return

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *_): ...

    server = http.server.ThreadingHTTPServer((host, 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


def test_a_healthy_setup_exits_with_0_within_a_minute_and_leaves_nothing(tmp_path):
    folder = tmp_path / "work"
    folder.mkdir()
    began = time.monotonic()
    code, findings = doctor(folder, "--no-gpu")
    assert code == 0, findings
    assert time.monotonic() - began < 60
    assert {each["name"] for each in findings} >= {
        "versions",
        "cores",
        "torch",
        "GPU",
        "storage",
        "artifacts",
        "free disk",
        "MLflow",
        "token",
        "exposure",
        "agent port",
        "open files",
        "host name",
    }
    assert set(findings[0]) == {"name", "status", "found", "mend"}
    assert list(folder.iterdir()) == []


@pytest.mark.fault(10)
def test_storage_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    code, findings = in_process(tmp_path, ["--storage", tmp_path / "file" / "runs"], monkeypatch)
    assert code == 1
    planted(findings, "storage", str(tmp_path / "file"), "is a file, not a folder", "--storage")


@pytest.mark.fault(12)
def test_a_tracking_server_that_never_answers(tmp_path):
    with listening() as port:
        code, findings = doctor(tmp_path, "--no-gpu", "--tracking-uri", f"http://ada:{SECRET}@127.0.0.1:{port}")
    assert code == 1
    planted(findings, "MLflow", f"http://***@127.0.0.1:{port} cannot be used", "mlflow server")
    assert SECRET not in json.dumps(findings)


def test_a_locked_database(tmp_path):
    with closing(sqlite3.connect(tmp_path / "m.db", isolation_level=None)) as other:
        other.execute("CREATE TABLE t (x)")
        other.execute("BEGIN EXCLUSIVE")
        code, findings = doctor(tmp_path, "--no-gpu", "--tracking-uri", f"sqlite:///{tmp_path}/m.db")
    assert code == 1
    planted(findings, "MLflow", "m.db was locked by another process", "fuser -v")


def test_a_file_that_is_no_database_and_one_that_is(tmp_path):
    mlflow = [each for each in CHECKS if each.name == "MLflow"]
    (tmp_path / "m.db").write_text("x" * 5000)
    (found,) = run_checks(setup_in(tmp_path), mlflow).findings
    assert found.status == "fault"
    assert "cannot be opened: file is not a database" in found.message
    (tmp_path / "m.db").unlink()
    connect(f"sqlite:///{tmp_path}/m.db", "raydistill")
    (found,) = run_checks(setup_in(tmp_path), mlflow).findings
    assert (found.status, found.message) == ("ok", f"sqlite:///{tmp_path}/m.db answers")


@pytest.mark.parametrize(
    ("package", "version", "said"),
    [
        ("ray", "2.49.2", "CVE-2025-62593"),
        ("mlflow", "3.9.0", "CVE-2026-53995"),
        ("optuna", None, "is not installed, wanted >=5"),
    ],
)
def test_a_dependency_below_its_floor(tmp_path, monkeypatch, package, version, said):
    real = metadata.version

    def fake(name):
        if name == package and version is None:
            raise metadata.PackageNotFoundError(name)
        return version if name == package else real(name)

    monkeypatch.setattr(metadata, "version", fake)
    code, findings = in_process(tmp_path, [], monkeypatch)
    assert code == 1
    planted(findings, "versions", f"{package} {version or 'is not'}", said, f"pip install '{package}")


def test_the_floors_are_above_the_known_holes():
    _, requirements = checks_versions.declared()
    floors = {each.name: next(iter(each.specifier)).version for each in requirements if each.specifier}
    assert tuple(map(int, floors["mlflow"].split("."))) >= (3, 17, 2)
    assert tuple(map(int, floors["ray"].split("."))) >= (2, 60)


@pytest.mark.fault(23)
def test_an_address_and_no_token_mode(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "192.0.2.7:6379")
    monkeypatch.setattr(checks_cluster, "TIMEOUT_S", 0.2)
    code, findings = in_process(tmp_path, [], monkeypatch)
    assert code == 1
    planted(findings, "token", "without a token, since RAY_AUTH_MODE is not set", "export RAY_AUTH_MODE=token")
    planted(findings, "Ray address", "192.0.2.7:6379 takes no connection")


def test_an_address_and_no_token(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    with listening() as port:
        code, findings = in_process(tmp_path, ["--address", f"127.0.0.1:{port}"], monkeypatch)
    assert code == 1
    planted(
        findings, "token", f"there is none for the Ray cluster at 127.0.0.1:{port}", "ray get-auth-token --generate"
    )


def test_a_head_that_runs_here_and_no_token(tmp_path, monkeypatch):
    with listening() as port:
        (tmp_path / "ray").mkdir()
        (tmp_path / "ray" / "ray_current_cluster").write_text(f"127.0.0.1:{port}")
        _, findings = in_process(tmp_path, [], monkeypatch)
        planted(findings, "token", f"at 127.0.0.1:{port}")
        monkeypatch.setenv("RAY_AUTH_TOKEN", SECRET)
        code, findings = in_process(tmp_path, [], monkeypatch)
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
        code, findings = in_process(tmp_path, [], monkeypatch)
        assert code == 1
        planted(findings, "token", f"{path} can be read by everyone", f"chmod 600 {path}")
        assert SECRET not in json.dumps(findings)
        path.chmod(0o640)
        planted(in_process(tmp_path, [], monkeypatch)[1], "token", "can be read by its group")
        path.chmod(0o644)
        folder.chmod(0o700)  # nobody comes near it
        assert in_process(tmp_path, [], monkeypatch)[0] == 0
    finally:
        shutil.rmtree(folder)


def test_a_token_file_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "missing"))
    code, findings = in_process(tmp_path, [], monkeypatch)
    assert code == 1
    planted(findings, "token", "RAY_AUTH_TOKEN_PATH names cannot be read", "unset RAY_AUTH_TOKEN_PATH")


@pytest.mark.fault(23)
def test_an_open_dashboard(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", SECRET)
    with listening("0.0.0.0", {"version": "4", "ray_version": "2.60.0"}) as port:
        code, findings = in_process(tmp_path, ["--address", f"http://127.0.0.1:{port}"], monkeypatch)
        assert code == 1
        planted(findings, "exposure", f"dashboard at 0.0.0.0:{port} asks for no token", "--dashboard-host 127.0.0.1")
    with listening("127.0.0.1", {"version": "4", "ray_version": "2.60.0"}) as port:
        _, findings = in_process(tmp_path, ["--address", f"http://127.0.0.1:{port}"], monkeypatch)
        assert [each["status"] for each in findings if each["name"] == "exposure"] == ["warning"]
    with listening("0.0.0.0", {"another": "service"}) as port:
        _, findings = in_process(tmp_path, ["--address", f"http://127.0.0.1:{port}"], monkeypatch)
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


Usage = namedtuple("Usage", "total used free")


@pytest.mark.fault(10)
@pytest.mark.parametrize(
    ("usage", "name", "said"),
    [
        (Usage(100 * 2**30, 99.9 * 2**30, 0.1 * 2**30), "free disk", "storage: 0.1 GiB free"),
        (Usage(1000 * 2**30, 960 * 2**30, 40 * 2**30), "free disk", "over 95% full, where Ray stops"),
    ],
)
def test_a_full_disk(tmp_path, monkeypatch, usage, name, said):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    code, findings = in_process(tmp_path, [], monkeypatch)
    assert code == 1
    planted(findings, name, said)


def test_too_few_open_files(tmp_path):
    def low():
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))

    code, findings = doctor(tmp_path, "--no-gpu", before=low)
    assert code == 1
    planted(findings, "open files", "256 open files allowed", "ulimit -n")


def test_a_low_soft_limit_is_raised_by_ray(tmp_path, monkeypatch):
    for limits, status in (((256, 65536), "ok"), ((256, 5000), "warning"), ((256, 1024), "fault")):
        monkeypatch.setattr(resource, "getrlimit", lambda _, limits=limits: limits)
        assert next(checks_machine.check_open_files(setup_in(tmp_path))).status == status


def test_torchvision_of_another_build_and_no_gpu(tmp_path):
    """What torchvision's compiled half says beside a torch that it was not built for."""
    stub = tmp_path / "stub"
    (stub / "torchvision").mkdir(parents=True)
    (stub / "torchvision" / "__init__.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    given = {"PYTHONPATH": f"{stub}{os.pathsep}{ROOT}", "CUDA_VISIBLE_DEVICES": ""}
    code, findings = doctor(tmp_path, "--gpu", environment=given)
    assert code == 1
    planted(findings, "torch", "operator torchvision::nms does not exist", "--force-reinstall 'torch")
    planted(findings, "GPU", "CUDA_VISIBLE_DEVICES=''", "unset CUDA_VISIBLE_DEVICES")


class PretendedTorch:
    """As much of torch as the checks of GPUs look at."""

    __version__ = "2.15.0"

    class version:  # noqa: N801 - as torch calls it
        cuda = "13.2"

    class cuda:  # noqa: N801
        @staticmethod
        def is_available():
            import warnings

            warnings.warn("The NVIDIA driver on your system is too old (found version 12020)", stacklevel=1)
            return False


@pytest.mark.parametrize(
    ("wanted", "driver", "status", "said"),
    [
        (True, True, "fault", "the NVIDIA driver on your system is too old"),
        (None, True, "fault", "a driver is here, and torch finds no GPU"),
        (True, False, "fault", "asked for, and there is none"),
        (None, False, "ok", "none; networks train on the CPU"),
    ],
)
def test_a_gpu_that_torch_does_not_find(tmp_path, monkeypatch, wanted, driver, status, said):
    monkeypatch.setattr(checks_torch, "DRIVER", tmp_path if driver else tmp_path / "missing")
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    old = "The NVIDIA driver on your system is too old (found version 12020)"
    finding = checks_torch._no_gpu(PretendedTorch, setup_in(tmp_path, gpu=wanted), old)
    assert finding.status == status
    assert said.lower() in finding.message.lower()


def test_all_reduce_of_one_on_the_cpu(tmp_path):
    checks_torch.reduce(0, 1, str(tmp_path / "meet"), "gloo")


def test_a_check_that_breaks_or_hangs_is_a_fault_of_its_own(tmp_path):
    def breaks(_):
        yield CheckResult("x", "ok", "fine so far")
        raise LookupError("not thought of")

    def hangs(_):
        yield CheckResult("y", "ok", "fine so far")
        threading.Event().wait()

    began = time.monotonic()
    found = run_checks(
        setup_in(tmp_path), [DiagnosticCheck("x", breaks), DiagnosticCheck("y", hangs, 0.3, "turn it off")]
    )
    assert time.monotonic() - began < 5
    assert found.hung
    assert not found.healthy
    assert [(each.name, each.status) for each in found.findings] == [
        ("x", "ok"),
        ("x", "fault"),
        ("y", "ok"),
        ("y", "fault"),
    ]
    assert "LookupError: not thought of" in found.findings[1].message
    assert "did not end within 0.3 s" in found.findings[3].message
    assert found.findings[3].fix == "turn it off"


def test_a_check_that_hangs_does_not_hold_the_command(tmp_path):
    """Threads of libraries are waited for at a process's usual end; this one is not."""
    script = (
        "import threading; from concurrent.futures import ThreadPoolExecutor\n"
        "from raydistill.doctor import diagnostics\n"
        "def hangs(_): yield from ThreadPoolExecutor().submit(threading.Event().wait).result()\n"
        "diagnostics.CHECKS = (diagnostics.DiagnosticCheck('storage', hangs, 0.3, diagnostics.DISK),)\n"
        "from raydistill.cli import main; main(['doctor', '--json'])"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 1, done.stderr
    planted(json.loads(done.stdout)["findings"], "storage", "did not end within 0.3 s", "mount | grep nfs")


def dies(_):
    yield CheckResult("z", "ok", "fine so far")
    os.abort()


def stops(_):
    yield CheckResult("z", "ok", "fine so far")
    print("noise of a library")
    time.sleep(60)


@pytest.mark.parametrize(("check", "said"), [(dies, "ended with -6 after z"), (stops, "within 1.5 s after z")])
def test_a_process_apart_that_crashes_or_hangs(tmp_path, monkeypatch, check, said):
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"))
    found = run_checks(setup_in(tmp_path), [DiagnosticCheck("z", in_subprocess(check, 1.5))])
    assert [each.status for each in found.findings] == ["ok", "fault"]
    assert said in found.findings[1].message
    assert not found.hung


def test_storage_by_address(tmp_path):
    assert checks_storage.written("storage", (tmp_path / "bucket").as_uri()).status == "ok"
    assert list(tmp_path.glob("bucket/*")) == []
    (tmp_path / "file").write_text("")
    assert checks_storage.written("storage", (tmp_path / "file" / "bucket").as_uri()).status == "fault"
    assert checks_storage.written("storage", "nothing://bucket/x").status == "fault"


def test_a_disk_that_is_full_when_it_comes_to_it(tmp_path, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    found = checks_storage.written("artifacts", str(tmp_path))
    assert found.status == "fault"
    assert "No space left" in found.message
    assert "make room" in found.fix


@pytest.mark.parametrize(
    "text",
    [
        f"postgresql://ada:{SECRET}@db.example/mlflow",
        f"https://example.com/?sig={SECRET}&a=1",
        f"https://example.com/?access_token={SECRET}",
        f"the token is {SECRET}",
    ],
)
def test_secrets_are_not_printed(monkeypatch, text):
    monkeypatch.setenv("RAY_AUTH_TOKEN", SECRET)
    assert SECRET not in redact_environment(text)


def test_the_text_names_faults_and_what_mends_them(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    found = run_checks(setup_in(tmp_path, storage=str(tmp_path / "file" / "x")), QUICK)
    text = found.as_text()
    assert "fault    storage" in text
    assert "mend: make it a folder of yours" in text
    assert "1 fault" in text.splitlines()[-1]
    assert run_checks(setup_in(tmp_path), [CHECKS[0]]).as_text().endswith("\nhealthy")
