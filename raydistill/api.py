"""Functions that `raydistill` offers to Python, built on the parts that the commands use."""

from __future__ import annotations

import copy
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from raydistill import config as configuration
from raydistill.config import Config, ConfigError, data_errors
from raydistill.options import METHODS
from raydistill.presets import load_preset
from raydistill.records.locations import artifact_store, source_of, sweep_folder, working_folder
from raydistill.storage import to_path
from raydistill.sweep.options import SweepOptions, prepare_settings
from raydistill.sweep.settings import SweepSettings, with_own_teacher
from raydistill.trial_spec import TrialSpec

if TYPE_CHECKING:
    from torch import nn

    from raydistill.export.run import ResolvedRun
    from raydistill.report.sweep_folder import Sweep

Location = str | os.PathLike[str]


def plan_sweep(method: str, *, resume: bool = False, **options: Unpack[SweepOptions]) -> SweepSettings:
    """Check what a sweep is asked for, without running it: options, data, teachers and the method itself.

    Args:
        method: the method to explore, such as `"dogo"`.
        resume: whether the sweep is there already and is to go on.
        **options: those of `raydistill sweep`, with `_` for `-`: `data`, `labelled`, `kind`, `trials`, `epochs`,
            `seeds`, `preset`, `teacher`, `set` (a mapping of settings), `search_space`, `name`, `storage`,
            `tracking_uri`, `workers`, `max_hours`, `warm_start`, ...

    Returns:
        The settings of the sweep, for `run_sweep`.

    Raises:
        ConfigError: for an option, a setting or data that cannot work; the message names it.

    Examples:
        >>> settings = plan_sweep("simclr", trials=2, epochs=1, set={"data.limit": 100})
        >>> settings.trials
        2
    """
    return prepare_settings(method, resume=resume, **options)


def run_sweep(sweep: str | SweepSettings, *, resume: bool = False, **options: Unpack[SweepOptions]) -> Sweep:
    """Explore the hyperparameters of a method, then compare the winner with its un-distilled baseline.

    It is `raydistill sweep`: with the same options it makes the same sweep, in the same folder. It runs on the cluster
    that Ray is connected to, or that `RAY_ADDRESS` names, else on a cluster of its own on this machine.

    Args:
        sweep: the method to explore, or what `plan_sweep` returned.
        resume: whether to go on with an interrupted sweep of the same settings.
        **options: as `plan_sweep` takes them; none beside its result.

    Returns:
        The results of the sweep, as `load_sweep` reads them.

    Raises:
        ConfigError: for what cannot work, before anything starts.
        RaydistillError: if no trial finished, or MLflow cannot be reached.

    Examples:
        >>> sweep = run_sweep("dogo", data="images/", trials=20, name="mine")
        >>> sweep.leaderboard()
    """
    if isinstance(sweep, SweepSettings):
        if options:
            raise ConfigError(f"{next(iter(options))}: give options to plan_sweep; these settings are complete")
        settings = sweep
    else:
        settings = prepare_settings(sweep, resume=resume, **options)
    from raydistill.report.sweep_folder import read_sweep
    from raydistill.sweep.run import run_sweep as run

    run(settings, resume=resume)
    return read_sweep(settings.directory)


def plan_experiment(
    experiment: str,
    scale: str = "cpu",
    *,
    images: Mapping[str, str] | None = None,
    resume: bool = False,
    **options: Unpack[SweepOptions],
) -> SweepSettings:
    """Check and complete the settings of a published experiment, which `run_sweep` then runs; trains nothing.

    Args:
        experiment: its name, such as `simreg/head-depth`, or the path of a file of one's own.
        scale: `paper`, `small`, `cpu` or `smoke`.
        images: of its tasks, by the names that the experiment has for them.
        resume: whether to go on with an interrupted sweep of the same settings.
        **options: as `plan_sweep` takes them, but for those of a search.

    Returns:
        Settings that `run_sweep` takes.

    Raises:
        ConfigError: for what cannot work.

    Examples:
        >>> run_sweep(plan_experiment("simreg/head-depth", "cpu", data="images/"))
    """
    from raydistill.sweep.arms.prepare import prepare_experiment

    return prepare_experiment(experiment, scale, images=images, resume=resume, **options)


