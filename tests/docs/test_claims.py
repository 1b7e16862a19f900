"""What analysis/claims.py compares is comparable, its verdicts follow from the scores, and it goes on after a stop."""

import importlib.util
import itertools
import json
import math
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.commands import run_script
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import raydistill
from raydistill import config as configuration
from raydistill.presets import load_preset
from raydistill.records.budget import Budget, Limits
from raydistill.records.intervals import Difference
from raydistill.sweep.options import SweepOptions
from raydistill.sweep.search.baselines import parse_baseline
from raydistill.sweep.search.space_parser import load_space
from raydistill.sweep.settings import with_own_teacher

FOLDER = Path(__file__).parents[2] / "analysis"


def module(name):
    """A script of analysis/ as a module; they import each other by name, as when they run."""
    sys.path.insert(0, str(FOLDER))
    try:
        spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
        found = sys.modules.setdefault(name, importlib.util.module_from_spec(spec))
        spec.loader.exec_module(found)
    finally:
        sys.path.remove(str(FOLDER))
    return found


arms = module("claim_arms")
reports = module("claim_report")
claims = module("claims")
SCALE = arms.Scale("digits", images=640, epochs=4, teacher_epochs=4)


def trained(group, seed=0):
    """The base of a group's sweep, and every configuration that the sweep trains, as plain values."""
    options = arms.sweep_options(group, SCALE, seed)
    method = arms.GROUPS[group].method
    chosen = {**options["set"], "data.source": options["data"], "train.epochs": options["epochs"]}
    base = with_own_teacher(raydistill.load_config(method, preset=options["preset"], set=chosen))
    space = load_space(options["search_space"], method, chosen)
    values = configuration.dump(base)
    grid = [configuration.load(configuration.assign(values, point)) for point in space.grid()]
    baselines = [parse_baseline(text) for text in options["baseline"]]
    found = [
        baseline.method_of(winner, load_preset(baseline.method, options["preset"])["method"])
        for baseline, winner in itertools.product(baselines, grid)
    ]
    return values, [configuration.dump(config) for config in (*grid, *found)]


@pytest.fixture(scope="module")
def configs():
    """The configuration of every arm."""
    found = {}
    for group in arms.GROUPS:
        base, candidates = trained(group)
        for name in arms.arms_of(group):
            found[name] = [config for config in candidates if arms.is_arm(config, arms.ARMS[name], base)]
    return found


@pytest.mark.parametrize("name", arms.ARMS)
def test_every_arm_is_one_configuration_of_its_sweep(configs, name):
    assert configs[name]
    assert all(config == configs[name][0] for config in configs[name])


@pytest.mark.parametrize("claim", arms.CLAIMS, ids=lambda claim: claim.text)
def test_the_arms_of_a_claim_share_all_that_it_is_not_about(configs, claim):
    better, worse = (configuration.load(configs[name][0]) for name in claim.arms)
    assert better.method.student_backbone() == worse.method.student_backbone()
    assert (better.method.stem, better.method.zero_init_residual) == (
        worse.method.stem,
        worse.method.zero_init_residual,
    )
    assert (better.data, better.augment, better.train, better.eval) == (
        worse.data,
        worse.augment,
        worse.train,
        worse.eval,
    )
    assert better.teacher.model_copy(update={"count": 1}) == worse.teacher.model_copy(update={"count": 1})
    if not set(claim.about) & set(arms.AUGMENTATION):
        assert better.method.student_recipes() == worse.method.student_recipes()
    assert arms.unfair(claim, *(configs[name][0] for name in claim.arms)) == []
    assert claim.headline in [metrics[0] for metrics in claim.metrics]


def test_all_groups_with_a_teacher_have_the_same_one():
    taught = [trained(name)[0] for name, group in arms.GROUPS.items() if group.taught]
    assert len(taught) >= 3
    assert all(base["teacher"] == taught[0]["teacher"] for base in taught)


