"""What the files run and the guide types is what sweeps, Ray and the commands take."""

import re
import shlex

import click
import pytest
import typer
from helpers.cluster_files import NAMES, README, joined, shell_pieces
from ray.scripts.scripts import cli as ray_cli

from raydistill import config
from raydistill.cli import app
from raydistill.presets import load_preset

pytestmark = pytest.mark.cluster


def plain(command):
    """A command without the shell's variables and what the reader puts in."""
    command = re.sub(r'"\$\{(?:resume|sweep)\[@\]\}"|"\$@"', "", command)
    values = {
        "$BUCKET": "s3://bucket",
        "$HOME": "/home/me",
        "$SLURM_JOB_ID": "7",
        "$SLURM_JOB_NUM_NODES": "2",
        "$SLURM_CPUS_PER_TASK": "8",
        "${SLURM_GPUS_ON_NODE:-0}": "4",
        "$head:$port": "10.0.0.1:6379",
        "$RAY_HEAD_IP": "10.0.0.1",
        "PRICE": "1.5",
    }
    for name, value in values.items():
        command = command.replace(name, value)
    words = shlex.split(command)
    assert not any("$" in word for word in words), command
    return words


def sweeps():
    """(file, arguments) of every sweep that a file runs or a guide types."""
    for name, piece in shell_pieces():
        for arguments in re.findall(r"python (?:/\S+/)?sweep\.py ([^\n|;]*)", joined(piece)):
            yield name, plain(arguments)
        for arguments in re.findall(r"^sweep=\((.*)\)$|slurm\.sh (--.*)$", piece, re.M):
            yield name, plain("".join(arguments))
    for arguments in re.findall(r"`python sweep\.py ([^`]*)`", README.read_text()):
        yield "README", plain(arguments)


def test_every_sweep_that_is_typed_is_one_that_the_command_takes():
    sweep = typer.main.get_command(app).commands["sweep"]
    seen = []
    for name, words in sweeps():
        if not words:  # of slurm.sh, which holds its arguments in an array
            continue
        given = sweep.make_context("sweep", words).params
        chosen = dict(map(config.parse_setting, given["settings"] or []))
        config.load(config.assign(load_preset(given["method"], given["preset"] or "default"), chosen))
        if given["name"]:
            assert given["gpu"], f"{name}: no GPU is there at the start"
        seen.append(name)
    assert {"slurm.sh", "skypilot run", "kuberay-job"} <= set(seen)
    assert len(seen) > 8


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--method", "dogo", "--pack", "4"], "--pack"),
        (["--method", "dogo", "--packs", "x"], "integer"),
        (["--method", "dogo", "--seeds", "0"], "greater than or equal to 1"),
    ],
)
def test_a_wrong_sweep_would_be_seen(words, complaint):
    with pytest.raises(Exception, match=complaint):
        typer.main.get_command(app).commands["sweep"].make_context("sweep", words)


def test_every_other_raydistill_command_exists():
    known = typer.main.get_command(app).commands
    for name, piece in shell_pieces():
        for command in re.findall(r"^\s*raydistill (\w+)", piece, re.M):
            assert command in known, name


def ray_words():
    for name, piece in shell_pieces():
        for command in re.findall(r"(?:^|[;\s/`])ray ((?:[a-z]+-)*[a-z]+ ?[^\n|;&>)]*)", joined(piece), re.M):
            yield name, plain(command)
    for command in re.findall(r"`ray ((?:up|down|job|exec|dashboard|rsync-down) [^`]*)`", README.read_text()):
        yield "README", plain(command)


def test_every_ray_command_is_one_that_ray_takes(monkeypatch):
    for variable in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(variable, raising=False)
    seen = set()
    for name, words in ray_words():
        command, group = ray_cli, ray_cli
        while isinstance(group, click.Group):
            assert words[0] in group.commands, (name, words)
            command = group = group.commands[words[0]]
            seen.add(words.pop(0))
        if command.name != "symmetric_run":  # hands unknown options on to `ray start`
            command.make_context(command.name, words)
        else:
            start = words[words.index("--num-cpus") : words.index("--")]
            ray_cli.commands["start"].make_context("start", ["--head", *start])
            ray_cli.commands["start"].make_context("start", ["--address", "10.0.0.1:6379", *start])
    assert {"up", "down", "start", "stop", "dashboard", "submit", "exec", "rsync-down", "symmetric-run"} <= seen


def test_a_wrong_ray_option_would_be_seen():
    with pytest.raises(click.UsageError):
        ray_cli.commands["start"].make_context("start", ["--head", "--dashboard-hosts=127.0.0.1"])


def test_the_guide_names_every_file_and_leads_somewhere():
    guide = README.read_text()
    for name in set(NAMES) - {"README.md"}:
        assert name.split("/")[0] in guide, name
    anchors = {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in re.findall(r"^## (.*)", guide, re.M)}
    assert set(re.findall(r"\]\(#([^)]+)\)", guide)) <= anchors


@pytest.mark.parametrize(
    "section", ["AWS, Google Cloud, Azure", "Machines that you have", "Kubernetes", "Slurm", "SkyPilot"]
)
def test_each_guide_goes_from_preparing_to_tearing_down(section):
    part = re.search(rf"^## {section}\n(.*?)(?=^## |\Z)", README.read_text(), re.M | re.S).group(1)
    bold = " ".join(re.findall(r"\*\*(.*?)\*\*", part)).lower()
    for step in ("prepare", "launch", "submit", "watch", "fetch", "tear down"):
        assert step in bold, step
    assert "cost" in part
