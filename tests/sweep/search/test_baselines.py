"""What the winner is compared with: the arms are alike, and the search of a baseline tries what it may."""

from dataclasses import replace
from typing import ClassVar

import pytest
import yaml
from helpers.rows import ROWS, given

from raydistill import config, methods
from raydistill.config import ConfigError
from raydistill.records.journal import Journal, TrialRecord
from raydistill.records.layout import PLAN_FILE, SWEEP_FILE
from raydistill.sweep.final.finalists import default_config, make_final_configs
from raydistill.sweep.options import prepare_settings
from raydistill.sweep.phases import search_name, searched_under
from raydistill.sweep.plan import SweepPlan
from raydistill.sweep.search import baselines
from raydistill.sweep.search.baselines import Baseline, baseline_space, baselines_of, hints, parse_baseline
from raydistill.sweep.search.space import default_space, paper_space
from raydistill.sweep.search.space_parser import load_space
from raydistill.sweep.settings import SweepSettings
from raydistill.trial_spec import TrialSpec

SPACE = "method: random\nparameters: {train.lr: {min: 0.001, max: 0.1}}"
TRAIN = {"epochs": 7, "lr": 0.02, "optimizer": "sgd", "warmup_epochs": 2, "weight_decay": 0.1}
AUGMENTED = {"simreg": {"student_recipe": "small"}, "sdssl": {"recipes": ["weak", "small"]}}
ARMS = [  # every method against those that its paper compares it with, and one that shares nothing with it
    ("seed", "mocov2"),
    ("seed", "compress_1q"),
    ("dogo", "simsiam"),
    ("dogo", "dogo:lambda_kd=0,lambda_simsiam=0"),
    ("simreg", "regress"),
    ("simreg", "compress_2q"),
    ("sssd", "sssd:labels=random"),
    ("sssd", "clusterfit"),
    ("sssd", "seed"),
    ("clusterfit", "simreg"),
    ("sdssl", "byol"),
    ("seed", "dogo"),
]


def settings_of(folder, method, *texts, space=SPACE, trials=0, **sections):
    file = folder / "space.yaml"
    file.write_text(space)
    changes = AUGMENTED.get(method, {"recipe": "weak"})
    values = {"method": {"name": method, **ROWS[method], **changes}, "train": TRAIN, "data": {"batch_size": 32}}
    return SweepSettings(
        name="s",
        storage=folder,
        tracking_uri="",
        base=config.load(values | sections),
        space=load_space(file, method, {}),
        trials=4,
        baselines=texts,
        baseline_trials=trials,
    )


def tiny(plan, text):
    """The sizes of the conformance rows for what the baseline has of its own; the student's come from the winner."""
    baseline = parse_baseline(text)
    decided = plan._decided(baseline)
    decided["method"] = config.dump(config.load({"method": {"name": baseline.method, **ROWS[baseline.method]}}))[
        "method"
    ]
    return baseline


def searched(plan, text):
    """What the search of a baseline tries beside the base configuration."""
    baseline = parse_baseline(text)
    return plan.baseline_space(baseline, plan.baseline_config(baseline, plan.settings.base))


@pytest.mark.parametrize(("name", "text"), ARMS)
def test_every_arm_has_the_same_student_augmentation_batches_steps_and_optimiser(tmp_path, name, text):
    settings = settings_of(tmp_path, name, text)
    plan, record = SweepPlan(settings), TrialRecord("t0000", {}, config.dump(settings.base))
    tiny(plan, text)
    ours, *arms = (final.spec.config for final in make_final_configs([record], plan))
    same = arms[0]
    assert (same.data, same.train, same.eval) == (ours.data, ours.train, ours.eval)
    assert same.method.student_backbone() == ours.method.student_backbone()
    assert same.method.student_recipes() == ours.method.student_recipes()
    assert all(arm.train.epochs == ours.train.epochs and arm.data == ours.data for arm in arms)
    built = [methods.build(c.method, given(c.method.name), seed=0) for c in (ours, same)]
    students = [{k: w.shape for k, w in method.encoders()["student"].state_dict().items()} for method in built]
    assert students[0] == students[1]
    seen = [{view.recipe for view in method.views} - {"eval"} for method in built]
    assert seen[0] == seen[1]


