"""The journal: what a killed driver leaves behind is enough to go on."""

import os

import pytest

from raydistill import config
from raydistill.records.journal import Journal
from raydistill.trial_spec import TrialSpec

DOGO, SIMCLR = (TrialSpec(config.load({"method": name})) for name in ("dogo", "simclr"))


class Tiny:
    """Stands for a spec where the journal is read very often."""

    def to_dict(self):
        return {"config": {}}


def filled(path, first=DOGO, second=SIMCLR):
    journal = Journal(path)
    journal.propose("t0", {"x": 1}, first)
    journal.result("t0", 1, {"val_knn": 0.5})
    journal.result("t0", 2, {"loss": 1.0})
    journal.end("t0", "finished")
    journal.propose("t1", {"x": 2}, second)
    journal.result("t1", 1, {"val_knn": 0.25})
    return journal


def test_what_was_written_is_read_again(tmp_path):
    path = tmp_path / "deep" / "journal.jsonl"
    filled(path).close()
    trials = Journal(path).trials
    assert list(trials) == ["t0", "t1"]
    assert trials["t0"].outcome == "finished"
    assert trials["t0"].epochs == 2
    assert trials["t0"].last("val_knn") == 0.5
    assert trials["t0"].last("nothing") is None
    assert trials["t1"].outcome is None
    assert trials["t1"].config == config.dump(SIMCLR.config)
    assert [trials[key].spec for key in ("t0", "t1")] == [DOGO, SIMCLR]


def test_which_epochs_of_the_stream_a_trial_saw_is_written_down_where_it_changes(tmp_path):
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    journal.propose("t0", {}, DOGO)
    for epoch, offsets in enumerate([((0, 0),), ((0, 0),), ((0, 0), (2, 3)), ((0, 0), (2, 3))], 1):
        journal.result("t0", epoch, {}, offsets)
    journal.close()
    results = [line for line in path.read_text().splitlines() if '"event": "result"' in line]
    assert sum("offsets" in line for line in results) == 1
    assert Journal(path).trials["t0"].offsets == ((0, 0), (2, 3))


@pytest.mark.fault(4)
def test_any_cut_of_the_file_is_a_journal(tmp_path):
    whole = tmp_path / "whole"
    filled(whole, Tiny(), Tiny()).close()
    content = whole.read_bytes()
    for length in range(len(content)):
        cut = tmp_path / "cut"
        cut.write_bytes(content[:length])
        journal = Journal(cut)
        complete = content[:length].count(b"\n")
        assert sum(1 + len(t.results) + (t.outcome is not None) for t in journal.trials.values()) == complete
        journal.propose("next", {}, Tiny())
        journal.close()
        assert "next" in Journal(cut).trials


def test_events_are_synced(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", synced.append)
    filled(tmp_path / "journal")
    assert len(synced) == 6
