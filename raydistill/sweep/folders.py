"""Which folder a name means: a sweep's, or that of one of its trials."""

from __future__ import annotations

from pathlib import Path

from raydistill.config import ConfigError
from raydistill.storage import Place, Remote, is_remote
from raydistill.sweep.journal import FILE


def is_sweep(folder: Place) -> bool:
    return (folder / FILE).exists()


def named(given: str, home: Place) -> list[Place]:
    """What `given` may mean, sweeps being kept in `home`: one in there, or a path.

    Raises: ConfigError for the home folder of nobody.
    """
    if is_remote(given):
        return [Remote(given)]
    try:
        return [home / given, Path(given).expanduser()]
    except RuntimeError:
        raise ConfigError(f"there is no run {given!r}: {given.partition('/')[0]} is nobody's home folder") from None


def run_folder(given: str, home: Place) -> Place | None:
    """The folder of a sweep, of SWEEP/TRIAL, or of any other run; None where there is none."""
    for place in (place for one in named(given, home) for place in (one, one.parent / "trials" / one.name)):
        if is_sweep(place) or (place / "config.yaml").exists():
            return place.resolve() if isinstance(place, Path) else place
    return None
