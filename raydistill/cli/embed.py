"""`raydistill embed`."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from raydistill.cli.arguments import Device, data_errors, device_of, shown, source_of
from raydistill.cli.runs import Encoder, Run, Storage, Tracking, find_run
from raydistill.config import ConfigError, nearest
from raydistill.storage import is_remote

SECONDS_BETWEEN_LINES = 10.0


def command(
    run: Run,
    images: Annotated[str, typer.Argument(help="a folder, Parquet, torchvision:NAME, digits, or an image file")],
    out: Annotated[str, typer.Option(help="the Parquet file to write")] = "embeddings.parquet",
    encoder: Encoder = None,
    split: Annotated[str, typer.Option(help="all, train, val or test")] = "all",
    batch_size: Annotated[int, typer.Option(min=1, help="images at a time")] = 256,
    device: Device = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="pass over images that cannot be read")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace the file that is there")] = False,
    storage: Storage = None,
    tracking_uri: Tracking = None,
) -> None:
    """Write what a run's encoder makes of images to a Parquet file."""
    splits = ("all", "train", "val", "test")
    if split not in splits:
        raise ConfigError(f"--split {split!r} is unknown{nearest(split, splits)}")
    target = Path(out).expanduser().absolute()
    if is_remote(out) or target.is_dir():
        raise ConfigError(f"--out {out}: give a file of this machine")
    if target.exists() and not overwrite:
        raise ConfigError(f"--out {out}: is there already; choose another file, or add --overwrite")
    source = source_of("IMAGES", images)
    found = find_run(run, storage, tracking_uri)
    from raydistill.export.embed import embed_images, parts_of
    from raydistill.export.encoders import choose

    where, name = device_of(device), encoder or found.encoder
    network = choose(found, name)
    began = time.monotonic()
    spoke = began

    def tell(done: int) -> None:
        nonlocal spoke
        if (now := time.monotonic()) - spoke > SECONDS_BETWEEN_LINES:
            spoke = now
            typer.echo(f"{done} of {total} images, {done / (now - began):.0f} a second", err=True)

    with data_errors():
        parts = parts_of(source, split, found.config.data)
        total = sum(len(rows) for _, _, rows in parts)
        done = embed_images(
            network, replace(found, encoder=name), parts, target, batch_size=batch_size, device=where, skip=skip_bad,
            progress=tell,
        )  # fmt: skip
    left_out = f"; {total - done} images could not be read" if done < total else ""
    typer.echo(f"{done} embeddings of {network.dim} numbers, by {found.run}, in {shown(target)}{left_out}")
