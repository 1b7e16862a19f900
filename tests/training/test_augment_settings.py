"""Settings of augmentation in packs: learners with different ones train side by side, and banks tell them apart."""

import pytest
import torch
from helpers.builders.states import same, weights
from helpers.requests import request
from helpers.rows import ROWS

from raydistill import config
from raydistill.artifacts.store import Store
from raydistill.config import DataConfig
from raydistill.data import stream
from raydistill.data.sources import load_dataset
from raydistill.data.stream import VIEW_SEED
from raydistill.data.views.augment import View, augment, normalization
from raydistill.options.base import AugmentConfig
from raydistill.planning.prepare import ensure_teachers
from raydistill.training.pack import Pack
from raydistill.trial_spec import TrialSpec

DATA = {"source": "digits", "limit": 48, "image_size": 8, "batch_size": 16}
FIXED = {"fixed_views": 2}
ROTATED, CROPPED = {"rotation": 20.0, "blur": 0.5, "blur_sigma": 0.1}, {"min_crop": 0.9, "mirror": 0.0, "hue": 0.0}


def no_evaluation(*_):
    return {}


@pytest.fixture(scope="module")
def dataset():
    return load_dataset(DataConfig(**DATA))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store that holds the teacher of every test here, trained without settings of augmentation."""
    root = tmp_path_factory.mktemp("artifacts")
    store = Store(root)
    ensure_teachers(TrialSpec(settings("simreg", {})), store, root / "runs", evaluate=no_evaluation)
    return store


def settings(name, chosen, epochs=2, data=(), teacher=(), lr=0.01, **options):
    return config.load(
        {
            "method": {"name": name, **ROWS[name], **options},
            "data": {**DATA, **dict(data)},
            "augment": chosen,
            "teacher": {"backbone": "resnet10_w4", "epochs": 1, "batch_size": 16, "augment": {}, **dict(teacher)},
            "train": {"epochs": epochs, "lr": lr},
        }
    )


def make_pack(dataset, store, **data):
    return Pack(dataset, DataConfig(**{**DATA, **data}), evaluate=no_evaluation, store=store)


def join(pack, key, configuration, directory=None):
    failed = pack.add(request(key, configuration, str(directory) if directory else None))
    assert failed is None, failed


def run(pack):
    losses = {}
    while pack.learners:
        for report in pack.run_epoch():
            assert report.error == "", report
            losses.setdefault(report.key, []).append(report.metrics["loss"])
    return losses


def drawn(dataset, view, indices, epoch, seed=0):
    images, used = dataset.train.fetch(indices)
    normalize = normalization(dataset.name, dataset.image_size)
    return augment(images, used, view, size=8, seed=seed, epoch=epoch, normalize=normalize)


@pytest.mark.parametrize("name", ["dogo", "simclr", "sdssl", "seed", "simreg", "sssd"])
def test_in_company_with_other_settings_alone_and_resumed_are_bit_identical(dataset, store, tmp_path, name):
    members = {"plain": {}, "rotated": ROTATED, "cropped": CROPPED}
    pack = make_pack(dataset, store)
    for key, chosen in members.items():
        join(pack, key, settings(name, chosen), tmp_path / key)
    pack.run_epoch()
    pack = make_pack(dataset, store)
    for key, chosen in members.items():
        join(pack, key, settings(name, chosen), tmp_path / key)
    run(pack)
    found = {key: weights(tmp_path / key) for key in members}
    for key, chosen in members.items():
        pack = make_pack(dataset, store)
        join(pack, "alone", settings(name, chosen), tmp_path / f"{key}-alone")
        run(pack)
        assert same(found[key], weights(tmp_path / f"{key}-alone")), key
    assert not same(found["plain"], found["rotated"])
    assert not same(found["plain"], found["cropped"])


def test_equal_settings_share_views_and_others_are_drawn_from_the_same_images(dataset, store, monkeypatch):
    pack = make_pack(dataset, store)
    for key, chosen in {"a": {}, "b": {}, "c": ROTATED, "d": ROTATED, "e": CROPPED}.items():
        join(pack, key, settings("dogo", chosen, 1))
    made, fetched = [], []
    honest, fetch = stream.augment, type(dataset.train).fetch
    monkeypatch.setattr(stream, "augment", lambda i, n, view, **k: made.append(view) or honest(i, n, view, **k))
    monkeypatch.setattr(type(dataset.train), "fetch", lambda *a: fetched.append(a) or fetch(*a))
    pack.run_epoch()
    steps = pack.stream.steps_per_epoch
    assert len(fetched) == steps
    own = {View(v.recipe, v.draw) for v in made}
    assert len(made) == 3 * len(own) * steps
    assert {v.changes for v in made} == {None, AugmentConfig(**ROTATED), AugmentConfig(**CROPPED)}


@pytest.mark.parametrize("chosen", [{}, ROTATED])
def test_student_and_teacher_see_the_view_with_the_settings(dataset, store, chosen):
    """SimReg's views: the same for both, or each its own. The plain image is that of every learner."""
    plain = View("eval", 0)
    for views, of_teacher in {"same": View("rrcflip", 0), "different": View("weak", 1), "eval": plain}.items():
        pack = make_pack(dataset, store)
        join(pack, "x", settings("simreg", chosen, 1, views=views, student_recipe="rrcflip", teacher_recipe="weak"))
        learner, seen = pack.learners["x"], {}
        honest = learner.method.loss

        def loss(batch, progress, honest=honest, seen=seen, of_teacher=of_teacher):
            seen.setdefault("batch", (batch, batch.teachers[0](of_teacher, "features")))
            return honest(batch, progress)

        learner.method.loss = loss
        pack.run_epoch()
        batch, embedded = seen["batch"]
        changes = AugmentConfig(**chosen)
        student = drawn(dataset, View("rrcflip", 0).changed(changes), batch.indices, 0)
        assert torch.equal(batch.views[View("rrcflip", 0)], student)
        (key,) = learner.inputs.teachers
        expected = pack.provider.embed(key, "features", drawn(dataset, of_teacher.changed(changes), batch.indices, 0))
        if of_teacher == plain:  # read from the bank, in half precision
            assert torch.allclose(embedded, expected, rtol=2e-3, atol=2e-3)
        else:
            assert torch.equal(embedded, expected)


