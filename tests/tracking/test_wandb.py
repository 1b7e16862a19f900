"""W&B in offline mode, read back with W&B's own reader; and online against a stand-in of its documented interface."""

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from helpers.logger_events import event
from helpers.secret_addresses import AWKWARD, SECRET

from raydistill.tracking.loggers import weights_and_biases
from raydistill.tracking.loggers.weights_and_biases import WandbLogger

TESTS = Path(__file__).parents[1]  # has the helpers that the programs import
START = ("start", "t0", {"train.lr": 0.5}, {"raydistill.role": "search"}, 500)
EPOCHS = [("log", "t0", epoch, {"loss": 1 / epoch, "val_knn": 0.1 * epoch}, 1000 * epoch) for epoch in (1, 2, 3)]
END = ("end", "t0", "finished", "", 4000)
SCORE = ("score", "t0", 3, {"test_knn": 0.25}, 5000)


def tell(folder, *events):
    logger = WandbLogger(folder, "sweep-1", "identity")
    for each in events:
        logger.receive(event(*each))


class StandIn:
    """A stand-in of `wandb`: runs on a server that remembers them by their ids."""

    def __init__(self):
        self.server, self.opened, self.offline = {}, [], False
        self.Settings = lambda **options: SimpleNamespace(**options)
        self.run, self.teardown = None, lambda: None
        self.Table = lambda columns, data: (columns, data)

    def init(self, *, id, resume, reinit, config, **options):
        assert (resume, reinit) == ("allow", "create_new")
        held = self.server.setdefault(id, {"history": {}, "summary": {}, "config": {}, "exits": [], **options})
        held["config"].update(config or {})
        self.opened.append(id)

        def log(values, step=None, commit=None):
            step = max(held["history"], default=-1) + 1 if step is None else step
            if not held["history"] or step > max(held["history"]):  # as W&B does, which leaves the others out
                held["history"][step] = values

        start = 0 if self.offline else max(held["history"], default=-1) + 1

        def finish(exit_code):
            held["exits"].append(exit_code)

        return SimpleNamespace(
            log=log, summary=held["summary"], finish=finish, starting_step=start, offline=self.offline
        )


@pytest.fixture
def wandb(monkeypatch):
    module = StandIn()
    monkeypatch.setattr(weights_and_biases, "SECOND_S", 0.0)
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


def test_each_trial_is_a_run_of_the_group(tmp_path, wandb, monkeypatch):
    monkeypatch.setenv("WANDB_PROJECT", "")
    table = ("table", ["configuration"], [["simclr"]])
    sweep = ("start", "", {"trials": 1}, {"raydistill.method": "simclr"}, 0)
    parent = ("log", "", 2, {"winner_test_knn": 0.4}, 0)
    tell(tmp_path, sweep, START, *EPOCHS, END, SCORE, parent, table, ("end", "", "finished", "", 0))
    whole, trial = (held for _, held in sorted(wandb.server.items(), key=lambda item: item[1]["name"]))
    assert (whole["name"], trial["name"]) == ("sweep-1", "t0")
    assert (whole["group"], trial["group"]) == ("sweep-1", "sweep-1")
    assert (whole["project"], trial["job_type"], whole["job_type"]) == ("raydistill", "search", "sweep")
    assert trial["history"] == {epoch: values for _, _, epoch, values, _ in EPOCHS}
    assert trial["config"] == {"train.lr": 0.5, "raydistill.role": "search"}
    assert trial["summary"] == {"outcome": "finished", "test_knn": 0.25}
    assert whole["summary"] == {"winner_test_knn": 0.4, "outcome": "finished"}
    assert list(whole["history"].values()) == [{"leaderboard": (["configuration"], [["simclr"]])}]
    assert trial["exits"] == [0, 0]
    assert whole["exits"] == [0]


