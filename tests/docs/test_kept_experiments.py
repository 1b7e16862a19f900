"""The experiments kept under analysis/ are whole, are what the catalogue says, and name no machine."""

import json
import re
import sys
from pathlib import Path

import pytest
import yaml

from raydistill.experiments.table import is_error, published_table
from raydistill.records.leaderboard import LeaderboardEntry, is_reference

ANALYSIS = Path(__file__).parents[2] / "analysis"
sys.path.insert(0, str(ANALYSIS))
try:
    import experiments
finally:
    sys.path.remove(str(ANALYSIS))

PLACE = re.compile(r"/(root|home|tmp|Users|usr|var|opt|mnt|work)/|site-packages|[A-Z]:\\")
every = pytest.mark.parametrize("name", experiments.kept())


def read(name):
    folder = experiments.KEPT / name
    described = json.loads((folder / "experiment.json").read_text())
    rows = {row["name"]: LeaderboardEntry(**row) for row in json.loads((folder / "results.json").read_text())}
    return folder, described, rows


def test_experiments_of_every_paper_are_kept():
    assert set(experiments.kept()) <= set(experiments.EXPERIMENTS)
    assert {name.partition("/")[0] for name in experiments.kept()} >= {"sdssl", "sssd", "simreg", "seed", "dogo"}


@every
def test_every_arm_has_three_seeds_whose_scores_are_kept(name):
    folder, described, rows = read(name)
    assert described["scale"] == "cpu"
    for arm in described["arms"]:
        row = rows[arm]
        assert len(row.scores) == len(row.runs) == described["seeds"] >= 3, arm
        for run, scores in zip(row.runs, row.scores, strict=True):
            own = json.loads((folder / "trials" / run / "scores.json").read_text())
            assert {key: own[key] for key in scores} == scores
            assert any(key.startswith("test_") for key in scores)
    assert {"pixels", "untrained"} <= {row.partition("-")[0] for row in rows if is_reference(row)}


@every
def test_the_table_shows_these_numbers(name):
    folder, described, rows = read(name)
    table = (folder / "table.md").read_text()
    assert published_table(described, list(rows.values())).markdown() in table
    for result in described["results"]:
        if result["mean"] is None:
            continue
        pairs = list(zip(rows[result["better"]].scores, rows[result["worse"]].scores, strict=True))
        sign = -1 if is_error(result["metric"]) else 1
        if is_reference(result["worse"]) or all(result["metric"] in one for pair in pairs for one in pair):
            mean = sum(sign * (ours[result["metric"]] - theirs[result["metric"]]) for ours, theirs in pairs)
            assert result["mean"] == pytest.approx(mean / len(pairs))


@every
def test_it_was_made_by_the_command_and_names_no_machine(name):
    folder, _, _ = read(name)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 500_000
    assert not [path for path in files if PLACE.search(path.read_text())]
    origin = json.loads((folder / "origin.json").read_text())
    assert set(origin["command"].split()) >= set(experiments.command(name))
    assert yaml.safe_load((folder / "sweep.yaml").read_text())["experiment"]


def test_the_head_to_head_page_shows_what_was_kept_and_no_network_is_below_raw_pixels():
    page = (ANALYSIS.parent / "docs" / "head-to-head.md").read_text()
    assert experiments.comparison() in page
    _, described, rows = read("ours/head-to-head")
    for metric in ("test_knn", "test_probe"):
        assert all(rows[arm].mean(metric)[0] > rows["pixels"].mean(metric)[0] for arm in described["arms"])


def test_the_overview_is_in_the_page():
    assert experiments.overview() in (ANALYSIS / "README.md").read_text()
