"""Commands and scripts run in this process, as a shell would run each in its own; a launch costs seconds of imports."""

import io
import logging
import os
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch

import ray
import torch

from raydistill import cli, methods
from raydistill.data import sources
from raydistill.evaluation import online

ROOT = Path(__file__).parents[2]
ENTRIES = {"raydistill": cli.main, "sweep.py": cli.sweep_alone}
LAUNCHED = {"raydistill": ["-m", "raydistill"], "sweep.py": [str(ROOT / "sweep.py")]}
LOADED = (ray, methods, sources, online)  # what commands import, so that no test waits for it
Completed = subprocess.CompletedProcess[str]


def run(*arguments: object, cwd: Path, program: str = "raydistill", **environment: str) -> Completed:
    """Run a command that must not start Ray.

    Args:
        arguments: as they are typed behind the program's name.
        cwd: the current folder meanwhile.
        program: `raydistill`, or `sweep.py`, which sweeps alone.
        environment: variables to set meanwhile.

    Returns:
        What `subprocess.run` returns of a launched one. An error that the command does not catch is raised here.
    """
    with patch.object(ray, "init", side_effect=AssertionError("the command started Ray")) as started, chdir(cwd):
        done = _completed(ENTRIES[program], [program, *map(str, arguments)], environment)
    started.assert_not_called()
    return done


def launch(*arguments: object, cwd: Path, program: str = "raydistill", **environment: str) -> Completed:
    """Run a command in a process of its own, as it is typed."""
    return subprocess.run(
        [sys.executable, *LAUNCHED[program], *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=120,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
    )


def run_script(path: Path, *arguments: object) -> str:
    """Return what a script prints that succeeds; modules beside it are found, as when it is launched."""

    def script() -> None:
        runpy.run_path(str(path), run_name="__main__")

    with patch.object(sys, "path", [str(path.parent), *sys.path]):
        done = _completed(script, [str(path), *map(str, arguments)], {})
    assert done.returncode == 0, done.stderr
    return done.stdout


def refused(done: Completed, *texts: str) -> None:
    """Assert that a command ended with 2 and no traceback, and that its errors hold these texts."""
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    for text in texts:
        assert text in done.stderr


def _completed(entry: Callable[[], None], words: list[str], environment: dict[str, str]) -> Completed:
    out, err, code = io.StringIO(), io.StringIO(), 0
    with _process_state(words, environment), redirect_stdout(out), redirect_stderr(err):
        try:
            entry()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
            if isinstance(ended.code, str):
                print(ended.code, file=sys.stderr)
    return Completed(words, code, out.getvalue(), err.getvalue())


@contextmanager
def _process_state(words: list[str], environment: dict[str, str]) -> Iterator[None]:
    """Arguments and environment of a command; all that it changes for its whole process is put back."""
    threads, disabled = torch.get_num_threads(), logging.root.manager.disable
    loggers = [logging.root, *(each for each in logging.root.manager.loggerDict.values() if hasattr(each, "level"))]
    levels = [(logger, logger.level) for logger in loggers]
    modules = set(sys.modules)
    with patch.object(sys, "argv", words), patch.dict(os.environ, environment):
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            logging.disable(disabled)
            for logger, level in levels:
                logger.setLevel(level)
            _forget_scripts(set(sys.modules) - modules)


def _forget_scripts(imported: set[str]) -> None:
    """Forget modules that lie beside a script: others may have their names."""
    for name in imported:
        file = getattr(sys.modules[name], "__file__", None)
        if file and Path(file).is_relative_to(ROOT / "analysis"):
            del sys.modules[name]
