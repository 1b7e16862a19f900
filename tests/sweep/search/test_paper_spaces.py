"""Search spaces of the papers: every axis, with the published values, of configurations that can be trained."""

import functools
import random
from pathlib import Path

import pytest

from raydistill.config import ConfigError, assign, dump, load
from raydistill.data.sources import load_dataset
from raydistill.planning.resolve import teacher_runs
from raydistill.presets import load_preset, preset_names
from raydistill.sweep.options import prepare_settings
from raydistill.sweep.preflight.teachers import required_teachers
from raydistill.sweep.search.adapt import fit_to_images
from raydistill.sweep.search.space import default_space, paper_space
from raydistill.sweep.search.space_parser import load_space
from raydistill.sweep.settings import SweepSettings

METHODS = ["dogo", "sdssl", "seed", "simreg", "sssd"]
IMAGES = {"digits": 1150, "cifar10": 40_000, "imagenet": 1_281_167}
TEACHERS = {"seed": 8, "simreg": 9, "sssd": 4}

every_method = pytest.mark.parametrize("method", METHODS)


@functools.cache
def loaded(method, preset):
    return load_space(paper_space(method), method, {}, load_preset(method, preset))


def space_of(method, preset="default", images=None):
    space = loaded(method, preset)
    return fit_to_images(space, images, lambda _: None) if images else space


@every_method
def test_it_has_every_parameter_of_the_default_space(method):
    default = load_space(default_space(method), method, {}, load_preset(method, "default"))
    assert {p.path for p in space_of(method).parameters} >= {p.path for p in default.parameters}


@pytest.mark.parametrize("images", IMAGES.values(), ids=IMAGES)
@every_method
def test_what_is_drawn_from_it_is_a_valid_configuration(method, images):
    base, space = load_preset(method, "default"), space_of(method, images=images)
    for seed in range(50):
        drawn = space.sample(random.Random(seed))
        config = dump(load(assign(base, drawn)))
        assert {path: config[path.split(".")[0]][path.split(".")[1]] for path in drawn} == drawn
        assert space.contains(drawn)


@pytest.mark.slow
@every_method
def test_it_goes_with_every_preset(method):
    for preset in preset_names(method):
        assert space_of(method, preset).parameters


@pytest.mark.parametrize(
    ("method", "path", "published"),
    [
        ("dogo", "method.objectives", [["simclr"], ["simclr", "simsiam"], ["simsiam"]]),
        ("dogo", "method.lambda_kd", [1, 10, 50, 100, 200, 500]),
        ("dogo", "method.lambda_simsiam", [1, 100]),
        ("dogo", "train.schedule", ["constant", "cosine"]),
        ("seed", "method.loss", ["l2", "kmeans", "online_clustering", "binary_contrastive", "seed_moco", "seed"]),
        ("seed", "method.strategy", ["same", "cross", "large_small_cross", "large_small"]),
        ("seed", "method.queue_size", [128, 512, 1024, 4096, 8192, 16384, 65536]),
        ("seed", "train.lr", [0.03]),
        ("seed", "train.weight_decay", [1e-4]),
        ("simreg", "method.inference_layer", [0, 2, 4]),
        ("simreg", "method.teacher_recipe", ["weak", "moco2"]),
        ("simreg", "teacher.count", [1, 2, 3]),
        ("sssd", "method.clusters", [500, 1000, 5000]),
        ("sssd", "method.labels", ["kmeans", "random"]),
        ("sdssl", "method.alpha", [0, 0.6, 0.8]),
        ("sdssl", "method.momentum", [0.99, 0.996]),
        ("sdssl", "method.intermediate_dim", [2048]),
    ],
)
def test_it_has_the_published_values(method, path, published):
    (parameter,) = [p for p in space_of(method, images=IMAGES["imagenet"]).parameters if p.path == path]
    assert all(parameter.contains(value) for value in published)


@pytest.mark.parametrize("method", TEACHERS)
def test_it_needs_as_many_teachers_as_its_file_says_each_once(method, tmp_path):
    base = load(load_preset(method, "default"))
    plan = SweepSettings("s", tmp_path, "sqlite://", base, space_of(method), 1)
    dataset = load_dataset(base.data)
    runs = {run.key for config in required_teachers(plan) for run in teacher_runs(config, dataset)}
    said = {4: "Four", 8: "Eight", 9: "Nine"}[TEACHERS[method]]
    assert len(runs) == TEACHERS[method]
    assert f"{said} teachers are trained first" in " ".join(paper_space(method).read_text().split()).replace(" # ", " ")


def test_a_method_without_one_is_told_which_have_one():
    with pytest.raises(ConfigError, match=r"none for method 'cc' \(there: dogo, sdssl, seed, simreg, sssd\)"):
        paper_space("cc")


@pytest.mark.slow
@every_method
def test_each_of_its_values_can_be_built_for_the_digits(method, tmp_path):
    settings = prepare_settings(method, search_space="paper", storage=tmp_path, artifacts=tmp_path, notify=len)
    assert settings.trials == 50
    assert "at_most" not in str(settings.space.to_dict())


def test_a_file_called_paper_is_still_within_reach(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("paper").write_text("method: random\nparameters: {train.lr: {values: [0.1]}}\n")
    own = prepare_settings("simclr", search_space="./paper", storage=tmp_path, set={"data.limit": 200}, notify=len)
    assert [p.path for p in own.space.parameters] == ["train.lr"]
