"""Options of a sweep: what a resumed sweep of version 0.1 keeps where presets have changed."""

import pytest
import yaml

from raydistill.config import read_yaml
from raydistill.presets import NEW_IN_PRESETS, load_preset, preset_names
from raydistill.records.layout import SWEEP_FILE
from raydistill.sweep.options import prepare_settings

TINY = {"data.limit": 40, "data.batch_size": 16, "data.image_size": 8, "method.backbone": "resnet10_w4"}
CHANGED = {
    "byol": {"momentum_window": (0.1, None)},
    "compress_2q": {"momentum_window": (0.1, None)},
    "crd": {"normalizer": ("first_batch", "none")},
}


def prepare(folder, method, lines=None, **options):
    space = folder / "space.yaml"
    space.write_text(yaml.safe_dump({"method": "random", "parameters": {"train.lr": {"values": [0.1, 0.2]}}}))
    queue = {"compress_2q": "queue_size", "crd": "negatives"}.get(method)
    few = {f"method.{queue}": 16, "teacher.backbone": "resnet10_w4"} if queue else {}
    options = {"search_space": space, "storage": folder / "runs", "name": "old", "set": TINY | few} | options
    return prepare_settings(method, notify=[].append if lines is None else lines.append, **options)


def as_of_before(file):
    """Take what version 0.1 lacked out of a sweep's file."""
    stored = read_yaml(file)
    for setting in NEW_IN_PRESETS:
        section, name = setting.split(".")
        stored["base"][section].pop(name, None)
    file.write_text(yaml.safe_dump(stored))


@pytest.mark.parametrize("method", CHANGED)
def test_a_sweep_of_before_keeps_its_settings_however_often_it_is_resumed(tmp_path, method):
    new = prepare(tmp_path, method)
    assert {name: getattr(new.base.method, name) for name in CHANGED[method]} == {
        name: now for name, (now, _) in CHANGED[method].items()
    }
    new.store()
    as_of_before(new.directory / SWEEP_FILE)
    for _ in range(2):
        resumed = prepare(tmp_path, method, resume=True)
        for name, (_, before) in CHANGED[method].items():
            assert getattr(resumed.base.method, name) == before
        assert (resumed.base.data.kind, resumed.base.eval.probe) == ("photographs", "dogo")
        resumed.store()


def test_a_present_sweep_goes_on_with_its_preset(tmp_path):
    prepare(tmp_path, "byol").store()
    assert prepare(tmp_path, "byol", resume=True).base.method.momentum_window == 0.1


def test_a_searched_setting_stays_searched(tmp_path):
    space = tmp_path / "own.yaml"
    window = {"method.momentum_window": {"values": ["none", 0.1]}}
    space.write_text(yaml.safe_dump({"method": "random", "parameters": window}))
    few = {**TINY, "method.momentum_window": "none"}
    fixed = prepare(tmp_path, "byol", set=few)
    assert fixed.base.method.momentum_window is None
    asked = {"search_space": space, "preset": "paper", "set": {**TINY, "train.epochs": 1}, "name": "searched"}
    searched = prepare(tmp_path, "byol", **asked)
    searched.store()
    assert prepare(tmp_path, "byol", resume=True, **asked).space == searched.space


def test_a_short_run_without_a_window_is_announced_before_it_starts(tmp_path):
    lines = []
    prepare(tmp_path, "byol", lines)
    prepare(tmp_path, "byol", lines, set={**TINY, "train.epochs": 3, "method.momentum_window": "none"})
    (line,) = [line for line in lines if "momentum" in line]
    assert "method.momentum = 0.99: after 6 steps" in line


def test_what_is_new_in_presets_is_in_a_preset():
    methods = ("simclr", *CHANGED)
    sections = [load_preset(method, name) for method in methods for name in preset_names(method)]
    given = {f"{section}.{key}" for values in sections for section in values for key in values[section]}
    assert set(NEW_IN_PRESETS) <= given
