"""Samples for the step benchmark: a few of the images, repeated, and the teachers that there are, or stand-ins."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace

import torch

from raydistill import methods
from raydistill.artifacts import teachers
from raydistill.artifacts.store import MANIFEST, Store
from raydistill.config import Config, DataConfig
from raydistill.data.images import Images
from raydistill.data.sources import Dataset, load_dataset
from raydistill.planning.prepare import promised
from raydistill.planning.resolve import teacher_keys, teacher_runs
from raydistill.training.teachers import plain_context

SAMPLE = 256  # images of each split that are decoded
MOST_BYTES = 2 * 2**30  # of them in memory


def sampled_dataset(data: DataConfig, dataset: Dataset) -> tuple[Dataset, float]:
    """Return the data set with few images, each repeated, so that few are decoded; cached if all would be.

    Returns also: the seconds that decoding all that are trained on or scored into the cache will take.
    """
    nbytes = dataset.train.peek(0).nbytes
    kept = nbytes * len(dataset.train) <= max(data.cache_gib, data.disk_cache_gib) * 2**30
    cached = kept and 3 * nbytes * SAMPLE <= MOST_BYTES
    limit = min(data.limit or SAMPLE, SAMPLE)
    cache_gib = max(data.cache_gib, data.disk_cache_gib) if cached else 0.0
    changes = {"limit": limit, "image_size": dataset.image_size, "cache_gib": cache_gib, "disk_cache_gib": 0.0}
    few = load_dataset(data.model_copy(update=changes))
    began = time.perf_counter()
    few.train.fetch([0])
    took = time.perf_counter() - began if cached else 0.0
    longer = replace(
        dataset,
        train=_repeated(few.train, len(dataset.train)),
        val=_repeated(few.val, len(dataset.val)),
        test=_repeated(few.test, len(dataset.test)),
        labelled=None if few.labelled is None else _repeated(few.labelled, len(dataset.bank)),
    )
    cached_images = sum(len(images) for split, images in dataset.splits.items() if split != "test")
    return longer, took * cached_images / len(few.train)


def stock_teachers(config: Config, store: Store, scratch: Store, dataset: Dataset) -> dict[str, Config]:
    """Put the teachers of a configuration into a scratch store; untrained ones stand in for those to be trained.

    Args:
        config: whose teachers.
        store: where teachers are.
        scratch: receives them.
        dataset: the images.

    Returns:
        The runs that will make the missing teachers, by key.
    """
    absent: dict[str, Config] = {}
    for run in teacher_runs(config, dataset):
        if not _link_teacher(store, run.key, scratch):
            context = promised(run.config, dataset, scratch)
            weights = methods.build(run.config.method, context, seed=0).state_dict()
            teachers.publish(scratch, run.provenance, run.config, {"given": plain_context(context), "method": weights})
            absent[run.key] = run.config
    if config.method.teacher_output() is not None and config.teacher.sources:
        for key in teacher_keys(config, dataset):
            _link_teacher(store, key, scratch)
    return absent


def _link_teacher(store: Store, key: str, into: Store) -> bool:
    """Link a teacher of `store` into another, without noting it as used. Returns whether there is one."""
    target, folder = into.root / "teacher" / key, store.peek("teacher", key)
    if folder is None:
        return False
    folder = folder.absolute()
    if not target.exists():
        target.mkdir(parents=True)
        shutil.copy(folder / MANIFEST, target)
        (target / teachers.FILE).symlink_to(folder / teachers.FILE)
    return True


def _repeated(images: Images, count: int) -> Images:
    return images.subset(torch.arange(count) % len(images))
