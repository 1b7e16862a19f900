"""Training of open length: when a score has settled, what the learning rate does then, also after a resume."""

import itertools
import json
import math

import pytest
from helpers.builders.states import same, weights
from helpers.requests import request
from hypothesis import given, settings
from hypothesis import strategies as st

from raydistill import config
from raydistill.artifacts.store import Store
from raydistill.artifacts.teachers import trained_epochs
from raydistill.config import ConfigError, DataConfig, TrainConfig
from raydistill.data.sources import load_dataset
from raydistill.planning.prepare import ensure_teachers
from raydistill.training import learner as learners
from raydistill.training.checkpoints import latest_checkpoint
from raydistill.training.pack import Pack
from raydistill.training.patience import has_settled, span
from raydistill.training.single import train
from raydistill.trial_spec import TrialSpec

DATA = {"source": "digits", "limit": 48, "image_size": 8, "batch_size": 16}
TINY = {"name": "simclr", "backbone": "resnet10_w4", "hidden_dim": 8, "projection_dim": 8}
# Of 20 epochs the first 5 do not count, so that the score rests there; with a patience of 2 it has settled after 9.
RISE_THEN_FLAT = [0.1, 0.1, 0.1, 0.1, 0.1, 0.5, 0.9, 0.9, 0.9]
SETTLED, END = 9, 12
SHARES = st.lists(st.integers(0, 100).map(lambda hits: hits / 100), min_size=1, max_size=12)


def made(patience=2, epochs=20, **values):
    train = {"epochs": epochs, "lr": 0.01, "schedule": "cosine", "patience": patience, **values}
    return config.load({"method": TINY, "data": DATA, "train": train})


class Scripted:
    """An evaluation whose scores are given, one after another; the last one repeats."""

    def __init__(self, scores, seen=0, metric="val_knn"):
        self.scores, self.seen, self.metric = scores, seen, metric

    def __call__(self, candidates, dataset, device):
        score = self.scores[min(self.seen, len(self.scores) - 1)]
        self.seen += 1
        return {key: {self.metric: score} for key in candidates}


class TestHasSettled:
    @pytest.mark.parametrize(
        ("scores", "settled"),
        [
            ([0.5], False),
            ([0.5, 0.5], False),
            ([0.5, 0.5, 0.5], True),
            # The standard error of 0.5 over 100 images is 0.05.
            ([0.5, 0.54, 0.549], True),
            ([0.5, 0.56, 0.5], False),
            ([0.5, 0.5, 0.56], False),
            # A slow rise counts over all of the last scores together.
            ([0.5, 0.53, 0.56], False),
            ([0.5, 0.4, 0.3], True),
            ([0.3, 0.4, 0.5, 0.5, 0.5], True),
            ([0.0, 0.0, 0.0], True),
            ([0.0, 0.0, 0.01], False),
            ([1.0, 1.0, 1.0], True),
        ],
    )
    def test_by_hand(self, scores, settled):
        assert has_settled(scores, images=100, patience=2) == settled

    @given(scores=SHARES, patience=st.integers(1, 6), images=st.integers(1, 10_000))
    def test_what_must_hold(self, scores, patience, images):
        settled = has_settled(scores, images, patience)
        assert not (settled and len(scores) <= patience)
        assert not (has_settled(scores, images * 4, patience) and not settled), "more images, a smaller error"
        if all(a >= b for a, b in itertools.pairwise(scores)):
            assert settled == (len(scores) > patience), "without any rise it has settled as soon as it can have"
        assert not has_settled([*scores, *[max(scores) + 0.51] * patience], 1, patience)


class TestSpan:
    def test_without_patience_it_is_the_whole_training(self):
        assert span(TrainConfig(epochs=7, schedule="cosine"), None) == (None, 7)

    @pytest.mark.parametrize(
        ("settled", "expected"),
        [(None, (16, 20)), (4, (4, 5)), (5, (5, 7)), (12, (12, 15)), (16, (16, 20)), (19, (16, 20))],
    )
    def test_a_cosine_falls_over_the_last_fifth(self, settled, expected):
        assert span(TrainConfig(epochs=20, schedule="cosine", patience=2), settled) == expected

    @pytest.mark.parametrize(("settled", "end"), [(None, 20), (4, 4)])
    def test_a_constant_rate_ends_at_once(self, settled, end):
        assert span(TrainConfig(epochs=20, patience=2), settled) == (None, end)

    @given(epochs=st.integers(1, 500), settled=st.integers(1, 500))
    def test_it_ends_in_time_and_later_where_the_score_settles_later(self, epochs, settled):
        options = TrainConfig(epochs=epochs, schedule="cosine", patience=1)
        fall, end = span(options, settled)
        assert 0 <= fall < end <= epochs
        assert abs((end - fall) - end / 5) < 1
        assert end >= min(settled, epochs)
        assert span(options, settled + 1)[1] >= end
        assert span(options, None)[1] == epochs

    def test_shares_of_an_unknown_length_are_refused(self):
        with pytest.raises(ConfigError, match=r"train\.patience = 2: .*step"):
            made(schedule="step")


