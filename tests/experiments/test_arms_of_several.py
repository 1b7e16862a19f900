"""Arms that take teachers by name, and the settings in which arms of one method may differ."""

import pytest

from raydistill.config import ConfigError
from raydistill.experiments.catalogue import load_experiment
from raydistill.experiments.scales import Given, load_scale, scaled

FILE = """
title: several
source: a test
images: imagenet
varies: [teacher.sources, teacher.count]
arms:
  first: {method: simreg, teacher.sources: ["{byol}"]}
  both: {method: simreg, teacher.count: 2, teacher.sources: ["{swav}", "{byol}"]}
metrics: [test_knn]
"""


def arms(folder, text=FILE, **given):
    path = folder / "own.yaml"
    path.write_text(text)
    made = scaled(load_experiment(str(path)), load_scale("smoke"), Given(**given))
    return {arm.name: arm.config for arm in made.arms}


def test_an_arm_takes_the_teachers_that_it_names(tmp_path):
    made = arms(tmp_path, teachers=("byol=a", "swav=b"))
    assert made["first"].teacher.sources == ("a",)
    assert made["both"].teacher.sources == ("b", "a")


def test_without_given_teachers_they_are_trained(tmp_path):
    made = arms(tmp_path)
    assert [config.teacher.sources for config in made.values()] == [(), ()]
    assert made["both"].teacher.count == 2


def test_a_teacher_that_is_missing_is_named(tmp_path):
    with pytest.raises(ConfigError, match="arm both: takes swav, byol; give --teacher swav=PATH"):
        arms(tmp_path, teachers=("byol=a",))
    with pytest.raises(ConfigError, match="NAME is one of byol, swav"):
        arms(tmp_path, teachers=("a",))


def test_arms_of_a_later_method_are_compared_with_each_other(tmp_path):
    text = FILE.replace("simreg, teacher.count: 2", "simreg, method.head_depth: 1, teacher.count: 2")
    with pytest.raises(ConfigError, match=r"first and both differ in method\.head_depth \(4 and 1\)"):
        arms(tmp_path, text)


def test_methods_that_are_compared_have_the_same_teacher(tmp_path):
    text = """
title: two methods
source: a test
images: imagenet
arms:
  one: {method: seed, method.queue_size: 64}
  other: {method: simreg, teacher.backbone: resnet50}
  alone: {method: simclr, teacher.backbone: resnet34}
metrics: [test_knn]
"""
    with pytest.raises(ConfigError, match=r"one and other differ in teacher\.backbone"):
        arms(tmp_path, text)
    made = arms(tmp_path, text.replace(", teacher.backbone: resnet50", ""))
    assert set(made) == {"one", "other", "alone"}  # of a method without one its teacher does not count
