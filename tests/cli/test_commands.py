"""Every command that the pages of the site print: the shell, the program and the project's own checks accept it."""

import contextlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
import typer
from helpers.site_pages import PAGES

from raydistill import config
from raydistill.cli import EXAMPLES, app
from raydistill.cli.sweeping.series import chosen, is_series
from raydistill.experiments.catalogue import load_experiment
from raydistill.experiments.scales import load_scale, used_images
from raydistill.presets import load_preset

ROOT = Path(__file__).parents[2]
BLOCKS = [
    pytest.param(block, id=f"{page.relative_to(ROOT)}-{number}")
    for page in PAGES
    for number, block in enumerate(re.findall(r"```bash\n(.*?)```", page.read_text(), re.S), 1)
]
IN_TEXT = [
    pytest.param(command, id=f"{page.relative_to(ROOT)}: {command}")
    for page in PAGES
    for command in re.findall(
        r"`((?:raydistill|python sweep\.py) [^`]+)`", re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    )
]
USAGE = (click.UsageError, typer.BadParameter.__base__)  # typer brings a click of its own
OURS = typer.main.get_command(app)
# Programs of others that cannot be asked here whether they understand: clouds, containers, the system's own.
OUTSIDE = {
    "aws",
    "az",
    "cat",
    "cd",
    "chmod",
    "chown",
    "cp",
    "curl",
    "docker",
    "done",
    "echo",
    "export",
    "gcloud",
    "git",
    "gsutil",
    "head",
    "helm",
    "hf",
    "install",
    "kubectl",
    "kubectx",
    "ls",
    "mkdir",
    "module",
    "openssl",
    "printf",
    "read",
    "rm",
    "rsync",
    "sacct",
    "sbatch",
    "scancel",
    "scontrol",
    "scp",
    "sed",
    "sky",
    "sleep",
    "source",
    "squeue",
    "srun",
    "ssh",
    "ssh-keygen",
    "sudo",
    "tensorboard",
    "tail",
    "tar",
    "test",
    "umask",
    "unset",
    "until",
    "uv",
    "watch",
    "xargs",
}


@pytest.mark.parametrize("block", BLOCKS)
def test_the_shell_accepts_a_block(block):
    done = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("block", BLOCKS)