@pytest.mark.parametrize(
    ("path", "value"),
    [("train.lr", 1.0), ("train.epochs", 9), ("data.batch_size", 2), ("method.recipe", "weak"), ("teacher.epochs", 9)],
)
def test_a_difference_that_a_claim_is_not_about_is_named(configs, path, value):
    claim = next(claim for claim in arms.CLAIMS if claim.arms == ("seed", "simclr"))
    better, worse = (configs[name][0] for name in claim.arms)
    named = arms.unfair(claim, better, configuration.assign(worse, {path: value}))
    assert named == [path]


def test_an_unfair_pair_stops_the_scoring(configs):
    found = {name: configs[name][0] for name in ("dogo", "dogo-lambda-0")}
    claims.check_fairness(found)
    found["dogo-lambda-0"] = configuration.assign(found["dogo-lambda-0"], {"method.tau_c": 0.1})
    with pytest.raises(SystemExit, match=r"differ in method\.tau_c"):
        claims.check_fairness(found)


def made_up(gaps, metric="test_probe"):
    """Scores of SEED and SimCLR with these gaps."""
    return {
        "seed": {seed: {"test_knn": 0.5, metric: 0.4 + gap} for seed, gap in enumerate(gaps)},
        "simclr": {seed: {"test_knn": 0.5, metric: 0.4} for seed in range(len(gaps))},
    }


@pytest.mark.parametrize(
    ("gaps", "word"),
    [
        ([0.05, 0.06, 0.055], "yes"),
        ([-0.05, -0.06, -0.055], "no"),
        ([0.05, -0.06, 0.02], "undecided"),
        ([0.05], "pending"),
        ([], "pending"),
    ],
)
def test_verdicts_follow_from_the_interval_of_paired_differences(gaps, word):
    verdict = reports.judge(arms.CLAIMS[0], ("test_probe", "test_probe"), made_up(gaps))
    assert verdict.word == word
    if len(gaps) > 1:
        low, high = stats.ttest_1samp(gaps, 0).confidence_interval(0.95)
        assert (verdict.found.low, verdict.found.high) == (pytest.approx(low), pytest.approx(high))


def test_a_lower_error_speaks_for_a_claim():
    claim = next(claim for claim in arms.CLAIMS if claim.headline == "val_mse")
    scores = {
        "simreg": {seed: {"val_mse": 0.1 + seed / 1000} for seed in range(3)},
        "simreg-linear": {seed: {"val_mse": 0.2 + seed / 900} for seed in range(3)},
    }
    assert reports.judge(claim, claim.metrics[0], scores).word == "yes"


def test_seeds_are_paired_only_where_both_arms_have_them():
    scores = made_up([0.05, 0.06, 0.055])
    del scores["simclr"][1]
    assert reports.judge(arms.CLAIMS[0], ("test_probe", "test_probe"), scores).found.seeds == 2


@given(st.floats(1e-4, 0.1), st.integers(3, 8))
def test_the_visible_difference_is_seen_in_four_of_five_cases(std, count):
    """The rule of thumb against the exact power, by the noncentral t distribution."""
    effect = reports.visible(std, count) / std * math.sqrt(count)
    power = 1 - stats.nct.cdf(stats.t.ppf(0.975, count - 1), count - 1, effect)
    assert 0.75 < power < 0.9


def everything(group, seed):
    """A record of a sweep that is done, with noise of its own seed."""
    noise = np.random.default_rng(seed)
    metrics = {metric for claim in arms.CLAIMS for pair in claim.metrics for metric in pair} | {
        "test_knn",
        "test_probe",
    }
    scores = {name: {m: 0.4 + noise.normal(0, 0.01) for m in metrics} for name in arms.arms_of(group)}
    return {"arms": scores, "references": {"pixels": {"test_knn": 0.3, "test_probe": 0.35}}, "seconds": 60.0}


