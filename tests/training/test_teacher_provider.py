"""Teachers, teacher banks and labels in a pack; every method in company, alone and resumed."""

import time

import pytest
import torch
from helpers.builders.states import same, weights
from helpers.requests import request
from helpers.rows import ROWS

from raydistill import config
from raydistill.artifacts.store import Store
from raydistill.config import DataConfig
from raydistill.data.sources import load_dataset
from raydistill.data.views.augment import View
from raydistill.models import queue as queues
from raydistill.planning.prepare import ensure_teachers, promised
from raydistill.planning.resolve import teacher_keys
from raydistill.training.checkpoints import latest_checkpoint
from raydistill.training.pack import Pack
from raydistill.training.teachers import TeacherProvider
from raydistill.trial_spec import TrialSpec

DATA = {"source": "digits", "limit": 48, "image_size": 8, "batch_size": 16}
TEACHER = {"backbone": "resnet10_w4", "epochs": 1, "batch_size": 16}
# With queues of a teacher's embeddings, of several lengths.
SHARERS = {
    "seed": ("seed", {"queue_size": 40, "tau_s": 0.2, "tau_t": 0.01}),
    "short": ("seed", {"queue_size": 16, "tau_s": 0.1, "tau_t": 0.05}),
    "same": ("seed", {"queue_size": 40, "tau_s": 0.3, "tau_t": 0.1}),
    "a5": ("seed", {"queue_size": 24, "loss": "a5"}),
    "binary": ("seed", {"queue_size": 24, "loss": "binary_contrastive"}),
    "patches": ("seed", {"queue_size": 32, "strategy": "large_small", "small_views": 2}),
    "1q": ("compress_1q", {"queue_size": 20, "tau": 0.1}),
    "2q": ("compress_2q", {"queue_size": 40, "tau": 0.2}),
}


def no_evaluation(*_):
    return {}