@pytest.mark.parametrize("offline", [True, False])
@pytest.mark.parametrize("cut", [0, 1, 3])
def test_a_resume_doubles_nothing_and_opens_no_run_that_has_ended(tmp_path, wandb, offline, cut):
    wandb.offline = offline
    tell(tmp_path, START, *EPOCHS[:cut])
    tell(tmp_path, START, *EPOCHS, END, SCORE)
    (trial,) = wandb.server.values()
    assert trial["history"] == {epoch: values for _, _, epoch, values, _ in EPOCHS}
    opened = len(wandb.opened)
    tell(tmp_path, START, *EPOCHS, END, SCORE)
    assert len(wandb.opened) == opened


def test_what_the_server_never_got_is_sent_again(tmp_path, wandb):
    tell(tmp_path, START, *EPOCHS)
    (trial,) = wandb.server.values()
    del trial["history"][3]
    tell(tmp_path, START, *EPOCHS, END)
    assert sorted(trial["history"]) == [1, 2, 3]


def test_settings_that_were_copied_are_in_the_next_epoch(tmp_path, wandb):
    copied = ("log", "t0", 1, {"setting/train.lr": 0.7}, 1500)
    tell(tmp_path, START, EPOCHS[0], copied, EPOCHS[1])
    (trial,) = wandb.server.values()
    assert trial["history"][1] == EPOCHS[0][3]
    assert trial["history"][2] == {"setting/train.lr": 0.7, **EPOCHS[1][3]}


@pytest.mark.parametrize(
    ("outcome", "code"), [("finished", 0), ("stopped_early", 0), ("failed", 1), ("interrupted", 1)]
)
def test_how_trials_ended_is_told_apart(tmp_path, wandb, outcome, code):
    tell(tmp_path, START, ("end", "t0", outcome, "because", 0))
    (trial,) = wandb.server.values()
    assert trial["summary"] == {"outcome": outcome, "message": "because"}
    assert trial["exits"] == [code]
    tell(tmp_path, START, EPOCHS[0])
    assert (1 in trial["history"]) == (outcome == "interrupted"), "only an interrupted trial goes on"


def test_two_openings_of_a_run_are_a_second_apart_since_its_folder_is_named_by_it(tmp_path, wandb, monkeypatch):
    waited = []
    monkeypatch.setattr(weights_and_biases, "SECOND_S", 1000.0)
    monkeypatch.setattr(time, "sleep", waited.append)
    tell(tmp_path, START, *EPOCHS, END, ("start", "t1", {}, {}, 0), SCORE)
    assert waited[:2] == [0.0, 0.0], "another trial waits for nothing"
    assert 500 < waited[2] < 1000


def test_ids_differ_between_sweeps_and_trials_and_nothing_else(tmp_path):
    first, same = (WandbLogger(tmp_path, "a", "identity") for _ in range(2))
    other = WandbLogger(tmp_path, "a", "other")
    assert first.run_id("t0") == same.run_id("t0")
    assert len({first.run_id(""), first.run_id("t0"), first.run_id("t1"), other.run_id("t0")}) == 4


REAL = f"""
import json, sys
from pathlib import Path
from helpers.logger_events import event
from raydistill.tracking.loggers.feed import LoggerFeed
from raydistill.tracking.loggers.weights_and_biases import WandbLogger
feed = LoggerFeed("wandb", WandbLogger(Path(sys.argv[1]), "sweep-1", "identity"))
feed.send(event("start", "", {{"trials": 1}}, {{}}, 0))
for name, *values in json.loads(sys.argv[2]):
    feed.send(event(name, *values))
feed.send(event("table", ["configuration"], [["simclr"]]))
feed.send(event("end", "", "finished", "", 0))
feed.close(120)
print("left alone" if feed.given_up else "fine")
# {AWKWARD["password"]}: a secret in the program that W&B must not keep
"""


