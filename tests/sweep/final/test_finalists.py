"""Which runs the final consists of, and what an earlier final of the same sweep may lend it."""

from dataclasses import replace
from pathlib import Path

import pytest
from helpers.rows import ROWS, given, options

from raydistill import config, methods
from raydistill.records.journal import TrialRecord
from raydistill.records.layout import JOURNAL_FILE
from raydistill.records.leaderboard import LeaderboardEntry, baselines
from raydistill.sweep.final.finalists import (
    FinalConfig,
    final_key,
    make_final_configs,
    say_which_are_one,
    seeded,
)
from raydistill.sweep.plan import SweepPlan
from raydistill.sweep.preflight.baselines import check_baselines
from raydistill.sweep.search.baselines import RECIPES, baselines_of
from raydistill.sweep.search.space_parser import load_space
from raydistill.sweep.settings import SweepSettings
from raydistill.trial_spec import TrialSpec


def plan(folder, text, seeds):
    file = folder / "space.yaml"
    file.write_text(text)
    return SweepSettings(
        name="s",
        storage=Path("runs"),
        tracking_uri="",
        base=config.load({"method": "dogo"}),
        space=load_space(file, "dogo", {}),
        trials=4,
        seeds=seeds,
    )


def final_config(rate):
    return FinalConfig("dogo", TrialSpec(config.load({"method": "dogo", "train": {"lr": rate}})))


def config_of(final_config):
    return final_config.spec.config.method


def planned(final_config):
    return config.dump(seeded(final_config.spec, 1).config)


def test_a_final_of_another_configuration_is_not_taken_for_this_one():
    before, now = final_config(0.1), final_config(0.2)
    known = {"final-dogo-seed1": TrialRecord("final-dogo-seed1", {}, planned(before))}
    assert final_key(before, 1, known) == "final-dogo-seed1"
    assert final_key(now, 1, known) == "final-dogo-seed1-2"
    known["final-dogo-seed1-2"] = TrialRecord("final-dogo-seed1-2", {}, planned(now))
    assert final_key(now, 1, known) == "final-dogo-seed1-2"
    assert final_key(final_config(0.3), 1, known) == "final-dogo-seed1-3"


def test_a_finished_run_of_an_earlier_final_is_taken_whatever_its_name():
    """With `--finalists`, a configuration that competes is named by its trial, and else by its row."""
    before = final_config(0.1)
    record = TrialRecord("final-dogo-seed1", {}, planned(before), outcome="finished")
    teacher = TrialRecord("teacher-0123", {}, planned(final_config(0.3)), outcome="finished")
    known = {record.key: record, teacher.key: teacher}
    assert final_key(replace(before, name="dogo-t0003"), 1, known) == "final-dogo-seed1"
    assert final_key(replace(before, name="dogo-t0003"), 2, known) == "final-dogo-t0003-seed2", "another seed"
    assert final_key(replace(final_config(0.3), name="dogo-t0004"), 1, known) == "final-dogo-t0004-seed1"
    record.outcome = "failed"
    assert final_key(replace(before, name="dogo-t0003"), 1, known) == "final-dogo-t0003-seed1", "one that failed is not"


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize(
    ("text", "fronts", "own"),
    [
        ("method: random\nparameters: {train.lr: {min: 0.001, max: 0.1}}", 1, True),
        (
            "method: random\npopulation: {type: pbt, interval: 2}\nparameters: {train.lr: {min: 0.001, max: 0.1}}",
            1,
            False,
        ),
        (
            "method: random\nmetrics: [{name: val_knn}, {name: student_parameters, goal: minimize}]\n"
            "parameters: {train.lr: {min: 0.001, max: 0.1}}",
            5,
            True,
        ),
    ],
)
def test_what_is_kept_back_is_what_the_final_runs_at_most(tmp_path, text, fronts, own, seeds):
    settings = plan(tmp_path, text, seeds)
    record = TrialRecord("t0000", {}, config.dump(settings.base.model_copy(update={"train": replace_lr(settings)})))
    final_configs = make_final_configs([replace(record, key=f"t{i:04d}") for i in range(fronts)], SweepPlan(settings))
    assert settings.final_runs == len(final_configs) * seeds - (fronts if own else 0)


def test_baselines_start_their_residual_blocks_as_the_winner_does(tmp_path):
    base = config.load({"method": {"name": "simreg", "zero_init_residual": False}})
    settings = plan(tmp_path, "method: random\nparameters: {train.lr: {min: 0.001, max: 0.1}}", 1)
    settings = replace(settings, base=base, storage=tmp_path)
    finals = make_final_configs([TrialRecord("t0000", {}, config.dump(base))], SweepPlan(settings))
    assert len(finals) == 4
    assert [final.spec.config.method.zero_init_residual for final in finals] == [False] * 4