@pytest.fixture(scope="module")
def dataset():
    return load_dataset(DataConfig(**DATA))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store that holds the teachers (two, with seeds of their own) of every test here."""
    root = tmp_path_factory.mktemp("artifacts")
    store = Store(root)
    ensure_teachers(TrialSpec(settings("simreg", teacher={"count": 2})), store, root / "runs", evaluate=no_evaluation)
    return store


def settings(name, epochs=2, data=(), teacher=(), train=(), **options):
    return config.load(
        {
            "method": {"name": name, **ROWS[name], **options},
            "data": {**DATA, **dict(data)},
            "teacher": {**TEACHER, **dict(teacher)},
            "train": {"epochs": epochs, "lr": 0.01, **dict(train)},
        }
    )


def make_pack(dataset, store, **data):
    return Pack(dataset, DataConfig(**{**DATA, **data}), evaluate=no_evaluation, store=store)


def run(pack, limit=20):
    reports = {}
    for _ in range(limit):
        if not pack.learners:
            return reports
        for report in pack.run_epoch():
            assert report.error == "", report
            reports.setdefault(report.key, []).append(report)
    raise AssertionError("the pack did not end")


def join(pack, key, configuration, directory=None):
    failed = pack.add(request(key, configuration, str(directory) if directory else None))
    assert failed is None, failed


def test_a_teachers_time_is_no_learners_own(dataset, store, monkeypatch):
    """Else a pack that shares most of its work would seem to share none."""
    pack = make_pack(dataset, store)
    for key in "ab":
        join(pack, key, settings("seed", 1))
    embed = TeacherProvider.embed
    monkeypatch.setattr(TeacherProvider, "embed", lambda *a: time.sleep(0.2) or embed(*a))
    pack.run_epoch()
    steps = pack.stream.steps_per_epoch
    assert pack.load.seconds - pack.load.own_seconds >= 0.2 * steps


@pytest.mark.parametrize("name", ROWS)
class TestEveryMethod:
    def test_late_paused_and_beside_one_that_dies_it_is_the_replay_alone_bit_for_bit(
        self, dataset, store, tmp_path, name
    ):
        pack = make_pack(dataset, store)
        join(pack, "neighbour", settings("seed" if name != "seed" else "simreg", 6))
        join(pack, "dying", settings("simclr", 6))
        pack.run_epoch()
        join(pack, "x", settings(name, 3), tmp_path / "company")

        def broken(batch, progress):
            raise RuntimeError("broken")

        pack.learners["dying"].method.loss = broken
        assert {report.key: report.error for report in pack.run_epoch()} == {
            "neighbour": "",
            "x": "",
            "dying": "broken",
        }
        pack.remove("x")
        pack.run_epoch()
        pack.run_epoch()
        join(pack, "x", settings(name, 3), tmp_path / "company")
        run(pack)
        state = latest_checkpoint(tmp_path / "company")
        assert state["offsets"] == [[0, 1], [1, 3]]
        alone = make_pack(dataset, store)
        join(alone, "x", settings(name, 3, train={"offsets": state["offsets"]}), tmp_path / "alone")
        run(alone)
        assert latest_checkpoint(tmp_path / "alone")["offsets"] == state["offsets"]
        assert same(weights(tmp_path / "company"), weights(tmp_path / "alone"))

    def test_in_company_alone_and_resumed_are_bit_identical(self, dataset, store, tmp_path, name):
        neighbour = "seed" if name != "seed" else "simreg"
        pack = make_pack(dataset, store)
        join(pack, "neighbour", settings(neighbour, 1))
        join(pack, "x", settings(name), tmp_path / "company")
        run(pack)
        pack = make_pack(dataset, store)
        join(pack, "x", settings(name), tmp_path / "alone")
        run(pack)
        pack = make_pack(dataset, store)
        join(pack, "x", settings(name), tmp_path / "cut")
        pack.run_epoch()
        pack = make_pack(dataset, store)
        join(pack, "x", settings(name), tmp_path / "cut")
        run(pack)
        assert same(weights(tmp_path / "company"), weights(tmp_path / "alone"))
        assert same(weights(tmp_path / "cut"), weights(tmp_path / "alone"))

    def test_learns(self, dataset, store, tmp_path, name):
        pack = make_pack(dataset, store, fixed_views=1)
        join(pack, "x", settings(name, 12, data={"fixed_views": 1}, teacher={"bank": False}))
        reports = run(pack)["x"]
        first, last = (sum(r.metrics["loss"] for r in part) for part in (reports[:3], reports[-3:]))
        assert last < first

    def test_what_preflight_promises_is_what_the_pack_gives(self, dataset, store, name):
        configuration = settings(name)
        pack = make_pack(dataset, store)
        join(pack, "x", configuration)
        given = pack.learners["x"].inputs.context
        before = promised(configuration, dataset, store)
        assert (before.teachers, len(before.class_counts)) == (given.teachers, len(given.class_counts))


class TestTeachers:
    def test_one_forward_a_batch_for_all_learners(self, dataset, store):
        pack = make_pack(dataset, store)
        for key in "abc":
            join(pack, key, settings("simreg", 1, head_depth=ord(key) - 96))
        calls = []
        honest = pack.provider.embed
        pack.provider.embed = lambda *a: calls.append(a) or honest(*a)
        run(pack)
        assert len(calls) == pack.stream.steps_per_epoch

    def test_never_moved_by_training(self, dataset, store):
        pack = make_pack(dataset, store)
        join(pack, "x", settings("seed"))
        (teacher,) = pack.provider._teachers.values()
        before = {name: value.clone() for name, value in teacher.state_dict().items()}
        run(pack)
        assert same(before, teacher.state_dict())
        assert not any(p.requires_grad for p in teacher.parameters())
        assert not teacher.training

    def test_found_again_whatever_the_students_settings(self, dataset, store, tmp_path):
        keys = teacher_keys(settings("seed"), dataset)
        assert keys == teacher_keys(settings("simreg", train={"seed": 9}, data={"stream_seed": 3}), dataset)
        assert keys != teacher_keys(settings("seed", teacher={"seed": 1}), dataset)
        assert keys != teacher_keys(settings("seed", teacher={"backbone": "resnet10_w8"}), dataset)

        def refuse(*_):
            raise AssertionError("trained again")

        assert ensure_teachers(TrialSpec(settings("seed")), store, tmp_path, evaluate=refuse).teachers == keys

    def test_several_teachers_have_a_head_each(self, dataset, store):
        pack = make_pack(dataset, store)
        join(pack, "x", settings("simreg", 1, teacher={"count": 2}))
        assert len(pack.learners["x"].inputs.teachers) == 2
        run(pack)

    def test_a_teacher_that_is_not_there_is_named(self, dataset, tmp_path):
        report = make_pack(dataset, Store(tmp_path)).add(request("x", settings("seed")))
        assert "is not in" in report.error
        assert "raydistill train" in report.error


class TestSharedQueues:
    """Queues of one teacher's embeddings are one; every learner becomes what it becomes alone."""

    def configuration(self, key, epochs=4, **changes):
        name, options = SHARERS[key]
        return settings(name, epochs, **options, **changes)

    def alone(self, dataset, store, directory, key, epochs=4, **changes):
        pack = make_pack(dataset, store)
        join(pack, key, self.configuration(key, epochs, **changes), directory)
        run(pack)
        return weights(directory)

    @pytest.mark.slow
    def test_company_late_joiners_and_the_resumed_are_as_alone(self, dataset, store, tmp_path):
        early, late = ("seed", "short", "a5", "patches", "1q"), ("same", "binary", "2q")
        pack = make_pack(dataset, store)
        for key in early:
            join(pack, key, self.configuration(key), tmp_path / key)
        pack.run_epoch()
        for key in late:
            join(pack, key, self.configuration(key), tmp_path / key)
        pack.run_epoch()
        pack.remove("short")
        pack.run_epoch()
        pack = make_pack(dataset, store)
        for key in ("short", *late, *early[:1], *early[2:]):
            join(pack, key, self.configuration(key), tmp_path / key)
        run(pack)
        for key in early:
            assert same(weights(tmp_path / key), self.alone(dataset, store, tmp_path / f"{key}_alone", key)), key
        for key in late:
            replayed = self.alone(dataset, store, tmp_path / f"{key}_alone", key, train={"offsets": [(0, 1)]})
            assert same(weights(tmp_path / key), replayed), key

    def test_a_learner_that_waits_an_epoch_keeps_its_rows(self, dataset, store, tmp_path):
        pack = make_pack(dataset, store)
        join(pack, "short", self.configuration("short"), tmp_path / "short")
        pack.run_epoch()
        pack = make_pack(dataset, store)
        for key in ("seed", "same"):
            join(pack, key, self.configuration(key), tmp_path / key)
        pack.run_epoch(), pack.run_epoch()
        pack = make_pack(dataset, store)
        for key in ("seed", "same", "short"):
            join(pack, key, self.configuration(key), tmp_path / key)
        held = pack.learners["seed"].method.queue.rows.clone()
        assert [report.key for report in pack.run_epoch()] == ["short"]
        assert torch.equal(pack.learners["seed"].method.queue.rows, held)
        assert {report.key for report in pack.run_epoch()} == {"seed", "same", "short"}
        run(pack)
        for key in ("seed", "same", "short"):
            assert same(weights(tmp_path / key), self.alone(dataset, store, tmp_path / f"{key}_alone", key)), key

    def test_the_batch_is_kept_once_and_compared_once_for_each_length(self, dataset, store, monkeypatch):
        pack = make_pack(dataset, store)
        for i in range(3):
            join(pack, str(i), settings("seed", 2, tau_t=0.01 + 0.1 * i, tau_s=0.2 + 0.1 * i, queue_size=16))
        appended, compared = [], []
        append, cosines = queues.EmbeddingLog.append, queues.cosines
        monkeypatch.setattr(queues.EmbeddingLog, "append", lambda *a: appended.append(a) or append(*a))
        monkeypatch.setattr(queues, "cosines", lambda *a: compared.append(a) or cosines(*a))
        pack.run_epoch()
        steps = pack.stream.steps_per_epoch
        assert len(appended) == steps
        assert len(compared) == 3 + steps - 1  # before the first batch of 16 each has rows of its own
        rows = [learner.method.queue.rows for learner in pack.learners.values()]
        assert len({row.data_ptr() for row in rows}) == 1
        join(pack, "longer", settings("seed", 2, queue_size=32))
        appended.clear(), compared.clear()
        pack.run_epoch()
        assert len(appended) == steps
        assert len(compared) == 2 * steps

    def test_a_failed_learner_leaves_the_others_as_they_were(self, dataset, store, tmp_path):
        pack = make_pack(dataset, store)
        for key in ("short", "seed", "same"):
            join(pack, key, self.configuration(key), tmp_path / key)
        pack.run_epoch()
        pack.learners["short"].method.after_step = None
        assert [report.key for report in pack.run_epoch() if report.error] == ["short"]
        run(pack)
        for key in ("seed", "same"):
            assert same(weights(tmp_path / key), self.alone(dataset, store, tmp_path / f"{key}_alone", key)), key

    def test_the_bank_and_the_live_teacher_are_not_mixed(self, dataset, store, tmp_path):
        pack = make_pack(dataset, store, fixed_views=1)
        for bank in (False, True):
            values = {"data": {"fixed_views": 1}, "teacher": {"bank": bank}}
            join(pack, str(bank), settings("seed", 2, **values), tmp_path / str(bank))
        run(pack)
        for bank in (False, True):
            values = {"data": {"fixed_views": 1}, "teacher": {"bank": bank}}
            pack = make_pack(dataset, store, fixed_views=1)
            join(pack, "x", settings("seed", 2, **values), tmp_path / f"{bank}_alone")
            run(pack)
            assert same(weights(tmp_path / str(bank)), weights(tmp_path / f"{bank}_alone"))


