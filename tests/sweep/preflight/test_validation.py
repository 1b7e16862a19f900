"""The training loss as a metric: only settings that leave its scale alone may be searched for it."""

import pytest
from helpers.rows import ROWS

from raydistill import config
from raydistill.config import ConfigError, options_class
from raydistill.options import METHODS
from raydistill.sweep.options import prepare_settings
from raydistill.sweep.preflight.validation import check_objectives
from raydistill.sweep.search.space import Parameter, Space
from raydistill.sweep.settings import SweepSettings


def plan(method, *parameters, metric="loss", also=()):
    goal = "minimize" if metric == "loss" else "maximize"
    space = Space("random", metric, goal, None, None, parameters, also=tuple(also))
    base = config.load({"method": {"name": method, **ROWS[method]}})
    return SweepSettings("x-1", None, "sqlite://", base, space, trials=1)


def searched(path, *values):
    return Parameter(path, "categorical", values)


def refusal(*args, **kwargs):
    """What a plan is refused with; empty where it is not."""
    try:
        check_objectives(plan(*args, **kwargs), pytest.fail, resume=False)
    except ConfigError as error:
        return str(error)
    return ""


SCALES = [
    ("dogo", "method.lambda_kd", (1.0, 100.0)),
    ("dogo", "method.tau_kd", (0.1, 0.5)),
    ("dogo", "method.objectives", (("simclr",), ("simsiam",))),
    ("dogo", "method.backbones", (("a", "b"), ("a", "b", "c"))),
    ("sdssl", "method.alpha", (0.0, 0.8)),
    ("sdssl", "method.beta", (0.0, 1.0)),
    ("sdssl", "method.backbone", ("vit_w32_p4_d3", "vit_w32_p4_d6")),
    ("seed", "method.queue_size", (16, 32)),
    ("seed", "method.tau_t", (0.01, 0.1)),
    ("seed", "method.recipe", ("moco2", "weak")),
    ("sssd", "method.clusters", (4, 8)),
    ("sssd", "method.lambda_features", (0.0, 0.003)),
    ("simreg", "method.normalize", (True, False)),
    ("simreg", "method.views", ("same", "different")),
    ("simclr", "method.head", ("dogo", "sdssl")),
    ("simclr", "data.batch_size", (16, 32)),
    ("simclr", "data.kind", ("photographs", "characters")),
    ("simreg", "teacher.backbone", ("resnet10_w4", "resnet10_w8")),
]


@pytest.mark.parametrize(("method", "path", "values"), SCALES)
def test_a_setting_that_changes_the_losss_scale_is_refused_by_its_name(method, path, values):
    said = refusal(method, searched("train.lr", 0.1, 0.2), searched(path, *values))
    assert path in said
    assert "val_knn" in said
    assert "\n" not in said
    assert not refusal(method, searched(path, *values), metric="val_knn")
    assert not refusal(method, Parameter(path, "constant", values[:1])), "one value is not searched"


def test_a_range_and_a_further_objective_are_refused_too():
    high = Parameter("method.lambda_kd", "uniform", low=1.0, high=100.0)
    assert "method.lambda_kd" in refusal("dogo", high)
    assert "method.lambda_kd" in refusal("dogo", high, metric="val_knn", also=[("loss", "minimize")])


@pytest.mark.parametrize(
    ("method", "path"),
    [("dogo", "train.lr"), ("seed", "train.weight_decay"), ("simreg", "method.head_depth"), ("seed", "method.stem")],
)
def test_the_optimisation_and_what_a_method_declares_may_be_searched(method, path):
    assert not refusal(method, searched(path, 1, 2))


@pytest.mark.parametrize("method", METHODS)
def test_what_a_method_declares_are_its_settings_and_none_of_those_that_weigh_the_loss(method):
    options = options_class(method)
    assert set(options.comparable_loss) <= set(options.model_fields)
    scale = ("tau", "alpha", "beta", "lambda", "queue", "clusters", "recipe", "views", "negatives", "loss", "teacher")
    assert not [name for name in options.comparable_loss if name.startswith(scale)]


def test_a_sweep_is_refused_and_one_of_before_goes_on_with_a_warning(tmp_path, monkeypatch):
    space = tmp_path / "own.yaml"
    space.write_text("method: random\nmetric: {name: loss}\nparameters: {method.tau_c: {values: [0.2, 0.5]}}\n")
    options = {"search_space": space, "storage": tmp_path / "runs", "data": "digits", "artifacts": tmp_path / "store"}
    options |= {"name": "old-1", "tracking_uri": f"sqlite:///{tmp_path}/mlflow.db"}
    with pytest.raises(ConfigError, match=r"metric.name = 'loss': .* method.tau_c"):
        prepare_settings("simclr", **options)
    # A sweep of a version that did not refuse it.
    monkeypatch.setattr("raydistill.sweep.options.check_objectives", lambda *args, **kwargs: None)
    prepare_settings("simclr", **options).store()
    monkeypatch.undo()
    said = []
    prepare_settings("simclr", resume=True, notify=said.append, **options)
    assert [line for line in said if line.startswith("warning: metric.name = 'loss'") and "method.tau_c" in line]


def test_a_sweep_by_seeds_protocol_says_that_a_method_has_no_head(tmp_path):
    options = {"storage": tmp_path / "runs", "artifacts": tmp_path / "store", "set": {"eval.knn": "seed"}}
    options["tracking_uri"] = f"sqlite:///{tmp_path}/mlflow.db"
    said = []
    prepare_settings("dogo", notify=said.append, **options)
    assert [line for line in said if "dogo has no SSL head" in line]
    said.clear()
    prepare_settings("simclr", notify=said.append, **options)
    assert not [line for line in said if "no SSL head" in line]
