"""Loggers beside MLflow: fed from a thread, and left alone as soon as they fail or hang."""

import logging
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers.logger_events import event, spelt
from helpers.secret_addresses import AWKWARD, SECRET
from helpers.servers.mlflow_runs import history, runs

from raydistill.cli import main
from raydistill.config import ConfigError
from raydistill.tracking.loggers import available
from raydistill.tracking.loggers.available import check_loggers, open_loggers
from raydistill.tracking.loggers.feed import LoggerFeed


class Recording:
    """A logger that keeps its events, and may raise at one of them or wait there."""

    def __init__(self, fault=None, error=RuntimeError("no")):
        self.events, self.abandoned = [], 0
        self.fault, self.error, self.gate = fault, error, threading.Event()

    def receive(self, event):
        self.events.append(spelt(event))
        if self.events[-1][0] == self.fault:
            if self.error is None:
                self.gate.wait(30)
            else:
                raise self.error

    def abandon(self):
        self.abandoned += 1


def a_sweep(tracker, trials=("t0",), epochs=2):
    for key in trials:
        tracker.start_trial(key, {"train.lr": 0.1, "data.source": AWKWARD["password"]}, {"raydistill.role": "search"})
        for epoch in range(1, epochs + 1):
            tracker.log(key, epoch, {"loss": 1 / epoch, "bad": float("nan")})
        tracker.end_trial(key, "finished", f"at {AWKWARD['token alone']}")
        tracker.score(key, epochs, {"val_knn": 0.5, "test_knn": 0.4}, {"test_knn": 0.4})


def test_a_logger_gets_what_mlflow_gets_in_its_order_and_without_secrets(opened, store):
    logger = Recording()
    tracker = opened(params={"trials": 1}, tags={"raydistill.id": "abc"})
    tracker.forward_to([LoggerFeed("test", logger)])
    a_sweep(tracker)
    tracker.log_parent({"winner_test_knn": 0.4}, 2)
    tracker.table(["configuration"], [["t0"]])
    assert tracker.close("finished") == 0
    named = [(kind, *values[:2]) for kind, *values in logger.events]
    assert named[0] == ("start", "", {"trials": 1})
    shown = {"train.lr": 0.1, "data.source": "http://***@127.0.0.1:1"}
    assert named[1] == ("start", "t0", shown)
    assert [values[:3] for kind, *values in logger.events if kind == "log"] == [
        ["t0", 1, {"loss": 1.0}],
        ["t0", 2, {"loss": 0.5}],
        ["", 2, {"winner_test_knn": 0.4}],
    ]
    assert [values[:3] for kind, *values in logger.events if kind == "score"] == [["t0", 2, {"test_knn": 0.4}]]
    assert [kind for kind, *_ in logger.events[-2:]] == ["table", "end"]
    assert logger.events[-1][1:3] == ("", "finished")
    assert SECRET not in str(logger.events)
    assert not logger.abandoned
    found = runs(tracker, store)["t0"]
    assert history(store, found, "loss") == [(1, 1.0), (2, 0.5)]
    assert history(store, found, "test_knn") == [(2, 0.4)]


@pytest.mark.parametrize("fault", ["start", "log", "end"])
@pytest.mark.parametrize("error", [OSError(f"{AWKWARD['password']} is away"), SystemExit(3), KeyboardInterrupt()])
def test_a_logger_that_raises_is_told_of_once_and_left_alone(opened, store, caplog, fault, error):
    logger = Recording(fault, error)
    tracker = opened()
    tracker.forward_to([feed := LoggerFeed("broken", logger)])
    with caplog.at_level(logging.WARNING, "raydistill"):
        a_sweep(tracker, ("t0", "t1"))
        assert tracker.close("finished") == 0
    said = [record.message for record in caplog.records]
    assert len(said) == 1
    assert said[0].startswith(f"broken is left alone, the sweep and MLflow go on: {type(error).__name__}")
    assert SECRET not in said[0]
    assert feed.given_up
    assert logger.abandoned == 1
    assert [kind for kind, *_ in logger.events].count(fault) == 1
    assert history(store, runs(tracker, store)["t1"], "loss") == [(1, 1.0), (2, 0.5)]


def test_the_secrets_of_the_environment_are_in_no_message(monkeypatch, caplog):
    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    feed = LoggerFeed("broken", Recording("log", ValueError(f"key {SECRET} refused")))
    with caplog.at_level(logging.WARNING, "raydistill"):
        feed.send(event("log", "t0", 1, {}, 0))
        feed.close(5)
    assert "key *** refused" in caplog.text