def load_sweep(sweep: Location, *, storage: Location | None = None) -> Sweep:
    """Read the results of a sweep from its folder; MLflow is not asked.

    Args:
        sweep: its name, its folder, or its address such as `s3://bucket/sweeps/dogo-1`.
        storage: where sweeps are kept; `runs` by default.

    Returns:
        A `Sweep`: `trials()`, `curves(metric)` and `leaderboard()` are pandas frames; `winner` is the key of the
        winning trial and `winner_config` its configuration.

    Raises:
        ConfigError: where there is no such sweep, or its files are damaged.

    Examples:
        >>> load_sweep("dogo-1").trials().sort_values("val_knn").tail()
    """
    from raydistill.report.sweep_folder import read_sweep

    home = to_path(_text(storage) or working_folder() / "runs").absolute()
    return read_sweep(sweep_folder(home, str(sweep), "sweep"))


def load_config(
    source: Location | Mapping[str, Any], *, preset: str = "default", set: Mapping[str, Any] | None = None
) -> Config:
    """Build and validate a complete configuration.

    Args:
        source: the name of a method, a YAML file, or a mapping of sections.
        preset: of a method's name, which settings it starts from.
        set: settings to change, by path, such as `{"train.epochs": 5}`.

    Returns:
        The configuration, frozen.

    Raises:
        ConfigError: naming the key, the value, and the nearest valid name.

    Examples:
        >>> load_config("simclr", set={"train.epochs": 5}).train.epochs
        5
    """
    if isinstance(source, Mapping):
        values = dict(source)
    elif str(source) in METHODS:
        values = load_preset(str(source), preset)
    else:
        path = to_path(str(source))
        if not path.exists():
            raise ConfigError(f"{source}: there is no such file{configuration.nearest(str(source), METHODS)}")
        values = configuration.read_yaml(path)
        if not isinstance(values, dict):
            raise ConfigError(f"{source}: expected a mapping of sections, got {type(values).__name__}")
    return configuration.load(configuration.assign(values, dict(set or {})))


@dataclass(frozen=True)
class TrainResult:
    """A configuration that was trained.

    Attributes:
        config: what was trained.
        encoder: the student, in eval mode on the CPU: preprocessed images (N, 3, S, S) -> embeddings (N, D).
        history: the metrics of each epoch that was trained now, the last one last.
        metrics: those of the last epoch.
        folder: where its checkpoints are; None where they were not kept.
    """

    config: Config
    encoder: nn.Module
    history: tuple[dict[str, float], ...]
    metrics: dict[str, float]
    folder: Path | None = None


def train(
    config: Config | Location | Mapping[str, Any],
    out: Location | None = None,
    *,
    artifacts: Location | None = None,
    device: str | None = None,
) -> TrainResult:
    """Train one configuration without Ray; missing teachers are trained first.

    Args:
        config: a `Config`, or what `load_config` takes.
        out: a folder for checkpoints, from which training goes on if it holds some; None keeps nothing.
        artifacts: the store of teachers, banks and pseudo labels; `artifacts` by default.
        device: such as `"cpu"` or `"cuda:1"`; a GPU by default, where there is one.

    Returns:
        The trained encoder and its metrics.

    Raises:
        ConfigError: for settings or data that cannot be used, or a folder that holds another run.
        RaydistillError: where training fails, for instance by a loss that is not finite.

    Examples:
        >>> result = train("simclr", out="first-run")
        >>> result.metrics["val_knn"]
    """
    if out is None:
        with tempfile.TemporaryDirectory() as passing:
            return replace(train(config, passing, artifacts=artifacts, device=device), folder=None)
    from raydistill.sweep.run_folder import RunFolder
    from raydistill.sweep.single_run import train_alone
    from raydistill.training.devices import device_of

    run_folder = RunFolder(str(out))
    whole = config if isinstance(config, Config) else load_config(config)
    history: list[dict[str, float]] = []
    last = train_alone(
        TrialSpec(with_own_teacher(run_folder.with_its_teacher(whole))),
        run_folder,
        artifacts=artifact_store(_text(artifacts)),
        device=device_of(device),
        on_epoch=lambda result: history.append(dict(result.metrics)),
        on_teacher_epoch=lambda result: None,
        notify=print,
    )
    found = _find_run(run_folder.folder.absolute())
    return TrainResult(found.config, _encoder(found, None), tuple(history), dict(last.metrics), run_folder.folder)


