"""Baselines beside every winner that a space allows: what cannot be built is refused before the search."""

from dataclasses import replace
from typing import ClassVar

import pytest
from helpers.rows import ROWS

from raydistill import config
from raydistill.artifacts.store import Store
from raydistill.config import ConfigError
from raydistill.sweep.options import prepare_settings
from raydistill.sweep.plan import SweepPlan
from raydistill.sweep.preflight.baselines import check_baselines, describe_baselines
from raydistill.sweep.preflight.checks import MAX_COMBINATIONS, decisive_combinations
from raydistill.sweep.preflight.teachers import missing_teachers
from raydistill.sweep.search.baselines import baselines_of
from raydistill.sweep.search.space import Parameter, Space
from raydistill.sweep.settings import SweepSettings


def plan(folder, method, *parameters, baselines=(), metric="val_knn"):
    base = config.load({"method": {"name": method, **ROWS[method]}})
    space = Space("random", metric, "minimize" if metric == "loss" else "maximize", None, None, parameters)
    return SweepSettings("x-1", folder, "sqlite://", base, space, trials=1, baselines=baselines)


def choice(path, *values, **more):
    return Parameter(path, "categorical", values, **more)


class TestDecisiveCombinations:
    def test_names_lists_and_counts_with_what_they_depend_on(self, tmp_path):
        found = decisive_combinations(
            plan(
                tmp_path,
                "simreg",
                choice("train.lr", 0.1, 0.2),
                choice("method.head_width", 1.0, 2.0),
                choice("method.views", "same", "eval", when={"method.head_width": (2.0,)}),
                Parameter("teacher.count", "int_uniform", low=1, high=9),
            )
        )
        assert {tuple(chosen) for chosen in found} == {
            ("method.head_width", "teacher.count"),
            ("method.head_width", "method.views", "teacher.count"),
        }
        assert {chosen["teacher.count"] for chosen in found} == {1, 2, 9}
        assert len(found) == 3 * (1 + 2)

    def test_each_value_is_there_where_there_are_too_many_combinations(self, tmp_path):
        parameters = [choice(f"method.{n}", *range(1, 9)) for n in ("hidden_dim", "queue_size", "clusters")]
        found = decisive_combinations(plan(tmp_path, "seed", *parameters))
        assert len(found) <= MAX_COMBINATIONS
        for parameter in parameters:
            assert {chosen[parameter.path] for chosen in found} == set(parameter.values)

    def test_a_space_of_rates_alone_decides_nothing(self, tmp_path):
        assert decisive_combinations(plan(tmp_path, "seed", choice("train.lr", 0.1, 0.2))) == [{}]


def test_every_arm_is_built_once(tmp_path):
    settings = plan(
        tmp_path,
        "seed",
        choice("method.backbone", "resnet10_w4", "resnet10_w8"),
        choice("method.queue_size", 16, 32, 64),
        baselines=("simclr", "mocov2"),
    )
    built = []
    check_baselines(SweepPlan(settings), built.append)
    assert sorted((each.method.name, each.method.backbone) for each in built) == [
        (name, backbone) for name in ("mocov2", "simclr") for backbone in ("resnet10_w4", "resnet10_w8")
    ]


def test_what_the_method_hands_on_is_that_of_each_winner(tmp_path):
    settings = plan(tmp_path, "sdssl", choice("method.framework", "simclr", "byol", "mocov3"))
    built = []
    check_baselines(SweepPlan(settings), built.append)
    assert {each.method.name for each in built} == {"simclr", "byol", "mocov3"}


@pytest.mark.parametrize(
    ("method", "preset", "baselines", "expected"),
    [
        ("simreg", "released", (), ["simclr has no preset 'released'"]),
        ("simreg", "released", ("simreg:head_depth=1", "mocov2"), ["mocov2 has no preset 'released'"]),
        ("simreg", "paper", ("mocov2",), []),
        ("simreg", "default", (), []),
    ],
)
def test_a_preset_that_a_baseline_lacks_is_said(tmp_path, method, preset, baselines, expected):
    settings = replace(plan(tmp_path, method, baselines=baselines), preset=preset)
    said = []
    describe_baselines(SweepPlan(settings), said.append)
    assert [line for line in said if "preset" in line] == [
        f"baseline {line.split()[0]}: {line}; its own settings are those of 'default'" for line in expected
    ]


