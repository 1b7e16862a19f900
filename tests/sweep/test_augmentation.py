"""Settings of augmentation in a sweep: searched, resumed, and apart from the augmentation of its teachers."""

import itertools
import json
from dataclasses import replace

import pytest
import yaml
from helpers.builders.states import same, weights
from helpers.requests import request
from helpers.rows import ROWS

from raydistill import config
from raydistill.config import ConfigError
from raydistill.data.sources import load_dataset
from raydistill.planning.resolve import teacher_configs, teacher_keys
from raydistill.records.journal import Journal
from raydistill.sweep.options import prepare_settings
from raydistill.sweep.plan import SweepPlan
from raydistill.sweep.search.space_parser import changeable, load_space
from raydistill.sweep.search.warm_start import load_prior_trials
from raydistill.sweep.settings import SweepSettings, with_own_teacher
from raydistill.training.pack import Pack
from raydistill.trial_spec import teacher_inputs

BASE = {
    "method": {"name": "seed", "backbone": "resnet10_w4", "hidden_dim": 8, "queue_size": 16},
    "data": {"source": "digits", "limit": 60, "batch_size": 16, "image_size": 8},
    "teacher": {"backbone": "resnet10_w4", "epochs": 1},
    "train": {"epochs": 1, "lr": 0.01},
}
SEARCHED = {"augment.min_crop": {"values": [0.2, 0.6]}, "augment.rotation": {"min": 0.0, "max": 20.0}}
LR = {"train.lr": {"values": [0.1, 0.2]}}


def space_of(folder, parameters, method="seed"):
    file = folder / "space.yaml"
    file.write_text(yaml.safe_dump({"method": "random", "parameters": parameters}))
    return load_space(file, method, {}, BASE)


def settings_in(folder, parameters, base=BASE, **changes):
    space = space_of(folder, parameters)
    own = with_own_teacher(config.load(base), [parameter.path for parameter in space.parameters])
    settings = SweepSettings("s", folder / "runs", "", own, space, trials=2, seeds=1)
    return replace(settings, **changes)


def strip(values):
    """A configuration as a version without these settings wrote it."""
    values = {section: dict(content) for section, content in values.items() if section != "augment"}
    values["teacher"].pop("augment")
    return values


class TestTeachers:
    def test_a_searched_augmentation_changes_no_teacher(self, tmp_path):
        settings = settings_in(tmp_path, SEARCHED)
        plan = SweepPlan(settings)
        keys = {
            plan.spec({"augment.min_crop": crop, "augment.rotation": angle}).teachers
            for crop, angle in itertools.product((0.2, 0.6), (0.0, 13.0))
        }
        (run,) = plan.teacher_runs(settings.base)
        assert keys == {(run.key,)}
        assert run.config.augment == config.AugmentConfig()
        assert run.key == SweepPlan(settings_in(tmp_path, LR)).teacher_runs(settings.base)[0].key, "as without a search"

    def test_the_teacher_has_the_augmentation_of_the_base(self, tmp_path):
        settings = settings_in(tmp_path, SEARCHED, BASE | {"augment": {"hue": 0.2, "min_crop": 0.4}})
        plan = SweepPlan(settings)
        (run,) = plan.teacher_runs(settings.resolve({"augment.min_crop": 0.6}))
        assert run.config.augment.chosen() == {"hue": 0.2, "min_crop": 0.4}
        assert (run.key,) == plan.spec({"augment.min_crop": 0.6}).teachers
        plain = SweepPlan(settings_in(tmp_path, SEARCHED)).spec({"augment.min_crop": 0.6}).teachers
        assert plain != (run.key,)

    def test_a_teacher_may_have_an_augmentation_of_its_own(self, tmp_path):
        own = BASE | {"augment": {"hue": 0.2}, "teacher": BASE["teacher"] | {"augment": {"grey": 0.5}}}
        settings = settings_in(tmp_path, SEARCHED, own)
        (run,) = teacher_configs(settings.resolve({"augment.min_crop": 0.6}), 1000)
        assert run.augment.chosen() == {"grey": 0.5}

    def test_a_trial_that_is_trained_again_alone_keeps_its_teacher(self, tmp_path):
        settings = settings_in(tmp_path, SEARCHED)
        spec = SweepPlan(settings).spec({"augment.min_crop": 0.6})
        again = with_own_teacher(config.load(config.dump(spec.config)))
        assert again == spec.config
        assert spec.with_config(again).teachers == spec.teachers

    def test_without_these_settings_everything_is_called_as_before(self, tmp_path):
        settings = settings_in(tmp_path, LR)
        assert settings.base.teacher.augment is None
        assert "augment" not in teacher_inputs(settings.base)
        before = with_own_teacher(config.load(strip(config.dump(settings.base))))
        assert before == settings.base
        dataset = load_dataset(before.data)
        assert teacher_keys(before, dataset) == teacher_keys(settings.base, dataset)

    def test_alone_a_run_gives_its_teacher_its_own_augmentation(self):
        run = with_own_teacher(config.load(BASE | {"augment": {"solarize": 0.3}}))
        (teacher,) = teacher_configs(run, 1000)
        assert run.teacher.augment == teacher.augment == run.augment