def test_other_settings_of_the_same_method_start_from_the_winner(tmp_path):
    settings = settings_of(tmp_path, "dogo", "dogo:lambda_kd=0")
    method = settings.base.method.model_copy(update={"tau_c": 0.2, "lambda_kd": 7.0})
    winner = settings.base.model_copy(update={"method": method})
    found = SweepPlan(settings).baseline_config(parse_baseline("dogo:lambda_kd=0"), winner)
    assert found.method == method.model_copy(update={"lambda_kd": 0.0})


@pytest.mark.parametrize(
    ("text", "name", "chosen"),
    [
        ("simclr", "simclr", {}),
        ("dogo:lambda_kd=0", "dogo-lambda_kd-0", {"method.lambda_kd": 0}),
        ("sssd:method.labels=random, clusters=1e1", "sssd-labels-random-clusters-10.0", None),
        ("dogo:objectives=[simclr,simsiam]", "dogo-objectives-simclr_simsiam", None),
    ],
)
def test_a_baseline_is_read_as_it_is_typed(text, name, chosen):
    found = parse_baseline(text)
    assert found.name == name
    assert chosen is None or dict(found.settings) == chosen


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("simclrr", "did you mean 'simclr'"),
        ("dogo:lambda=0", "did you mean 'lambda_kd'"),
        ("dogo:train.lr=1", "no option 'train.lr'"),
        ("dogo:lambda_kd", "write METHOD:KEY=VALUE"),
        ("dogo:", "write METHOD:KEY=VALUE"),
        ("", "unknown"),
    ],
)
def test_a_mistyped_baseline_is_refused(text, said):
    with pytest.raises(ConfigError, match="--baseline") as caught:
        parse_baseline(text)
    assert said in str(caught.value)


def test_without_one_it_is_the_student_without_distillation():
    assert baselines_of((), config.load({"method": "seed"})) == [Baseline("simclr")]
    assert baselines_of((), config.load({"method": {"name": "sdssl", "framework": "byol"}})) == [Baseline("byol")]
    assert baselines_of((), config.load({"method": "simclr"})) == []
    several = baselines_of(("mocov2", "regress"), config.load({"method": "simclr"}))
    assert [baseline.name for baseline in several] == ["mocov2", "regress"]


@pytest.mark.parametrize("name", sorted(ROWS))
def test_the_search_of_a_baseline_leaves_the_student_alone(name):
    sweep = load_space(default_space("seed"), "seed", {})
    space = baseline_space(Baseline(name), sweep, "seed")
    paths = [parameter.path for parameter in space.parameters]
    assert not {path.partition(".")[2] for path in paths if path.startswith("method.")} & set(baselines.STUDENT)
    assert [p for p in space.parameters if p.path.startswith("train.")] == [
        p for p in sweep.parameters if p.path.startswith("train.")
    ]
    assert all(path.startswith(("method.", "train.")) for path in paths)
    assert (space.metric, space.goal, space.early_terminate) == (sweep.metric, sweep.goal, sweep.early_terminate)
    order = [*baselines.STUDENT, *(path.partition(".")[2] for path in paths)]
    for number, parameter in enumerate(space.parameters):
        known = order[: len(baselines.STUDENT) + number]
        assert {parent.partition(".")[2] for parent in parameter.when} <= set(known), "parents are fixed, or come first"


FIRST, BOTH = ["simclr"], ["simclr", "simsiam"]
CONDITIONS = f"""
method: random
parameters:
  method.objectives: {{values: [{FIRST}, {BOTH}, [simsiam]]}}
  method.tau_c: {{values: [0.1, 0.5], when: {{method.objectives: [{FIRST}, {BOTH}]}}}}
  method.lambda_simsiam: {{values: [1, 10], when: {{method.objectives: [{BOTH}, [simsiam]]}}}}
  method.kd_symmetric: {{values: [true, false]}}
  method.kd_reduction: {{values: [element_mean, batchmean], when: {{method.kd_symmetric: [true]}}}}
  method.hidden_dim: {{values: [8, 16], when: {{method.lambda_simsiam: [10]}}}}
  data.batch_size: {{values: [16, 32]}}
  train.warmup_epochs: {{values: [1, 2], when: {{data.batch_size: [16]}}}}
"""