def test_a_logger_that_hangs_holds_up_neither_the_trials_nor_the_end(opened, store, caplog):
    logger = Recording("log", error=None)
    tracker = opened()
    tracker.forward_to([feed := LoggerFeed("stuck", logger)])
    began = time.monotonic()
    for _ in range(3):
        a_sweep(tracker, ("t0", "t1"))
    assert time.monotonic() - began < 5
    assert tracker.flush()
    with caplog.at_level(logging.WARNING, "raydistill"):
        assert tracker.close("finished", timeout=0.5) == 0
    (said,) = [record.message for record in caplog.records]
    assert said.startswith("stuck is left alone, the sweep and MLflow go on: it has not ended within")
    assert feed.given_up
    assert logger.abandoned == 1
    logger.gate.set()
    assert history(store, runs(tracker, store)["t1"], "loss") == [(1, 1.0), (2, 0.5)]


def test_a_full_queue_is_the_end_of_a_logger_and_memory_stays_bounded(caplog):
    logger = Recording("log", error=None)
    feed = LoggerFeed("slow", logger, most_waiting=5)
    feed.send(event("log", "t0", 0, {}, 0))
    while not logger.events:
        time.sleep(0.01)
    with caplog.at_level(logging.WARNING, "raydistill"):
        for step in range(1, 100):
            feed.send(event("log", "t0", step, {}, 0))
    assert feed.given_up
    assert [record.message for record in caplog.records] == [
        "slow is left alone, the sweep and MLflow go on: 5 events wait for it"
    ]
    logger.gate.set()
    feed.close(5)
    assert len(logger.events) == 1


def test_a_resume_waits_for_room_but_not_for_a_logger_that_hangs():
    quick = LoggerFeed("quick", logger := Recording(), most_waiting=5)
    for step in range(200):
        quick.wait_for_room(10)
        quick.send(event("log", "t0", step, {}, 0))
    quick.close(60)
    assert not quick.given_up
    assert [event[2] for event in logger.events] == list(range(200))
    stuck = LoggerFeed("stuck", held := Recording("log", error=None), most_waiting=1)
    stuck.send(event("log", "t0", 1, {}, 0))
    while not held.events:
        time.sleep(0.01)
    stuck.send(event("log", "t0", 2, {}, 0))
    began = time.monotonic()
    stuck.wait_for_room(0.2)
    assert 0.15 < time.monotonic() - began < 5
    held.gate.set()


def test_what_cannot_be_used_is_refused_in_one_line(monkeypatch):
    assert check_loggers(["tensorboard", "tensorboard"]) == ("tensorboard",)
    with pytest.raises(ConfigError, match=r"--logger 'tensorbord' is unknown; did you mean 'tensorboard'\?"):
        check_loggers(["tensorbord"])
    monkeypatch.setattr(available, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=re.escape("pip install 'raydistill[wandb]'")):
        check_loggers(["wandb"])


def test_wandb_without_a_key_is_refused_unless_it_is_offline(monkeypatch):
    logged_in = [False]
    asked = []
    module = SimpleNamespace(login=lambda **options: asked.append(options) or logged_in[0])
    monkeypatch.setitem(sys.modules, "wandb", module)
    monkeypatch.setattr(available, "find_spec", lambda name: True)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    with pytest.raises(ConfigError, match=r"no key .* `wandb login`, set WANDB_API_KEY, or set WANDB_MODE=offline"):
        check_loggers(["wandb"])
    assert asked == [{"prompt": False, "verify": False}]
    logged_in[0] = True
    assert check_loggers(["wandb"]) == ("wandb",)
    logged_in[0] = False
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert check_loggers(["wandb"]) == ("wandb",)


def test_the_command_refuses_before_anything_starts(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(available, "find_spec", lambda name: None)
    monkeypatch.setattr(sys, "argv", ["raydistill", "sweep", "--method", "simclr", "--logger", "tensorboard"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "pip install 'raydistill[tensorboard]'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_packages_are_imported_only_when_used():
    code = (
        "import sys, raydistill.sweep.options\n"
        "from raydistill.tracking.loggers.available import open_loggers\n"
        "from pathlib import Path\n"
        "open_loggers(['tensorboard', 'wandb'], Path('.'), 'a', 'b')\n"
        "print(sorted({'wandb', 'tensorboard'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_files_of_a_sweep_in_an_object_store_are_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (feed,) = open_loggers(["tensorboard"], SimpleNamespace(name="remote"), "seed-1", "id")
    feed.send(event("start", "t0", {"train.lr": 0.1}, {}, 0))
    feed.close(100)
    assert list(Path("runs/seed-1/tensorboard/t0").iterdir())