class TestSearch:
    def test_every_setting_can_be_searched(self, tmp_path):
        names = [
            name for name in config.AugmentConfig.model_fields if name not in ("turns", "mirror", "mirror_vertical")
        ]
        ranges = {f"augment.{name}": {"min": 0.01, "max": 0.2} for name in names}
        space = space_of(tmp_path, ranges | {"augment.turns": {"values": [True, False, "none"]}})
        assert {parameter.path for parameter in space.parameters} == {*ranges, "augment.turns"}
        mirrored = space_of(tmp_path, {f"augment.{name}": {"min": 0, "max": 0.5} for name in ("mirror", "rotation")})
        assert [parameter.distribution for parameter in mirrored.parameters] == ["uniform", "uniform"]

    @pytest.mark.parametrize(
        ("parameters", "words"),
        [
            ({"augment.min_crop": {"values": [0.0, 0.2]}}, r"augment\.min_crop = 0\.0: Input should be greater than 0"),
            ({"augment.mincrop": {"values": [0.1]}}, r"did you mean 'augment\.min_crop'"),
            (
                {"augment.hue": {"min": 0, "max": 0.7}},
                r"augment\.hue = 0\.7: Input should be less than or equal to 0\.5",
            ),
            ({"teacher.augment": {"values": [{"hue": 0.1}]}}, "may not be searched, since it is a whole section"),
            (
                {"augment.turns": {"values": [True]}, "augment.mirror": {"values": [0.1, 0.5]}},
                "do not go together: augment: mirror has no effect beside augment.turns=true",
            ),
        ],
    )
    def test_what_makes_no_sense_is_refused_in_one_line(self, tmp_path, parameters, words):
        with pytest.raises(ConfigError, match=words) as refused:
            space_of(tmp_path, parameters)
        assert "\n" not in str(refused.value)

    @pytest.mark.parametrize(
        ("kind", "augment", "words"),
        [
            ("aerial", {"mirror": 0.2}, "augment: mirror has no effect beside data.kind=aerial"),
            ("microscopy", {"mirror_vertical": 0.2}, "mirror_vertical has no effect beside data.kind=microscopy"),
            ("grey", {"hue": 0.1}, "augment: hue has no effect beside data.kind=grey"),
            ("grey", {"grey": 0.1}, "augment: grey has no effect beside data.kind=grey"),
            ("photographs", {"blur_sigma": 0.0}, r"augment\.blur_sigma = 0\.0: Input should be greater than 0"),
            ("photographs", {"cutout": 1.0}, r"augment\.cutout = 1\.0: Input should be less than 1"),
            ("photographs", {"rotation": 181}, r"augment\.rotation = 181: Input should be less than or equal to 180"),
            ("photographs", {"mirror": True}, r"augment\.mirror = True: a number is expected, not yes or no"),
        ],
    )
    def test_contradictions_are_refused_in_one_line(self, kind, augment, words):
        with pytest.raises(ConfigError, match=words) as refused:
            config.load({"method": "dogo", "data": {"kind": kind}, "augment": augment})
        assert "\n" not in str(refused.value)
        assert len(str(refused.value)) < 140

    def test_what_is_no_contradiction_is_accepted(self):
        for kind, augment in (("aerial", {"mirror": 0.2, "turns": False}), ("grey", {"hue": 0.0, "brightness": 0.4})):
            config.load({"method": "dogo", "data": {"kind": kind}, "augment": augment})

    @pytest.mark.parametrize("kind", ["pbt", "pb2"])
    def test_a_population_changes_strengths_while_it_trains(self, tmp_path, kind):
        """No network depends on them, so that a copy goes on with its donor's weights."""
        file = tmp_path / "space.yaml"
        parameters = {"augment.rotation": {"min": 0.0, "max": 20.0}, "augment.turns": {"values": [True, False]}}
        values = {"method": "random", "population": {"type": kind, "interval": 2}, "parameters": parameters}
        file.write_text(yaml.safe_dump(values))
        space = load_space(file, "dogo", {})
        assert [p.path for p in changeable(space, config.paths("dogo"))] == ["augment.rotation"]
        base = config.dump(config.load({"method": {"name": "simclr", **ROWS["simclr"]}, "data": BASE["data"]}))
        packs = []
        for rotation in (None, 20.0):
            pack = Pack(load_dataset(config.load(base).data), config.load(base).data, evaluate=lambda *_: {})
            first, second = (config.assign(base, {"train.epochs": 2, "augment.rotation": r}) for r in (None, rotation))
            folder = tmp_path / f"{rotation}"
            for settings in (first, second):
                assert pack.add(request("x", settings, str(folder))) is None
                pack.run_epoch()
                pack.remove("x")
            packs.append(weights(folder))
        assert not same(*packs)

    def test_kind_is_short_for_the_setting(self, tmp_path):
        places = {"storage": tmp_path / "runs", "artifacts": tmp_path / "artifacts", "tracking_uri": "sqlite://"}
        said = []
        options = {"trials": 1, "epochs": 1, "set": {"data.limit": 100, "data.batch_size": 40}, **places}
        assert prepare_settings("dogo", kind="grey", notify=said.append, **options).base.data.kind == "grey"
        assert not [line for line in said if "characters" in line]
        assert prepare_settings("dogo", notify=said.append, **options).base.data.kind == "auto"
        assert [line for line in said if "--kind photographs takes the recipes as published" in line]
        with pytest.raises(ConfigError, match=r"data\.kind = 'greyish'.*'grey'"):
            prepare_settings("dogo", kind="greyish", **options)