def test_the_report_has_every_arm_claim_and_reference(tmp_path):
    def run(_, group, seed):
        return everything(group, seed)

    found = claims.Claims(tmp_path, SCALE, run)
    empty = reports.report(found.scores(), SCALE, 0, "command")
    assert empty.count("| pending |") == sum(len(claim.metrics) for claim in arms.CLAIMS)
    found.go_on(arms.GROUPS, 3, 3, lambda: None)
    text = reports.report(found.scores(), SCALE, found.seconds(), "command")
    assert "| pending |" not in text
    assert text.count("| pixels |") == len(arms.GROUPS)
    for name in arms.ARMS:
        assert f"| {name} |" in text
    for claim in arms.CLAIMS:
        assert text.count(f"| {claim.text} |") == len(claim.metrics)
    assert all(len(line) <= 200 for line in text.splitlines())
    values = json.loads(json.dumps(reports.as_json(found.scores(), SCALE, found.seconds())))
    assert {row["verdict"] for row in values["claims"]} <= {"yes", "no", "undecided"}
    assert values["seconds"] == 60 * 3 * len(arms.GROUPS)


def test_arms_that_raw_pixels_beat_are_named():
    scores = {"seed": {0: {"test_knn": 0.4, "test_probe": 0.5}}, "simclr": {0: {"test_knn": 0.3, "test_probe": 0.5}}}
    scores["seed/pixels"] = {0: {"test_knn": 0.38, "test_probe": 0.4}}
    assert list(reports.below_pixels("seed", scores)) == ["**No better than raw pixels** in test k-NN: simclr.", ""]
    assert not list(reports.below_pixels("seed", {}))


def test_verdicts_are_counted_by_claim():
    found = arms.CLAIMS[0]
    clear, open_ = (reports.Verdict(Difference(mean, mean - 0.01, mean + 0.01, 3, True), 0.1) for mean in (0.02, 0.0))
    other = next(metrics for metrics in found.metrics if metrics[0] != found.headline)
    pairs = [(found, other, clear), (found, (found.headline, found.headline), open_)]
    text = reports.counted(pairs)
    assert f"Of {len(arms.CLAIMS)} claims, 0 have" in text
    assert "and 1 by one" in text


def test_a_stop_loses_nothing_and_seeds_come_in_turn(tmp_path):
    begun, written = [], []

    def run(_, group, seed):
        begun.append((group, seed))
        if begun == [("seed", 0), ("simreg", 0)]:
            raise KeyboardInterrupt
        return everything(group, seed)

    with pytest.raises(KeyboardInterrupt):
        claims.Claims(tmp_path, SCALE, run).go_on(arms.GROUPS, 2, 2, lambda: written.append(len(begun)))
    assert written == [1]
    again = claims.Claims(tmp_path, SCALE, run)
    again.go_on(arms.GROUPS, 2, 2, lambda: None)
    assert begun[2:] == [("simreg", 0), ("dogo", 0), ("sssd", 0), ("sdssl", 0), *((name, 1) for name in arms.GROUPS)]
    again.go_on(arms.GROUPS, 2, 2, lambda: None)
    assert len(begun) == 11


@pytest.mark.parametrize("begun", [False, True])
def test_an_interrupted_sweep_is_resumed_with_its_own_settings(tmp_path, monkeypatch, begun):
    asked = {}

    def run_sweep(method, **options):
        asked.update(options, method=method)
        raise KeyboardInterrupt

    monkeypatch.setattr(raydistill, "run_sweep", run_sweep)
    monkeypatch.setattr(raydistill, "load_sweep", lambda _: SimpleNamespace(winner=None))
    work = claims.Claims(tmp_path, SCALE, claims.run_group)
    if begun:
        folder = tmp_path / "sweeps" / "claims-sssd-seed2"
        folder.mkdir(parents=True)
        (folder / "sweep.yaml").touch()
    with pytest.raises(KeyboardInterrupt):
        claims.run_group(work, "sssd", 2)
    assert asked["resume"] is begun
    assert asked["name"] == "claims-sssd-seed2"
    assert asked["set"]["train.seed"] == asked["set"]["data.stream_seed"] == 2
    assert set(asked) - {"method", "resume"} <= set(SweepOptions.__annotations__)


def test_the_time_before_an_interruption_counts(tmp_path):
    clock = iter([0.0, 100.0, 5.0, 25.0])
    before = Budget(Limits(), clock=lambda: next(clock))
    (tmp_path / "budget.json").write_text(json.dumps(before.to_dict()))
    again = Budget.from_dict(json.loads((tmp_path / "budget.json").read_text()), Limits(), clock=lambda: next(clock))
    (tmp_path / "budget.json").write_text(json.dumps(again.to_dict()))
    assert claims.seconds_of(tmp_path) == 100 + 20


