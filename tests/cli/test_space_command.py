"""`raydistill space`: the spaces that ship, as files to edit and to give back."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.commands import refused, run
from typer.testing import CliRunner

from raydistill.cli import app
from raydistill.options import METHODS
from raydistill.records.locations import SHIPPED
from raydistill.sweep.options import prepare_settings

FILES = sorted(SHIPPED.glob("*.yaml"))
COMPLETED = "from raydistill.cli import app; app(prog_name='raydistill')"


def written(*arguments):
    """What the command writes, as the shell's `>` would keep it."""
    done = CliRunner().invoke(app, ["space", *arguments])
    assert done.exit_code == 0, done.output
    return done.stdout_bytes


def asked_for(file):
    method, dash, _ = file.stem.partition("-")
    return [method, *(["--paper"] if dash else [])]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_what_is_written_is_the_file_byte_for_byte(file):
    assert written(*asked_for(file)) == file.read_bytes()


@pytest.mark.parametrize(("flags", "shipped"), [([], None), (["--paper"], "paper")])
def test_a_sweep_over_what_is_written_searches_the_same_space(flags, shipped, tmp_path):
    mine = tmp_path / "my.yaml"
    mine.write_bytes(written("dogo", *flags))
    asked = {"storage": str(tmp_path / "runs"), "set": {"data.limit": 200}, "notify": len}
    own, other = (prepare_settings("dogo", search_space=given, **asked).space for given in (str(mine), shipped))
    assert own == other


def test_without_a_method_it_lists_every_space_with_a_line_about_each(tmp_path):
    done = run("space", cwd=tmp_path)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines() if line[:1] == "|"]
    listed = {row[0]: row[1:] for row in rows[2:]}
    assert set(listed) == {" ".join(asked_for(file)) for file in FILES}
    assert listed["cc"] == ["2", "8", "CC: classify the clusters of the teacher's features (CompRess's baseline)"]
    assert listed["dogo --paper"][2] == "Every axis that DoGo's paper (arXiv 2104.09866) varies, with its values"
    assert all(len(about) > 15 and "#" not in about for _, _, about in listed.values())
    only = run("space", "--paper", cwd=tmp_path).stdout
    assert [name for name in listed if re.search(rf"^\| {name} +\|", only, re.MULTILINE)] == [
        name for name in listed if name.endswith("--paper")
    ]


def test_a_method_or_a_papers_space_that_is_not_there_is_refused_with_those_there_are(tmp_path):
    refused(run("space", "dogoo", cwd=tmp_path), "error: method 'dogoo' is unknown; did you mean 'dogo'?")
    refused(run("space", "../dogo", cwd=tmp_path), "method '../dogo' is unknown")
    refused(run("space", "cc", "--paper", cwd=tmp_path), "--paper: there is none for method 'cc' (there: dogo, sdssl")


@pytest.mark.parametrize("begun", ["se", ""])
def test_the_shell_completes_methods(begun):
    asked = {"_RAYDISTILL_COMPLETE": "complete_bash", "COMP_WORDS": f"raydistill space {begun}", "COMP_CWORD": "2"}
    environment = os.environ | asked | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", COMPLETED], env=environment, capture_output=True, text=True)
    assert done.stdout.split() == [name for name in METHODS if name.startswith(begun)]
