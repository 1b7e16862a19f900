"""The measured probe: real steps of the configuration, and nothing written to the user's store."""

import dataclasses
import time

import pytest
import torch
from helpers.requests import request
from helpers.rows import ROWS

from raydistill import config
from raydistill.artifacts import teachers
from raydistill.artifacts.store import Store, key_of
from raydistill.data import images
from raydistill.data.sources import load_dataset
from raydistill.evaluation.online import evaluate
from raydistill.planning.prepare import ensure_teachers
from raydistill.planning.resolve import teacher_configs, teacher_keys
from raydistill.sweep.preflight import samples
from raydistill.sweep.preflight import step_benchmark as module
from raydistill.sweep.preflight.step_benchmark import affordable, benchmark_step, settled
from raydistill.training.pack import Pack
from raydistill.trial_spec import TrialSpec

DATA = {"source": "digits", "limit": 100, "image_size": 8, "batch_size": 32}
TEACHER = {"backbone": "resnet10_w4", "epochs": 3, "batch_size": 16}


def settings(name, teacher=(), data=(), **options):
    return config.load(
        {
            "method": {"name": name, **ROWS[name], **options},
            "data": {**DATA, **dict(data)},
            "teacher": {**TEACHER, **dict(teacher)},
            "train": {"epochs": 2, "lr": 0.01},
        }
    )


def listing(root):
    return {path: path.stat().st_mtime_ns for path in root.rglob("*")}


@pytest.mark.parametrize("name", ROWS)
def test_every_method_is_measured_without_a_trained_teacher(name, tmp_path):
    run, store = settings(name), Store(tmp_path / "artifacts")
    timings = benchmark_step(run, store, evaluate=evaluate, seconds=0.2)
    assert listing(tmp_path) == {}
    assert timings.shared_seconds > 0
    assert timings.learner_seconds > 0
    assert timings.evaluation_seconds > 0
    assert timings.start_seconds > 0
    assert timings.checkpoint_seconds > 0
    assert timings.steps_per_epoch == 100 // 32
    needed = teacher_configs(run, 1000)
    dataset = load_dataset(run.data)
    keys = [key_of("teacher", teachers.provenance(recipe, dataset)) for recipe in needed]
    assert [(t.key, t.epochs) for t in timings.teachers_missing] == [(key, 3) for key in keys]
    for missing in timings.teachers_missing:
        assert missing.timings.steps_per_epoch == 100 // 16
        assert missing.timings.teachers_missing == ()


def test_a_pack_that_trains_agrees_on_sizes(tmp_path):
    run = settings("dogo")
    timings = benchmark_step(run, Store(tmp_path / "artifacts"), evaluate=evaluate, seconds=0.2)
    pack = Pack(load_dataset(run.data), run.data, evaluate=evaluate)
    pack.add(request("a", run, str(tmp_path / "a")))
    pack.run_epoch()
    assert timings.checkpoint_bytes == pytest.approx(
        sum(p.stat().st_size for p in (tmp_path / "a").iterdir()), rel=0.05
    )
    assert timings.steps_per_epoch == pack.stream.steps_per_epoch
    weights = pack.learners["a"].parameters
    assert timings.parameters == sum(weight.numel() for weight in weights)


def test_teachers_in_the_store_are_used_and_left_as_they_are(tmp_path):
    run, store = settings("simreg", teacher={"count": 2, "epochs": 1}), Store(tmp_path / "artifacts")
    one = run.model_copy(update={"teacher": run.teacher.model_copy(update={"count": 1})})
    ensure_teachers(TrialSpec(one), store, tmp_path / "runs", evaluate=lambda *_: {})
    before = listing(tmp_path)
    time.sleep(0.02)
    (missing,) = benchmark_step(run, store, evaluate=evaluate, seconds=0.2).teachers_missing
    (there,) = teacher_keys(one, load_dataset(run.data))
    assert missing.key != there
    assert missing.epochs == 1
    given = one.model_copy(update={"teacher": one.teacher.model_copy(update={"sources": (f"artifact:{there}",)})})
    assert benchmark_step(given, store, evaluate=evaluate, seconds=0.2).teachers_missing == ()
    assert listing(tmp_path) == before


def test_teachers_that_differ_in_their_seed_are_measured_once(tmp_path, monkeypatch):
    measured = []
    original = module._StepBenchmark.timings

    def counted(self, run, seconds, opening):
        measured.append(run.method.name)
        return original(self, run, seconds, opening)

    monkeypatch.setattr(module._StepBenchmark, "timings", counted)
    run = settings("simreg", teacher={"count": 3})
    timings = benchmark_step(run, Store(tmp_path / "artifacts"), evaluate=evaluate, seconds=0.1)
    assert measured == ["simclr", "simreg"]
    assert len(timings.teachers_missing) == 3
    assert len({missing.timings for missing in timings.teachers_missing}) == 1