class TestBank:
    @pytest.mark.parametrize("name", ["seed", "simreg", "compress_1q"])
    def test_students_with_different_settings_have_the_losses_of_the_live_teacher(self, dataset, store, name):
        losses = {}
        for bank in (False, True):
            pack = make_pack(dataset, store, **FIXED)
            for key, chosen in {"plain": {}, "rotated": ROTATED}.items():
                join(pack, key, settings(name, chosen, 3, FIXED, {"bank": bank}, lr=1e-5))
            losses[bank] = run(pack)
        for key in ("plain", "rotated"):
            assert losses[True][key] == pytest.approx(losses[False][key], rel=5e-3)
        assert losses[True]["plain"] != pytest.approx(losses[True]["rotated"], rel=5e-3)

    def test_a_page_holds_the_teachers_of_the_views_with_the_settings_and_is_found_by_them(self, dataset, store):
        pack = make_pack(dataset, store, **FIXED)
        join(pack, "x", settings("seed", ROTATED, data=FIXED))
        (key,) = pack.learners["x"].inputs.teachers
        changed = View("moco2", 0).changed(AugmentConfig(**ROTATED))
        page, plain = (
            torch.tensor(pack.provider.page(key, view, "features", 1)).float() for view in (changed, View("moco2", 0))
        )
        views = drawn(dataset, changed, torch.arange(len(dataset.train)), 1, VIEW_SEED)
        live = pack.provider.embed(key, "features", views)
        assert torch.allclose(page, live, rtol=2e-3, atol=2e-3)
        assert not torch.allclose(plain, live, rtol=2e-3, atol=2e-3)

        def refuse(*_):
            raise AssertionError("computed again")

        again = make_pack(dataset, store, **FIXED)
        again.provider.embed = refuse
        assert torch.equal(torch.tensor(again.provider.page(key, changed, "features", 3)).float(), page)
        with pytest.raises(AssertionError, match="again"):
            again.provider.page(key, View("moco2", 0).changed(AugmentConfig(rotation=21)), "features", 1)
