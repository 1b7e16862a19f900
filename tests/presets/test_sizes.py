"""Sizes of presets that exceed a small folder are halved until they fit; what somebody chose is not touched."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raydistill import config as configuration
from raydistill.config import ConfigError
from raydistill.presets import load_preset
from raydistill.presets.sizes import fit_sizes
from raydistill.sweep.options import prepare_settings
from raydistill.sweep.plan import SweepPlan


def preset(method, name="cpu", **settings):
    return configuration.load(configuration.assign(load_preset(method, name), settings))


@given(st.integers(4, 10_000), st.integers(1, 4))
def test_what_is_left_fits_and_is_never_more_than_the_presets(images, workers):
    before = preset("compress_1q")
    said = []
    after = fit_sizes(before, images, multiple=workers, notify=said.append)
    assert after.method.queue_size <= min(images, before.method.queue_size)
    assert after.data.batch_size <= before.data.batch_size
    if images >= 2 * workers:
        assert after.data.batch_size <= images
    if after.data.batch_size != before.data.batch_size:
        assert after.data.batch_size <= max(images // 2, workers)
        assert after.data.batch_size % workers == 0
    assert (after == before) == (not said)


def test_nothing_changes_where_everything_fits():
    config = preset("sssd")
    assert fit_sizes(config, 10_000, notify=pytest.fail) is config


def test_each_change_is_said_with_both_sizes():
    said = []
    fitted = fit_sizes(preset("sssd"), 200, notify=said.append)
    assert (fitted.data.batch_size, fitted.method.clusters) == (64, 31)
    assert said == [
        "data.batch_size = 64 instead of the preset's 256, since there are 200 training images",
        "method.clusters = 31 instead of the preset's 500, since there are 200 training images",
    ]


def test_a_chosen_size_stays_to_be_refused():
    config = preset("compress_1q", **{"method.queue_size": 3000})
    fitted = fit_sizes(config, 200, given=["method.queue_size"])
    assert fitted.method.queue_size == 3000
    assert fitted.data.batch_size == 64


def test_clusters_that_no_label_comes_from_are_not_mentioned():
    assert preset("seed").method.clusters > 200
    said = []
    fit_sizes(preset("seed"), 200, notify=said.append)
    assert not any("clusters" in line for line in said)


def test_a_sweep_of_a_small_folder_starts_with_sizes_that_fit(tmp_path):
    said = []
    options = {"preset": "cpu", "data": "digits", "storage": tmp_path, "tracking_uri": f"sqlite:///{tmp_path}/m.db"}
    small = {"data.limit": 100, "data.image_size": 8, "teacher.method": "mocov2"}
    settings = prepare_settings("compress_1q", notify=said.append, set=small, artifacts=tmp_path / "a", **options)
    assert (settings.base.data.batch_size, settings.base.method.queue_size) == (32, 64)
    assert sum("instead of the preset's" in line for line in said) == 3
    assert any("an epoch of 100 images has 3 steps; a smaller batch has more" in line for line in said)
    (teacher,) = SweepPlan(settings).teacher_runs(settings.base)
    assert teacher.config.method.queue_size == 64
    with pytest.raises(ConfigError, match="longer than the 100 training images"):
        prepare_settings("compress_1q", set=small | {"method.queue_size": 128}, artifacts=tmp_path / "a", **options)