class TestBank:
    @pytest.mark.parametrize("name", ["seed", "simreg", "compress_1q", "compress_2q", "crd", "regress"])
    def test_trains_without_the_teacher_to_the_same_losses(self, dataset, store, name):
        losses = {}
        for bank in (False, True):
            pack = make_pack(dataset, store, fixed_views=2)
            join(pack, "x", settings(name, 4, data={"fixed_views": 2}, teacher={"bank": bank}, train={"lr": 1e-5}))
            if bank:
                pack.run_epoch(), pack.run_epoch()
                pack.provider.embed = None
            else:
                first = pack.run_epoch() + pack.run_epoch()
                assert first[0].metrics["loss"] > 0
            losses[bank] = [r.metrics["loss"] for r in run(pack)["x"]]
        assert losses[True] == pytest.approx(losses[False], rel=5e-3)

    def test_rows_are_the_live_teachers_of_the_very_same_views(self, dataset, store):
        pack = make_pack(dataset, store, fixed_views=3)
        join(pack, "x", settings("seed", data={"fixed_views": 3}))
        (key,) = pack.learners["x"].inputs.teachers
        view = View("moco2", 0)
        for epoch in (0, 2, 4):
            views, indices = pack.stream.batch(epoch, 1, [view])
            page = pack.provider.page(key, view, "head", epoch)
            live = pack.provider.embed(key, "head", views[view])
            torch.testing.assert_close(torch.from_numpy(page[indices.numpy()]).float(), live, rtol=2e-3, atol=2e-3)

    def test_one_bank_serves_every_seed(self, dataset, store):
        for seed in (0, 1):
            pack = make_pack(dataset, store, fixed_views=1, stream_seed=seed)
            join(pack, "x", settings("seed", 1, data={"fixed_views": 1, "stream_seed": seed}, train={"seed": seed}))
            before = len(store.entries())
            run(pack)
        assert len(store.entries()) == before

    def test_fixed_views_repeat_and_fresh_ones_do_not(self, dataset, store):
        view = View("moco2", 0)
        fixed, fresh = make_pack(dataset, store, fixed_views=2).stream, make_pack(dataset, store).stream

        def by_index(stream, epoch):
            views, indices = zip(*((v[view], i) for v, i in stream.epoch(epoch, [view])), strict=True)
            return torch.cat(views)[torch.cat(indices).argsort()], torch.cat(indices).sort().values

        def shared(stream, a, b):
            (x, i), (y, j) = by_index(stream, a), by_index(stream, b)
            both = sorted(set(i.tolist()) & set(j.tolist()))
            return all(torch.equal(x[i == n], y[j == n]) for n in both)

        assert shared(fixed, 0, 2)
        assert shared(fixed, 1, 3)
        assert not shared(fixed, 0, 1)
        assert not shared(fresh, 0, 2)


class TestLabels:
    @pytest.mark.parametrize("kind", ["kmeans", "prototypes", "random", "true"])
    def test_every_source_gives_each_image_a_class(self, dataset, store, kind):
        pack = make_pack(dataset, store)
        join(pack, "x", settings("sssd", 1, labels=kind))
        labels = pack.learners["x"].inputs.labels
        assert labels.shape == (len(dataset.train),)
        assert len(labels.unique()) == (10 if kind == "true" else 4)
        again = make_pack(dataset, store)
        join(again, "y", settings("sssd", 1, labels=kind))
        assert torch.equal(labels, again.learners["y"].inputs.labels)
        run(pack)

    @pytest.mark.fault(17)
    def test_more_clusters_than_images(self, dataset, store):
        report = make_pack(dataset, store).add(request("x", settings("sssd", clusters=4000)))
        assert "4000" in report.error
        assert str(len(dataset.train)) in report.error