@pytest.mark.parametrize(
    ("objectives", "expected"),
    [
        (FIRST, {"tau_c", "kd_symmetric", "kd_reduction"}),
        (BOTH, {"tau_c", "kd_symmetric", "kd_reduction", "lambda_simsiam", "hidden_dim"}),
        (["simsiam"], {"kd_symmetric", "kd_reduction", "lambda_simsiam", "hidden_dim"}),
    ],
)
@pytest.mark.parametrize("batch_size", [16, 32])
def test_a_condition_on_what_the_winner_fixes_holds_by_the_winners_value(tmp_path, objectives, expected, batch_size):
    settings = settings_of(tmp_path, "dogo", "dogo:lambda_kd=0", space=CONDITIONS, trials=3)
    method = settings.base.method.model_copy(update={"objectives": tuple(objectives)})
    data = settings.base.data.model_copy(update={"batch_size": batch_size})
    winner = settings.base.model_copy(update={"method": method, "data": data})
    plan, baseline = SweepPlan(settings), parse_baseline("dogo:lambda_kd=0")
    space = plan.baseline_space(baseline, plan.baseline_config(baseline, winner))
    paths = {f"method.{name}" for name in expected} | ({"train.warmup_epochs"} if batch_size == 16 else set())
    assert {parameter.path for parameter in space.parameters} == paths
    open_conditions = {p.path: set(p.when) for p in space.parameters if p.when}
    assert open_conditions == {"method.kd_reduction": {"method.kd_symmetric"}} | (
        {"method.hidden_dim": {"method.lambda_simsiam"}} if "hidden_dim" in expected else {}
    )


def test_dogos_paper_space_searches_the_temperature_of_a_baseline_of_dogo(tmp_path):
    settings = settings_of(tmp_path, "dogo", "dogo:lambda_kd=0", trials=3)
    settings = replace(settings, space=load_space(paper_space("dogo"), "dogo", {}))
    plan, baseline = SweepPlan(settings), parse_baseline("dogo:lambda_kd=0")
    space = plan.baseline_space(baseline, plan.baseline_config(baseline, settings.base))
    assert "method.tau_c" in [parameter.path for parameter in space.parameters]


def test_a_baselines_own_value_decides_too(tmp_path):
    text = "dogo:objectives=[simclr,simsiam]"
    settings = settings_of(tmp_path, "seed", text, trials=3)
    plan, baseline = SweepPlan(settings), tiny(SweepPlan(settings), text)
    same = plan.baseline_config(baseline, settings.base)
    assert "method.lambda_simsiam" in [parameter.path for parameter in plan.baseline_space(baseline, same).parameters]


def test_a_searched_start_of_the_residual_blocks_is_the_winners(tmp_path):
    blocks, tau = "method.zero_init_residual: {values: [true, false]}", "method.tau_c: {values: [1, 2]}"
    text = f"method: random\nparameters: {{{blocks}, {tau}}}"
    settings = settings_of(tmp_path, "dogo", "dogo:lambda_kd=0", space=text, trials=3)
    space = searched(SweepPlan(settings), "dogo:lambda_kd=0")
    assert [parameter.path for parameter in space.parameters] == ["method.tau_c"]


def test_queues_and_clusters_stay_below_the_images():
    sweep = load_space(default_space("seed"), "seed", {})

    def queues(images):
        space = baseline_space(Baseline("mocov2"), sweep, "seed", images)
        return next((list(p.values) for p in space.parameters if p.path == "method.queue_size"), None)

    assert queues(600) == [128, 256, 512]
    assert queues(128) == [128]
    assert queues(100) is None
    assert max(queues(50_000)) > 10_000


def test_a_baseline_of_the_same_method_has_the_sweeps_own_space_without_what_it_fixes(tmp_path):
    text = "method: grid\nparameters: {method.lambda_kd: {values: [1, 2]}, method.tau_c: {values: [0.1, 0.2]}}"
    settings = settings_of(tmp_path, "dogo", "dogo:lambda_kd=0", space=text, trials=3)
    space = searched(SweepPlan(settings), "dogo:lambda_kd=0")
    assert [parameter.path for parameter in space.parameters] == ["method.tau_c"]
    assert space.search == "random"


def test_several_metrics_and_populations_become_a_plain_search(tmp_path):
    text = (
        "method: bayes\nsampler: nsga2\nmetrics: [{name: val_knn}, {name: student_parameters, goal: minimize}]\n"
        "parameters: {train.lr: {min: 0.001, max: 0.1}}"
    )
    settings = settings_of(tmp_path, "seed", space=text)
    found = baseline_space(Baseline("simclr"), settings.space, "seed")
    assert (found.sampler, found.also, found.population) == ("tpe", (), None)


