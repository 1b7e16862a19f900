"""Exit codes of a sweep, as docs/faq.md lists them. tests/e2e has those of whole sweeps: 0, 1 and 143."""

import re
import signal
from pathlib import Path

import pytest
from helpers.commands import run

from raydistill.config import ConfigError
from raydistill.sweep.cluster import Terminated
from raydistill.sweep.driver import SweepError

TINY = ["--method", "simclr", "--set", "data.limit=40", "--set", "data.batch_size=16", "--name", "s"]
PAGE = Path(__file__).parents[2] / "docs" / "faq.md"


@pytest.mark.parametrize(
    ("ending", "code", "said"),
    [
        (None, 0, ""),
        (SweepError("2 of 2 trials failed and none finished: nan"), 1, "error: 2 of 2 trials failed"),
        (ConfigError("--storage is not reached"), 2, "error: --storage is not reached"),
        (KeyboardInterrupt(), 130, "error: interrupted; "),
        (Terminated(signal.SIGTERM), 143, "error: ended by SIGTERM; "),
        (Terminated(signal.SIGHUP), 129, "error: ended by SIGHUP; "),
    ],
    ids=["whole", "failed", "refused", "ctrl-c", "sigterm", "sighup"],
)
def test_a_sweep_ends_with_the_code_that_the_docs_list(ending, code, said, tmp_path, monkeypatch):
    def swept(plan, **_):
        if ending is not None:
            raise ending

    monkeypatch.setattr("raydistill.sweep.run.run_sweep", swept)
    monkeypatch.setattr("raydistill.cli.sweeping.summary.conclude", lambda *_, **__: None)
    done = run("sweep", *TINY, cwd=tmp_path)
    assert (done.returncode, done.stderr[: len(said)]) == (code, said), done.stderr
    assert "Traceback" not in done.stderr
    assert re.search(rf"^\| {code} \|", PAGE.read_text(), re.MULTILINE)


def test_wrong_options_end_with_2_before_anything_starts(tmp_path):
    assert run("sweep", "--method", "simclr", "--trails", "3", cwd=tmp_path).returncode == 2
    assert run("sweep", "--method", "simclrr", cwd=tmp_path).returncode == 2
