"""Presets and search spaces of every method load together, and hold the published numbers."""

import pytest
from helpers.requests import request as join_request

from raydistill import config, methods
from raydistill.artifacts.store import Store
from raydistill.data.sources import load_dataset
from raydistill.options import METHODS
from raydistill.planning.prepare import ensure_teachers
from raydistill.presets import load_preset, preset_names
from raydistill.sweep.search.space import default_space
from raydistill.sweep.search.space_parser import load_space
from raydistill.training.pack import Pack
from raydistill.trial_spec import TrialSpec

PRESETS = [(method, name) for method in METHODS for name in preset_names(method)]


def test_every_method_has_presets_for_two_cores_one_for_small_images_and_the_papers():
    for method in METHODS:
        names = preset_names(method)
        assert names[:3] == ["default", "cpu", "small"]
        assert any(name.startswith("paper") for name in names)


@pytest.mark.parametrize(("method", "name"), PRESETS)
def test_it_is_a_valid_configuration_whose_recipes_and_teacher_exist(method, name):
    loaded = config.load(load_preset(method, name))
    assert loaded.method.name == method
    assert load_preset(loaded.teacher.method, loaded.teacher.preset)


@pytest.mark.parametrize("method", METHODS)
def test_the_default_space_goes_with_every_preset(method):
    for name in preset_names(method):
        assert load_space(default_space(method), method, {}, load_preset(method, name)).parameters


@pytest.mark.parametrize("method", METHODS)
def test_the_default_method_is_built_for_the_digits(method):
    options = config.load(load_preset(method, "default")).method
    given = methods.MethodContext(12, 1150, (115,) * 10, (methods.FeatureDims(256, 128),))
    assert methods.build(options, given, seed=0).encoders()["student"].dim > 0


def value(method, preset, path):
    section, _, field = path.partition(".")
    return getattr(getattr(config.load(load_preset(method, preset)), section), field)


@pytest.mark.parametrize(
    ("method", "preset", "path", "published"),
    [
        ("sdssl", "paper-vitb16", "method.alpha", 0.8),
        ("sdssl", "paper-vits32", "method.alpha", 0.6),
        ("sdssl", "paper-vitb16", "data.batch_size", 1024),
        ("sdssl", "paper-vits32", "data.batch_size", 4096),
        ("seed", "paper", "method.queue_size", 65536),
        ("seed", "paper", "method.tau_t", 0.01),
        ("seed", "released", "method.tau_t", 1e-4),
        ("simreg", "paper", "train.lr", 0.05),
        ("simreg", "paper", "train.epochs", 130),
        ("simreg", "released", "method.bn_relu", "every_other"),
        ("dogo", "paper", "method.lambda_kd", 100),
        ("dogo", "paper", "method.tau_kd", 0.1),
        ("sssd", "paper", "method.clusters", 1000),
        ("sssd", "paper", "method.lambda_features", 0.003),
        ("mocov3", "paper", "train.lr", 1.5e-4),
        ("mocov3", "paper-resnet50", "method.tau", 1.0),
        ("compress_1q", "paper", "method.tau", 0.04),
        ("compress_2q", "paper", "method.queue_size", 128000),
    ],
)
def test_published_numbers(method, preset, path, published):
    assert value(method, preset, path) == published


def test_an_unknown_preset_is_named_with_those_there_are():
    with pytest.raises(config.ConfigError, match=r"preset 'papr' of method 'seed'.*'paper'"):
        load_preset("seed", "papr")


@pytest.mark.slow
@pytest.mark.parametrize("source", ["digits", "cifar10"])
def test_default_presets_of_all_methods_train_side_by_side(source, request, tmp_path):
    """One pack, one stream, one teacher, real images; SSSD's clusters are made on the way."""
    where = str(request.getfixturevalue("cifar10")) if source == "cifar10" else "digits"
    changes = {
        "data.source": where,
        "data.limit": 200,
        "data.batch_size": 40,
        "train.epochs": 1,
        "teacher.epochs": 1,
        "teacher.backbone": "resnet10_w16",
        "method.queue_size": 100,
        "method.negatives": 100,
    }
    store = Store(tmp_path / "artifacts")
    configs = {}
    for method in METHODS:
        known = config.paths(method)
        mine = {path: setting for path, setting in changes.items() if path in known}
        configs[method] = config.load(config.assign(load_preset(method, "default"), mine))
    ensure_teachers(TrialSpec(configs["seed"]), store, tmp_path / "runs", evaluate=lambda *_: {})
    data = configs["seed"].data
    pack = Pack(load_dataset(data), data, evaluate=lambda *_: {}, store=store)
    for method, chosen in configs.items():
        assert pack.add(join_request(method, chosen)) is None
    reports = {report.key: report for report in pack.run_epoch()}
    assert {key: report.error for key, report in reports.items()} == dict.fromkeys(METHODS, "")
    assert len(store.entries()) == 4  # a teacher, its features of the plain images, clusters by 20 and 50 iterations
