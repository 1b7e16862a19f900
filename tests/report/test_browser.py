"""The pages where results are read, in a browser: MLflow's comparison, Optuna's dashboard, the report."""

import html
import re
import subprocess
import sys
import urllib.request
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from helpers.builders.sweeps import store, whole
from helpers.servers import chromium
from helpers.servers.buckets import wait_for
from helpers.servers.mlflow_servers import Server
from helpers.servers.ports import free_ports
from PIL import Image

from raydistill.report import load
from raydistill.report.links import links
from raydistill.report.render.page import page
from raydistill.report.summary import summarize
from raydistill.sweep.search.samplers import make_proposer
from raydistill.sweep.search.space_parser import load_space

pytestmark = [pytest.mark.slow, chromium.needed, pytest.mark.timeout(400)]


def colours(path):
    return len(np.unique(np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3), axis=0))


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """A made-up one, read back from a real server."""
    folder = tmp_path_factory.mktemp("mlflow")
    with Server(f"sqlite:///{folder}/mlflow.db", folder) as server:
        store(server.url, folder, whole(9))
        yield load(server.url, "dogo-1")


def test_mlflow_compares_what_was_searched_with_the_score_first(sweep, tmp_path):
    addresses = links(sweep)
    compare = next(address for name, address in addresses.items() if "compared" in name)
    seen = chromium.dom(compare)
    assert f"Comparing {len(sweep.ranked())} Runs from 1 Experiment" in seen
    assert len(sweep.ranked()) < len(sweep.role("search"))
    # What the plot opens with: settings that differ, and the metric that the search went by.
    axes = re.findall(r'axis-title"[^>]*data-unformatted="([^"]+)"', seen)
    assert {name.removeprefix("<b>").removesuffix("</b>") for name in map(html.unescape, axes)} == {
        "method.lambda_simsiam",
        "method.objectives",
        "method.tau_kd",
        "val_knn",
    }
    assert colours(chromium.picture(compare, tmp_path / "compare.png")) > 200


def test_mlflow_finds_the_sweep_by_the_links(sweep):
    addresses = {name.split(":")[0]: address for name, address in links(sweep).items()}
    assert "dogo-1" in chromium.dom(addresses["the sweep's own run"])
    assert f"{len(sweep.trials) + 1}</strong> matching runs" in re.sub(
        r"<(?!/?strong)[^>]+>", "", chromium.dom(addresses["all its runs"])
    )


def test_the_report_is_drawn(sweep, tmp_path):
    file = tmp_path / "report.html"
    file.write_text(page(summarize(sweep)))
    shot = chromium.picture(file.as_uri(), tmp_path / "report.png", "1200,4000")
    pixels = np.asarray(Image.open(shot).convert("L"))
    # Something is drawn in every part of the page down to its end.
    assert all((part < 128).any() for part in np.array_split(pixels[:3500], 7))
    assert "dogo-1: dogo on digits" in chromium.dom(file.as_uri())


def test_links_without_a_server_lead_to_where_mlflow_ui_listens(sweep):
    found = links(replace(sweep, uri="sqlite:///mlflow.db"))
    assert all(address.startswith("http://127.0.0.1:5000/#/") for address in found.values())
    assert "***" in links(replace(sweep, uri="https://me:secret@host"))["all its runs"]


def test_optunas_dashboard_shows_the_study_of_a_sweep(tmp_path):
    (tmp_path / "space.yaml").write_text(
        "method: bayes\nparameters: {method.tau_c: {values: [0.1, 0.5]}, train.lr: {min: 0.001, max: 0.1}}\n"
    )
    space = load_space(tmp_path / "space.yaml", "simclr", {})
    proposer = make_proposer(space, trials=4, seed=0, directory=tmp_path, name="simclr-1")
    for i in range(4):
        assert proposer.propose(f"t{i}") is not None
        proposer.observe(f"t{i}", 1, {"val_knn": 0.5 + i / 10})
        proposer.finish(f"t{i}", "finished", {"val_knn": 0.5 + i / 10})
    (port,) = free_ports(1)
    program = Path(sys.executable).with_name("optuna-dashboard")
    command = [str(program), "optuna.journal", "--host", "127.0.0.1", "--port", str(port)]
    with (tmp_path / "log").open("w") as log:
        dashboard = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log)
    try:
        wait_for(f"http://127.0.0.1:{port}/api/studies", 60)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/studies/0") as answer:
            told = answer.read().decode()
        assert '"objective_names": ["val_knn"]' in told
        seen = chromium.dom(f"http://127.0.0.1:{port}/dashboard/studies/0")
        for name in ("simclr-1", "method.tau_c", "train.lr", "val_knn"):
            assert name in seen
    finally:
        for process in [*psutil.Process(dashboard.pid).children(recursive=True), psutil.Process(dashboard.pid)]:
            process.kill()
        dashboard.wait(10)
