"""Search spaces: what a file may say, and what is refused and how."""

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.builders.spacefiles import CONDITIONAL, OBJECTIVES, TOP, only, read, write

from raydistill.config import ConfigError, assign, load
from raydistill.options import METHODS
from raydistill.sweep.search.space import EarlyStop, Parameter, Space, default_space
from raydistill.sweep.search.space_parser import load_space

FOLDER = Path(__file__).resolve().parents[3] / "search_spaces"
SHIPPED = [path for path in sorted(FOLDER.glob("*.yaml")) if not path.stem.endswith("-paper")]


# Reading


def test_the_whole_format_is_read(tmp_path):
    top = "method: bayes\nmetric: {name: loss}\nrun_cap: 5\nearly_terminate: {type: asha, min_iter: 2, eta: 4}\n"
    space = read(tmp_path, "train.lr: {value: 1e-3}", "method.tau_kd: {values: [0.1, 0.2]}", top=top)
    assert space == Space(
        "bayes",
        "loss",
        "minimize",
        5,
        EarlyStop("asha", 2, 4),
        (
            Parameter("method.tau_kd", "categorical", (0.1, 0.2)),
            Parameter("train.lr", "constant", (0.001,)),
        ),
    )


def test_what_may_be_left_out(tmp_path):
    space = read(tmp_path, "train.lr: {value: 0.1}", top="method: random\n")
    assert (space.metric, space.goal, space.run_cap, space.early_terminate) == ("val_knn", "maximize", None, None)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("data.batch_size: {min: 16, max: 64}", ("int_uniform", 16, 64)),
        ("data.image_size: {min: 16, max: 64}", ("int_uniform", 16, 64)),
        ("train.lr: {min: 1, max: 2}", ("uniform", 1.0, 2.0)),
        ("train.lr: {min: 1e-4, max: 1e-2}", ("uniform", 1e-4, 1e-2)),
        ("train.clip_norm: {min: 1, max: 2.5}", ("uniform", 1.0, 2.5)),
        ("train.lr: {distribution: int_uniform, min: 1, max: 2}", ("int_uniform", 1, 2)),
    ],
)
def test_a_range_without_distribution(tmp_path, line, expected):
    p = only(tmp_path, line)
    assert (p.distribution, p.low, p.high) == expected
    assert type(p.low) is type(expected[1])


def test_values_are_kept_as_the_field_reads_them(tmp_path):
    assert only(tmp_path, "method.lambda_kd: {values: [1, 1e1, 0.5]}").values == (1.0, 10.0, 0.5)
    assert only(tmp_path, "train.clip_norm: {values: [null, 1]}").values == (None, 1.0)
    assert only(tmp_path, OBJECTIVES).values == (["simclr"], ["simclr", "simsiam"])


def test_values_that_need_each_other_are_accepted(tmp_path):
    space = read(
        tmp_path,
        "method.objectives: {value: [simclr, simclr, simsiam]}",
        "method.backbones: {value: [resnet10_w16, resnet10_w16, resnet10_w32]}",
    )
    load(assign({"method": {"name": "dogo"}}, space.sample(random.Random(0))))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_space_is_valid(path):
    assert path.stem in METHODS
    assert default_space(path.stem) == path
    assert load_space(path, path.stem, {}).parameters


def test_every_method_of_this_release_has_a_space():
    assert {path.stem for path in SHIPPED} >= {"dogo", "simclr", "simsiam"}


def test_the_space_of_dogo_holds_the_papers_points():
    space = load_space(default_space("dogo"), "dogo", {"data.source": "elsewhere", "train.epochs": 3})
    paper = {"method.lambda_kd": 100.0, "method.tau_kd": 0.1, "method.tau_c": 0.5, "train.lr": 3e-4}
    assert space.contains(paper | {"method.objectives": ["simclr"]})
    heads = {"method.simsiam_dim": 512, "method.predictor_dim": 128}  # narrower than the paper's, as the file says
    mixed = {"method.objectives": ["simclr", "simsiam"], "method.lambda_simsiam": 1.0, **heads}
    assert space.contains(paper | mixed)
    assert (space.search, space.run_cap, space.early_terminate) == ("bayes", 8, EarlyStop("asha", 2, 3))


