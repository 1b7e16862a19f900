"""Which teachers a configuration has: how long they are trained, and under which keys the store has them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raydistill import config
from raydistill.config import ConfigError, EvalConfig
from raydistill.data.sources import load_dataset
from raydistill.planning.resolve import redraw_teachers, resolve, teacher_configs, teacher_runs
from raydistill.sweep.settings import with_own_teacher
from raydistill.trial_spec import TrialSpec, teacher_inputs

DATA = {"source": "digits", "limit": 60, "batch_size": 16, "image_size": 8}
METHODS = {
    "sssd": {"backbone": "resnet10_w4", "clusters": 4},
    "seed": {"backbone": "resnet10_w4", "queue_size": 16, "loss": "kmeans", "clusters": 4},
}


def made(method="seed", student=3, **teacher):
    values = {"method": {"name": method, **METHODS[method]}, "data": DATA, "train": {"epochs": student}}
    return config.load({**values, "teacher": {"backbone": "resnet10_w4", **teacher}})


@pytest.mark.parametrize("method", METHODS)
def test_the_keys_of_stored_teachers_and_labels_stay(method):
    """The keys are those of the version in which the settings of TeacherConfig ended with `bank`."""
    wanted = made(method, count=2, preset="small", seed=3)
    spec = resolve(TrialSpec(wanted), load_dataset(wanted.data))
    assert spec.teachers == ("9af473ce96bdc3f7", "74c714ce4973c99b")
    assert spec.labels == "eef274524322e707"


def test_what_scores_a_teacher_is_part_of_it_where_the_scores_end_its_training():
    def key(patience, every):
        wanted = made(patience=patience).model_copy(update={"eval": EvalConfig(every=every)})
        (run,) = teacher_runs(wanted, load_dataset(wanted.data))
        return run.key

    assert key(None, 1) == key(None, 2)
    assert len({key(None, 1), key(2, 1), key(2, 2)}) == 3


class TestLength:
    @pytest.mark.parametrize(
        ("student", "teacher", "expected"),
        [
            (10, {}, 10),
            (10, {"epochs_factor": 2.0}, 20),
            (10, {"epochs_factor": 2.0, "epochs": 7}, 7),
            (3, {"epochs_factor": 1.25}, 4),
            (1, {"epochs_factor": 0.1}, 1),
        ],
    )
    def test_in_proportion_to_the_students_unless_it_is_given(self, student, teacher, expected):
        wanted = made(student=student, **teacher)
        assert wanted.teacher_epochs == expected
        assert [run.train.epochs for run in teacher_configs(wanted, 1000)] == [expected]
        spelt = with_own_teacher(wanted)
        assert spelt.teacher.epochs == expected
        longer = spelt.model_copy(update={"train": spelt.train.model_copy(update={"epochs": student + 5})})
        assert longer.teacher_epochs == expected, "decided before the search"

    @settings(deadline=None)
    @given(student=st.integers(1, 10_000), factor=st.floats(0.001, 1000))
    def test_a_factor_is_another_way_to_write_the_epochs(self, student, factor):
        by_factor = made(student=student, epochs_factor=factor)
        assert by_factor.teacher_epochs >= 1
        assert abs(by_factor.teacher_epochs - student * factor) <= max(0.5, 1 - student * factor)
        by_epochs = made(student=student, epochs=by_factor.teacher_epochs)
        assert teacher_inputs(by_factor) == teacher_inputs(by_epochs)

    def test_no_teacher_is_trained_for_nothing(self):
        with pytest.raises(ConfigError, match=r"teacher\.epochs_factor"):
            made(epochs_factor=0)


class TestRedrawn:
    @settings(deadline=None)
    @given(draws=st.integers(2, 6), count=st.integers(1, 4), seed=st.integers(0, 1000))
    def test_no_two_draws_share_a_teacher_or_clusters(self, draws, count, seed):
        wanted = made("sssd", count=count, seed=seed)
        drawn = [redraw_teachers(wanted, draw) for draw in range(draws)]
        assert drawn[0] == wanted
        seeds = [run.train.seed for each in drawn for run in teacher_configs(each, 1000)]
        assert seeds == list(range(seed, seed + draws * count))
        assert [each.method.label_source().seed for each in drawn] == list(range(draws))
        unchanged = [each.model_copy(update={"teacher": wanted.teacher, "method": wanted.method}) for each in drawn]
        assert unchanged == [wanted] * draws

    def test_given_teachers_stay(self):
        wanted = made(sources=["artifact:0123"])
        assert redraw_teachers(wanted, 2).teacher == wanted.teacher

    def test_the_clusters_of_seed_have_a_seed_too(self):
        assert [redraw_teachers(made("seed"), draw).method.label_source().seed for draw in range(3)] == [0, 1, 2]

    @pytest.mark.parametrize("method", [{"name": "simclr"}, {"name": "dogo"}, {"name": "sssd", "labels": "true"}])
    def test_nothing_else_is_drawn(self, method):
        wanted = config.load({"method": method})
        assert redraw_teachers(wanted, 3) == wanted
