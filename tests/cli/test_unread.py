"""Output that nobody reads any more, as in `| head -2`, ends a command with a word."""

import os
import signal
import subprocess
import sys

import pytest
from helpers.commands import ROOT

from raydistill import cli


def test_a_closed_pipe_ends_a_command_with_a_line(tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.Popen(
        [sys.executable, "-m", "raydistill", "data", "digits"],
        cwd=tmp_path,
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    os.close(writer)
    assert process.communicate(timeout=120)[1] == "error: nobody reads what is printed\n"
    assert process.returncode == 128 + signal.SIGPIPE


@pytest.mark.parametrize(
    ("begun", "said"), [(True, "go on with: "), (False, "nothing had begun; the same command starts it")]
)
def test_a_sweep_says_how_to_go_on(tmp_path, monkeypatch, capfd, begun, said):
    def closed(settings, **_):
        if begun:
            settings.store()
        raise BrokenPipeError

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("raydistill.sweep.run.run_sweep", closed)
    monkeypatch.setattr(sys, "argv", ["sweep.py", "--method", "simclr", "--set", "data.limit=40"])
    monkeypatch.setattr(os, "dup2", lambda *_: None)
    with pytest.raises(SystemExit) as ended:
        cli.main(
            ["sweep", "--method", "simclr", "--set", "data.limit=40", "--set", "data.batch_size=16", "--name", "s"]
        )
    assert ended.value.code == 128 + signal.SIGPIPE
    assert f"error: nobody reads what is printed; {said}" in capfd.readouterr().err
