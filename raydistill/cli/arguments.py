"""What flags mean: places, numbers and names as typed, and how paths are shown again."""

from __future__ import annotations

import os
import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from raydistill.config import ConfigError, nearest
from raydistill.records.layout import is_sweep, named, run_folder
from raydistill.redaction import redact
from raydistill.storage import Remote, StoragePath, is_remote, to_path
from raydistill.sweep.search.space import Space

if TYPE_CHECKING:
    import torch

DEFAULT_TRIALS = 8
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="fix a setting, e.g. train.lr=0.001; repeatable"),
]
Device = Annotated[str | None, typer.Option(help="cpu, cuda or cuda:1 [cuda if there is one]")]


def working_folder() -> Path:
    """Here; but a Ray job's working directory is a passing copy, so there the user's own directory."""
    return Path.home() / "raydistill" if "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ else Path.cwd()


def artifact_store(given: str | None, sweeps: StoragePath | None = None) -> StoragePath:
    """Where artifacts are kept: beside the sweeps, where those are not on this machine."""
    if given is None and isinstance(sweeps, Remote):
        return sweeps / "_artifacts"
    found = to_path(given or working_folder() / "artifacts").absolute()
    if isinstance(found, Path) and found.is_file():
        raise ConfigError(f"--artifacts {given}: is a file; give a folder")
    return found


def source_of(flag: str, given: str) -> str:
    """A path is made absolute, since workers may run elsewhere; names and addresses stay.

    Raises: ConfigError for what can only be a path, and is not there.
    """
    if is_remote(given):
        return given
    path = expanded(flag, str(to_path(given)))
    if not path.exists() and ":" not in given and os.sep in given:
        beside = [each.name for each in path.parent.iterdir()] if path.parent.is_dir() else []
        raise ConfigError(f"{flag} {given}: there is no such file or folder{did_you_mean(path.name, beside)}")
    return str(path.resolve()) if path.exists() else given


def did_you_mean(name: str, others: list[str]) -> str:
    """The nearest of the others; nothing where none is near."""
    hint = nearest(name, others)
    return hint if hint.startswith("; did") else ""


def expanded(flag: str, given: str) -> Path:
    """`~` is a home folder. Raises: ConfigError for the home of nobody."""
    try:
        return Path(given).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{flag} {given}: {str(error).rstrip('.').lower()}") from None


def tracking(given: str | None) -> str:
    """The MLflow address: as given, or of the environment, or a file here."""
    return given or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{working_folder() / 'mlflow.db'}"


def target(given: str, *, overwrite: bool) -> Path:
    """The file that `--out` names. Raises: ConfigError where it cannot be written, or is there already."""
    found = expanded("--out", given).absolute()
    if found.is_dir():
        raise ConfigError(f"--out {given}: is a folder; give a file")
    if is_remote(given):
        raise ConfigError(f"--out {given}: give a file of this machine")
    if found.exists() and not overwrite:
        raise ConfigError(f"--out {given}: is there already; choose another file, or add --overwrite")
    return found


def sweep_folder(home: StoragePath, given: str, flag: str = "--warm-start") -> StoragePath:
    """A sweep's folder, by its name or its path."""
    for folder in named(given, home):
        if is_sweep(folder):
            return folder.absolute()
    raise ConfigError(f"{flag} {given!r}: there is no sweep of that name in {home}, nor in a folder of that path")


def teacher_of(home: StoragePath, given: str) -> str:
    """A run, named as the other commands name it, by its folder; any other source as it is."""
    folder = None if ":" in given else run_folder(given, home)
    return source_of("--teacher", given) if folder is None else str(folder)


def next_name(home: StoragePath, method: str, resume: bool) -> str:
    names = [folder.name for folder in home.iterdir()] if home.exists() else []
    taken = [int(name.rpartition("-")[2]) for name in names if re.fullmatch(rf"{re.escape(method)}-\d+", name)]
    if resume and not taken:
        raise ConfigError(f"--resume: there is no sweep of {method} in {home}; name it with --name")
    return f"{method}-{max(taken, default=0) + (0 if resume else 1)}"


def learners_of(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"--learners {text!r}: give a number of at least 1, or auto")
    return int(text)


def workers_of(text: str) -> tuple[int, int | None]:
    """`N` or `MIN:MAX`."""
    least, colon, most = text.partition(":")
    numbers = [int(part) for part in (least, *([most] if colon else [])) if part.isdecimal()]
    if len(numbers) != 1 + bool(colon) or numbers[0] < 1 or numbers[-1] < numbers[0]:
        raise ConfigError(f"--workers {text!r}: give a number of at least 1, or a range such as 1:4")
    return numbers[0], numbers[1] if colon else None


def trial_count(space: Space, trials: int | None) -> int:
    wanted = trials or space.run_cap or (None if space.search == "grid" else DEFAULT_TRIALS)
    if space.search != "grid":
        return wanted or DEFAULT_TRIALS
    size = len(space.grid())
    return min(wanted, size) if wanted else size


def shown(path: StoragePath) -> str:
    if isinstance(path, Remote):
        return str(path)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def device_of(given: str | None) -> torch.device:
    """Raises: ConfigError for one that is not there."""
    import torch

    name = given or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=name)
        if torch.device(name).type == "meta":
            raise RuntimeError("it computes nothing")
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"--device {name} cannot be used ({str(error).splitlines()[0].partition('. ')[0]})") from None
    return torch.device(name)


class data_errors:  # noqa: N801 - reads as the statement that it is
    """What is wrong with data or method, known before training, is a wrong setting."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, ValueError) and not isinstance(error, ConfigError):
            raise ConfigError(str(error)) from None


def typed() -> str:
    """The command line, without passwords."""
    program = Path(sys.argv[0]).name
    words = [*(["python"] if program.endswith(".py") else []), program, *sys.argv[1:]]
    return shlex.join(map(redact, words))


def fail(message: object, code: int) -> NoReturn:
    typer.echo(f"error: {redact(str(message))}", err=True)
    sys.exit(code)
