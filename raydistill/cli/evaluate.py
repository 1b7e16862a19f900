"""`raydistill evaluate`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, Any

import typer

from raydistill import __version__
from raydistill import config as configuration
from raydistill.cli.arguments import Device, Set, fail, target
from raydistill.cli.runs import Encoder, Storage, Tracking
from raydistill.cli.scored import PIXELS, Scored, check_size, is_library, of_library, of_run
from raydistill.config import Config, ConfigError, data_errors, nearest
from raydistill.evaluation.protocols import PROTOCOLS, knn_protocol
from raydistill.evaluation.tasks.names import TASKS, check_tasks
from raydistill.presets import load_preset
from raydistill.records.leaderboard import PLAIN, unit_of
from raydistill.records.locations import source_of
from raydistill.table import Table
from raydistill.training.devices import device_of

if TYPE_CHECKING:
    from raydistill.data.sources import Dataset

RATE = "probe_lr"
MOST_COLUMNS = 7  # of scores; more are shown one below the other
LIBRARY_SIZE = 224  # pixels, of networks that libraries trained
TAKEN = ("data.", "eval.", "teacher.format", "teacher.backbone", "teacher.stem")
Rows = list[dict[str, Any]]


def command(
    given: Annotated[
        str,
        typer.Argument(
            metavar="ENCODER",
            help="a sweep's name (its winner), SWEEP/TRIAL, the folder of one or of an export, mlflow:RUN_ID, "
            "timm:NAME, torchvision:NAME, a checkpoint file, or pixels",
        ),
    ],
    data: Annotated[
        list[str] | None,
        typer.Argument(metavar="[DATA]...", help="images; several give a mean over them [the run's own]"),
    ] = None,
    protocol: Annotated[
        str | None, typer.Option(help=f"k-NN and probe of {', '.join(PROTOCOLS)} [the run's; else raydistill]")
    ] = None,
    labels_per_class: Annotated[
        str | None, typer.Option(help="also scores with so few labels of each class, such as 1,5,20")
    ] = None,
    task: Annotated[
        list[str] | None,
        typer.Option(help=f"further scores: {', '.join(TASKS)}; TASK:DATA with images of its own; repeatable"),
    ] = None,
    encoder: Encoder = None,
    settings: Set = None,
    references: Annotated[
        bool, typer.Option("--references/--no-references", help="also raw pixels and the untrained network")
    ] = True,
    device: Device = None,
    out: Annotated[str | None, typer.Option(help="also write the scores to this JSON file")] = None,
    pictures: Annotated[str, typer.Option(help="folder of what tasks draw")] = "pictures",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace the file that is there")] = False,
    storage: Storage = None,
    tracking_uri: Tracking = None,
) -> None:
    """Score an encoder on images, by k-NN and a linear probe, beside raw pixels and the untrained network."""
    file = target(out, overwrite=overwrite) if out is not None else None
    chosen = _settings(settings or [], protocol, labels_per_class)
    if task:
        chosen["eval.tasks"] = task
    check_tasks(chosen.get("eval.tasks", ()))
    where = device_of(device)
    works = list(_work(given, data or [], encoder, chosen, where, storage, tracking_uri))
    rows: Rows = []
    said = {
        "raydistill": __version__,
        "encoder": given,
        "settings": chosen,
        "scores": works[0].config.eval.model_dump(mode="json"),
        "images": {work.source: work.images for work in works},
        "rows": rows,
    }
    try:
        for work in works:
            for row in _score(work, where, Path(pictures), references=references):
                rows.append(row)
                if file is not None:
                    file.write_text(json.dumps(said, indent=1))
    finally:
        if rows:
            typer.echo(_table(rows).markdown())
            typer.echo(_legend(works[0].config, rows))
            for work in works:
                typer.echo(_described(work))
    missing = {text: why for row in rows for text, why in row["left_out"].items()}
    if missing:
        fail("; ".join(f"task {text} gave no score: {why}" for text, why in missing.items()), 1)


def _settings(typed: Sequence[str], protocol: str | None, labels: str | None) -> dict[str, Any]:
    """Parse what is chosen. Raises ConfigError for settings that change no score."""
    chosen: dict[str, Any] = {}
    if protocol is not None:
        if protocol not in PROTOCOLS:
            raise ConfigError(f"--protocol {protocol!r} is unknown{nearest(protocol, PROTOCOLS)}")
        chosen |= PROTOCOLS[protocol]
    if labels is not None:
        try:
            chosen["eval.labels_per_class"] = [int(part) for part in labels.split(",")]
        except ValueError:
            raise ConfigError(f"--labels-per-class {labels}: give numbers, such as 1,5,20") from None
    for path, value in map(configuration.parse_setting, typed):
        if path == "data.source":
            raise ConfigError("--set data.source: DATA says which images are scored")
        if not path.startswith(TAKEN):
            raise ConfigError(f"--set {path}: evaluate takes settings of data.*, eval.* and how a checkpoint is read")
        chosen[path] = value
    return chosen


@dataclass(frozen=True)
class Work:
    """One data set, opened, and the networks to score on it.

    Args:
        source: as typed.
        config: of the images and the scores.
        dataset: the images.
        scored: the networks; none where raw pixels alone are scored.
    """

    source: str
    config: Config
    dataset: Dataset
    scored: list[Scored]

    @property
    def images(self) -> dict[str, int]:
        """Number of images of each split."""
        return {name: len(split) for name, split in self.dataset.splits.items()}


def _work(
    given: str,
    data: Sequence[str],
    name: str | None,
    chosen: Mapping[str, Any],
    device: Any,
    storage: str | None,
    tracking_uri: str | None,
) -> Iterator[Work]:
    """Open each data set and find the networks to score on it.

    Args:
        given: ENCODER.
        data: the data sets.
        name: of the encoder of a run.
        chosen: settings by path.
        device: of the networks.
        storage: where sweeps are.
        tracking_uri: of MLflow.
    """
    from raydistill.data.sources import load_dataset

    if given == PIXELS or is_library(given):
        if not data:
            raise ConfigError("DATA: say which images; only a run has images of its own")
        if name is not None:
            raise ConfigError(f"--encoder {name}: only a run has several encoders")
        base = load_preset("simclr", "default")
        size = {} if given == PIXELS else {"data.image_size": LIBRARY_SIZE}
        for source in data:
            where = {"data.source": source_of("DATA", source)}
            config = configuration.load(configuration.assign(base, {**size, **chosen, **where}))
            with data_errors():
                dataset = load_dataset(config.data)
            scored = [] if given == PIXELS else _of_library(given, config, dataset, device)
            yield Work(source, config, dataset, scored)
        return
    if asked := [path for path in chosen if path.startswith("teacher.")]:
        raise ConfigError(f"--set {asked[0]}: says how a checkpoint is read, and {given} is a run")
    from raydistill.export.resolve import find_run

    try:
        found = find_run(given, storage, tracking_uri)
    except ConfigError as error:
        more = ", timm:NAME, torchvision:NAME, a checkpoint file, pixels" if "accepted:" in str(error) else ""
        raise ConfigError(f"{error}{more}") from None
    scored = of_run(found, name or found.encoder)
    own = configuration.dump(found.config)
    for source in data or [found.config.data.source]:
        # Other images bring their own labels, and all of them are scored.
        others = {"data.source": source_of("DATA", source), "data.labelled": None, "data.limit": None}
        size = {"data.image_size": found.context["image_size"]}
        plain: dict[str, Any] = {**size, **(others if data else {}), "eval.tasks": []}
        config = configuration.load(configuration.assign(own, {**plain, **chosen}))
        check_size(found, config)
        with data_errors():
            yield Work(source, config, load_dataset(config.data), scored)


def _of_library(given: str, config: Config, dataset: Dataset, device: Any) -> list[Scored]:
    from raydistill.data.views.augment import normalization

    shown = normalization(dataset.name, dataset.image_size)
    return of_library(given, config.teacher, dataset.image_size, shown, device)


def _score(work: Work, device: Any, pictures: Path, *, references: bool) -> Iterator[dict[str, Any]]:
    """Score networks on one data set, raw pixels last; a line says which one is at work.

    Args:
        work: data set and networks.
        device: of the networks.
        pictures: folder of what tasks draw.
        references: whether to score them.
    """
    from raydistill.evaluation.final import score_encoder
    from raydistill.evaluation.references import RawPixels

    alone = work.scored if references else work.scored[:1]
    pixels = [Scored(PIXELS, RawPixels())] if references or not work.scored else []
    with data_errors():
        for each in [*alone, *pixels]:
            typer.echo(f"scoring {each.name} on {work.source}", err=True)
            own = bool(list(each.encoder.parameters()))
            folder = pictures / re.sub(r"[^\w.-]+", "-", each.name)
            missing: dict[str, str] = {}
            found = score_encoder(
                each.encoder,
                work.dataset,
                work.config,
                device,
                each.head,
                trained=own,
                pictures=folder,
                left_out=missing,
            )
            if "tsne" in work.config.eval.tasks and "tsne" not in missing:
                typer.echo(f"picture in {folder}", err=True)
            yield {"data": work.source, "encoder": each.name, "scores": found, "left_out": missing}


def _table(rows: Rows) -> Table:
    """A line for each data set and network, and the means over several data sets."""
    metrics = list(dict.fromkeys(metric for row in rows for metric in row["scores"] if not _is_end(metric)))
    sources, names = (list(dict.fromkeys(row[key] for row in rows)) for key in ("data", "encoder"))
    if len(metrics) > MOST_COLUMNS:
        return _upright(rows, metrics)
    body = [[row["data"], row["encoder"], *(_cell(row["scores"], metric) for metric in metrics)] for row in rows]
    if len(sources) > 1:
        for name in names:
            own = [row["scores"] for row in rows if row["encoder"] == name]
            shared = [metric for metric in metrics if metric != RATE and all(metric in each for each in own)]
            means = {metric: fmean(each[metric] for each in own) for metric in shared}
            if means:
                body.append([f"mean of {len(own)}", name, *(_cell(means, metric) for metric in metrics)])
    return Table(["data", "encoder", *metrics], body)


def _upright(rows: Rows, metrics: Sequence[str]) -> Table:
    """A line for each metric and a column for each network, where there are too many metrics for a terminal."""
    sources, names = (list(dict.fromkeys(row[key] for row in rows)) for key in ("data", "encoder"))
    found = {(row["data"], row["encoder"]): row["scores"] for row in rows}
    body = [
        [source, metric, *(_cell(found.get((source, name), {}), metric) for name in names)]
        for source in sources
        for metric in metrics
    ]
    if len(sources) > 1:
        for metric in metrics:
            values = [[found.get((source, name), {}).get(metric) for source in sources] for name in names]
            if metric != RATE and all(None not in own for own in values):
                means = [fmean(each for each in own if each is not None) for own in values]
                body.append([f"mean of {len(sources)}", metric, *(_cell({metric: mean}, metric) for mean in means)])
    return Table(["data", "score", *names], body)


def _is_end(metric: str) -> bool:
    return metric.endswith(("_low", "_high"))


def _cell(scores: Mapping[str, float], metric: str) -> str:
    """A score in percent, with its interval where it has one."""
    if metric not in scores:
        return "–"
    if metric == RATE:
        return f"{scores[metric]:g}"
    factor, digits = unit_of(metric)
    if factor == 1:
        return f"{scores[metric]:.{digits}f}"
    if f"{metric}_low" in scores:
        return f"{100 * scores[metric]:.2f} ({100 * scores[metric + '_low']:.1f}–{100 * scores[metric + '_high']:.1f})"
    return f"{100 * scores[metric]:.2f}"


def _legend(config: Config, rows: Rows) -> str:
    """Say what the columns are, of those that are there."""
    metrics = {metric for row in rows for metric in row["scores"]}
    said = []
    if "test_knn" in metrics:
        given = config.eval.probe_lr
        rates = [] if given is None else [given] if isinstance(given, float) else given
        rate = f", at a rate of {' or '.join(f'{each:g}' for each in rates)}" if rates else ""
        said = [f"k-NN {knn_protocol(config.eval).describe()}", f"linear probe: {config.eval.probe}{rate}"]
    if RATE in metrics:
        said.append(f"{RATE}: the rate that validation chose")
    if any(map(_is_end, metrics)):
        said.append("in brackets: 95 % intervals")
    if "test_instance" in metrics:
        said.append("test_instance: how often a crop of an image without a label finds the other crop of it")
    unit = "in %" + (", alignment and uniformity as they are" if any(m.startswith(PLAIN) for m in metrics) else "")
    return f"\n{unit}; {'; '.join(said)}. Choices are made on validation, and test is scored once."


def _described(work: Work) -> str:
    """The images of a data set in a line, and what they are too few for."""
    counts = ", ".join(f"{count} {name}" for name, count in work.images.items())
    line = f"{work.source}: {counts} images"
    bank = work.dataset.bank.labels
    if bank is None:
        return f"{line} without labels"
    line += f", {len(work.dataset.classes)} classes"
    protocol = knn_protocol(work.config.eval)
    if max(*protocol.ks, *protocol.also, 0) > len(work.dataset.bank):
        line += f"; k is at most {len(work.dataset.bank)}"
    fewest = int(bank[bank >= 0].unique(return_counts=True)[1].min())
    if missing := [count for count in work.config.eval.labels_per_class or () if count > fewest]:
        line += f"; no scores with {', '.join(map(str, missing))} labels of each class, since a class has {fewest}"
    return line