@pytest.mark.parametrize("method", ["dogoo", "../search_spaces/dogo"])
def test_a_missing_space_lists_those_there_are(method):
    with pytest.raises(ConfigError, match=r"there: byol, .*dogo, .*simclr, .*simsiam"):
        default_space(method)


# Refusals

REFUSED_PARAMETERS = {
    "train.lrr: {value: 1}": "parameters.train.lrr did you mean 'train.lr'",
    "7: {value: 1}": "parameters.7 no such setting",
    "train.lr: {vales: [1, 2]}": "parameters.train.lr.vales [1, 2] did you mean 'values'",
    "train.lr: 0.1": "parameters.train.lr 0.1 expected a mapping, got float",
    "train.lr:": "parameters.train.lr None expected a mapping, got nothing",
    "train.lr: {distribution: uniform}": "parameters.train.lr 'min' is missing",
    "train.lr: {min: 1}": "parameters.train.lr 'max' is missing",
    "train.lr: {distribution: log_uniform, min: 1, max: 2}": "distribution 'log_uniform' 'log_uniform_values'",
    "train.lr: {distribution: [], min: 1, max: 2}": "parameters.train.lr.distribution [] categorical",
    "train.lr: {distribution: uniform, values: [1]}": "parameters.train.lr.values [1] not a key of uniform min, max",
    "train.lr: {value: 1, values: [1, 2]}": "parameters.train.lr.values [1, 2] not a key of constant",
    "train.lr: {min: 1, max: 2, q: 1}": "parameters.train.lr.q 1 q_uniform",
    "train.lr: {when: {train.lr: [1]}}": "parameters.train.lr value, or values, or min and max",
    "train.lr: {min: 2, max: 1}": "parameters.train.lr.min 2 below max 1",
    "train.lr: {min: 1, max: 1}": "parameters.train.lr.min 1 below max",
    "train.lr: {min: low, max: 1}": "parameters.train.lr.min 'low' number",
    "train.lr: {min: true, max: 2}": "parameters.train.lr.min True number",
    "train.lr: {min: 1, max: .inf}": "parameters.train.lr.max inf finite",
    "train.lr: {min: .nan, max: 1}": "parameters.train.lr.min nan finite",
    f"train.lr: {{min: 1, max: 1{'0' * 400}}}": "parameters.train.lr.max finite",
    "train.lr: {distribution: log_uniform_values, min: 0, max: 1}": "parameters.train.lr.min 0 log scale min > 0",
    "train.lr: {distribution: log_uniform_values, min: -1, max: 1}": "parameters.train.lr.min -1 min > 0",
    "method.lambda_kd: {distribution: q_log_uniform_values, min: 0, max: 9, q: 1}": "lambda_kd.min 0 min > 0",
    "train.lr: {distribution: q_uniform, min: 1, max: 2, q: 0}": "parameters.train.lr.q 0 above 0",
    "train.lr: {distribution: q_uniform, min: 1, max: 2, q: -1}": "parameters.train.lr.q -1 above 0",
    "train.lr: {distribution: q_uniform, min: 1, max: 2, q: 3}": "parameters.train.lr.q 3 at most",
    "data.batch_size: {distribution: uniform, min: 8, max: 16}": "batch_size.distribution 'uniform' int_uniform",
    "data.batch_size: {min: 8, max: 16.5}": "parameters.data.batch_size.distribution 'uniform' whole",
    "data.batch_size: {distribution: q_uniform, min: 8, max: 16, q: 0.5}": "data.batch_size.q 0.5 whole",
    "train.lr: {distribution: int_uniform, min: 0.5, max: 2}": "parameters.train.lr.min 0.5 whole",
    "data.batch_size: {min: 0, max: 16}": "parameters.data.batch_size.min 0 greater than or equal to 2",
    "train.momentum: {min: 0, max: 1.5}": "parameters.train.momentum.max 1.5 less than 1",
    "train.optimizer: {min: 1, max: 2}": "parameters.train.optimizer list its values",
    "method.share_views: {min: 0, max: 1}": "parameters.method.share_views list its values",
    "train.lr: {values: []}": "parameters.train.lr.values [] at least one",
    "train.lr: {values: 0.1}": "parameters.train.lr.values 0.1 list",
    "train.lr: {values: [0.1, 1e-1]}": "parameters.train.lr.values [0.1, '1e-1'] twice",
    "train.lr: {values: [1, 1.0]}": "parameters.train.lr.values 1.0 twice",
    "train.lr: {values: [0.1, -1]}": "parameters.train.lr.values -1 greater than 0",
    "train.lr: {value: [0.1]}": "parameters.train.lr.value [0.1] number",
    "train.lr: {value: .inf}": "parameters.train.lr.value inf finite",
    "train.optimizer: {values: [adam, adan]}": "parameters.train.optimizer.values 'adan' 'adamw'",
    "method.objectives: {values: [[simclr], [byol]]}": "parameters.method.objectives.values 'byol' 'simsiam'",
    "method.name: {values: [dogo, simclr]}": "parameters.method.name --method",
    "train.epochs: {min: 1, max: 5}": "parameters.train.epochs --epochs",
    "train.seed: {values: [1, 2]}": "parameters.train.seed lucky",
    "train.offsets: {value: [[0, 1]]}": "parameters.train.offsets",
    "train.patience: {values: [1, 2]}": "parameters.train.patience early_terminate",
    "teacher.epochs_factor: {values: [1, 2]}": "parameters.teacher.epochs_factor teacher.epochs instead",
    "data.source: {values: [digits]}": "parameters.data.source different images",
    "data.split_seed: {values: [0, 1]}": "parameters.data.split_seed different images",
    "data.validation_fraction: {min: 0.1, max: 0.3}": "parameters.data.validation_fraction different images",
    "data.limit: {values: [100, 200]}": "parameters.data.limit different images",
    "eval.every: {values: [1, 2]}": "parameters.eval.every differently",
    "train.lr: {value: 1, when: {method.tau_kd: [1]}}": "parameters.train.lr.when.method.tau_kd [1] not a parameter",
    "train.lr: {value: 1, when: {train.lr: [1]}}": "parameters circle",
    "train.lr: {value: 1, when: {}}": "parameters.train.lr.when {} mapping",
    "train.lr: {value: 1, when: train.lr}": "parameters.train.lr.when 'train.lr' mapping",
    "method.hidden_dim: {values: [8, 16], at_most: pictures}": "parameters.method.hidden_dim.at_most 'pictures' images",
    "method.hidden_dim: {values: [8, 16], at_most: 100}": "parameters.method.hidden_dim.at_most 100 images",
    "method.hidden_dim: {values: [8, 16], at_most: images / 0}": "parameters.method.hidden_dim.at_most images",
    "method.hidden_dim: {value: 8, at_most: images}": "hidden_dim.at_most 'images' not a key of constant",
    "train.lr: {values: [0.1, 0.2], at_most: images}": "parameters.train.lr.at_most 'images' whole numbers",
    "train.lr: !!python/object:os.system {}": "python/object",
    "{train.lr: {value: 1}, train.lr: {value: 2}}": "'train.lr' given twice",
}
REFUSED_FILES = {
    "": "mapping",
    "- method": "expected a mapping, got list",
    "method: [": "expected",
    f"{TOP}": "'parameters' is missing",
    f"{TOP}parameters: []": "parameters [] mapping",
    f"{TOP}parameters: {{}}": "parameters {} mapping",
    f"{TOP}parameter: {{}}": "parameter {} did you mean 'parameters'",
    f"{TOP}program: sweep.py": "program 'sweep.py' no such key early_terminate, method",
    "metric: {name: loss}\nparameters: {train.lr: {value: 1}}": "'method' is missing",
    "method: bayse\nparameters: {train.lr: {value: 1}}": "method 'bayse' did you mean 'bayes'",
    "method: [bayes]\nparameters: {train.lr: {value: 1}}": "method ['bayes'] 'bayes'",
    "method: grid\nmethod: bayes": "'method' given twice",
    "method: random\nmetric: {name: val_kn}": "metric.name 'val_kn' did you mean 'val_knn'",
    "method: random\nmetric: {goal: maximize}": "metric 'name' is missing",
    "method: random\nmetric: val_knn": "metric 'val_knn' mapping name, goal",
    "method: random\nmetric: {name: val_knn, gaol: maximize}": "metric.gaol 'maximize' did you mean 'goal'",
    "method: random\nmetric: {name: val_knn, goal: max}": "metric.goal 'max' 'maximize'",
    "method: random\nmetric: {name: val_knn, goal: 1}": "metric.goal 1 'maximize'",
    "method: random\nmetric: {name: val_knn, goal: minimize}": "metric.goal 'minimize' 'maximize'",
    f"{TOP}run_cap: 0": "run_cap 0 at least 1",
    f"{TOP}run_cap: true": "run_cap True whole",
    f"{TOP}run_cap: 2.5": "run_cap 2.5 whole",
    f"{TOP}early_terminate: {{type: mean, min_iter: 1}}": "early_terminate.type 'mean' median",
    f"{TOP}early_terminate: {{type: hyperband, min_iter: 1}}": "early_terminate.min_iter 1 eta, type",
    f"{TOP}early_terminate: {{type: median, min_iter: 1, eta: 3}}": "early_terminate.eta 3 min_iter, type",
    f"{TOP}early_terminate: {{type: median}}": "early_terminate 'min_iter' is missing",
    f"{TOP}sampler: gp": "sampler 'gp' method: bayes",
    "method: bayes\nsampler: tpee": "sampler 'tpee' did you mean 'tpe'",
    "method: bayes\nmetric: {name: student_parameters}": "metric.name 'student_parameters' quality",
    "method: bayes\nmetrics: [{name: val_knn}]": "metrics two metrics or more",
    "method: bayes\nmetrics: [{name: student_parameters}, {name: val_knn}]": "metrics.0.name quality",
    "method: bayes\nmetrics: [{name: val_knn}, {name: val_knn}]": "metrics twice",
    "method: bayes\nmetrics: [{name: val_knn}, {name: loss}]\nsampler: cmaes": "sampler 'cmaes' one metric",
    "method: bayes\npopulation: {type: pbt, interval: 1}": "population method: random",
    f"{TOP}population: {{type: pbt}}": "population 'interval' is missing",
    f"{TOP}population: {{type: pbt, interval: 1, quantile: 0.6}}": "population.quantile 0.6 at most 0.5",
    f"{TOP}population: {{type: pbt, interval: 1, quantile: 0}}": "population.quantile 0 share",
    f"{TOP}population: {{type: pbt, interval: 1}}\nearly_terminate: {{type: asha, min_iter: 1}}": "population losers",
    f"{TOP}early_terminate: {{type: asha}}": "early_terminate 'min_iter' is missing",
    f"{TOP}early_terminate: {{type: asha, min_iter: 0}}": "early_terminate.min_iter 0 at least 1",
    f"{TOP}early_terminate: {{type: asha, min_iter: 1, eta: 1}}": "early_terminate.eta 1 at least 2",
    f"{TOP}early_terminate: {{type: asha, max_iter: 1}}": "early_terminate.max_iter 1 did you mean 'min_iter'",
}


