"""A sweep's folder is told to another MLflow, once, with the sweep's own times."""

import json

import pytest
from helpers.builders.told_sweeps import BASE, write_sweep
from helpers.commands import launch, refused, run
from helpers.servers.mlflow_runs import held

from raydistill.config import ConfigError
from raydistill.records.budget import Budget, Limits
from raydistill.records.journal import Journal
from raydistill.tracking import sync
from raydistill.tracking.backfill import backfill
from raydistill.tracking.tracker import TrackingError
from raydistill.training.checkpoint_files import winner_of


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    home = tmp_path_factory.mktemp("replay")
    uri = f"sqlite:///{home}/mlflow.db"
    assert backfill(write_sweep(home / "over"), uri) == 4
    assert backfill(write_sweep(home / "cut", concluded=False), uri) == 4
    return home, uri


def test_trials_have_roles_settings_results_copies_and_ends(told):
    runs = held(told[1], "over")
    assert set(runs) == {"over", "t0000", "t0001", "t0002", "t0003"}
    first, copied, failed, open_ = (runs[f"t000{i}"] for i in range(4))
    assert first["params"]["train.epochs"] == "2"
    assert first["tags"]["raydistill.role"] == "search"
    assert first["metrics"]["loss"] == {1: 2.0, 2: 1.0}
    assert first["metrics"]["test_knn"] == {2: 0.4}
    assert first["metrics"]["val_knn"] == {1: 0.4, 2: 0.5}, "what was told first stays"
    assert copied["tags"]["raydistill.copies"] == "copied t0000 at epoch 1 with train.lr 0.2 -> 0.001"
    assert copied["metrics"]["setting/train.lr"] == {1: 0.001}
    assert copied["params"]["train.lr"] == str(BASE["train"]["lr"]), "as it began"
    assert (failed["status"], failed["tags"]["raydistill.message"]) == ("FAILED", "loss = nan")
    outcomes = [run["tags"]["raydistill.outcome"] for run in (first, copied, failed, open_)]
    assert outcomes == ["finished", "stopped_early", "failed", "interrupted"]


def test_the_sweeps_own_run_says_who_won_and_what_it_took(told):
    runs = held(told[1], "over")
    parent = runs["over"]
    assert parent["params"]["trials"] == "4"
    assert parent["metrics"]["winner_test_knn"] == {0: 0.4}
    assert parent["metrics"]["baseline_val_knn"] == {0: 0.25}
    assert parent["files"] == ["results.json", "sweep.yaml", "table.md", "winner.yaml"]
    tags = parent["tags"]
    assert (tags["raydistill.method"], tags["raydistill.winner"]) == ("simclr", "t0000")
    assert tags["raydistill.outcome"] == "finished"
    assert tags["raydistill.command"] == "python sweep.py"
    assert json.loads(tags["raydistill.environment"]) == {"ray": "2"}
    assert json.loads(tags["raydistill.spent"])["hours"] == 1.0


def test_runs_have_the_sweeps_own_times(told):
    runs = held(told[1], "over")
    assert runs["over"]["times"] == (1000.0, 1010.0)
    assert runs["t0000"]["times"] == (1000.0, 1007.0)
    assert runs["t0002"]["times"] == (1008.0, 1009.0)


def test_a_sweep_that_was_cut_short_is_interrupted(told):
    parent = held(told[1], "cut")["cut"]
    assert parent["tags"]["raydistill.outcome"] == "interrupted"
    assert parent["files"] == ["sweep.yaml"]
    assert parent["metrics"] == {}


def test_a_sweep_that_went_on_tells_its_new_winner(tmp_path):
    uri, folder = f"sqlite:///{tmp_path}/mlflow.db", write_sweep(tmp_path / "on")
    backfill(folder, uri)
    rows = json.loads((folder / "results.json").read_text())
    rows[0]["scores"] = [{"val_knn": 0.75}]
    (folder / "results.json").write_text(json.dumps(rows))
    (folder / "budget.json").write_text(json.dumps(Budget(Limits()).to_dict() | {"epochs": 9}))
    backfill(folder, uri)
    assert held(uri, "on")["on"]["metrics"]["winner_val_knn"] == {0: 0.5, 9: 0.75}


def test_another_sweep_of_the_same_name_is_not_mixed_with_the_first(tmp_path):
    uri, folder = f"sqlite:///{tmp_path}/mlflow.db", write_sweep(tmp_path / "same")
    for identity in ("a", "a", "b"):
        (folder / "origin.json").write_text(json.dumps({"id": identity}))
        if identity == "b":
            with pytest.raises(TrackingError, match="holds another sweep called 'same'; choose another name"):
                backfill(folder, uri)
        else:
            backfill(folder, uri)
    assert held(uri, "same")["same"]["tags"]["raydistill.id"] == "a"


def test_telling_it_again_changes_nothing(told):
    home, uri = told
    before = held(uri, "over")
    backfill(home / "over", uri)
    assert held(uri, "over") == before


def test_a_journal_without_times_is_told_as_of_now(tmp_path):
    event = {"event": "end", "key": "t"}
    assert sync.moment(event) is None
    assert sync.moment(event | {"time": 1.5}) == 1500


def test_the_winner_is_found_by_its_link_or_its_file(tmp_path):
    (tmp_path / "winner").symlink_to("trials/t0007")
    assert winner_of(tmp_path).name == "t0007"
    (tmp_path / "winner.txt").write_text("t0008\n")
    assert winner_of(tmp_path).name == "t0008"


def test_a_folder_without_a_sweep_is_refused(tmp_path):
    Journal(tmp_path / "journal.jsonl").close()
    with pytest.raises(ConfigError, match=r"there is no sweep; expected a folder with sweep\.yaml and journal\.jsonl"):
        backfill(tmp_path, "sqlite:///none.db")


@pytest.mark.slow
def test_the_command_finds_a_sweep_by_its_name_and_refuses_others(told, tmp_path):
    home, uri = told
    words = ["--storage", str(home), "--tracking-uri", uri]
    done = launch("track", "over", *words, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"over, 4 trials: tracked in {uri}\n")
    other = run("track", "other", *words, cwd=tmp_path)
    refused(other)
    assert other.stderr.startswith("error: FOLDER 'other': there is no sweep of that name")
