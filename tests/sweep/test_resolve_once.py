"""What a sweep has decided stays decided: a preset file that changes between start and resume changes nothing."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from raydistill import config, presets
from raydistill.artifacts.store import Store
from raydistill.config import ConfigError, read_yaml
from raydistill.data.sources import load_dataset
from raydistill.planning import resolve
from raydistill.planning.resolve import teacher_runs
from raydistill.records.journal import Journal, read_records
from raydistill.sweep.final.finalists import make_final_configs, seeded
from raydistill.sweep.options import prepare_settings
from raydistill.sweep.phases import epochs_after
from raydistill.sweep.plan import SweepPlan
from raydistill.sweep.preflight.teachers import compared_configs, missing_redrawn_teachers, missing_teachers
from raydistill.sweep.preflight.validation import check_redraw
from raydistill.sweep.search.baselines import Baseline
from raydistill.sweep.search.space_parser import load_space
from raydistill.sweep.settings import SweepSettings, with_own_teacher
from raydistill.trial_spec import TrialSpec

STORED = Path(__file__).parents[2] / "analysis" / "sweeps"
BASE = {
    "method": {"name": "seed", "backbone": "resnet10_w4", "hidden_dim": 8, "queue_size": 16},
    "data": {"source": "digits", "limit": 60, "batch_size": 16, "image_size": 8},
    "teacher": {"backbone": "resnet10_w4", "epochs": 1},
    "train": {"epochs": 1, "lr": 0.01},
}


@pytest.fixture
def preset_folder(tmp_path, monkeypatch):
    """A copy of the presets, which a test may change."""
    folder = tmp_path / "presets"
    shutil.copytree(presets.HERE, folder, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    monkeypatch.setattr(presets, "HERE", folder)
    return folder


def change(folder):
    """Another learning rate and another head in the preset that trains the teacher, and the baseline."""
    path = folder / "simclr.yaml"
    values = read_yaml(path) if path.exists() else {"default": {}}
    for preset in values.values():
        preset["train"] = {**preset.get("train", {}), "lr": 0.125}
        preset["method"] = {**preset.get("method", {}), "hidden_dim": 24}
    path.write_text(yaml.safe_dump(values))


def settings_in(folder, base=BASE, parameters=None):
    file = folder / "space.yaml"
    file.write_text(
        yaml.safe_dump({"method": "random", "parameters": parameters or {"train.lr": {"values": [0.1, 0.2]}}})
    )
    method = base["method"]["name"]
    return SweepSettings(
        name="once",
        storage=folder / "runs",
        tracking_uri="",
        base=with_own_teacher(config.load(base)),
        space=load_space(file, method, {}, base),
        trials=2,
        seeds=1,
    )


def start(settings):
    """A sweep's folder with its decisions. Returns: the plan, and the search's first trial."""
    settings.store()
    plan = SweepPlan(settings, write=True)
    journal = Journal(settings.directory / "journal.jsonl")
    journal.propose("t0000", {"train.lr": 0.1}, plan.spec({"train.lr": 0.1}))
    journal.close()
    return plan, read_records(journal.path)["t0000"]


def test_a_preset_that_changes_between_start_and_resume_changes_nothing(tmp_path, preset_folder):
    settings = settings_in(tmp_path)
    plan, record = start(settings)
    runs, finals = missing_teachers(plan, Store(tmp_path / "none")), make_final_configs([record], plan)
    assert record.spec.resolved
    change(preset_folder)
    again = SweepPlan(settings, write=True)
    assert missing_teachers(again, Store(tmp_path / "none")) == runs
    assert again.spec({"train.lr": 0.2}).teachers == record.spec.teachers
    assert make_final_configs([record], again) == finals
    ends = ("same-settings", "default", "own-augmentation")
    assert [final.name for final in finals] == ["seed", *(f"simclr-{end}" for end in ends)]


def test_a_sweep_that_starts_then_follows_the_changed_preset(tmp_path, preset_folder):
    """Else the test above would say nothing."""
    plan, record = start(settings_in(tmp_path))
    change(preset_folder)
    (tmp_path / "new").mkdir()
    other = SweepPlan(settings_in(tmp_path / "new"))
    assert other.spec({"train.lr": 0.1}).teachers != record.spec.teachers
    own = Baseline("simclr")
    assert other.baseline_train(own).lr == 0.125 != plan.baseline_train(own).lr
    assert not other.path.exists(), "only a sweep that runs writes its decisions"


def without(values, *names):
    return {name: value for name, value in values.items() if name not in names}


def test_settings_that_came_after_the_plan_have_their_defaults(tmp_path, preset_folder):
    """A stored plan that lacks fields of the configuration is found again, but not for other values of them."""
    settings = settings_in(tmp_path)
    plan, record = start(settings)
    values = json.loads(plan.path.read_text())
    for known in values["teachers"]:
        images = without(known["wanted"]["images"], "on_bad_image", "kind")
        known["wanted"] = without(known["wanted"], "patience", "zero_init_residual", "images") | {"images": images}
    plan.path.write_text(json.dumps(values))
    change(preset_folder)
    again = SweepPlan(settings, write=True)
    assert again.spec({"train.lr": 0.1}).teachers == record.spec.teachers
    assert json.loads(plan.path.read_text())["teachers"] == values["teachers"], "nothing was decided anew"
    other = settings.base.model_copy(update={"teacher": settings.base.teacher.model_copy(update={"patience": 3})})
    assert again.teacher_runs(other) != again.teacher_runs(settings.base)


@pytest.mark.parametrize("labels", ["kmeans", "random"])
def test_labels_are_decided_with_their_teacher(tmp_path, preset_folder, labels):
    method = {"name": "sssd", "backbone": "resnet10_w4", "clusters": 4, "labels": labels}
    settings = settings_in(tmp_path, BASE | {"method": method})
    _, record = start(settings)
    assert record.spec.labels
    change(preset_folder)
    assert SweepPlan(settings).spec({"train.lr": 0.1}) == record.spec


def test_every_searched_teacher_is_decided_before_the_first_trial(tmp_path, preset_folder):
    settings = settings_in(tmp_path, parameters={"teacher.seed": {"values": [0, 1]}})
    settings.store()
    runs = missing_teachers(SweepPlan(settings, write=True), Store(tmp_path / "none"))
    change(preset_folder)
    again = SweepPlan(settings)
    keys = [again.spec({"teacher.seed": seed}).teachers for seed in (0, 1)]
    assert [f"teacher-{key}" for (key,) in keys] == list(runs)


def test_redrawn_teachers_are_decided_before_the_first_trial_and_missing_only_for_the_later_seeds(
    tmp_path, preset_folder
):
    settings = replace(settings_in(tmp_path, BASE | {"teacher": {**BASE["teacher"], "count": 2}}), seeds=3)
    store, none = (
        Store(tmp_path / "none"),
        missing_redrawn_teachers(SweepPlan(settings), Store(tmp_path), [settings.base]),
    )
    assert none == {}
    assert epochs_after(SweepPlan(settings), store) == settings.final_runs
    settings = replace(settings, redraw_teachers=True)
    assert epochs_after(SweepPlan(settings), store) == settings.final_runs + 2 * 2
    settings.store()
    plan = SweepPlan(settings, write=True)
    first, later = missing_teachers(plan, store), missing_redrawn_teachers(plan, store, [settings.base])
    assert [run.config.train.seed for run in first.values()] == [0, 1]
    assert [run.config.train.seed for run in later.values()] == [2, 3, 4, 5]
    change(preset_folder)
    again, spec = SweepPlan(settings), plan.spec({"train.lr": 0.1})
    assert missing_redrawn_teachers(again, store, [spec.config]) == later
    keys = [again.complete(seeded(spec, seed, redraw=True)).teachers for seed in range(3)]
    assert [f"teacher-{key}" for pair in keys for key in pair] == [*first, *later]
    # Finalists of the search have redrawn theirs before the baselines are searched.
    for run in list(later.values())[:3]:
        store.get("teacher", run.provenance, lambda folder: None)
    assert epochs_after(plan, store, spec.config) == settings.final_runs + 1
    assert epochs_after(plan, store, plan.spec({"train.lr": 0.2}).config) == settings.final_runs + 1


def test_the_teacher_of_a_baseline_is_redrawn_too(tmp_path):
    method = {"name": "dogo", "backbones": ["resnet10_w4"] * 2}
    settings = settings_in(tmp_path, BASE | {"method": method}, parameters={"train.lr": {"values": [0.1]}})
    alone = replace(settings, seeds=3, redraw_teachers=True)
    with pytest.raises(ConfigError, match="dogo has neither a frozen teacher nor clusters"):
        check_redraw(alone)
    compared = replace(alone, baselines=("compress_1q", "simreg"))
    check_redraw(compared)
    plan, store = SweepPlan(compared), Store(tmp_path / "none")
    configs = compared_configs(plan)
    first, later = missing_teachers(plan, store), missing_redrawn_teachers(plan, store, [compared.base, *configs])
    assert [run.config.train.seed for run in (*first.values(), *later.values())] == [0, 1, 2]
    assert epochs_after(plan, store) == compared.final_runs + 2
    for each in configs:
        keys = [plan.complete(seeded(TrialSpec(each), seed, redraw=True)).teachers for seed in range(3)]
        assert [f"teacher-{key}" for (key,) in keys] == [*first, *later]


def test_a_sweep_of_before_goes_on_without_redrawn_teachers_and_no_other_does(tmp_path):
    settings = settings_in(tmp_path)
    settings.store()
    stored = read_yaml(settings.directory / "sweep.yaml")
    assert stored.pop("redraw_teachers") is False
    (settings.directory / "sweep.yaml").write_text(yaml.safe_dump(stored))
    settings.check_start(resume=True)
    with pytest.raises(ConfigError, match="redraw_teachers: False -> True"):
        replace(settings, redraw_teachers=True).check_start(resume=True)


def test_a_copy_asks_for_teachers_again_only_where_its_settings_touch_them(tmp_path):
    settings = settings_in(tmp_path, parameters={"teacher.seed": {"values": [0, 1]}})
    plan = SweepPlan(settings)
    spec = plan.spec({"teacher.seed": 0})
    assert spec.assign({"train.lr": 0.5, "teacher.seed": 0}).teachers == spec.teachers
    touched = spec.assign({"teacher.seed": 1})
    assert touched.teachers is None
    assert plan.complete(touched) == plan.spec({"teacher.seed": 1})


@pytest.mark.parametrize("name", sorted(path.name for path in STORED.iterdir()))
def test_a_sweep_of_before_is_resolved_as_it_was(tmp_path, name):
    """Stored sweeps have neither `plan.json` nor keys; their journals name the teachers that they trained."""
    folder = tmp_path / "runs" / "once"
    folder.mkdir(parents=True)
    for file in ("journal.jsonl", "sweep.yaml"):
        shutil.copy(STORED / name / file, folder)
    identity = read_yaml(folder / "sweep.yaml")
    settings = settings_in(tmp_path, identity["base"])
    records = Journal(folder / "journal.jsonl").trials
    trained = {key.removeprefix("teacher-") for key in records if key.startswith("teacher-")}
    plan = SweepPlan(settings, write=True)
    specs = {key: plan.complete(record.spec) for key, record in records.items()}
    assert all(spec.resolved for spec in specs.values())
    assert {key for spec in specs.values() for key in spec.teachers} == trained
    # Settings that came later have their defaults.
    before = {key: config.dump(config.load(record.config)) for key, record in records.items()}
    assert {key: config.dump(spec.config) for key, spec in specs.items()} == before


def test_a_damaged_plan_is_named(tmp_path):
    settings = settings_in(tmp_path)
    start(settings)
    (settings.directory / "plan.json").write_text("[")
    with pytest.raises(ConfigError, match=r"plan\.json is damaged"):
        SweepPlan(settings)


def test_the_journal_says_what_was_decided(tmp_path):
    settings = settings_in(tmp_path)
    plan, record = start(settings)
    (line,) = (settings.directory / "journal.jsonl").read_text().splitlines()
    event = json.loads(line)
    assert event["config"] == config.dump(settings.resolve({"train.lr": 0.1}))
    assert event["teachers"] == list(record.spec.teachers) == [run.key for run in plan.teacher_runs(record.spec.config)]
    journal = Journal(settings.directory / "journal.jsonl")
    journal.propose("t0001", {}, TrialSpec(config.load({"method": "simclr"})))
    journal.copy("t0001", 1, "t0000", {"train.lr": 0.1}, record.spec)
    assert read_records(journal.path)["t0001"].spec == record.spec


# By 0.1's code and presets, of the digits with data.limit 40: with the presets `paper` and `default`.
TEACHERS_OF_0_1 = {
    "byol": ("9008f11482e97cbc", "57e39bf35c5e4cbe"),
    "mocov2": ("2b97730877335b53", "7a3b0419e708b5a1"),
    "mocov3": ("6d1445b091231389", "9dcaee5e0a3922b0"),
}


@pytest.mark.parametrize("method", TEACHERS_OF_0_1)
def test_a_teacher_without_a_momentum_window_keeps_its_key(method, monkeypatch):
    # 0.1 gave keys to queues that 40 images do not fill; today they would be fitted to the images.
    monkeypatch.setattr(resolve, "fit_sizes", lambda config, images, given: config)

    def keys(preset, fixed=None):
        teacher = {"method": method, "preset": preset}
        values = {"method": "seed", "teacher": teacher, "data": {"limit": 40}, "train": {"precision": "fp32"}}
        student = config.load(values)
        return tuple(run.key for run in teacher_runs(student, load_dataset(student.data), fixed))

    published, default = TEACHERS_OF_0_1[method]
    assert keys("paper") == (published,)
    of_before = presets.settings_of_before(method, "default")
    assert keys("default", of_before) == (default,), "in a sweep of 0.1 that is resumed"
    assert keys("default") != (default,), "another momentum makes another teacher"


def test_a_resumed_sweep_of_before_keeps_its_teachers(tmp_path):
    base = BASE | {"teacher": {"method": "byol", "backbone": "resnet10_w4", "epochs": 1}}
    settings = settings_in(tmp_path, base)
    (run,) = SweepPlan(settings).teacher_runs(settings.base)
    assert run.config.method.momentum_window == 0.1
    settings.store()
    Journal(settings.directory / "journal.jsonl").close()
    old = SweepPlan(settings, write=True)
    (run,) = old.teacher_runs(settings.base)
    assert run.config.method.momentum_window is None
    assert SweepPlan(settings).teacher_runs(settings.base) == [run], "a second resume"


STEM = {"data.limit": 60, "data.image_size": 8, "data.batch_size": 16, "method.backbones": ["resnet10_w2"] * 2}


@pytest.mark.parametrize("stem", ["auto", "narrow"])
def test_a_sweep_resumes_with_the_stem_it_had_when_its_preset_gets_another(tmp_path, preset_folder, stem):
    path = preset_folder / "dogo.yaml"
    values = read_yaml(path)
    values["default"]["method"] = {"stem": stem}
    path.write_text(yaml.safe_dump(values))
    options = {"storage": tmp_path / "runs", "name": "once", "epochs": 1, "set": STEM}
    started = prepare_settings("dogo", **options)
    assert started.base.method.stem == stem
    started.store()
    values["default"]["method"] = {"stem": "narrow"}
    path.write_text(yaml.safe_dump(values))
    resumed = prepare_settings("dogo", resume=True, **options)
    resumed.check_unchanged()
    assert resumed.base.method.stem == stem