def refuse(folder, text, expected, method="dogo", fixed=None):
    """The file is refused; the message names it and has every word of `expected`, in any order."""
    with pytest.raises(ConfigError) as caught:
        load_space(write(folder, text), method, fixed or {})
    message = str(caught.value)
    assert "space.yaml: " in message
    assert [word for word in expected.split(" ") if word not in message] == [], message


@pytest.mark.fault(13)
@pytest.mark.fault(14)
@pytest.mark.parametrize("line", REFUSED_PARAMETERS, ids=lambda line: line[:60])
def test_bad_parameters_are_refused(tmp_path, line):
    refuse(tmp_path, f"{TOP}parameters:\n  {line}\n", REFUSED_PARAMETERS[line])


@pytest.mark.fault(13)
@pytest.mark.parametrize("text", REFUSED_FILES, ids=lambda text: text[-50:])
def test_bad_files_are_refused(tmp_path, text):
    refuse(tmp_path, text, REFUSED_FILES[text])


@pytest.mark.fault(14)
def test_a_tag_executes_nothing(tmp_path):
    ran = tmp_path / "ran"
    refuse(tmp_path, f"!!python/object/apply:os.mkdir ['{ran}']", "tag")
    assert not ran.exists()


@pytest.mark.fault(13)
def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"gone\.yaml: No such file"):
        load_space(tmp_path / "gone.yaml", "dogo", {})