def real(folder, *events, program=REAL, **environment):
    words = [sys.executable, "-c", program, str(folder), json.dumps(events), "--tracking-uri", AWKWARD["password"]]
    paths = os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH")]))
    offline = {**os.environ, "PYTHONPATH": paths, "WANDB_MODE": "offline", **environment}
    done = subprocess.run(words, env=offline, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return done


def records(folder, ending):
    """What W&B's own reader finds in the files of the runs whose ids end so."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json"]
    found = []
    for file in sorted(folder.glob(f"wandb/offline-run-*-{ending}/run-*.wandb")):
        done = subprocess.run([*command, str(file)], capture_output=True, text=True, check=True, timeout=100)
        found += [json.loads(line) for line in done.stdout.splitlines()]
    return found


@pytest.mark.slow
def test_offline_runs_of_a_sweep_that_was_resumed(tmp_path):
    done = real(tmp_path, START, *EPOCHS[:2])
    assert done.stdout.strip() == "fine", done.stderr
    assert done.stderr == ""
    done = real(tmp_path, START, *EPOCHS, END, SCORE)
    assert (done.stdout.strip(), done.stderr) == ("fine", "")
    logger = WandbLogger(tmp_path, "sweep-1", "identity")
    found = records(tmp_path, logger.run_id("t0"))
    rows = [record["history"]["item"] for record in found if record["type"] == "history"]
    assert [(row["_step"], row["loss"]) for row in rows] == [(epoch, 1 / epoch) for epoch in (1, 2, 3)]
    (run, *_) = [record["run"] for record in found if record["type"] == "run"]
    assert (run["display_name"], run["run_group"], run["job_type"]) == ("t0", "sweep-1", "search")
    assert run["config"]["update"]["train.lr"] == 0.5
    updates = [record["summary"]["update"] for record in found if record["type"] == "summary"]
    summary = {name: value for update in updates for name, value in update.items()}
    assert (summary["outcome"], summary["test_knn"]) == ("finished", 0.25)
    (table,) = [r["history"]["item"] for r in records(tmp_path, logger.run_id("")) if r["type"] == "history"]
    assert (table["leaderboard._type"], table["leaderboard.nrows"]) == ("table-file", 1)
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(kept) > 4
    assert [path.name for path in kept if SECRET.encode() in path.read_bytes()] == []


STUCK = """
import os, signal, sys, time
import psutil
from pathlib import Path
from helpers.logger_events import event
from raydistill.tracking.loggers.feed import LoggerFeed
from raydistill.tracking.loggers.weights_and_biases import WandbLogger
feed = LoggerFeed("wandb", WandbLogger(Path(sys.argv[1]), "sweep-1", "identity"))
feed.send(event("start", "t0", {}, {}, 0))
feed.send(event("log", "t0", 1, {"loss": 1.0}, 0))
record = Path(sys.argv[1]) / "wandb" / "sent.jsonl"
while not record.exists():
    time.sleep(0.05)
(core,) = [p for p in psutil.Process().children() if p.name() == "wandb-core"]
core.send_signal(signal.SIGSTOP)
threads = list(Path(f"/proc/{core.pid}/task").glob("*/stat"))
while not all(") T " in thread.read_text() for thread in threads):
    time.sleep(0.05)
feed.send(event("end", "", "finished", "", 0))
feed.close(1)
print("left alone" if feed.given_up else "fine", core.pid)
"""


@pytest.mark.slow
def test_a_process_of_wandb_that_hangs_does_not_keep_the_sweep_from_ending(tmp_path):
    began = time.monotonic()
    said = real(tmp_path, program=STUCK).stdout.split()
    assert said[:2] == ["left", "alone"]
    assert time.monotonic() - began < 60
    with suppress(psutil.NoSuchProcess):
        core = psutil.Process(int(said[2]))
        if core.status() != psutil.STATUS_ZOMBIE:
            core.wait(20)


def test_a_record_that_a_kill_cut_short_is_read_as_far_as_it_goes(tmp_path, wandb):
    wandb.offline = True
    tell(tmp_path, START, *EPOCHS[:2])
    record = Path(tmp_path / "wandb" / "sent.jsonl")
    record.write_text(record.read_text()[:-9])
    tell(tmp_path, START, *EPOCHS, END)
    assert sorted(next(iter(wandb.server.values()))["history"]) == [1, 2, 3]
