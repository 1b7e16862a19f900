"""Locations: default folders and addresses, and the meaning of given ones."""

from __future__ import annotations

import os
import re
from pathlib import Path

from raydistill.config import ConfigError, nearest
from raydistill.records.layout import is_sweep, named, run_folder
from raydistill.storage import Remote, StoragePath, is_remote, to_path

PACKAGE = Path(__file__).resolve().parents[1]
IN_WHEEL = PACKAGE / "search_spaces"  # a clone has the folder beside the package
SHIPPED = IN_WHEEL if IN_WHEEL.is_dir() else PACKAGE.parent / "search_spaces"


def working_folder() -> Path:
    """Here; but a Ray job's working directory is a passing copy, so there the user's own directory."""
    return Path.home() / "raydistill" if "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ else Path.cwd()


def artifact_store(given: str | None, sweeps: StoragePath | None = None) -> StoragePath:
    """Folder of artifacts; without the flag, beside sweeps that are not on this machine."""
    if given is None and isinstance(sweeps, Remote):
        return sweeps / "_artifacts"
    found = to_path(given or working_folder() / "artifacts").absolute()
    if isinstance(found, Path) and found.is_file():
        raise ConfigError(f"--artifacts {given}: is a file; give a folder")
    return found


def tracking(given: str | None) -> str:
    """The MLflow address: as given, or of the environment, or a file here."""
    return given or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{working_folder() / 'mlflow.db'}"


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


def sweep_folder(home: StoragePath, given: str, flag: str = "--warm-start") -> StoragePath:
    """Find a sweep's folder, by its name or its path.

    Args:
        home: the folder of sweeps.
        given: what was typed.
        flag: where it was typed, for the message.
    """
    for folder in named(given, home):
        if is_sweep(folder):
            return folder.absolute()
    raise ConfigError(f"{flag} {given!r}: there is no sweep of that name in {home}, nor in a folder of that path")


def teacher_of(home: StoragePath, given: str) -> str:
    """A run, named as the other commands name it, by its folder; any other source as it is."""
    folder = None if ":" in given else run_folder(given, home)
    return source_of("--teacher", given) if folder is None else str(folder)


def next_name(home: StoragePath, method: str, resume: bool) -> str:
    """Return the next free name, METHOD-1, METHOD-2, ...; to resume, the last one.

    Args:
        home: the folder of sweeps.
        method: of the sweep.
        resume: whether to go on with one.
    """
    names = [folder.name for folder in home.iterdir()] if home.exists() else []
    taken = [int(name.rpartition("-")[2]) for name in names if re.fullmatch(rf"{re.escape(method)}-\d+", name)]
    if resume and not taken:
        raise ConfigError(f"--resume: there is no sweep of {method} in {home}; name it with --name")
    return f"{method}-{max(taken, default=0) + (0 if resume else 1)}"