def test_a_setting_both_searched_and_fixed_keeps_the_fixed_value(tmp_path):
    text = f"{TOP}parameters: {{train.lr: {{values: [0.1, 0.2]}}, {OBJECTIVES}, {CONDITIONAL}}}"
    path = write(tmp_path, text)
    fixed = load_space(path, "dogo", {"train.lr": 0.3})
    assert {sample["train.lr"] for sample in fixed.grid()} == {0.3}
    alone = load_space(path, "dogo", {"method.objectives": ["simclr"]})
    assert all("method.lambda_simsiam" not in sample for sample in alone.grid())
    mixed = load_space(path, "dogo", {"method.objectives": ["simclr", "simsiam"]})
    assert all("method.lambda_simsiam" in sample for sample in mixed.grid())


def test_a_setting_of_another_method_is_refused(tmp_path):
    refuse(tmp_path, f"{TOP}parameters: {{method.lambda_kd: {{value: 1}}}}", "no such setting", method="simclr")


def test_values_are_judged_on_top_of_what_is_fixed(tmp_path):
    text = f"{TOP}parameters: {{{OBJECTIVES}}}"
    refuse(tmp_path, text, "method.objectives.values share_views", fixed={"method.share_views": True})


def test_values_that_refuse_each_other_are_found_before_any_trial(tmp_path):
    text = f"{TOP}parameters:\n  {OBJECTIVES}\n  method.share_views: {{values: [false, true]}}"
    refuse(tmp_path, text, "do not go together 'method.share_views': True share_views needs one objective")
    conditional = text.replace("{values: [false, true]}", "{value: true, when: {method.objectives: [[simclr]]}}")
    assert len(load_space(write(tmp_path, conditional), "dogo", {}).parameters) == 2