def test_a_group_that_fails_leaves_the_others_their_turn(tmp_path, capsys):
    def run(_, group, seed):
        if group == "simreg":
            raise raydistill.RaydistillError("no trial finished")
        return everything(group, seed)

    found = claims.Claims(tmp_path, SCALE, run)
    found.go_on(arms.GROUPS, 1, 1, lambda: None)
    assert set(found.scores()) & set(arms.ARMS) == {name for name, arm in arms.ARMS.items() if arm.group != "simreg"}
    assert "simreg, seed 0: no trial finished" in capsys.readouterr().out


def test_only_undecided_groups_get_more_seeds(tmp_path):
    begun = []

    def run(_, group, seed):
        begun.append((group, seed))
        record = everything(group, seed)
        if group == "sssd":  # every claim about it is clear
            order = {"sssd": 0.5, "sssd-random": 0.2, "clusterfit": 0.3}
            for name, scores in record["arms"].items():
                scores["test_probe"] = order[name] + seed / 10_000
                scores["test_probe_ensemble"] = order[name] + 0.1 + seed / 9_000
        return record

    claims.Claims(tmp_path, SCALE, run).go_on(["sssd", "sdssl"], 2, 4, lambda: None)
    assert begun == [("sssd", 0), ("sdssl", 0), ("sssd", 1), ("sdssl", 1), ("sdssl", 2), ("sdssl", 3)]


def test_later_seeds_do_not_decide_who_gets_more(tmp_path):
    found = claims.Claims(tmp_path, SCALE, lambda _, group, seed: everything(group, seed))
    found.go_on(["sssd"], 3, 3, lambda: None)
    assert {seed for seeds in found.scores(2).values() for seed in seeds} == {0, 1}
    assert {seed for seeds in found.scores().values() for seed in seeds} == {0, 1, 2}


def test_a_folder_keeps_to_one_scale(tmp_path):
    claims.Claims(tmp_path, SCALE, everything)
    with pytest.raises(SystemExit, match="another scale"):
        claims.Claims(tmp_path, arms.Scale("digits", images=9), everything)


def test_the_list_names_every_arm(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["claims.py", "--list", "--only", "dogo", "seed"])
    claims.main()
    text = capsys.readouterr().out
    assert all(f"arm {name}:" in text for name in (*arms.arms_of("dogo"), *arms.arms_of("seed")))
    assert "arm sssd:" not in text
    assert "seed: 5 to 9 runs" in text


def test_blocks_are_scored_where_a_claim_looks_at_them():
    assert claims.encoders_of("sdssl") == claims.encoders_of("sdssl-framework") == ["block_1", "block_2", "block_3"]
    assert claims.encoders_of("seed") == claims.encoders_of("sssd") == []


@pytest.mark.slow
@pytest.mark.e2e
def test_a_group_is_swept_scored_and_then_left_alone(tmp_path):
    size = ["--images", 640, "--epochs", 1, "--student", "resnet10_w4", "--teacher", "resnet10_w8"]
    words = ["--data", "digits", "--only", "dogo", "--seeds", 1, "--most-seeds", 1, "--threads", 1, *size]
    places = ["--work", tmp_path / "work", "--out", tmp_path / "out"]
    text = run_script(FOLDER / "claims.py", *words, *places)
    record = json.loads((tmp_path / "work" / "scores" / "dogo-seed0.json").read_text())
    assert set(record["arms"]) == set(arms.arms_of("dogo"))
    assert len(set(record["trials"].values())) == len(record["trials"])
    assert all(0 < scores[m] <= 1 for scores in record["arms"].values() for m in ("test_knn", "test_probe"))
    assert set(record["references"]) == {"pixels", "untrained"}
    assert "| dogo-lambda-0 | lambda_kd 0.0, lambda_simsiam 0.0 | 1 |" in text
    assert "dogo, seed 0" not in run_script(FOLDER / "claims.py", *words, *places)
