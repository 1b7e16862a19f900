"""Files of requests to a running sweep: every request is answered once, and none is obeyed by a later run."""

import json
import os
import subprocess
import sys
import threading
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raydistill.config import ConfigError
from raydistill.records.layout import CONTROL_FOLDER, RUNNING_FILE
from raydistill.storage import Remote
from raydistill.sweep.control import requests as module
from raydistill.sweep.control.requests import ControlAnswer, ControlRequest, Inbox, ask


class Clock:
    """A clock that a test moves."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture(params=["folder", "address"])
def sweep(tmp_path, request):
    """The folder of a sweep that takes requests, and a function that answers all of them."""
    clock = Clock()
    (tmp_path / CONTROL_FOLDER).mkdir()
    folder = tmp_path if request.param == "folder" else Remote(f"file://{tmp_path}")
    inbox = Inbox(folder, clock=clock)
    inbox.open()
    seen = []

    def serve(obeyed=True, text="done"):
        clock.now += module.READ_REMOTE_EVERY_S
        for request in inbox.new():
            seen.append(request)
            inbox.answer(request, ControlAnswer(obeyed, text))

    serve.seen, serve.inbox, serve.clock = seen, inbox, clock
    return folder, serve


def left(folder):
    """Names of the files that requests and answers have left."""
    return sorted(path.name for path in (folder / CONTROL_FOLDER).iterdir() if path.name != RUNNING_FILE)


def test_a_request_is_answered_once_and_leaves_nothing(sweep):
    folder, serve = sweep
    said = ask(folder, "stop", trials=("t0003", "t0007"), sleep=lambda _: serve())
    assert said == "done"
    assert [(r.action, r.trials, r.now) for r in serve.seen] == [("stop", ("t0003", "t0007"), False)]
    serve()
    assert len(serve.seen) == 1
    assert left(folder) == []


def test_a_refusal_is_an_error_in_the_words_of_the_sweep(sweep):
    folder, serve = sweep
    with pytest.raises(ConfigError, match="t0003 has ended already"):
        ask(folder, "stop", trials=("t0003",), sleep=lambda _: serve(False, "t0003 has ended already"))
    assert left(folder) == []


def test_a_request_without_an_answer_is_taken_back(sweep):
    folder, serve = sweep
    with pytest.raises(ConfigError, match=rf"has not answered for 0 s, .* taken back; its process \({os.getpid()} on"):
        ask(folder, "stop", now=True, limit_s=0)
    serve()
    assert serve.seen == []


def test_a_sweep_that_does_not_run_takes_none(tmp_path):
    with pytest.raises(ConfigError, match="takes no requests: it does not run, or it is scoring"):
        ask(tmp_path, "stop")
    inbox = Inbox(tmp_path)
    inbox.open()
    inbox.close("it has ended")
    with pytest.raises(ConfigError, match="takes no requests"):
        ask(tmp_path, "stop")


def test_a_sweep_that_was_killed_does_not_run(tmp_path):
    inbox = Inbox(tmp_path)
    inbox.open()
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    path = tmp_path / CONTROL_FOLDER / RUNNING_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | {"pid": int(gone.stdout)}))
    with pytest.raises(ConfigError, match=f"does not run: its process {int(gone.stdout)} is gone"):
        ask(tmp_path, "stop")
    path.write_text("{")
    with pytest.raises(ConfigError, match="takes no requests"):
        ask(tmp_path, "stop")


def test_the_process_of_another_machine_is_not_looked_for_here(sweep):
    folder, serve = sweep
    path = folder / CONTROL_FOLDER / RUNNING_FILE
    path.write_text(json.dumps({"pid": 2**22 + 1, "place": ["elsewhere", ""]}))
    assert ask(folder, "stop", sleep=lambda _: serve()) == "done"


def test_what_nobody_answered_is_not_obeyed_by_a_later_run(sweep):
    folder, serve = sweep
    request = ControlRequest("1-a", "stop", now=True)
    (folder / CONTROL_FOLDER / "1-a.request.json").write_text(json.dumps(vars(request)))
    again = Inbox(folder, clock=serve.clock)
    serve.clock.now += 10
    assert list(again.new()) == []
    assert left(folder) == []


def test_what_was_accepted_is_kept_over_a_resume_until_it_is_done(sweep):
    folder, serve = sweep
    request = ControlRequest("1-a", "add", settings={"train.lr": 0.01})
    serve.inbox.accept(request)
    again = Inbox(folder)
    assert again.accepted == {"1-a": request}
    again.done(request)
    assert Inbox(folder).accepted == {}
    assert left(folder) == []


def test_what_waits_at_the_end_is_told_so(sweep):
    folder, serve = sweep
    with pytest.raises(ConfigError, match="it has ended"):
        ask(folder, "stop", sleep=lambda _: serve.inbox.close("it has ended"))


def test_other_files_are_passed_over(sweep):
    folder, serve = sweep
    for name, text in (("a", "{"), ("b", "[]"), ("c", '{"id": "c"}'), ("d", '{"id": "d", "trials": 3}')):
        (folder / CONTROL_FOLDER / f"{name}.request.json").write_text(text)
    assert ask(folder, "stop", sleep=lambda _: serve()) == "done"
    assert len(serve.seen) == 1


@pytest.mark.parametrize(("remote", "every"), [(False, module.READ_EVERY_S), (True, module.READ_REMOTE_EVERY_S)])
def test_the_folder_is_listed_only_now_and_then(tmp_path, monkeypatch, remote, every):
    clock, listed = Clock(), []
    folder = Remote(f"file://{tmp_path}/s") if remote else tmp_path
    inbox = Inbox(folder, clock=clock)
    monkeypatch.setattr(inbox, "_read", lambda ending: listed.append(ending) or iter(()))
    for tenth in range(100):
        clock.now = tenth / 10
        list(inbox.new())
    assert len(listed) == pytest.approx(10 / every, abs=1)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(["ask", "look", "restart"]), max_size=12))
def test_every_request_ends_with_one_answer_or_is_taken_back(tmp_path_factory, steps):
    """Whatever the order of requests, of looks and of restarts."""
    folder, clock = tmp_path_factory.mktemp("s"), Clock()
    inbox = Inbox(folder, clock=clock)
    inbox.open()
    sent, seen, lost = [], [], set()
    for number, step in enumerate(steps):
        if step == "ask":
            request = ControlRequest(f"{number:020d}-a", "stop", trials=(f"t{number:04d}",))
            (folder / CONTROL_FOLDER / f"{request.id}.request.json").write_text(json.dumps(vars(request)))
            sent.append(request.id)
        elif step == "look":
            clock.now += 10
            for request in inbox.new():
                seen.append(request.id)
                inbox.answer(request, ControlAnswer(True, ""))
        else:
            lost |= set(sent) - set(seen)
            inbox = Inbox(folder, clock=clock)
    assert seen == sorted(set(seen)), "in their order, each once"
    assert not lost & set(seen)


def test_two_who_ask_at_the_same_time_are_both_answered(sweep):
    folder, serve = sweep
    said, ended = [], threading.Event()

    def run(trial):
        said.append(ask(folder, "stop", trials=(trial,), limit_s=20))

    threads = [threading.Thread(target=run, args=(f"t000{number}",)) for number in range(2)]
    for thread in threads:
        thread.start()
    while len(said) < 2 and not ended.wait(0.05):
        serve()
    for thread in threads:
        thread.join()
    assert sorted(request.trials for request in serve.seen) == [("t0000",), ("t0001",)]
    assert replace(serve.seen[0], trials=()) != replace(serve.seen[1], trials=()), "each has its own file"