def test_the_winners_settings_and_the_presets_are_tried_first(tmp_path):
    settings = settings_of(tmp_path, "seed", trials=3)
    plan = SweepPlan(settings)
    (baseline,) = baselines_of((), settings.base)
    same = plan.baseline_config(baseline, settings.base)
    space = plan.baseline_space(baseline, same)
    wild = same.model_copy(update={"train": same.train.model_copy(update={"lr": 5.0})})
    first = {"method.tau_c": same.method.tau_c, "train.lr": 0.02}
    assert hints(space, same, wild, same).hints == [first]
    assert set(first) == {parameter.path for parameter in space.parameters}


def test_what_a_search_found_takes_the_place_of_the_preset(tmp_path):
    settings = replace(settings_of(tmp_path, "seed", trials=3), own_augmentations=("simclr",))
    plan, winner = SweepPlan(settings), TrialRecord("t0000", {}, config.dump(settings.base))
    (baseline,) = baselines_of((), settings.base)
    same = plan.baseline_config(baseline, settings.base)
    other = same.model_copy(update={"train": same.train.model_copy(update={"lr": 0.05})})
    for best, names in (
        (other, ["searched", "same-settings", "own-augmentation"]),
        (same, ["searched", "own-augmentation"]),
        (None, ["same-settings", "default", "own-augmentation"]),
    ):
        key = "baseline-simclr-t0001"
        trials = [TrialRecord(key, {}, config.dump(best))] if best else []
        finals = make_final_configs([winner], plan, {baseline: trials})
        assert [final.name for final in finals] == ["seed", *(f"simclr-{name}" for name in names)]
        assert [final.baseline for final in finals] == [False] + [True] * len(names)
        runs = len(finals) * settings.seeds - sum(final.found is not None for final in finals)
        assert runs <= settings.final_runs + (0 if best else 1)


def test_files_that_change_between_start_and_resume_change_nothing(tmp_path, monkeypatch):
    settings = settings_of(tmp_path, "seed", "mocov2", trials=3)
    settings.store()
    space = searched(SweepPlan(settings, write=True), "mocov2")
    assert (settings.directory / PLAN_FILE).exists()
    monkeypatch.setattr(baselines, "default_space", lambda method: pytest.fail("the file was read again"))
    assert searched(SweepPlan(settings), "mocov2") == space


def test_the_preset_of_a_baseline_is_that_of_its_method(tmp_path):
    settings = replace(settings_of(tmp_path, "seed"), preset="cpu")
    plan, winner = SweepPlan(settings), settings.base
    (baseline,) = baselines_of((), winner)
    same, default = plan.baseline_config(baseline, winner), default_config(baseline, plan, winner)
    assert (same.method.tau_c, same.method.recipe) == (0.2, "weak"), "the winner's augmentation"
    assert (default.method.tau_c, default.method.recipe) == (0.2, "small"), "the preset's"
    assert default.train.lr == 2e-3
    handed_on = settings_of(tmp_path, "dogo").base
    handed_on = handed_on.model_copy(update={"method": handed_on.method.model_copy(update={"tau_c": 0.7})})
    assert plan.baseline_config(Baseline("simclr"), handed_on).method.tau_c == 0.7, "DoGo's own"


def test_a_baseline_with_nothing_to_search_is_only_trained(tmp_path):
    text = "method: random\nparameters: {method.lambda_kd: {values: [1, 2]}}"
    settings = settings_of(tmp_path, "dogo", "dogo:lambda_kd=0", space=text, trials=3)
    space = searched(SweepPlan(settings), "dogo:lambda_kd=0")
    assert space.parameters == ()


def test_another_winner_gets_a_search_of_its_own(tmp_path):
    settings = settings_of(tmp_path, "seed", trials=3)
    plan, baseline = SweepPlan(settings), Baseline("simclr")
    journal = Journal(tmp_path / "journal.jsonl")
    same = plan.baseline_config(baseline, settings.base)
    other = same.model_copy(update={"data": same.data.model_copy(update={"batch_size": 16})})
    assert search_name(journal, baseline, same) == "baseline-simclr"
    for number, (name, config_of) in enumerate((("baseline-simclr", same), ("baseline-simclr-2", other))):
        assert search_name(journal, baseline, config_of) == name
        rate = {"train.lr": 0.01 + number}
        spec = TrialSpec(config.load(config.assign(config.dump(config_of), rate)))
        journal.propose(f"{name}-t0000", rate, spec)
    assert search_name(journal, baseline, same) == "baseline-simclr"
    assert search_name(journal, baseline, other) == "baseline-simclr-2"
    assert [record.key for record in searched_under(journal, "baseline-simclr")] == ["baseline-simclr-t0000"]
    journal.close()


