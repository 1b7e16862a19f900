"""`raydistill doctor` as its tests run it, and the servers that it looks at."""

import http.server
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing, contextmanager
from pathlib import Path
from unittest.mock import patch

from raydistill.doctor import diagnostics
from raydistill.doctor.check_result import Setup
from raydistill.doctor.diagnostics import CHECKS, DiagnosticCheck

from .commands import ROOT, Completed, run

QUICK = tuple(each for each in CHECKS if each.name not in ("torch", "MLflow"))  # those need a process of their own
SECRET = "sesame-4711"


def setup_in(folder, **given):
    values = {"storage": folder / "runs", "artifacts": folder / "artifacts", "tracking_uri": f"sqlite:///{folder}/m.db"}
    return Setup(**{name: str(value) for name, value in values.items()} | given)


def checks(*names: str) -> tuple[DiagnosticCheck, ...]:
    return tuple(each for each in CHECKS if each.name in names)


def doctor(folder: Path, *arguments: object, examinations: tuple[DiagnosticCheck, ...] = QUICK, **environment: str):
    """Run the command with these checks; its exit code, and its findings."""
    left = patch("os._exit", side_effect=AssertionError("a check did not end"))
    with patch.object(diagnostics, "CHECKS", examinations), left:
        return answer(run("doctor", "--json", *arguments, cwd=folder, **environment))


def doctor_apart(folder: Path, chosen: str, before: Callable[[], None] | None = None):
    """Run the command in a process of its own. `chosen`: Python that sets `CHECKS` of `diagnostics`."""
    script = f"from raydistill.doctor import diagnostics\n{chosen}\n"
    script += "from raydistill.cli import main; main(['doctor', '--json'])"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=30,
        preexec_fn=before,
    )
    return answer(done)


def answer(done: Completed):
    """The exit code and the findings of a command that ended."""
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