@pytest.mark.parametrize(
    ("parent", "value", "expected"),
    [
        ("{values: [1, 2]}", "[3]", "when.method.tau_c 3.0 never has this value"),
        ("{values: [1, 2]}", "[]", "when.method.tau_c [] at least one"),
        ("{values: [1, 2]}", "[1, 1.0]", "when.method.tau_c twice"),
        ("{values: [1, 2]}", "[-1]", "when.method.tau_c -1 greater than 0"),
        ("{min: 1, max: 2.5}", "[2]", "when.method.tau_c continuous"),
        ("{distribution: int_uniform, min: 1, max: 3}", "[4]", "when.method.tau_c 4.0 never"),
        ("{value: 1, when: {train.lr: [1]}}", "[1]", "circle method.tau_c train.lr"),
    ],
)
def test_impossible_conditions_are_refused(tmp_path, parent, value, expected):
    lines = f"  method.tau_c: {parent}\n  train.lr: {{value: 1, when: {{method.tau_c: {value}}}}}\n"
    refuse(tmp_path, f"{TOP}parameters:\n{lines}", expected)


@pytest.mark.parametrize("range_", ["{min: 0.1, max: 1}", "{distribution: log_uniform_values, min: 1, max: 2}"])
def test_a_grid_over_a_continuous_range_is_refused(tmp_path, range_):
    text = f"method: grid\nparameters: {{train.lr: {range_}}}"
    refuse(tmp_path, text, "parameters.train.lr.distribution q")


def test_a_grid_without_end_is_refused_at_once(tmp_path):
    begin = time.monotonic()
    refuse(tmp_path, "method: grid\nparameters: {data.batch_size: {min: 2, max: 1e15}}", "whole")
    huge = "{distribution: int_uniform, min: 2, max: 1e15}"
    refuse(tmp_path, f"method: grid\nparameters: {{data.batch_size: {huge}}}", "more than 10000 points")
    assert time.monotonic() - begin < 1


# Speed


@pytest.mark.fault(13)
def test_a_typo_is_reported_quickly_and_without_heavy_imports(tmp_path):
    path = write(tmp_path, f"{TOP}parameters: {{method.lamda_kd: {{value: 1}}}}")
    code = (
        "import sys; from pathlib import Path; from raydistill.config import ConfigError\n"
        "from raydistill.sweep.search.space import default_space\n"
        "from raydistill.sweep.search.space_parser import load_space\n"
        "load_space(default_space('dogo'), 'dogo', {})\n"
        f"try: load_space(Path({str(path)!r}), 'dogo', {{}})\n"
        "except ConfigError as error: print(error)\n"
        "print(sorted({'torch', 'ray', 'optuna', 'mlflow', 'numpy', 'pandas'} & set(sys.modules)))"
    )
    begin = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert time.monotonic() - begin < 2
    message, modules = done.stdout.splitlines()
    assert "parameters.method.lamda_kd" in message
    assert "did you mean 'method.lambda_kd'?" in message
    assert modules == "[]"