class TestTraining:
    def rates(self, monkeypatch, wanted, evaluate):
        """The learning rate of every step, and the last result."""
        seen, real = [], learners.learning_rate
        monkeypatch.setattr(learners, "learning_rate", lambda *a, **k: seen.append(real(*a, **k)) or seen[-1])
        return seen, train(TrialSpec(wanted), None, evaluate=evaluate)

    def test_the_rate_is_held_until_the_score_settles_and_then_falls(self, monkeypatch):
        seen, last = self.rates(monkeypatch, made(), Scripted(RISE_THEN_FLAT))
        steps = len(seen) // last.epoch
        assert (last.epoch, last.done, last.metrics["last_epoch"]) == (END, True, END)
        assert set(seen[: SETTLED * steps]) == {0.01}
        falling = seen[SETTLED * steps :]
        expected = [0.01 * 0.5 * (1 + math.cos(math.pi * i / (3 * steps))) for i in range(3 * steps)]
        assert falling == pytest.approx(expected)

    def test_a_score_that_goes_on_rising_gets_all_epochs_and_its_fall(self, monkeypatch):
        seen, last = self.rates(monkeypatch, made(epochs=5, patience=1), Scripted([0.0, 0.3, 0.6, 0.9, 1.0]))
        steps = len(seen) // 5
        assert last.epoch == 5
        assert set(seen[: 4 * steps]) == {0.01}
        assert seen[4 * steps :] == sorted(seen[4 * steps :], reverse=True)
        assert seen[-1] < 0.01

    @pytest.mark.parametrize(("warmup", "every", "end"), [(0, 1, 5 + 3), (3, 1, 5 + 3), (7, 1, 7 + 3), (0, 2, 6 + 4)])
    def test_scores_of_warm_up_and_first_quarter_do_not_count_nor_epochs_without_one(self, warmup, every, end):
        wanted = made(warmup_epochs=warmup, schedule="constant")
        wanted = wanted.model_copy(update={"eval": wanted.eval.model_copy(update={"every": every})})
        assert train(TrialSpec(wanted), None, evaluate=Scripted([0.5])).epoch == end

    def test_a_plateau_at_the_start_ends_nothing(self):
        """Six equal scores and then a rise, as of a warm-up; a patience of 2 would have been over after three."""
        rising = [0.1] * 6 + [0.1 + 0.06 * i for i in range(1, 15)]
        assert train(TrialSpec(made(schedule="constant")), None, evaluate=Scripted(rising)).epoch == 20

    def test_images_without_labels_have_a_score_too(self):
        assert train(TrialSpec(made()), None, evaluate=Scripted(RISE_THEN_FLAT, metric="val_instance")).epoch == END

    def test_without_patience_nothing_is_kept(self, tmp_path):
        train(TrialSpec(made(patience=None, epochs=4)), tmp_path, evaluate=Scripted([0.5]))
        state = latest_checkpoint(tmp_path)
        assert state["epoch"] == 4
        assert {"scores", "settled"}.isdisjoint(state)
        assert "last_epoch" not in state["metrics"]

    @pytest.mark.slow
    @settings(max_examples=6, deadline=None)
    @given(stop=st.integers(1, 6))
    def test_a_resume_at_any_epoch_changes_no_bit(self, tmp_path_factory, stop):
        whole, parts = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("parts")
        wanted = made(epochs=8)
        train(TrialSpec(wanted), whole, evaluate=Scripted(RISE_THEN_FLAT))
        pack = self.pack(Scripted(RISE_THEN_FLAT))
        pack.add(request("a", wanted, str(parts)))
        for _ in range(stop):
            pack.run_epoch()
        again = self.pack(Scripted(RISE_THEN_FLAT, seen=stop))
        assert again.add(request("a", wanted, str(parts))) is None
        while again.learners:
            (last,) = again.run_epoch()
        assert (last.epoch, last.done) == (7, True)
        assert same(weights(parts), weights(whole))
        done = self.pack(Scripted([])).add(request("a", wanted, str(parts)))
        assert (done.epoch, done.done) == (7, True), "it knows that it has ended"

    def pack(self, evaluate):
        return Pack(load_dataset(DataConfig(**DATA)), DataConfig(**DATA), evaluate=evaluate)

    def test_neighbours_go_on(self):
        pack, ends = self.pack(Scripted(RISE_THEN_FLAT)), {}
        pack.add(request("open", made()))
        pack.add(request("fixed", made(patience=None, epochs=9)))
        while pack.learners:
            ends |= {report.key: report.epoch for report in pack.run_epoch() if report.done}
        assert ends == {"open": END, "fixed": 9}


class TestTeacher:
    def spec(self, **teacher):
        values = {"name": "seed", "backbone": "resnet10_w4", "queue_size": 16}
        teacher = {"backbone": "resnet10_w4", "epochs": 20, **teacher}
        return TrialSpec(config.load({"method": values, "data": DATA, "teacher": teacher, "train": {"epochs": 1}}))

    def test_its_card_says_how_long_it_was_trained_and_patience_makes_another_teacher(self, tmp_path):
        store = Store(tmp_path / "store")
        keys, epochs = {}, {}
        for patience in (None, 2):
            spec = ensure_teachers(
                self.spec(patience=patience, epochs=8), store, tmp_path / "scratch", evaluate=Scripted(RISE_THEN_FLAT)
            )
            (keys[patience],) = spec.teachers
            epochs[patience] = trained_epochs(store, keys[patience])
        assert keys[None] != keys[2]
        assert epochs == {None: 8, 2: 7}
        card = json.loads((store.by_key("teacher", keys[2]) / "card.json").read_text())
        assert card == {"epochs": 7, "val_knn": 0.9}

    def test_a_teacher_of_before_has_no_card(self, tmp_path):
        store = Store(tmp_path)
        key = store.get("teacher", {"of": "before"}, lambda folder: None).name
        assert trained_epochs(store, key) is None
        assert trained_epochs(store, "0123") is None

    def test_a_teacher_whose_schedule_has_milestones_is_refused(self, monkeypatch):
        from raydistill.planning import resolve

        monkeypatch.setattr(
            resolve, "load_preset", lambda *_: {"method": {"name": "simclr"}, "train": {"schedule": "step"}}
        )
        with pytest.raises(ConfigError, match=r"train\.patience = 2"):
            resolve.teacher_configs(self.spec(patience=2).config, 1000)