DISTILLED = [name for name in ROWS if options(name).baseline() != options(name)]
ENDS = ("same-settings", "default", "own-augmentation")
AUGMENTED = {
    "simreg": {"student_recipe": "small"},
    "simreg_exits": {"student_recipe": "small"},
    "sdssl": {"recipes": ["weak", "small"]},
}


@pytest.mark.parametrize("name", DISTILLED)
def test_the_baseline_has_the_winners_student_augmentation_batches_steps_and_optimiser(tmp_path, name):
    changes = AUGMENTED.get(name, {"recipe": "weak"})
    train = {"epochs": 7, "lr": 0.02, "optimizer": "sgd", "warmup_epochs": 2, "weight_decay": 0.1}
    augment = {"min_crop": 0.5, "rotation": 10.0, "mirror": 0.0}
    best = {"method": {"name": name, **ROWS[name], **changes}, "train": train, "data": {"batch_size": 32}}
    best["augment"] = augment
    settings = replace(plan(tmp_path, "method: random\nparameters: {train.lr: {min: 0.001, max: 0.1}}", 1))
    settings = replace(settings, base=config.load(best | {"augment": {"mirror": 0.5}}), storage=tmp_path)
    record = TrialRecord("t0000", {}, config.dump(config.load(best)))
    finals = make_final_configs([record], SweepPlan(settings))
    assert [final.name for final in finals[1:]] == [f"{config_of(finals[1]).name}-{end}" for end in ENDS]
    ours, same, own, augmented = (final.spec.config for final in finals)
    if name != "sdssl":
        assert own.method.recipe == type(own.method)().recipe, "the baseline's own"
    assert same.method == ours.method.baseline()
    assert (same.data, same.train, same.eval) == (ours.data, ours.train, ours.eval)
    assert [arm.augment.chosen() for arm in (ours, same, own, augmented)] == [augment] * 4, (
        "the winner's, not the base's"
    )
    seen = [{view.recipe for view in methods.build(c.method, given(name), seed=0).views} for c in (ours, same)]
    assert seen[0] == seen[1]
    students = [methods.build(c.method, given(name), seed=0).encoders()["student"] for c in (ours, same)]
    assert [w.shape for w in students[0].state_dict().values()] == [w.shape for w in students[1].state_dict().values()]
    assert augmented.method.student_recipes() == type(augmented.method)().student_recipes(), "of its own preset"
    recipes = {field: getattr(same.method, field) for field in RECIPES if field in type(same.method).model_fields}
    back = augmented.model_copy(update={"method": augmented.method.model_copy(update=recipes)})
    assert back == same, "and nothing else differs"


