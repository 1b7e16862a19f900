"""`raydistill leaderboard`: what it prints and writes, and that what is wrong is explained in a line."""

import json
import shutil

import pytest
from helpers.builders.finals import write_sweep
from helpers.commands import refused, run

from raydistill.tracking.backfill import backfill
from raydistill.tracking.client import connect


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """The addresses of a store with two sweeps, and of one with none. Creating the tables costs seconds."""
    home = tmp_path_factory.mktemp("leaderboard")
    full, empty = (f"sqlite:///{home}/{name}.db" for name in ("full", "empty"))
    connect(full, "raydistill").create_experiment("mine")
    shutil.copyfile(home / "full.db", home / "empty.db")
    for name, method, scores in (("one", "dogo", [0.9, 0.8]), ("two", "seed", [0.7, 0.95])):
        backfill(write_sweep(home / name, method, scores), full)
    return full, empty


@pytest.fixture
def uri(stores):
    return stores[0]


@pytest.fixture
def empty(stores):
    return stores[1]


@pytest.mark.slow
def test_it_prints_a_table_and_writes_each_kind_of_file(uri, tmp_path):
    done = run("leaderboard", cwd=tmp_path, MLFLOW_TRACKING_URI=uri)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("### 1. digits: dogo, seed\n")
    assert done.stdout.index("| dogo ") < done.stdout.index("| seed ")
    for ending in ("md", "csv", "json"):
        done = run("leaderboard", "--tracking-uri", uri, "--out", f"new/board.{ending}", cwd=tmp_path)
        assert done.stdout.endswith(f"\nwrote new/board.{ending}\n")
    assert (tmp_path / "new/board.md").read_text().startswith("### 1. digits: dogo, seed\n\ndata: train 160,")
    assert (tmp_path / "new/board.csv").read_text().count("\n") == 3
    told = json.loads((tmp_path / "new/board.json").read_text())
    assert [row["method"] for row in told["standings"][0]["rows"]] == ["dogo", "seed"]


@pytest.mark.slow
def test_methods_are_chosen_and_ranked_by_a_metric(uri, tmp_path):
    words = ("leaderboard", "--tracking-uri", uri, "--metric", "test_knn")
    done = run(*words, "--method", "seed", cwd=tmp_path)
    assert done.stdout.startswith("### 1. digits: dogo, seed\n"), "what it is compared with is still said"
    assert "| seed " in done.stdout
    assert "| dogo " not in done.stdout
    assert "test k-NN (%), dogo | test probe" in " ".join(done.stdout.split())
    both = run(*words, "--method", "seed", "--method", "dogo", cwd=tmp_path)
    assert both.stdout == run(*words, cwd=tmp_path).stdout


@pytest.mark.slow
def test_an_empty_store_is_said_in_a_line(uri, empty, tmp_path):
    done = run("leaderboard", "--tracking-uri", empty, "--out", "board.md", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"there are no sweeps in {empty}, so there is nothing to compare\n")
    assert list(tmp_path.iterdir()) == []
    other = run("leaderboard", "--tracking-uri", uri, "--experiment", "mine", cwd=tmp_path)
    assert other.stdout == f"there are no sweeps in {uri}, so there is nothing to compare\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--metric", "test_prob"], "--metric 'test_prob' is unknown; did you mean 'test_probe'?"),
        (["--out", "board.txt"], "--out board.txt: give a file that ends in .md, .csv, .json"),
        (["--out", "there.md"], "--out there.md: is there already; choose another file, or add --overwrite"),
        (["--method", "doog"], "--method 'doog': no finished sweep has it; did you mean 'dogo'?"),
        (["--experiment", "raydistil"], "MLflow has no experiment 'raydistil'; did you mean 'raydistill'?"),
        (["--tracking-uri", "sqlite:///none.db"], "there is no MLflow store"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(uri, tmp_path, words, said):
    (tmp_path / "there.md").write_text("mine")
    done = run("leaderboard", *words, cwd=tmp_path, MLFLOW_TRACKING_URI=uri)
    refused(done)
    assert done.stderr.startswith("error: ")
    assert said in done.stderr
    assert (tmp_path / "there.md").read_text() == "mine"
    assert [file.name for file in tmp_path.iterdir()] == ["there.md"]


def test_a_server_that_does_not_answer_is_said_in_a_line(tmp_path):
    done = run("leaderboard", "--tracking-uri", "http://127.0.0.1:9", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: MLflow at http://127.0.0.1:9 cannot be used: ")
    assert done.stderr.count("\n") == 1
