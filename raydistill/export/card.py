"""Description of an export: its preprocessing, its provenance, and a model card."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from raydistill import __version__
from raydistill.data.views.augment import normalization
from raydistill.export.run import ResolvedRun
from raydistill.records.leaderboard import LeaderboardEntry, baselines, cell, references
from raydistill.redaction import redact

SQUEEZED = 96  # pixels; images of up to this size are not cropped
METRICS = {
    "val_knn": ("k-NN accuracy", "validation"),
    "val_probe": ("linear probe", "validation"),
    "val_instance": ("crops that find their image", "validation"),
    "test_knn": ("k-NN accuracy", "test"),
    "test_instance": ("crops that find their image", "test"),
    "test_probe": ("linear probe", "test"),
}
PACKAGES = ("torch", "torchvision", "timm")


def preprocessing(size: int, levels: Sequence[float] | None = None, reduce: int | None = None) -> dict[str, Any]:
    """Describe what decoding and `evaluate_view` do to an image, in the words of other libraries.

    Args:
        size: of the views in pixels.
        levels: black and white of images with more than 8 bits; without them each image has its own.
        reduce: the short side to which larger images are decoded, `data.resize`.
    """
    mean, std = normalization("", size)
    cropped = size > SQUEEZED
    return {
        "image_size": size,
        "channels": "RGB, upright by EXIF, colours in sRGB, transparency over grey",
        "levels": None if levels is None else list(levels),
        "levels_mean": "black and white of images with more than 8 bits",
        **({} if reduce is None else {"reduce": reduce, "reduce_means": "short side of larger images, bicubic, first"}),
        "resize": size * 256 // 224 if cropped else [size, size],
        "resize_means": "pixels of the shorter side" if cropped else "height and width",
        "interpolation": "bilinear, antialiased, not rounded to 8 bits",
        "crop": [size, size] if cropped else None,
        "crop_means": "centre" if cropped else "none",
        "value_range": [0, 1],
        "mean": list(mean),
        "std": list(std),
        "input": f"float32 (N, 3, {size}, {size})",
    }


def provenance(found: ResolvedRun) -> dict[str, Any]:
    """Describe the encoder's origin; the writer adds the numbers of its weights and of the check.

    The scores are the encoder's own. What trained it is known of a sweep, else None.
    """
    config = found.config
    return {
        "run": found.run,
        "sweep": found.sweep,
        "sweep_id": found.origin.get("id", ""),
        "trial": found.trial,
        "encoder": found.encoder,
        "method": config.method.name,
        "epoch": found.epoch,
        "epochs": config.train.epochs,
        "outcome": found.outcome,
        "copies": list(found.copies),
        "seeds": {
            "train": config.train.seed,
            "stream": config.data.stream_seed,
            "split": config.data.split_seed,
        },
        "data": {"source": redact(config.data.source), "training_images": found.context["images"]},
        "teachers": _teachers(found),
        "scores": scores_of(found),
        "given": found.context,
        "versions": {
            "training": found.origin.get("environment"),
            "export": {"raydistill": __version__, "python": platform.python_version(), **_versions()},
        },
    }


def _teachers(found: ResolvedRun) -> list[str]:
    config = found.config
    if config.method.teacher_output() is None:
        return []
    if config.teacher.sources:
        return [redact(found.taught.get(source, source)) for source in config.teacher.sources]
    most = "" if config.teacher.patience is None else "at most "
    length = f"{most}{config.teacher_epochs} epochs on the same images"
    trained = f"{config.teacher.method} on {config.teacher.backbone}, {length}"
    return [trained] * config.teacher.count


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return found


def scores_of(found: ResolvedRun) -> dict[str, float]:
    """The scores of the encoder alone."""
    return {name: found.scores[name + found.suffix] for name in METRICS if name + found.suffix in found.scores}


def network(found: ResolvedRun) -> str:
    """Name the encoder as the settings call it."""
    method = found.config.method
    several = getattr(method, "backbones", None)
    number = int(found.encoder.rpartition("_")[2]) if several and "_" in found.encoder else 1
    return str(several[number - 1] if several else getattr(method, "backbone", "network"))


def _final(found: ResolvedRun) -> str:
    """Describe the scores of winner and baselines over their seeds; empty for encoders beside the student."""
    if found.encoder != "student" or not found.final or len(found.final[0].scores) < 2:
        return ""
    winner, *others = found.final
    lines = [_over_seeds(winner), *(f"baseline {_over_seeds(row)}" for row in baselines(others))]
    told = f"Mean ± standard deviation over {len(winner.scores)} seeds, in percent: {'; '.join(lines)}."
    beside = [_over_seeds(row) for row in references(others) if any(map(row.mean, METRICS))]
    return told + (f" For reference: {'; '.join(beside)}." if beside else "")


def _below_pixels(found: ResolvedRun) -> list[str]:
    """Say by which scores on test raw pixels are as good as the winner."""
    by_name = {row.name: row for row in found.final} if found.encoder == "student" else {}
    pixels = by_name.get("pixels")
    if pixels is None:
        return []
    scores = [(found.final[0].mean(name), pixels.mean(name), METRICS[name][0]) for name in ("test_knn", "test_probe")]
    below = [label for ours, raw, label in scores if ours and raw and ours[0] <= raw[0]]
    return [f"It does not beat raw pixels on test by {' and '.join(below)}."] if below else []


def _over_seeds(row: LeaderboardEntry) -> str:
    names = [name for name in METRICS if row.mean(name)]
    return f"`{row.name}` " + ", ".join(f"{' '.join(reversed(METRICS[name]))} {cell(row, name)}" for name in names)


def card(found: ResolvedRun, about: dict[str, Any], view: dict[str, Any], needs: str, usage: str) -> str:
    """Write the README.md of an export.

    Args:
        found: the run.
        about: its provenance.
        view: its preprocessing.
        needs: what must be installed.
        usage: the code that loads it.
    """
    size, epochs = view["image_size"], f"{found.epoch} epoch{'s' * (found.epoch > 1)}"
    images = f"{about['data']['training_images']} images of `{about['data']['source'].rpartition('/')[2]}`"
    taught = (
        f", with the frozen teacher{'s' * (len(about['teachers']) > 1)} {' and '.join(about['teachers'])}"
        if about["teachers"]
        else ""
    )
    resized = (
        f"resized to {view['resize']} px on the shorter side and cropped to {size} x {size} at the centre"
        if view["crop"]
        else f"resized to {size} x {size}"
    )
    reduced = f"reduced to {view['reduce']} px on the shorter side if larger (bicubic), " if "reduce" in view else ""
    rows = [f"| {' | '.join(METRICS[name])} | {100 * value:.2f} % |" for name, value in scores_of(found).items()]
    scores = "\n".join(["| score | split | |", "|---|---|---|", *rows]) if rows else "None is known."
    if final := _final(found):
        scores += f"\n\nOf this one run. {final}"
    limits = [f"Trained on {images}; how it does on others has to be tried.", *_below_pixels(found)]
    if found.sweep:
        limits.append("Its sweep chose it by scores on the validation split; scores on test played no part.")
    if not found.complete:
        limits.append(f"Training ended early: after {epochs} of {found.config.train.epochs}.")
    if found.copies:
        limits.append(f"It cannot be trained again alone: {'; '.join(found.copies)}.")
    return f"""# {found.run}

An image encoder: {about["dim"]} numbers for an image. The {found.encoder} of `{found.config.method.name}`, \
a `{network(found)}` with {about["parameters"]} parameters, trained for {epochs} on {images}{taught}.

## Load it

In this folder, with {needs} installed, for a file `image.png`:

```python
{usage}
```

Images are made upright and RGB, {reduced}{resized} (bilinear, antialiased), divided by 255 and normalised with mean \
{view["mean"]} and standard deviation {view["std"]}; `preprocessing.json` says the same.

## Scores

{scores}

## Limits

{chr(10).join(f"- {limit}" for limit in limits)}

## Licence

None is given: choose one. The images and the teachers that it was trained with may bring conditions.

## Provenance

`provenance.json`: seeds, versions of training and of this export, and the SHA-256 of `{about["weights"]["file"]}`. \
`config.yaml`: every setting; \
`raydistill train` takes this folder.
"""
