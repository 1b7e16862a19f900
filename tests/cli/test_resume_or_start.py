"""A job that is started again goes on with its sweep by the very command that started it."""

import sys

import pytest
from helpers.commands import run

from raydistill.cli import sweep as module
from raydistill.cli.sweeping import summary
from raydistill.config import ConfigError
from raydistill.records.layout import SWEEP_FILE

WORDS = ["--method", "dogo", "--name", "mine", "--resume-or-start"]


@pytest.mark.parametrize("storage", [[], ["--storage", "elsewhere"]])
@pytest.mark.parametrize("begun", [False, True])
def test_it_resumes_what_has_begun_and_starts_what_has_not(tmp_path, monkeypatch, storage, begun):
    asked = []

    def prepare(method, **options):
        asked.append(options["resume"])
        raise ConfigError("enough")

    monkeypatch.setattr(module, "prepare_settings", prepare)
    folder = tmp_path / (storage[1] if storage else "runs") / "mine"
    folder.mkdir(parents=True)
    if begun:
        (folder / SWEEP_FILE).write_text("{}")
    assert run("sweep", *WORDS, *storage, cwd=tmp_path).returncode == 2
    assert asked == [begun]


def test_it_needs_a_name(tmp_path):
    done = run("sweep", "--method", "dogo", "--resume-or-start", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.strip() == "error: --resume-or-start: give the sweep's --name, too"


def test_an_interrupted_sweep_goes_on_by_the_same_command(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["raydistill", "sweep", *WORDS])
    assert summary.how_to_resume("mine").endswith("--name mine --resume-or-start")