def load_encoder(
    run: Location, *, encoder: str | None = None, storage: Location | None = None, tracking_uri: str | None = None
) -> nn.Module:
    """Load a trained encoder.

    Args:
        run: a sweep's name (its winner), SWEEP/TRIAL, the folder of a sweep, a trial or an export of
            `--format safetensors`, or `mlflow:RUN_ID`.
        encoder: which one, such as `"peer_2"` or `"exit_1"`; the student by default.
        storage: where sweeps are kept; `runs` by default.
        tracking_uri: the address of MLflow; `MLFLOW_TRACKING_URI`, else `sqlite:///mlflow.db` by default.

    Returns:
        The network in eval mode on the CPU: preprocessed images (N, 3, S, S) -> embeddings (N, `dim`). `image_size` is
        the S that it was trained with.

    Raises:
        ConfigError: where there is no such run, or no encoder of that name.

    Examples:
        >>> encoder = load_encoder("dogo-1")
        >>> encoder.dim, encoder.image_size
        (128, 32)
    """
    return _encoder(_find_run(run, storage, tracking_uri), encoder)


def evaluate(
    encoder: nn.Module | Location,
    data: Location | None = None,
    *,
    set: Mapping[str, Any] | None = None,
    device: str | None = None,
    storage: Location | None = None,
    tracking_uri: str | None = None,
) -> dict[str, float]:
    """Score an encoder on images by k-NN and by a linear probe, as a sweep scores its winner.

    Args:
        encoder: a network of images (N, 3, S, S) to embeddings (N, D), or a run as `load_encoder` takes it. The network
            is copied, not changed.
        data: a folder, Parquet, `torchvision:NAME` or `digits`; of a run, its own images by default.
        set: settings of the images and the scores, such as `{"data.image_size": 32, "eval.probe": "dogo"}`; other
            settings of a run are its own, and of a network those of the default presets.
        device: such as `"cpu"` or `"cuda:1"`; a GPU by default, where there is one.
        storage: where sweeps are kept; `runs` by default.
        tracking_uri: the address of MLflow, as for `load_encoder`.

    Returns:
        Accuracies between 0 and 1: `val_knn`, `test_knn`, `val_probe`, `test_probe`; of images without labels
        `test_instance`. With `eval.knn` dino or simreg also further k, as `test_knn_1`. With seed, k-NN looks at the
        SSL head of a run that has one, and at the encoder of an export or a network.
        Where few have labels, or `eval.labels_per_class` is set, also scores with so few labels.

    Raises:
        ConfigError: for images or settings that cannot be used.

    Examples:
        >>> evaluate("dogo-1", "images/")["test_knn"]
    """
    from raydistill.data.sources import load_dataset
    from raydistill.evaluation.final import score_encoder
    from raydistill.export.encoders import head_of
    from raydistill.training.devices import device_of

    chosen = dict(set or {})
    head = None
    for path in chosen:
        if not path.startswith(("data.", "eval.")) and path != "train.seed":
            raise ConfigError(f"{path}: the encoder is as it is; evaluate takes settings of data.* and eval.*")
    if isinstance(encoder, str | os.PathLike):
        found = _find_run(encoder, storage, tracking_uri)
        network, values = _encoder(found, None), configuration.dump(found.config)
        head = head_of(found)
    elif data is None and "data.source" not in chosen:
        raise ConfigError("data: say which images; only a run has images of its own")
    else:
        # Of these settings those of data and scores count alone.
        network, values = copy.deepcopy(encoder), {"method": "simclr", "eval": {"probe": "logistic"}}
    size = getattr(network, "image_size", None)
    own: dict[str, Any] = {"data.image_size": size} if isinstance(size, int) else {}
    given = {} if data is None else {"data.source": source_of("data", str(data))}
    if given or "data.source" in chosen:  # other images bring their own labels
        own["data.labelled"] = None
    config = configuration.load(configuration.assign(values, {**own, **chosen, **given}))
    with data_errors():
        return score_encoder(network, load_dataset(config.data), config, device_of(device), head)


def _find_run(given: Location, storage: Location | None = None, tracking_uri: str | None = None) -> ResolvedRun:
    from raydistill.export.resolve import find_run

    return find_run(str(given), _text(storage), tracking_uri)


def _encoder(found: ResolvedRun, name: str | None) -> nn.Module:
    from raydistill.export.encoders import choose

    network = choose(found, name or found.encoder)
    network.image_size = found.context["image_size"]
    return network


def _text(given: Location | None) -> str | None:
    return None if given is None else str(given)
