"""The notebooks run on the stored sweeps and show what is kept of them, and the stored sweeps are whole."""

import base64
import json
import re
import runpy
import shutil
import sys
from pathlib import Path

import nbformat
import pytest
import yaml

from raydistill.presets import load_preset
from raydistill.records.journal import read_records, role_of
from raydistill.sweep.options import trial_count
from raydistill.sweep.search.space import default_space
from raydistill.sweep.search.space_parser import load_space

ANALYSIS = Path(__file__).parents[2] / "analysis"
NOTEBOOKS = {path.stem: path for path in sorted(ANALYSIS.glob("*.ipynb"))}
METHODS = ("dogo", "sdssl", "seed", "simreg", "sssd")
SWEEPS = (*METHODS, "search")
PLACE = re.compile(r"/(root|home|tmp|Users|usr|var|opt|mnt)/|site-packages|[A-Z]:\\")
MOST_BYTES = 100_000  # of a picture
MOST_LINES = 8  # of a cell

every_notebook = pytest.mark.parametrize("name", NOTEBOOKS)
every_method = pytest.mark.parametrize("method", METHODS)
every_sweep = pytest.mark.parametrize("name", SWEEPS)


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def shown(cell):
    """What each of a cell's outputs holds: its text, and whether there is a picture of it."""
    data = [output.get("data", {"text/plain": output.get("text", "")}) for output in cell.outputs]
    return [(each["text/plain"], "image/png" in each) for each in data]


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """Every notebook, run in a copy of its folder."""
    folder = tmp_path_factory.mktemp("analysis")
    for path in [*NOTEBOOKS.values(), ANALYSIS / "example.py"]:
        shutil.copy(path, folder)
    shutil.copytree(ANALYSIS / "sweeps", folder / "sweeps")
    execute = runpy.run_path(str(ANALYSIS / "run_notebooks.py"))["execute"]
    runpy.run_path(str(folder / "example.py"))["stored"]()
    return dict(zip(NOTEBOOKS, execute([folder / path.name for path in NOTEBOOKS.values()]), strict=True))


@pytest.mark.slow
@every_notebook
def test_it_runs_and_every_figure_is_a_picture(executed, name):
    cells = code(executed[name])
    assert not [output for cell in cells for output in cell.outputs if output.output_type == "error"]
    figures = [picture for cell in cells for text, picture in shown(cell) if text.startswith("<Figure")]
    assert figures
    assert all(figures)


@pytest.mark.slow
@every_notebook
def test_what_is_kept_is_what_a_run_shows(executed, name):
    kept = nbformat.read(NOTEBOOKS[name], as_version=4)
    for before, now in zip(code(kept), code(executed[name]), strict=True):
        assert shown(before) == shown(now), "run `python analysis/run_notebooks.py`"


@every_notebook
def test_it_is_short_and_readable_where_it_lies(name):
    notebook = nbformat.read(NOTEBOOKS[name], as_version=4)
    nbformat.validate(notebook)
    assert notebook.cells[0].source.startswith("# ")
    assert re.search(r"^names? = .*# your sweep", code(notebook)[0].source, re.MULTILINE)
    assert all(len(cell.source.splitlines()) <= MOST_LINES for cell in code(notebook))
    assert all(cell.outputs for cell in code(notebook)[2:]), "cells after the first two show something"
    pictures = [
        output.data["image/png"]
        for cell in code(notebook)
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    ]
    assert pictures
    assert max(len(base64.b64decode(picture)) for picture in pictures) < MOST_BYTES


@every_notebook
def test_it_names_no_place_of_a_machine(name):
    notebook = nbformat.read(NOTEBOOKS[name], as_version=4)
    for output in (output for cell in code(notebook) for output in cell.outputs):
        output.get("data", {}).pop("image/png", None)
    assert not PLACE.search(json.dumps(notebook))


def space_of(name):
    """A stored sweep's search space: of its own file, or the one that ships."""
    path = ANALYSIS / "spaces" / f"{name}.yaml"
    method = name if path.exists() else "dogo"
    space = load_space(path if path.exists() else default_space(method), method, {}, load_preset(method, "default"))
    return method, space


@every_sweep
def test_a_stored_sweep_is_whole_small_and_of_its_space(name, monkeypatch):
    folder = ANALYSIS / "sweeps" / name
    names = {path.name for path in folder.iterdir()}
    assert {"journal.jsonl", "sweep.yaml", "results.json", "table.md", "winner.yaml", "winner.txt"} <= names
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 400_000
    assert not [path for path in files if PLACE.search(path.read_text())]
    _, space = space_of(name)
    assert yaml.safe_load((folder / "sweep.yaml").read_text())["space"] == space.to_dict()
    monkeypatch.syspath_prepend(str(ANALYSIS))
    command = runpy.run_path(str(ANALYSIS / "sweeps.py"))["command"](name)
    assert json.loads((folder / "origin.json").read_text())["command"] == " ".join(["python", *command])


@every_method
def test_a_sweep_of_a_papers_figures_tries_each_setting_to_its_end(method):
    _, space = space_of(method)
    assert 14 <= trial_count(space, None) <= 24
    assert space.early_terminate is None
    records = read_records(ANALYSIS / "sweeps" / method / "journal.jsonl")
    trials = [record for record in records.values() if role_of(record.key) == "search"]
    assert len(trials) == trial_count(space, None)
    assert {record.outcome for record in trials} == {"finished"}
    assert len({json.dumps(record.settings) for record in trials}) == len(trials), "no setting is tried twice"


def test_stored_sweeps_are_told_again_when_they_change(tmp_path, monkeypatch):
    shutil.copy(ANALYSIS / "example.py", tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "example", raising=False)
    import example

    told = []
    monkeypatch.setattr(example, "backfill", lambda folder, uri: told.append((folder.name, uri)))
    (tmp_path / "sweeps" / "a").mkdir(parents=True)
    (tmp_path / "sweeps" / "a" / "journal.jsonl").write_text("1")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    assert [example.stored(), example.stored()] == [uri, uri]
    assert told == [("a", uri)]
    (tmp_path / "sweeps" / "a" / "journal.jsonl").write_text("2")
    example.stored()
    assert told == [("a", uri)] * 2
