"""Options of a sweep become settings: its search space fits its images, and stays what it was on a resume."""

from pathlib import Path

import pytest
import yaml
from helpers.builders.datafiles import folder as image_folder
from helpers.builders.datafiles import save

from raydistill.config import ConfigError
from raydistill.records.layout import SWEEP_FILE
from raydistill.sweep.options import prepare_settings
from raydistill.sweep.search import space as module
from raydistill.sweep.settings import other_images

TINY = {"data.limit": 600, "method.backbone": "resnet10_w4", "method.hidden_dim": 8, "teacher.backbone": "resnet10_w4"}


def prepared(folder, method="seed", notes=None, **options):
    others = {"set": TINY, "storage": folder, "artifacts": folder / "artifacts", "name": "s"}
    others |= {"baseline_search": False} | options  # the space of a baseline is another one
    return prepare_settings(method, notify=(notes if notes is not None else []).append, **others)


def values(settings):
    return {parameter.path: list(parameter.values) for parameter in settings.space.parameters}


def write(folder, values, name="own.yaml", method="random"):
    parameters = {"method.queue_size": {"values": values, "at_most": "images"}, "method.tau_s": {"values": [0.1, 0.2]}}
    (folder / name).write_text(yaml.safe_dump({"method": method, "parameters": parameters}))
    return folder / name


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """Write a space as the one that ships for SEED."""
    folder = tmp_path / "search_spaces"
    folder.mkdir()
    monkeypatch.setattr(module, "SHIPPED", folder)
    return lambda values, **others: write(folder, values, "seed.yaml", **others)


def test_the_stored_space_has_the_values_that_fit_the_images(tmp_path, shipped):
    notes = []
    shipped([128, 200, 4096])
    settings = prepared(tmp_path, notes=notes)
    assert settings.images["train"] == 600
    assert values(settings)["method.queue_size"] == [128, 200]
    assert "method.queue_size: 4096 left out: above 600 (at_most: images)" in notes
    settings.store()
    stored = yaml.safe_load((settings.directory / SWEEP_FILE).read_text())
    known = {"distribution": "categorical", "values": [128, 200]}
    assert stored["space"]["parameters"]["method.queue_size"] == known


def test_the_seeds_of_a_trial_are_part_of_what_a_sweep_was_asked(tmp_path, shipped):
    shipped([128])
    settings = prepared(tmp_path, seeds_per_trial=3)
    assert (settings.seeds_per_trial, prepared(tmp_path).seeds_per_trial) == (3, 1)
    settings.store()
    assert prepared(tmp_path, seeds_per_trial=3, resume=True) == settings
    with pytest.raises(ConfigError, match="seeds_per_trial: 3 -> 1"):
        prepared(tmp_path, resume=True)
    path = settings.directory / SWEEP_FILE
    before = {key: value for key, value in yaml.safe_load(path.read_text()).items() if key != "seeds_per_trial"}
    path.write_text(yaml.safe_dump(before))
    assert prepared(tmp_path, resume=True).seeds_per_trial == 1


def test_seeds_of_a_trial_that_cannot_be_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="seeds_per_trial = 0: expected at least 1"):
        prepared(tmp_path, seeds_per_trial=0)
    with pytest.raises(ConfigError, match="--learners 2: a trial trains 3 learners side by side"):
        prepared(tmp_path, seeds_per_trial=3, learners=2)


def test_a_grid_has_as_many_trials_as_it_has_points_after_that(tmp_path, shipped):
    shipped([128, 200, 4096], method="grid")
    assert prepared(tmp_path).trials == 4
    assert prepared(tmp_path, trials=3).trials == 3


