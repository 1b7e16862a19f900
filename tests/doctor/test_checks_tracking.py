"""What is said of tracking servers and databases."""

import json
import sqlite3
from contextlib import closing

import pytest
from helpers.diagnosis import SECRET, checks, doctor, listening, planted, setup_in

from raydistill.doctor.diagnostics import run_checks
from raydistill.tracking.client import connect

pytestmark = pytest.mark.slow  # each starts a process that imports MLflow, or creates a database
MLFLOW = checks("MLflow")


@pytest.mark.fault(12)
def test_a_tracking_server_that_never_answers(tmp_path):
    with listening() as port:
        uri = f"http://ada:{SECRET}@127.0.0.1:{port}"
        code, findings = doctor(tmp_path, "--tracking-uri", uri, examinations=MLFLOW)
    assert code == 1
    planted(findings, "MLflow", f"http://***@127.0.0.1:{port} cannot be used", "mlflow server")
    assert SECRET not in json.dumps(findings)


def test_a_locked_database(tmp_path):
    with closing(sqlite3.connect(tmp_path / "m.db", isolation_level=None)) as other:
        other.execute("CREATE TABLE t (x)")
        other.execute("BEGIN EXCLUSIVE")
        code, findings = doctor(tmp_path, "--tracking-uri", f"sqlite:///{tmp_path}/m.db", examinations=MLFLOW)
    assert code == 1
    planted(findings, "MLflow", "m.db was locked by another process", "fuser -v")


def test_a_file_that_is_no_database_and_one_that_is(tmp_path):
    (tmp_path / "m.db").write_text("x" * 5000)
    (found,) = run_checks(setup_in(tmp_path), MLFLOW).findings
    assert found.status == "fault"
    assert "cannot be opened: file is not a database" in found.message
    (tmp_path / "m.db").unlink()
    connect(f"sqlite:///{tmp_path}/m.db", "raydistill")
    (found,) = run_checks(setup_in(tmp_path), MLFLOW).findings
    assert (found.status, found.message) == ("ok", f"sqlite:///{tmp_path}/m.db answers")
