"""What RUN names: every way to say it leads to the same trial, and what is not there is said in a line."""

import pytest
from helpers.builders.runs import settings, sweep, trial
from helpers.servers.buckets import BUCKET, s3_server

from raydistill.config import ConfigError
from raydistill.export.resolve import resolve_run
from raydistill.records.journal import Journal
from raydistill.storage import Remote
from raydistill.trial_spec import TrialSpec


@pytest.fixture
def home(tmp_path):
    sweep(tmp_path / "runs")
    return tmp_path / "runs"


@pytest.mark.parametrize(
    "given",
    [
        "demo-1",
        "demo-1/t0001",
        "{home}/demo-1",
        "{home}/demo-1/winner",
        "{home}/demo-1/trials/t0001",
        "{home}/demo-1/t0001",
    ],
)
def test_every_way_to_name_a_trial_finds_it(home, given):
    found = resolve_run(given.format(home=home), home, "")
    assert (found.run, found.sweep, found.trial, found.epoch) == ("demo-1/t0001", "demo-1", "t0001", 1)
    assert found.outcome == "finished"
    assert found.scores == {"val_knn": 0.5, "test_knn": 0.25, "test_probe": 0.125}
    assert found.name == ("demo-1" if given.endswith("demo-1") else "demo-1-t0001")


def test_a_path_below_the_current_folder_and_a_folder_of_a_single_run_do_too(home, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert resolve_run("runs/demo-1", home, "").run == "demo-1/t0001"
    trial(tmp_path / "alone", epochs=3)
    found = resolve_run("alone", home, "")
    assert (found.name, found.run, found.sweep, found.complete) == ("alone", "alone", "", False)


def test_the_epochs_of_the_stream_come_from_the_checkpoint(home):
    trial(home / "demo-1" / "trials" / "t0001", offsets=[(0, 2), (3, 5)])
    assert resolve_run("demo-1", home, "").config.train.offsets == ((0, 2), (3, 5))


def test_a_sweep_on_an_object_store_is_found_by_its_address_and_its_name(home, tmp_path):
    (home / "demo-1" / "winner").unlink()
    (home / "demo-1" / "winner.txt").write_text("t0001\n")
    with s3_server(tmp_path / "log"):
        there = Remote(f"s3://{BUCKET}/runs")
        (there / "demo-1").upload(home / "demo-1")
        for given in ("demo-1", "demo-1/t0001", f"{there}/demo-1", f"{there}/demo-1/t0001"):
            found = resolve_run(given, there, "")
            assert (found.run, found.scores["test_knn"]) == ("demo-1/t0001", 0.25)
        with pytest.raises(ConfigError, match="did you mean 'demo-1'"):
            resolve_run("demo-2", there, "")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("demo-2", "there is no run 'demo-2'.*did you mean 'demo-1'"),
        ("demo-1/t0011", "sweep demo-1 has no trial 't0011'; did you mean 't000?1"),
        ("{home}", "is the folder of no sweep, trial or export; accepted: a sweep's name"),
        (
            "open-1",
            "sweep open-1 has no winner: it has not come to its end; give one of its trials, for instance open-1/t0001",
        ),
        (
            "cleaned-1",
            "cleaned-1/t0001 was trained to epoch 1, but its checkpoint was removed .*raydistill train .*t0001 --out",
        ),
        ("brief-1/t0001", r"was trained to epoch 1, before it had a checkpoint \(train\.checkpoint_every = 4\); train"),
        ("young-1/t0000", "young-1/t0000 has no checkpoint; it has not finished its first epoch"),
        ("torn-1", "none of the 1 checkpoints is whole"),
    ],
)
def test_what_cannot_be_found_is_said(home, given, said):
    sweep(home, "open-1", winner=None)
    sweep(home, "torn-1")
    for file in (home / "torn-1" / "trials" / "t0001").glob("*.safetensors"):
        file.write_bytes(b"torn")
    for file in (sweep(home, "cleaned-1") / "trials" / "t0001").glob("epoch-*"):
        file.unlink()
    brief = sweep(home, "brief-1") / "trials" / "t0001"
    for file in brief.glob("epoch-*"):
        file.unlink()
    brief.joinpath("config.yaml").write_text((brief / "config.yaml").read_text().replace("every: 1\n", "every: 4\n"))
    trial(home / "young-1" / "trials" / "t0000")
    for file in (home / "young-1" / "trials" / "t0000").glob("epoch-*"):
        file.unlink()
    Journal(home / "young-1" / "journal.jsonl").propose("t0000", {}, TrialSpec(settings()))
    with pytest.raises(ConfigError, match=said):
        resolve_run(given.format(home=home), home, "")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "expected a mapping of sections, got NoneType"),
        ("- 1", "expected a mapping of sections, got list"),
        ("method: {name: simclr, dim: 8}", "no such setting"),
    ],
)
@pytest.mark.parametrize("export", [False, True])
def test_a_configuration_that_is_none_is_named(home, tmp_path, content, said, export):
    trial(tmp_path / "alone")
    (tmp_path / "alone" / "config.yaml").write_text(content)
    if export:
        (tmp_path / "alone" / "provenance.json").write_text("{}")
    with pytest.raises(ConfigError, match=rf"alone/config\.yaml: .*{said}"):
        resolve_run(str(tmp_path / "alone"), home, "")


def test_the_home_folder_of_nobody_is_said(home):
    with pytest.raises(ConfigError, match=r"~nobody-here/x.*: ~nobody-here is nobody's home folder"):
        resolve_run("~nobody-here/x", home, "")


def test_an_export_with_a_damaged_provenance_is_refused(home, tmp_path):
    trial(tmp_path / "out")
    (tmp_path / "out" / "provenance.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"provenance\.json: damaged"):
        resolve_run(str(tmp_path / "out"), home, "")