def test_a_value_without_at_most_is_refused_as_before(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text("method: random\nparameters: {method.queue_size: {values: [128, 4096]}}\n")
    with pytest.raises(ConfigError, match=r"queue_size = 4096 is longer than the \d+ training images"):
        prepared(tmp_path, search_space=path)


def test_a_space_that_ships_may_change_before_a_resume(tmp_path, shipped):
    shipped([128, 200, 4096])
    first = prepared(tmp_path)
    first.store()
    shipped([64])
    again = prepared(tmp_path, resume=True)
    assert again.space == first.space
    assert again.identity() == first.identity()


@pytest.mark.fault(22)
def test_a_space_that_is_given_is_compared_on_a_resume(tmp_path):
    first = prepared(tmp_path, search_space=write(tmp_path, [128, 200]))
    first.store()
    assert prepared(tmp_path, search_space=write(tmp_path, [128, 200, 8192]), resume=True).space == first.space
    assert prepared(tmp_path, resume=True).space == first.space, "its own, without its file"
    with pytest.raises(ConfigError, match=r"queue_size.values: \[128, 200\] -> \[64, 128\]"):
        prepared(tmp_path, search_space=write(tmp_path, [64, 128]), resume=True)


def test_a_sweep_of_another_method_is_not_resumed(tmp_path):
    prepared(tmp_path, search_space=write(tmp_path, [128, 200])).store()
    with pytest.raises(ConfigError, match=r"other settings: method\.name: seed -> simreg"):
        prepared(tmp_path, method="simreg", set={"data.limit": 600}, resume=True)


def test_a_damaged_space_is_named_on_a_resume(tmp_path):
    settings = prepared(tmp_path, search_space=write(tmp_path, [128, 200]))
    settings.store()
    path = settings.directory / SWEEP_FILE
    path.write_text(path.read_text().replace("method: random", "method: rondom"))
    with pytest.raises(ConfigError, match=r"the space in s/sweep.yaml: method = 'rondom': .*'random'"):
        prepared(tmp_path, resume=True)


def test_a_teacher_that_is_given_is_not_searched(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(
        "method: random\nparameters: {teacher.epochs: {values: [1, 2]}, method.tau_s: {values: [0.1, 0.2]}}\n"
    )
    notes = []
    given = {"teacher": "timm:resnet10t", "set": TINY | {"data.image_size": 32, "method.teacher": "features"}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("raydistill.sweep.options.preflight", lambda settings, *_, **__: settings)
        settings = prepared(tmp_path, search_space=path, notes=notes, **given)
    assert list(values(settings)) == ["method.tau_s"]
    assert notes == ["teacher.epochs: not searched, since the teachers are given"]


def test_a_path_object_is_always_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="paper: No such file"):
        prepared(tmp_path, search_space=Path("paper"))


@pytest.mark.fault(22)
def test_a_sweep_is_not_resumed_on_other_images(tmp_path):
    photos = image_folder(tmp_path / "photos", ("",), ("cat", "dog"), 30)
    options = {"method": "simclr", "data": photos, "set": {"data.batch_size": 16, "method.backbone": "resnet10_w4"}}
    first = prepared(tmp_path, **options)
    first.store()
    assert prepared(tmp_path, resume=True, **options).contents == first.contents
    held_out = first.contents["test"]
    for index in range(30, 45):
        save(photos / "cat" / f"{index}.png")
    with pytest.raises(
        ConfigError, match=rf"images of sweep 's' are others now \(train \d+, now \d+.*test {held_out}, now"
    ):
        prepared(tmp_path, resume=True, **options)
    for index in range(30, 45):
        (photos / "cat" / f"{index}.png").unlink()
    (photos / "cat" / "3.png").rename(photos / "cat" / "3-again.png")
    with pytest.raises(ConfigError, match="--warm-start s to begin with what this one found"):
        prepared(tmp_path, resume=True, **options)


@pytest.mark.fault(22)
def test_other_images_are_told_by_their_numbers_and_their_digest():
    then, now = {"train": 100, "digest": "a"}, {"train": 110, "digest": "b"}
    assert other_images(then, now) == "train 100, now 110"
    assert other_images(then, then | {"digest": "b"}) == "as many, but not the same ones"
    assert other_images(then, dict(then)) == ""
