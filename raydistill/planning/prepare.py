"""Makes what a run needs before it starts: its teachers, trained here or taken in from elsewhere."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from raydistill import config as configuration
from raydistill import methods
from raydistill.artifacts import encoders, teachers
from raydistill.artifacts.identity import without_added
from raydistill.artifacts.labels import class_counts, true_labels
from raydistill.artifacts.sources import PROVENANCE
from raydistill.artifacts.store import ArtifactError, Store
from raydistill.config import Config, ConfigError, TeacherConfig
from raydistill.data.sources import Dataset, load_dataset
from raydistill.data.views.augment import normalization
from raydistill.methods import FeatureDims, Method, MethodContext
from raydistill.models.backbones import Backbone
from raydistill.models.hub_folders import is_hub_folder, load_folder, read_folder
from raydistill.models.released import load_released
from raydistill.models.teacher import FrozenTeacher, save_teacher
from raydistill.planning.resolve import resolve, teacher_configs, teacher_keys, teacher_runs
from raydistill.storage import Remote, is_remote, local_copy
from raydistill.training.checkpoint_files import CheckpointError, finished, winner_of
from raydistill.training.checkpoints import latest_checkpoint
from raydistill.training.messages import EpochResult
from raydistill.training.pack import Evaluate
from raydistill.training.single import train
from raydistill.trial_spec import TrialSpec

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_LIBRARY = re.compile(r"(timm|torchvision):\S+")


def located(config: Config, store: Store, image_size: int) -> Config:
    """Take every teacher source into the store, and return the configuration with their keys.

    Args:
        config: the configuration.
        store: receives the teachers.
        image_size: of the views in pixels.
    """
    sources = tuple(locate(store, source, config.teacher, image_size) for source in config.teacher.sources)
    return config.model_copy(update={"teacher": config.teacher.model_copy(update={"sources": sources})})


def locate(store: Store, source: str, settings: TeacherConfig, image_size: int) -> str:
    """Return `artifact:KEY` for anything that `teacher.sources` accepts, converted and stored.

    Args:
        store: receives the teacher.
        source: what was given.
        settings: how to read it.
        image_size: of the views in pixels.

    Raises:
        ConfigError: names the source and what would be accepted.
        TeacherError: a file that is damaged, of another layout, or a pickle that holds more than tensors.
    """
    if source.startswith(teachers.PREFIX):
        return teachers.PREFIX + store.open(source.removeprefix(teachers.PREFIX)).name
    if _LIBRARY.fullmatch(source):
        return teachers.PREFIX + _library(store, source, image_size).name
    if is_remote(source):
        there = winner_of(Remote(source)) or Remote(source)
        assert isinstance(there, Remote)
        path = local_copy(there)
    else:
        path = Path(source).expanduser()
    if (path / PROVENANCE).exists():
        return teachers.PREFIX + _exported(store, path).name
    if path.is_dir():
        of_library = is_hub_folder(path) and not (path / "config.yaml").exists()
        return teachers.PREFIX + (_hub_folder(store, path, image_size) if of_library else _run(store, path)).name
    if path.is_file():
        return teachers.PREFIX + _released(store, path, settings, image_size).name
    raise ConfigError(
        f"teacher.sources: {source!r} does not exist; accepted: the folder of a run, a sweep or an export, "
        "or of a network of timm or transformers, artifact:KEY, timm:NAME, torchvision:NAME, or a checkpoint file of "
        "MoCo v2, SwAV, BYOL, SimCLR, DINO or SEED"
    )


def _library(store: Store, source: str, image_size: int) -> Path:
    """A network with its library's pretrained weights, in ImageNet's normalisation unless it says otherwise."""
    made = {"source": source, "image_size": image_size}

    def make(folder: Path) -> None:
        try:
            backbone = Backbone(source, stem="imagenet", image_size=image_size, pretrained=True)
        except OSError as error:  # of the network, or of a server
            cause = " ".join(str(error).split())[:200] or type(error).__name__
            raise ConfigError(
                f"teacher.sources: the weights of {source} cannot be downloaded ({cause}); {_elsewhere(source)}"
            ) from None
        published = getattr(backbone.net, "pretrained_cfg", {})
        own = (tuple(published.get("mean", IMAGENET[0])), tuple(published.get("std", IMAGENET[1])))
        save_teacher(FrozenTeacher(backbone, None, own, own), folder / teachers.FILE, provenance=made)

    return store.get("teacher", made, make)


def _elsewhere(source: str) -> str:
    """Say how published weights get to a machine without a network."""
    import timm  # docs/architecture.md#late-imports

    library, _, name = source.partition(":")
    published = timm.get_pretrained_cfg(name) if library == "timm" and timm.is_model(name) else None
    if published is None or not published.hf_hub_id:
        return "download them elsewhere, and give the file in place of the name"
    return f"elsewhere, `hf download {published.hf_hub_id} --local-dir FOLDER`, and give FOLDER in place of the name"


def _released(store: Store, path: Path, settings: TeacherConfig, image_size: int) -> Path:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    made = {
        "sha256": digest,
        "format": settings.format,
        "backbone": settings.backbone,
        "stem": settings.stem,
        "image_size": image_size,
    }

    def make(folder: Path) -> None:
        backbone, head, own = load_released(
            path, format=settings.format, backbone=settings.backbone, stem=settings.stem, image_size=image_size
        )
        save_teacher(
            FrozenTeacher(backbone, head, own, own), folder / teachers.FILE, provenance=made | {"file": path.name}
        )

    return store.get("teacher", made, make)


def _hub_folder(store: Store, path: Path, image_size: int) -> Path:
    """A network that timm or transformers wrote; its folder alone says how it is built."""
    found = read_folder(path)
    own = found.normalization
    made = {
        "sha256": found.digest(),
        "format": found.library,
        "backbone": found.backbone,
        "image_size": image_size,
    }

    def make(folder: Path) -> None:
        teacher = FrozenTeacher(load_folder(found, image_size=image_size), None, own, own)
        save_teacher(teacher, folder / teachers.FILE, provenance=made | {"file": path.name})

    return store.get("teacher", made, make)


def _exported(store: Store, folder: Path) -> Path:
    """The encoder of an export, known by its weights; it has no SSL head."""
    encoder = encoders.load(folder)
    if not isinstance(encoder, Backbone):
        raise ConfigError(f"teacher.sources: the encoder in {folder} is no plain backbone, and cannot teach")
    config = configuration.read(folder / "config.yaml")
    digest = hashlib.sha256((folder / encoders.WEIGHTS).read_bytes()).hexdigest()
    made = {"run": without_added(configuration.dump(config)), "export": digest}
    own = normalization("", encoder.image_size)

    def make(place: Path) -> None:
        save_teacher(FrozenTeacher(encoder, None, own, own), place / teachers.FILE, provenance=made)

    return store.get("teacher", made, make)


def _run(store: Store, folder: Path) -> Path:
    """The newest checkpoint of a trial's folder, or of a sweep's winner."""
    trial = winner_of(folder) or folder
    if not (trial / "config.yaml").exists():
        raise ConfigError(
            f"teacher.sources: {folder} holds no teacher; looked for config.yaml (of a run or a sweep), {PROVENANCE} "
            "(of an export), and config.json with model.safetensors or pytorch_model.bin (of timm or transformers)"
        )
    config = configuration.read(trial / "config.yaml")
    try:
        state = latest_checkpoint(trial)
    except CheckpointError as error:
        raise ConfigError(f"teacher.sources: {error}") from None
    if state is None:
        raise ConfigError(f"teacher.sources: {trial} holds no checkpoint")
    weights = finished(trial)[0].read_bytes()
    made = {"run": without_added(configuration.dump(config)), "sha256": hashlib.sha256(weights).hexdigest()}
    return teachers.publish(store, made, config, state)


def promised(config: Config, dataset: Dataset, store: Store) -> MethodContext:
    """Return the context that the method will be built for, before its teachers are trained and its labels are made.

    Args:
        config: the configuration.
        dataset: the images.
        store: where teachers are.

    Raises:
        ValueError: impossible labels, or whatever building the teacher's method raises.
    """
    counts = promised_counts(config, dataset)
    if config.method.teacher_output() is None:
        widths = []
    elif config.teacher.sources:
        shown = normalization(dataset.name, dataset.image_size)
        loaded = [teachers.load(store, key, shown, torch.device("cpu")) for key in teacher_keys(config, dataset)]
        widths = [FeatureDims(*teacher.widths) for teacher in loaded]
    else:
        context = MethodContext(dataset.image_size, len(dataset.train))
        widths = [
            _widths(methods.build(recipe.method, context, seed=0))
            for recipe in teacher_configs(config, len(dataset.train))
        ]
    return MethodContext(dataset.image_size, len(dataset.train), counts, tuple(widths), dataset.levels)


def promised_counts(config: Config, dataset: Dataset) -> tuple[int, ...]:
    """Images of each class that the method learns; of clusters to come, an equal share. Raises ValueError."""
    images, source = len(dataset.train), config.method.label_source()
    if source is None:
        return ()
    if source.kind == "true":
        return class_counts(true_labels(dataset.train, config.data.source), len(dataset.train.classes))
    if source.clusters > images:
        raise ValueError(f"method.clusters = {source.clusters} with {images} training images; use at most {images}")
    return (images // source.clusters,) * source.clusters


def _widths(method: Method) -> FeatureDims:
    head = method.head()
    linear = [layer for layer in head or () if isinstance(layer, nn.Linear)]
    return FeatureDims(int(method.encoders()["student"].dim), linear[-1].out_features if linear else None)  # type: ignore[arg-type]


def ensure_teachers(
    spec: TrialSpec,
    store: Store,
    scratch: Path,
    *,
    evaluate: Evaluate,
    on_epoch: Callable[[EpochResult], None] = lambda report: None,
    device: torch.device | str | None = None,
) -> TrialSpec:
    """Decide what `spec` leaves open, and train the teachers that the store lacks, here and now.

    Args:
        spec: what will be trained.
        store: receives the teachers.
        scratch: where checkpoints of an unfinished teacher stay, from which it is resumed.
        evaluate: scores a learner.
        on_epoch: called with each result.
        device: None: a GPU if there is one.

    Returns:
        The spec with all its keys.

    Raises:
        TrainingError: a teacher could not be trained.
        ArtifactError: a teacher that was decided before is not in the store, and would be another one today.
    """
    config = spec.config
    if spec.resolved and all(store.by_key("teacher", key) for key in spec.teachers or ()):
        return spec
    dataset = load_dataset(config.data)
    spec = resolve(spec, dataset)
    runs = {run.key: run for run in teacher_runs(config, dataset)}
    for key in (key for key in spec.teachers or () if store.by_key("teacher", key) is None):
        if config.teacher.sources:
            continue  # The pack names what is missing.
        if key not in runs:
            raise ArtifactError(
                f"teacher {key} is not in {store.shown}, and cannot be trained again: the images, or the preset "
                f"{config.teacher.preset!r} of {config.teacher.method}, have changed since; given the file "
                "config.yaml of the run, `raydistill train` decides on a teacher anew"
            )
        run, directory = runs[key], scratch / key
        train(TrialSpec(run.config), directory, evaluate=evaluate, on_epoch=on_epoch, device=device)
        state = latest_checkpoint(directory)
        assert state is not None
        teachers.publish(store, run.provenance, run.config, state)
        shutil.rmtree(directory, ignore_errors=True)
    return spec