def test_programs_accept_their_commands(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for words in commands(block):
        accepted(words)


@pytest.mark.parametrize("command", IN_TEXT)
def test_commands_in_a_sentence_exist_with_their_options(command):
    """Such a command may leave out arguments and the value of an option."""
    program, *words = shlex.split(command)
    if program == "python":
        python(words)
        return
    names = [word for word in words if word.startswith("--")]
    known = OURS if words[0].startswith("--") else OURS.commands[words[0]]
    assert set(names) <= {name for option in known.params for name in (*option.opts, *option.secondary_opts)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_are_in_blocks_that_are_checked(page):
    for language, block in re.findall(r"^```(.*?)\n(.*?)^```$", page.read_text(), re.M | re.S):
        printed = re.search(r"^\s*(?:\$ )?(?:raydistill \w|python sweep\.py )", block, re.M)
        assert language == "bash" or not printed, block


@pytest.mark.parametrize(("command", "line"), [(name, line) for name, lines in EXAMPLES.items() for line in lines])
def test_the_examples_of_a_commands_help_are_accepted(command, line):
    ((program, name, *rest),) = commands(line)
    assert (program, name) == ("raydistill", command)
    accepted([program, name, *rest])
    if name == "sweep":
        swept(rest)


def commands(block):
    """The words of each command, without what the shell does before, between and behind them."""
    text = re.sub(r"<<-? ?'?(\w+)'?.*?^\1$", "", block, flags=re.S | re.M).replace("\\\n", " ")
    for line in text.splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>()")
        lexer.whitespace_split = True
        words = []
        for word in [*lexer, ";"]:
            if set(word) <= set("|&;()"):
                if words := stripped(words):
                    yield words
                words = []
            else:
                words.append(word)


def stripped(words):
    """Without redirections, settings of the environment, and the environment's folder."""
    kept = []
    for word in words:
        if set(word) & set("<>") and set(word) <= set("<>&12"):
            break
        if kept or not re.fullmatch(r"[A-Z_0-9]+=.*", word):
            kept.append(word)
    return [kept[0].removeprefix(".venv/bin/"), *kept[1:]] if kept else []


def accepted(words):
    program, *rest = words
    match program:
        case "raydistill":
            parsed(OURS, rest)
        case "python" | "python3":
            python(rest)
        case "ray":
            from ray.scripts.scripts import cli

            before, _, after = " ".join(rest).partition(" -- ")
            parsed(cli, shlex.split(before) + (["--", *shlex.split(after)] if after else []))
            if after:
                accepted(shlex.split(after))
        case "mlflow":
            from mlflow.cli import cli

            parsed(cli, rest)
        case "pip":
            assert rest[0] == "install", rest
            for requirement in (word for word in rest[1:] if word.startswith(".[")):
                extras = set(requirement[2:-1].split(","))
                assert extras <= set(re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(), re.M)), rest
        case "bash" | "sh":
            assert (ROOT / rest[0]).exists(), rest[0]
        case "ruff" | "mypy":
            pass
        case "mkdocs":
            from mkdocs.__main__ import cli

            with contextlib.chdir(ROOT):  # since it opens its configuration
                parsed(cli, rest)
        case "jupyter":
            assert (ROOT / rest[-1]).is_dir(), rest
        case "optuna-dashboard":
            assert rest
        case _:
            assert program in OUTSIDE or program.startswith(("$", ".ci/", "clusters/", "./")), words


def python(rest):
    if rest[0] == "sweep.py":
        swept(rest[1:])
    elif rest[0] == "-m" and rest[1] == "pytest":
        for word in rest[2:]:
            assert not word.startswith("tests/") or (ROOT / word).exists(), word
    elif rest[0] not in ("-m", "-c"):
        assert (ROOT / rest[0]).exists(), rest[0]


def swept(rest):
    """Flags, settings and the search space's file, as far as the command line checks them without images."""
    given = parsed(OURS, ["sweep", *rest])
    if given["method"] in ("METHOD", "NAME"):
        return
    if given["method"] is None:
        named(given)
        return
    settings = dict(map(config.parse_setting, given["settings"] or []))
    if given["teacher"]:
        settings["teacher.sources"] = given["teacher"]
    preset = load_preset(given["method"], given["preset"] or "default")
    config.load(config.assign(preset, {"method.name": given["method"]} | settings))


def named(given):
    """The experiment, its scale, and the images of its tasks."""
    experiment = given["experiment"]
    assert experiment
    load_scale(given["scale"])
    if experiment in ("NAME", "path/to/file.yaml"):
        return
    assert chosen(experiment) if is_series(experiment) else load_experiment(experiment)
    for text in given["images"] or []:
        assert text.partition("=")[0] in used_images(load_experiment(experiment), given["scale"])


def parsed(command, words):
    """Every option of the innermost command; usage errors raise."""
    context = command.make_context(command.name or "", ["1" if word == "PRICE" else word for word in words])
    if isinstance(command, click.Group) or hasattr(command, "commands"):
        _, inner, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        assert inner is not None, words
        return parsed(inner, rest)
    return context.params


def test_what_is_wrong_is_seen():
    for line in (
        "python sweep.py --methd dogo",
        "raydistill trian x",
        "ray job sumbit -- ls",
        "python nothing.py",
        "sox a",
        "python sweep.py --method dogo --set train.lrr=1",
        "mkdocs biuld",
    ):
        with pytest.raises((AssertionError, *USAGE, config.ConfigError, SystemExit)):
            for words in commands(line):
                accepted(words)


def test_there_are_commands_on_the_pages():
    assert len(BLOCKS) > 25


def test_the_shell_completes_commands_and_options(tmp_path):
    """As bash asks, with what `raydistill --install-completion` writes."""
    asked = {"_RAYDISTILL_COMPLETE": "complete_bash", "COMP_WORDS": "raydistill evaluate --prot", "COMP_CWORD": "2"}
    code = "from raydistill.cli import app; app(prog_name='raydistill')"
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | asked, capture_output=True, text=True)
    assert done.stdout.split() == ["--protocol"]