class TestOwnAugmentation:
    """The row of a baseline with the recipe of its own preset: where it is, and what it is."""

    SPACE = "method: random\nparameters: {train.lr: {min: 0.001, max: 0.1}}"

    def rows(self, folder, method, *texts, preset="default", trials=(), recipe=None):
        """The final's configurations by name; `trials`: learning rates that the search of each baseline found."""
        changes = {} if recipe is None else {"student_recipe" if method == "simreg" else "recipe": recipe}
        base = config.load({"method": {"name": method, **ROWS[method], **changes}})
        settings = replace(plan(folder, self.SPACE, 1), base=base, storage=folder, baselines=texts, preset=preset)
        decided, winner = SweepPlan(settings), TrialRecord("t0000", {}, config.dump(base))
        found = {}
        for baseline in baselines_of(texts, base) if trials else []:
            same = decided.baseline_config(baseline, base)
            rates = [same.model_copy(update={"train": same.train.model_copy(update={"lr": lr})}) for lr in trials]
            keys = [f"baseline-{baseline.name}-t{i:04d}" for i in range(len(rates))]
            found[baseline] = [TrialRecord(k, {}, config.dump(each)) for k, each in zip(keys, rates, strict=True)]
        return {final.name: final.spec.config for final in make_final_configs([winner], decided, found)}

    @pytest.mark.parametrize(
        ("method", "baselines", "preset", "expected"),
        [
            ("sssd", (), "default", {"simclr": "simclr"}),
            ("simreg", (), "default", {"simclr": "simclr"}),
            ("simreg", ("simclr", "mocov2"), "cpu", {"simclr": "small", "mocov2": "small"}),
            ("simreg", ("simclr:recipe=moco1",), "default", {}),
            ("simreg", ("simreg:head_depth=1", "regress"), "default", {"regress": "rrcflip"}),
            ("dogo", (), "default", {}),
            ("sdssl", (), "default", {}),
            ("simclr", ("byol",), "default", {"byol": ("byol1", "byol2")}),
        ],
    )
    def test_it_is_there_where_the_presets_recipe_is_another(self, tmp_path, method, baselines, preset, expected):
        rows = self.rows(tmp_path, method, *baselines, preset=preset)
        own = {name: each for name, each in rows.items() if name.endswith("-own-augmentation")}
        pairs = {name: (recipe, recipe) if isinstance(recipe, str) else recipe for name, recipe in expected.items()}
        assert {each.method.name: each.method.student_recipes() for each in own.values()} == pairs

    def test_it_has_what_the_search_found(self, tmp_path):
        rows = self.rows(tmp_path, "sssd", trials=(0.05, 0.07))
        ours = rows["simclr-own-augmentation"]
        assert ours.train.lr == 0.05, "of near equals, that of the best trial of the search"
        assert (ours.method.recipe, rows["simclr-searched-t0000"].method.recipe) == ("simclr", "cifar_sup")

    def test_it_is_not_there_where_the_winner_has_the_same_recipe(self, tmp_path):
        assert "simclr-own-augmentation" not in self.rows(tmp_path, "sssd", recipe="simclr")

    def test_its_runs_are_counted(self, tmp_path):
        base = config.load({"method": "sssd"})
        settings = replace(plan(tmp_path, self.SPACE, 3), base=base, storage=tmp_path)
        counted = replace(settings, own_augmentations=check_baselines(SweepPlan(settings), lambda config: None))
        assert counted.own_augmentations == ("simclr",)
        finals = make_final_configs([TrialRecord("t0000", {}, config.dump(base))], SweepPlan(settings))
        assert counted.final_runs == len(finals) * 3 - 1 == settings.final_runs + 3
        assert counted.final_runs_of("simclr") == counted.baseline_final_runs == 9

    def test_a_sweep_of_before_has_none(self, tmp_path):
        settings = replace(plan(tmp_path, self.SPACE, 1), base=config.load({"method": "sssd"}), storage=tmp_path)
        settings.store()
        (settings.directory / JOURNAL_FILE).touch()
        winner = TrialRecord("t0000", {}, config.dump(settings.base))
        for write in (True, False):  # at the first resume, and at the next
            names = [final.name for final in make_final_configs([winner], SweepPlan(settings, write=write))]
            assert names == ["sssd", "simclr-same-settings", "simclr-default"]

    def test_it_is_a_baseline_of_the_verdict(self):
        row = LeaderboardEntry("simclr-own-augmentation", {}, 2, [])
        assert baselines([row, LeaderboardEntry("sssd", {}, 2, [])]) == [row]


def test_a_seed_has_teachers_and_clusters_of_its_own_where_they_are_redrawn():
    found = TrialSpec(config.load({"method": {"name": "sssd", **ROWS["sssd"]}}), ("0123",), "4567")
    shared, redrawn = seeded(found, 2), seeded(found, 2, redraw=True)
    assert (shared.teachers, shared.labels) == (found.teachers, found.labels)
    assert (redrawn.teachers, redrawn.labels) == (None, None), "still to be decided"
    assert (redrawn.config.teacher.seed, redrawn.config.method.label_seed) == (2, 2)
    assert seeded(found, 0, redraw=True) == seeded(found, 0) == found
    assert (redrawn.config.train, redrawn.config.data) == (shared.config.train, shared.config.data)
    baseline = TrialSpec(found.config.model_copy(update={"method": found.config.method.baseline()}))
    assert seeded(baseline, 2, redraw=True) == seeded(baseline, 2)


def test_a_final_run_of_a_shared_teacher_is_not_taken_for_one_of_its_own():
    final = FinalConfig("seed", TrialSpec(config.load({"method": {"name": "seed", **ROWS["seed"]}}), ("0123",)))
    key = "final-seed-seed1"
    known = {key: TrialRecord(key, {}, config.dump(seeded(final.spec, 1).config))}
    assert final_key(final, 1, known) == key
    assert final_key(final, 1, known, redraw=True) == f"{key}-2"


def replace_lr(settings):
    return settings.base.train.model_copy(update={"lr": 0.0123})


def test_a_baseline_whose_search_found_the_winners_settings_is_said_to_have_one_row():
    spec = TrialSpec(config.load({"method": "simclr"}))
    names = ["dogo", "simclr-searched", "regress-searched", "regress-same-settings"]
    said = say_which_are_one([FinalConfig(name, spec) for name in names])
    assert said == ["simclr-searched has the winner's settings, so there is no row simclr-same-settings"]