def test_a_search_by_the_loss_leaves_out_what_changes_its_scale(tmp_path):
    found = {}
    for metric in ("val_knn", "loss"):
        rates = choice("train.lr", 0.1, 0.2)
        settings = plan(tmp_path, "seed", rates, baselines=("mocov2", "simclr"), metric=metric)
        decided, said = SweepPlan(replace(settings, baseline_trials=3)), []
        for baseline in baselines_of(settings.baselines, settings.base):
            space = decided.baseline_space(baseline, decided.baseline_config(baseline, settings.base))
            found[metric, baseline.name] = {parameter.path for parameter in space.parameters}
        describe_baselines(decided, said.append)
        assert bool(said) == (metric == "loss")
    assert found["val_knn", "mocov2"] >= {"method.queue_size", "method.tau", "train.lr"}
    assert found["val_knn", "simclr"] == {"method.tau_c", "train.lr"}
    assert found["loss", "mocov2"] == found["loss", "simclr"] == {"train.lr"}
    assert [line.split(":")[0] for line in said] == ["baseline mocov2", "baseline simclr"]
    assert all("metric.name = 'loss' does not compare" in line for line in said)
    assert "method.tau_c not searched" in said[1]


class TestSweep:
    """The refusal of a whole sweep, before Ray starts."""

    DATA: ClassVar = {"data.limit": 60, "data.batch_size": 16, "data.image_size": 8, "teacher.backbone": "resnet10_w4"}

    def prepare(self, folder, method, parameters, **options):
        space = folder / "space.yaml"
        space.write_text(f"method: random\nparameters: {{{parameters}}}\n")
        words = {"storage": folder, "search_space": space, "epochs": 1, "set": self.DATA} | options
        return prepare_settings(method, **words, notify=lambda line: None)

    def test_a_baseline_of_one_teacher_beside_several(self, tmp_path):
        searched = "teacher.count: {values: [1, 2]}"
        said = r"baseline regress: this method takes one teacher and 2 are given.*if the search finds teacher.count = 2"
        with pytest.raises(ConfigError, match=said):
            self.prepare(tmp_path, "simreg", searched, baseline="regress")
        self.prepare(tmp_path, "simreg", searched, baseline=["simclr", "simreg:head_depth=1"])
        fixed = self.DATA | {"teacher.count": 2}
        with pytest.raises(ConfigError, match=r"baseline regress: this method takes one teacher and 2 are given"):
            self.prepare(tmp_path, "simreg", "train.lr: {values: [0.1, 0.2]}", set=fixed, baseline="regress")

    def test_a_student_that_the_baseline_cannot_have(self, tmp_path):
        searched = "method.backbone: {values: [resnet10_w4, vit_w32_p4_d3]}"
        said = r"baseline sssd: .*, if the search finds method.backbone = 'vit_w32_p4_d3'"
        library = self.DATA | {"method.zero_init_residual": "none"}
        with pytest.raises(ConfigError, match=said):
            self.prepare(tmp_path, "simreg", searched, set=library, baseline="sssd")
        self.prepare(tmp_path, "simreg", searched, set=library, baseline="simsiam")

    def test_settings_of_a_teacher_that_a_baseline_alone_has(self, tmp_path):
        rates = "train.lr: {values: [0.1, 0.2]}"
        kept = self.prepare(tmp_path, "simclr", rates, baseline=["simsiam", "regress"])
        assert kept.base.teacher.backbone == "resnet10_w4"
        (run,) = missing_teachers(SweepPlan(kept), Store(tmp_path / "store")).values()
        assert run.config.method.backbone == "resnet10_w4"
        for baselines in ([], ["simsiam", "sssd:labels=random"]):
            said = "teacher.backbone: simclr learns from no frozen teacher, and neither does a baseline"
            with pytest.raises(ConfigError, match=said):
                self.prepare(tmp_path, "simclr", rates, baseline=baselines)
        with pytest.raises(ConfigError, match=r"teacher\.seed: .* that of a baseline is not searched"):
            self.prepare(tmp_path, "simclr", "teacher.seed: {values: [0, 1]}", baseline="regress")
