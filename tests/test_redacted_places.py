"""Every place where an address is shown or stored hides its secrets, whatever the address looks like."""

import json
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
from helpers.builders.sweeps import whole
from helpers.secret_addresses import AWKWARD, SECRET

from raydistill import config
from raydistill.cli import sweep
from raydistill.cli.arguments import fail, typed
from raydistill.cli.sweeping import summary
from raydistill.doctor.check_result import CheckResult, Setup
from raydistill.doctor.diagnostics import DiagnosticCheck, run_checks
from raydistill.errors import RaydistillError
from raydistill.export import mlflow_source
from raydistill.records.journal import Journal, read_records
from raydistill.report.links import links
from raydistill.report.load import load
from raydistill.report.render.latex import latex
from raydistill.report.render.markdown import markdown
from raydistill.report.summary import summarize
from raydistill.sweep import run
from raydistill.tracking import client, tracker
from raydistill.tracking.client import MLflowRuns, texts
from raydistill.tracking.delivery_queue import one_line
from raydistill.tracking.sync import sweep_tags
from raydistill.trial_spec import TrialSpec

every_address = pytest.mark.parametrize("address", AWKWARD.values(), ids=AWKWARD)


class Refusing:
    """An MLflow client's module-level `connect` that repeats the address in its error, as databases do."""

    def __init__(self, address):
        self.address = address

    def __call__(self, *_):
        raise RuntimeError(f"could not connect: {'x' * 250} {self.address} is away")


@every_address
def test_a_command_that_is_typed_again(address, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["sweep.py", "--tracking-uri", address, "--name", "a b"])
    assert SECRET not in typed() + summary.how_to_resume("a b")
    assert typed().startswith("python sweep.py --tracking-uri ")
    assert typed().endswith(" --name 'a b'")


@every_address
def test_an_error_of_the_command_line(address, capsys):
    with pytest.raises(SystemExit):
        fail(RaydistillError(f"{address} is away"), 2)
    assert SECRET not in capsys.readouterr().err


@every_address
def test_where_a_sweep_is_tracked(address, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan = SimpleNamespace(
        arms=(),
        name="x",
        directory=tmp_path,
        artifacts=tmp_path,
        tracking_uri=address,
        base=config.load({"method": "dogo"}),
        redraw_teachers=False,
    )
    sweep.say_where(plan)
    monkeypatch.setattr(summary, "_shows", lambda plan: [])
    summary.conclude(plan, SimpleNamespace(table="", rows=[]), artifacts=True, tracking=True)
    out = capsys.readouterr().out
    assert "--tracking-uri" in out
    assert SECRET not in out


@every_address
@pytest.mark.parametrize("open_it", [tracker.Tracker, load, mlflow_source.open_client], ids=lambda f: f.__name__)
def test_an_mlflow_that_cannot_be_used(address, open_it, monkeypatch):
    monkeypatch.setattr(client, "connect", Refusing(address))
    for module in (tracker, sys.modules[load.__module__], mlflow_source):
        monkeypatch.setattr(module, "connect", Refusing(address))
    words = {tracker.Tracker: (address, "e", "s"), load: (address, "s"), mlflow_source.open_client: (address,)}
    more = {"params": {}} if open_it is tracker.Tracker else {}
    with pytest.raises(RaydistillError, match="cannot be used") as caught:
        open_it(*words[open_it], **more)
    assert SECRET not in str(caught.value)


@every_address
def test_an_error_is_redacted_before_it_is_shortened(address):
    for length in range(200, 320, 7):
        assert SECRET[:4] not in one_line(RuntimeError(f"{'x' * length} {address}"))


@every_address
def test_what_mlflow_keeps(address):
    origin = {"command": f"sweep.py --tracking-uri {address}", "teachers": {"artifact:1": address}, "storage": "runs"}
    identity = {"base": {"method": {"name": "dogo"}, "data": {"source": address}}, "trials": 1, "seeds": 1}
    told = sweep_tags(identity, origin)
    assert SECRET not in json.dumps([texts(told["params"]), told["tags"]])
    assert set(json.loads(told["tags"]["raydistill.teachers"])) == {"artifact:1"}
    sent = []
    runs = MLflowRuns(SimpleNamespace(set_terminated=lambda *_: None), "1", "s")
    runs.tag = lambda key, tags: sent.append(tags)
    runs.run = lambda key: SimpleNamespace(id="1")
    runs.end("t0000", "failed", f"{address} is away", 0)
    assert SECRET not in json.dumps(sent)
    assert SECRET not in json.dumps(texts({"teacher.sources": [address]}))


@every_address
def test_the_journal_keeps_no_secret(address, tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")
    journal.propose("t0000", {}, TrialSpec(config.load({"method": "simclr"})))
    journal.end("t0000", "failed", f"{address} is away")
    journal.close()
    assert SECRET not in (tmp_path / "journal.jsonl").read_text()
    assert read_records(tmp_path / "journal.jsonl")["t0000"].outcome == "failed"


@every_address
def test_what_a_sweep_writes_of_its_origin(address, tmp_path):
    settings = SimpleNamespace(
        directory=tmp_path,
        command=f"sweep.py --tracking-uri {address}",
        storage=tmp_path,
        artifacts=tmp_path,
        images={},
        image_size=8,
        teachers={"artifact:1": address},
    )
    assert SECRET not in json.dumps(run._origin(settings, resume=False))


@pytest.fixture(scope="module")
def made_up():
    return whole(40)


@every_address
def test_links_to_mlflow(address, made_up):
    assert SECRET not in "".join(links(replace(made_up, uri=address)).values())


@pytest.mark.parametrize("awkward", ["password with a slash", "shared access signature"])
def test_the_report(awkward, made_up):
    address, every = AWKWARD[awkward], " ".join(AWKWARD.values())
    tags = made_up.tags | {"raydistill.command": f"sweep.py --tracking-uri {every}", "raydistill.storage": every}
    base = made_up.identity["base"]
    identity = made_up.identity | {"base": base | {"data": base["data"] | {"source": address}}}
    found = replace(made_up, uri=address, tags=tags, identity=identity)
    shown = summarize(found, option="")
    everything = [markdown(shown), latex(shown), shown.title, *shown.commands.values()]
    assert SECRET not in "\n".join([*everything, *shown.data.values(), *shown.about.values()])


@every_address
def test_the_doctor(address, tmp_path):
    def check(setup):
        yield CheckResult("MLflow", "fault", f"{setup.tracking_uri} is away", f"try {setup.tracking_uri}")
        raise RuntimeError(f"{'x' * 350} {address}")

    found = run_checks(Setup("runs", "artifacts", address), [DiagnosticCheck("MLflow", check)])
    assert len(found.findings) == 2
    assert SECRET[:4] not in found.as_text() + found.as_json()