def test_a_bank_is_filled_once_and_makes_the_steps_independent_of_the_teacher(tmp_path):
    teacher = {"backbone": "resnet18_w32"}
    store = Store(tmp_path / "artifacts")
    running = benchmark_step(settings("simreg", teacher), store, evaluate=evaluate, seconds=0.3)
    assert running.prepare_seconds == 0
    once = benchmark_step(settings("simreg", teacher, {"fixed_views": 1}), store, evaluate=evaluate, seconds=0.3)
    many = benchmark_step(settings("simreg", teacher, {"fixed_views": 100}), store, evaluate=evaluate, seconds=0.3)
    assert once.shared_seconds < running.shared_seconds
    assert 0 < once.prepare_seconds < many.prepare_seconds / 10


@pytest.mark.parametrize("cache_gib", [0, 1])
def test_only_a_sample_is_decoded_and_sizes_are_those_of_all_images(tmp_path, monkeypatch, cache_gib):
    seen = set()
    original = images.decode

    def watched(raw, index):
        seen.add(raw.name(index))
        return original(raw, index)

    promises = []
    inputs = module._StepBenchmark._supply

    def supplied(self, run):
        found = inputs(self, run)
        promises.append(found.context.images)
        return found

    monkeypatch.setattr(images, "decode", watched)
    monkeypatch.setattr(module._StepBenchmark, "_supply", supplied)
    monkeypatch.setattr(samples, "SAMPLE", 40)
    run = settings("simclr", data={"limit": None, "cache_gib": cache_gib})
    timings = benchmark_step(run, Store(tmp_path / "artifacts"), evaluate=evaluate, seconds=0.2)
    assert 40 <= len(seen) <= 2 * 40 + 20  # of two splits, and of the fingerprint
    whole = load_dataset(run.data)
    assert timings.steps_per_epoch == len(whole.train) // 32
    assert promises == [len(whole.train)]


def test_an_evaluation_of_many_images_is_extrapolated(tmp_path):
    sizes = []

    def slow(learners, dataset, device):
        sizes.append(len(dataset.train) + len(dataset.val))
        time.sleep(sizes[-1] * 1e-3)
        return {}

    run = settings("simclr", data={"limit": 1000})
    timings = benchmark_step(run, Store(tmp_path / "artifacts"), evaluate=slow, seconds=1)
    dataset = load_dataset(run.data)
    everything = len(dataset.train) + len(dataset.val)
    assert max(sizes) <= 260 < everything
    assert timings.evaluation_seconds == pytest.approx(everything * 1e-3, rel=0.3)


def test_a_share_of_the_batch_is_measured_for_several_workers(tmp_path, monkeypatch):
    shares = []
    original = module._StepBenchmark._stream

    def watched(self, data, batch_size):
        shares.append(batch_size)
        return original(self, data, batch_size)

    monkeypatch.setattr(module._StepBenchmark, "_stream", watched)
    timings = benchmark_step(settings("simclr"), Store(tmp_path / "artifacts"), evaluate=evaluate, seconds=1, workers=2)
    assert shares == [32, 16, 16]
    assert timings.steps_per_epoch == 100 // 32


def test_the_number_of_threads_is_put_back(tmp_path):
    before = torch.get_num_threads()
    benchmark_step(
        settings("simclr"), Store(tmp_path / "artifacts"), evaluate=evaluate, seconds=0.1, threads=before + 1
    )
    assert torch.get_num_threads() == before


def test_what_cannot_be_trained_is_refused_as_in_a_run(tmp_path):
    run = settings("sssd", clusters=500)
    with pytest.raises(ValueError, match=r"method\.clusters = 500 with 100 training images"):
        benchmark_step(run, Store(tmp_path / "artifacts"), evaluate=evaluate, seconds=0.1)


def test_medians_settle():
    assert not settled([1.0] * 5)
    assert settled([1.0] * 6)
    assert settled([1.0, 1.0, 9.0, 1.0, 1.02, 1.0])
    assert not settled([3.0, 3.0, 3.0, 1.0, 1.0, 1.0])
    assert not settled([])


@pytest.mark.parametrize(
    ("share", "small_seconds", "seconds", "expected"),
    [(256, 0.01, 1, 256), (256, 1, 4, 64), (256, 10, 4, 16), (24, 10, 4, 24), (8, 10, 4, 8), (40, 10, 1, 20)],
)
def test_a_batch_is_halved_until_it_can_be_paid_for(share, small_seconds, seconds, expected):
    assert affordable(share, small_seconds, seconds) == expected


def test_a_pace_is_plain_and_hashable(tmp_path):
    timings = benchmark_step(settings("simreg"), Store(tmp_path / "artifacts"), evaluate=evaluate, seconds=0.1)
    assert hash(timings) == hash(dataclasses.replace(timings))
    assert dataclasses.asdict(timings)["teachers_missing"][0]["epochs"] == 3
