"""Words for frozen teachers that a configuration names by their keys in the store. Free of torch."""

from __future__ import annotations

import json
import re
from pathlib import PurePath
from typing import Any

from raydistill.artifacts.store import MANIFEST
from raydistill.config import Config, ConfigError
from raydistill.storage import StoragePath, to_path
from raydistill.trial_spec import ARTIFACT_PREFIX as PREFIX

PROVENANCE = "provenance.json"  # of an export
LIBRARY = re.compile(r"(timm|torchvision):\S+")


def words_for(config: Config, origin: dict[str, Any], artifacts: StoragePath | None = None) -> dict[str, str]:
    """Describe each `artifact:KEY` of a configuration in words; unknown ones are left out.

    Args:
        config: the configuration.
        origin: `origin.json` of its sweep: the store, and the names under which its teachers were given.
        artifacts: the store of runs that had no sweep.
    """
    called = origin.get("teachers") or {}
    store = to_path(origin["artifacts"]) if origin.get("artifacts") else artifacts
    keys = [source for source in config.teacher.sources if source.startswith(PREFIX)]
    found = {key: _words(str(called.get(key, "")), key.removeprefix(PREFIX), store) for key in keys}
    return {key: words for key, words in found.items() if words}


def _words(called: str, key: str, store: StoragePath | None) -> str:
    if LIBRARY.fullmatch(called):
        return called
    name = PurePath(called).name if called and not called.startswith(PREFIX) else ""
    return described(_provenance(store, key), name) or name


def described(provenance: dict[str, Any], name: str = "") -> str:
    """A teacher by what it was made of; `name` is that of the file or folder that was given, if one was."""
    if "source" in provenance:
        return str(provenance["source"])
    settings = provenance.get("run", provenance)
    if "method" in settings:
        options = settings["method"]
        network = options.get("backbone") or " and ".join(options.get("backbones", ["?"]))
        most = "at most " if settings["train"].get("patience") else ""
        return f"{options['name']} on {network}, {most}{settings['train']['epochs']} epochs"
    if "format" in provenance:
        known = [provenance[field] for field in ("format", "backbone") if provenance[field] not in (None, "auto")]
        return ", ".join([name or "a released checkpoint", *known])
    return ""


def _provenance(store: StoragePath | None, key: str) -> dict[str, Any]:
    """Empty where the store, or the artifact, is not at hand."""
    if store is None:
        return {}
    try:
        return dict(json.loads((store / "teacher" / key / MANIFEST).read_text())["made_of"])
    except (OSError, ValueError, KeyError, TypeError, ConfigError):
        return {}
