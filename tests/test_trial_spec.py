"""A trial's spec: what it accepts, what it keeps, and its way through JSON."""

import json
import pickle
from dataclasses import FrozenInstanceError

import pytest
from helpers.rows import ROWS
from hypothesis import given, settings
from hypothesis import strategies as st

from raydistill import config
from raydistill.config import ConfigError
from raydistill.trial_spec import TrialSpec

KEY, LABELS = "0123456789abcdef", "fedcba9876543210"
KEYS = st.text("0123456789abcdef", min_size=16, max_size=16)


def make(method, teachers=None, labels=None, **sections):
    values = method if isinstance(method, dict) else {"name": method, **ROWS[method]}
    return TrialSpec(config.load({"method": values, **sections}), teachers, labels)


@st.composite
def specs(draw):
    method, count = draw(st.sampled_from(sorted(ROWS))), draw(st.integers(1, 3))
    sections = {
        "train": {"lr": draw(st.floats(1e-9, 10)), "seed": draw(st.integers(0, 2**32 - 1))},
        "data": {"batch_size": draw(st.integers(2, 4096)), "fixed_views": draw(st.none() | st.integers(1, 9))},
        "teacher": {"count": count},
    }
    plain = make(method, **sections)
    teachers = plain.teachers if plain.teachers == () else tuple(draw(KEYS) for _ in range(count))
    needs_labels = not TrialSpec(plain.config, teachers).resolved
    return TrialSpec(plain.config, teachers, draw(KEYS) if needs_labels else None)


class TestRoundTrip:
    @settings(deadline=None)
    @given(specs())
    def test_json_gives_the_same_spec(self, spec):
        assert spec.resolved
        again = TrialSpec.from_dict(json.loads(json.dumps(spec.to_dict())))
        assert again == spec
        assert again.data == spec.data
        assert pickle.loads(pickle.dumps(spec)) == spec

    @settings(deadline=None)
    @given(specs())
    def test_setting_what_it_has_changes_nothing(self, spec):
        same = {"train.lr": spec.config.train.lr, "teacher.count": spec.config.teacher.count}
        assert spec.assign(same) == spec

    def test_a_configuration_alone_is_a_spec_of_before(self):
        spec = TrialSpec.from_dict({"config": config.dump(make("seed").config)})
        assert spec.teachers is None
        assert not spec.resolved


class TestValidation:
    def test_it_cannot_be_changed(self):
        with pytest.raises(FrozenInstanceError):
            make("simclr").labels = LABELS

    @pytest.mark.parametrize(
        ("method", "teachers", "labels", "count", "said"),
        [
            ("simclr", (KEY,), None, 1, "simclr is set to have 0"),
            ("seed", (), None, 1, "seed is set to have 1"),
            ("seed", (KEY,), None, 2, "seed is set to have 2"),
            ("seed", ("",), None, 1, "seed is set to have 1"),
            ("seed", (KEY,), LABELS, 1, "seed takes none"),
            ("sssd", (KEY,), "", 1, "sssd takes none"),
        ],
    )
    def test_keys_that_do_not_belong_to_the_configuration(self, method, teachers, labels, count, said):
        with pytest.raises(ConfigError, match=said):
            make(method, teachers, labels, teacher={"count": count})

    def test_a_wrong_setting_is_named(self):
        values = make("seed", (KEY,)).to_dict()
        values["config"]["train"]["lr"] = -1
        with pytest.raises(ConfigError, match=r"train\.lr"):
            TrialSpec.from_dict(values)


class TestWhatIsDecided:
    def test_without_teachers_from_the_start(self):
        assert make("simclr").teachers == ()
        assert make("simclr").resolved

    def test_teachers_that_are_named_by_their_keys(self):
        named = {"sources": [f"artifact:{KEY}", f"artifact:{LABELS}"]}
        assert make("seed", teacher=named).teachers == (KEY, LABELS)
        assert make("seed", teacher={"sources": [f"artifact:{KEY}", "timm:resnet18"]}).teachers is None

    @pytest.mark.parametrize("kind", ["kmeans", "prototypes", "random", "true"])
    def test_labels_where_a_store_keeps_them(self, kind):
        teachers = (KEY,) if kind in ("kmeans", "prototypes") else None
        spec = make({"name": "sssd", "labels": kind}, teachers)
        assert spec.resolved == (kind == "true")

    @pytest.mark.parametrize(
        ("settings", "teachers", "labels"),
        [
            ({"train.lr": 0.5, "train.seed": 3, "data.batch_size": 64, "data.stream_seed": 2}, True, True),
            ({"teacher.bank": False, "data.fixed_views": 2, "data.cache_gib": 0}, True, True),
            ({"method.clusters": 7}, True, False),
            ({"teacher.seed": 1}, False, False),
            ({"teacher.preset": "other"}, False, False),
            ({"teacher.epochs": 9}, False, False),
            ({"data.split_seed": 1}, False, False),
            ({"train.precision": "bf16"}, False, False),
            ({"method.labels": "random"}, False, False),
        ],
    )
    def test_a_key_stays_where_nothing_that_it_depends_on_differs(self, settings, teachers, labels):
        spec = make("sssd", (KEY,), LABELS, teacher={"epochs": 2, "batch_size": 16})
        changed = spec.assign(settings)
        assert (changed.teachers == (KEY,), changed.labels == LABELS) == (teachers, labels)

    def test_a_teacher_that_follows_the_student_differs_with_its_length(self):
        assert make("seed", (KEY,)).assign({"train.epochs": 33}).teachers is None
        assert make("seed", (KEY,)).assign({"data.batch_size": 33}).teachers is None


def test_trials_share_their_data_where_their_settings_are_equal():
    one = make("seed", (KEY,), data={"batch_size": 16, "cache_gib": 2})
    other = make("simclr", data={"cache_gib": 2.0, "batch_size": 16})
    assert one.data == other.data
    assert hash(one.data) == hash(other.data)
    assert one.data.model_dump_json() == other.data.model_dump_json()
    assert one.data != one.assign({"data.stream_seed": 1}).data
