"""Conditions of a configuration, from what its sweep logged: data, student, budget and protocol, and its views."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from raydistill import config
from raydistill.config import ConfigError
from raydistill.report.formatting import setting
from raydistill.report.load import SweepData
from raydistill.report.standings.compare import Conditions, Parts, Unknown
from raydistill.tracking.client import SCORED_AGAIN

Settings = Mapping[str, Any]
# Settings of the data that choose, split or change the images, so that the sweep's digest is of others.
CHOOSE_IMAGES = ("source", "labelled", "validation_fraction", "split_seed", "split", "limit")
SEEDS = ("train.seed", "data.stream_seed")
REDRAWN_SEEDS = ("teacher.seed", "method.label_seed")  # with `--redraw-teachers` every seed has its own
# Settings that change no score: places, caches, and what the conditions hold already.
NOT_OF_CONFIGURATION = (
    *("train.offsets", "train.checkpoint_every", "data.source", "data.labelled", "data.root", "data.download"),
    *("data.cache_gib", "data.disk_cache_gib", "teacher.bank"),
)
SECTIONS = ("method", "data", "augment", "teacher", "train")
KNN, PROBE = "dogo", "dogo"  # before `eval.knn` and `eval.probe` were settings


def conditions(sweep: SweepData, settings: Settings, trials: int) -> Conditions:
    """Data, student, budget and protocol of a configuration.

    Args:
        sweep: that trained it.
        settings: all of them, by dotted path.
        trials: of the search that found it.
    """
    return Conditions(
        _data(sweep, settings), _student(sweep, settings), _budget(sweep, settings, trials), _protocol(sweep, settings)
    )


def configuration(sweep: SweepData, settings: Settings, sections: tuple[str, ...] = SECTIONS) -> str:
    """All settings that change what is trained, as text, without the seeds.

    Args:
        sweep: that trained it, which says whether the seeds redraw the teachers.
        settings: all of them, by dotted path.
        sections: to which they belong.
    """
    left_out = {*NOT_OF_CONFIGURATION, *seed_paths(sweep)}
    kept = {
        path: value for path, value in settings.items() if path not in left_out and path.partition(".")[0] in sections
    }
    return json.dumps([kept, _redrawn(sweep)], sort_keys=True, default=str)


def seed_paths(sweep: SweepData) -> tuple[str, ...]:
    """Paths of the settings in which the seeds of a final differ."""
    return (*SEEDS, *(REDRAWN_SEEDS if _redrawn(sweep) else ()))


def trials_of(sweep: SweepData, baseline: str | None = None) -> int:
    """Number of trials that the search of the method tried, or that of a baseline, by its name."""
    if baseline is None:
        return len(sweep.role("search"))
    return sum(bool(re.fullmatch(rf"baseline-{re.escape(baseline)}-t\d+", str(key))) for key in sweep.trials.index)


def views(settings: Settings) -> str:
    """Augmentation of the student's views: `simclr`, or `byol1 + byol2, min_crop=0.5, kind=grey`."""
    # MLflow does not tell `none`, a name, from none at all, and an option takes either.
    method = {
        path.partition(".")[2]: "none" if value is None else value
        for path, value in settings.items()
        if path.startswith("method.")
    }
    try:
        recipes = config.load({"method": method}).method.student_recipes()
    except ConfigError:  # of another version
        return "unknown"
    chosen = [
        f"{path.partition('.')[2]}={setting(value)}"
        for path, value in settings.items()
        if path.startswith("augment.") and value is not None
    ]
    kind, fixed = settings.get("data.kind", "photographs"), settings.get("data.fixed_views")
    fitted = [] if kind == "photographs" else [f"kind={kind}"]
    return ", ".join(
        [" + ".join(dict.fromkeys(recipes)), *chosen, *fitted, *([] if fixed is None else [f"fixed_views={fixed}"])]
    )


def _data(sweep: SweepData, settings: Settings) -> Parts:
    digest = sweep.digest or Unknown(sweep.name)
    sizes: Mapping[str, int | Unknown] = _sizes(sweep) or {"images": Unknown(sweep.name)}
    parts = [(split, number if isinstance(number, Unknown) else str(number)) for split, number in sizes.items()]
    # The digest is of the sweep's own images; a configuration that chooses others says so.
    paths = [(f"data.{name}", sweep.base(f"data.{name}")) for name in CHOOSE_IMAGES]
    other = [(path, setting(settings[path])) for path, base in paths if path in settings and settings[path] != base]
    resize = settings.get("data.resize")
    resized = [] if resize is None else [("data.resize", setting(resize))]
    return (*parts, ("digest", digest), *other, *resized)


def _sizes(sweep: SweepData) -> Mapping[str, int]:
    """Number of images by split."""
    return {
        name: number for name, number in sweep.identity.get("images", {}).items() if name != "digest"
    } or sweep.images


def _student(sweep: SweepData, settings: Settings) -> Parts:
    several = settings.get("method.backbones")
    backbone = settings.get("method.backbone") or (several[0] if several else Unknown(sweep.name))
    size = settings.get("data.image_size") or sweep.tags.get("raydistill.image_size", "none")
    return (
        ("backbone", backbone),
        ("stem", str(settings.get("method.stem", "auto"))),
        ("image size", Unknown(sweep.name) if size in ("none", "null") else str(size)),
    )


def _budget(sweep: SweepData, settings: Settings, trials: int) -> Parts:
    epochs, batch, images = settings.get("train.epochs"), settings.get("data.batch_size"), _sizes(sweep).get("train")
    told: dict[str, Any] = {
        "epochs": epochs,
        "training images": images,
        "batch size": batch,
        "steps": epochs * (images // batch) if epochs and batch and images else None,
        "search trials": trials,
    }
    more = {
        "seeds a trial": (sweep.seeds_per_trial, 1),
        "finalists": (sweep.identity.get("finalists", 1), 1),
        "warm start": (", ".join(map(str, sweep.identity.get("warm_start") or ())), ""),
        "test": ("seen before" if SCORED_AGAIN in sweep.tags else "", ""),
        "patience": (settings.get("train.patience"), None),
    }
    told |= {name: value for name, (value, usual) in more.items() if value != usual}
    return tuple((name, Unknown(sweep.name) if value is None else str(value)) for name, value in told.items())


def _protocol(sweep: SweepData, settings: Settings) -> Parts:
    knn, probe = settings.get("eval.knn", KNN), settings.get("eval.probe", PROBE)
    told = {"k-NN": knn, "probe": probe}
    if knn == "dogo":
        told["ks"] = settings.get("eval.ks", Unknown(sweep.name))
    if probe == "dogo":
        told["probe epochs"] = settings.get("eval.probe_epochs", Unknown(sweep.name))
    for name in ("probe_lr", "bank_images"):
        if (value := settings.get(f"eval.{name}")) is not None:
            told[name.replace("_", " ")] = value
    return tuple((name, value if isinstance(value, Unknown) else setting(value)) for name, value in told.items())


def _redrawn(sweep: SweepData) -> bool:
    return bool(sweep.identity.get("redraw_teachers", False))