class TestOlderSweeps:
    def test_a_sweep_from_before_these_settings_is_resumed(self, tmp_path):
        settings = settings_in(tmp_path, LR)
        settings.store()
        file = settings.directory / "sweep.yaml"
        stored = yaml.safe_load(file.read_text())
        file.write_text(yaml.safe_dump(stored | {"base": strip(stored["base"])}))
        settings.check_unchanged()
        other = config.load(BASE | {"augment": {"hue": 0.1}})
        with pytest.raises(ConfigError, match=r"augment\.hue: None -> 0\.1"):
            replace(settings, base=with_own_teacher(other)).check_unchanged()

    def test_a_resume_may_keep_images_elsewhere(self, tmp_path):
        settings = settings_in(tmp_path, LR)
        settings.store()
        for changed, kept in (({"disk_cache_gib": 9.0, "cache_gib": 0.0}, True), ({"resize": 32}, False)):
            other = config.load(BASE | {"data": {**config.dump(settings.base)["data"], **changed}})
            resumed = replace(settings, base=with_own_teacher(other))
            if kept:
                resumed.check_unchanged()
            else:
                with pytest.raises(ConfigError, match=r"data\.resize: None -> 32"):
                    resumed.check_unchanged()

    def test_its_results_count_in_a_warm_start(self, tmp_path):
        settings = settings_in(tmp_path, LR)
        journal = Journal(settings.directory / "journal.jsonl")
        spec = SweepPlan(settings).spec({"train.lr": 0.1})
        journal.propose("t0000", {"train.lr": 0.1}, spec)
        journal.result("t0000", 1, {"val_knn": 0.5})
        journal.end("t0000", "finished", "")
        journal.close()
        path = settings.directory / "journal.jsonl"
        events = [yaml.safe_load(line) for line in path.read_text().splitlines()]
        events = [e | {"config": strip(e["config"])} if "config" in e else e for e in events]
        path.write_text("".join(f"{json.dumps(event)}\n" for event in events))
        (tmp_path / "new").mkdir()
        warm = {"warm_start": (settings.directory,)}
        assert load_prior_trials(settings_in(tmp_path, LR, **warm)).results == [({"train.lr": 0.1}, {"val_knn": 0.5})]
        found = load_prior_trials(settings_in(tmp_path, SEARCHED | LR, **warm))
        assert (found.results, found.hints) == ([], []), "a trial without the setting is not in the space"