class TestOptions:
    """What the command makes of `--baseline`, `--baseline-trials` and `--no-baseline-search`."""

    WORDS: ClassVar = {"set": {"data.limit": 60, "data.batch_size": 16, "data.image_size": 8}, "trials": 5}

    def test_a_baseline_gets_as_many_trials_as_the_method(self, tmp_path):
        found = prepare_settings("dogo", **self.WORDS, storage=tmp_path)
        assert (found.baselines, found.baseline_trials) == ((), 5)
        found = prepare_settings(
            "dogo", **self.WORDS, storage=tmp_path, baseline=["simsiam", "simclr"], baseline_trials=2
        )
        assert (found.baselines, found.baseline_trials) == (("simsiam", "simclr"), 2)
        assert prepare_settings("dogo", **self.WORDS, storage=tmp_path, baseline_search=False).baseline_trials == 0

    def test_contradictions_and_what_cannot_be_built_are_refused(self, tmp_path):
        with pytest.raises(ConfigError, match="leave one of them out"):
            prepare_settings("dogo", **self.WORDS, storage=tmp_path, baseline_search=False, baseline_trials=2)
        with pytest.raises(ConfigError, match="baseline_trials = 0: expected at least 1"):
            prepare_settings("dogo", **self.WORDS, storage=tmp_path, baseline_trials=0)
        with pytest.raises(ConfigError, match=r"baseline mocov2-queue_size-5000: .*queue"):
            prepare_settings("dogo", **self.WORDS, storage=tmp_path, baseline="mocov2:queue_size=5000")
        with pytest.raises(ConfigError, match="--baseline simclr: is given twice"):
            prepare_settings("dogo", **self.WORDS, storage=tmp_path, baseline=["simclr", "simclr"])
        with pytest.raises(ConfigError, match=r"baseline sdssl: .*no ViT"):
            prepare_settings("dogo", **self.WORDS, storage=tmp_path, baseline="sdssl")

    def test_a_sweep_of_version_0_1_has_no_search_of_its_baseline(self, tmp_path):
        before = prepare_settings("dogo", **self.WORDS, storage=tmp_path, name="old", baseline_search=False)
        before.store()
        path = before.directory / SWEEP_FILE
        values = yaml.safe_load(path.read_text())
        old = {key: value for key, value in values.items() if not key.startswith("baseline")}
        path.write_text(yaml.safe_dump(old))
        again = prepare_settings("dogo", **self.WORDS, storage=tmp_path, name="old", resume=True)
        assert again.baseline_trials == 0
        path.write_text(yaml.safe_dump(values | {"baseline_trials": 3}))
        with pytest.raises(ConfigError, match="baseline_trials: 3 -> 5"):
            prepare_settings("dogo", **self.WORDS, storage=tmp_path, name="old", resume=True)


def test_a_baselines_teacher_is_trained_first(tmp_path):
    from raydistill.artifacts.store import Store
    from raydistill.sweep.preflight.teachers import missing_teachers

    data = {"limit": 60, "batch_size": 16, "image_size": 8}
    settings = settings_of(tmp_path, "dogo", "compress_1q", data=data, teacher={"backbone": "resnet10_w4"})
    plan = SweepPlan(settings)
    found = missing_teachers(plan, Store(tmp_path / "store"))
    assert len(found) == 1
    spec = plan.complete(TrialSpec(plan.baseline_config(parse_baseline("compress_1q"), settings.base)))
    assert [f"teacher-{key}" for key in spec.teachers or ()] == list(found)
    assert not missing_teachers(SweepPlan(replace(settings, baselines=())), Store(tmp_path / "store"))


def test_options_of_one_method_are_no_students_of_another():
    winner = config.load({"method": {"name": "seed", **ROWS["seed"]}})
    with pytest.raises(ConfigError, match=r"baseline sdssl: .*backbone 'resnet10_w4' is no ViT"):
        Baseline("sdssl").method_of(winner, {})
