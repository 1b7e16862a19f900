"""Reader of experiments and scales: what it refuses and in which words, and what a scale makes of an arm."""

import pytest
import yaml

from raydistill.config import ConfigError
from raydistill.experiments.catalogue import SCALES, at_scale, load_experiment
from raydistill.experiments.scales import ExperimentScale, Given, load_scale, scaled

TWO_LAMBDAS = {"one": {"method.lambda_kd": 1.0}, "hundred": {"method.lambda_kd": 100.0}}
TAUGHT = {"method": "simreg", "arms": {"four": {"method.head_depth": 4}}, "varies": []}
SIMCLR = {"method": "simclr", "method.backbone": "resnet18"}
SMOKE = load_scale("smoke")


@pytest.fixture
def read(tmp_path):
    """Read an experiment of a file of one's own: DoGo with two values of lambda, with changes to its keys."""

    def read(**changes):
        values = {
            "title": "lambda",
            "source": "DoGo",
            "images": "cifar10",
            "method": "dogo",
            "varies": ["method.lambda_kd"],
            "arms": TWO_LAMBDAS,
            "metrics": ["test_knn"],
            **changes,
        }
        path = tmp_path / "own.yaml"
        path.write_text(yaml.safe_dump({k: v for k, v in values.items() if v is not None}, sort_keys=False))
        return load_experiment(str(path))

    return read


class TestReader:
    def test_a_file_of_ones_own(self, read):
        found = read(settings={"train.lr": 0.5}, claims=[{"better": "hundred", "worse": "one", "metric": "test_knn"}])
        assert [arm.name for arm in found.arms] == ["one", "hundred"]
        assert found.arms[1].settings == {"train.lr": 0.5, "method.lambda_kd": 100.0}
        assert found.claims[0].metrics == ("test_knn", "test_knn")

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"metric": ["test_knn"]}, "metric: there is no such key; did you mean 'metrics'?"),
            ({"title": None}, "title: is missing"),
            ({"arms": {}}, "arms: is missing"),
            ({"arms": ["one"]}, "arms: expected a mapping"),
            ({"arms": {"One": {}}}, "arms.One: names have small letters"),
            ({"arms": {"one": ["train.lr"]}}, "arms.one: expected a mapping of settings"),
            ({"method": None}, "arms.one: no method; give `method` to the arm, or to the experiment"),
            ({"arms": {"one": {"method": "dogoo"}}}, "method 'dogoo' is unknown; did you mean 'dogo'?"),
            ({"arms": {"one": {"lr": 1}}}, "arms.one.lr: is not a setting; write section.field"),
            ({"arms": {"one": {"scales": ["cpus"]}}}, "arms.one.scales: 'cpus' is no scale; did you mean 'cpu'?"),
            ({"arms": {"one": {"scales": "cpu"}}}, "arms.one.scales: expected a list, as in [cpu]"),
            (
                {"arms": {"one": {"method.lambda": 1.0}}},
                "arms.one.method.lambda: dogo has none; did you mean 'method.lambda_kd'?",
            ),
            (
                {"arms": {"one": SIMCLR | {"method.lambda_kd": 1.0}}},
                "arms.one.method.lambda_kd: simclr has none",
            ),
            (
                {"settings": {"train.epoch": 3}},
                "settings.train.epoch: no arm has such a setting; did you mean 'train.epochs'?",
            ),
            ({"settings": ["train.lr"]}, "settings: expected a mapping"),
            ({"metrics": "test_knn"}, "metrics: expected a list, as in [test_knn]"),
            (
                {"published": {"ten": {"test_knn": 50}}},
                "published.ten: there is no such arm",
            ),
            ({"published": {"one": {"test_knn": "50 %"}}}, "published.one: expected numbers by metric"),
            ({"claims": [{"better": "one"}]}, "claims[0]: expected better, worse and metric, and perhaps than"),
            (
                {"claims": [{"better": "hundreds", "worse": "one", "metric": "test_knn"}]},
                "claims[0]: there is no arm 'hundreds'; did you mean 'hundred'?",
            ),
        ],
        ids=str,
    )
    def test_what_is_refused(self, read, changes, message):
        with pytest.raises(ConfigError) as refused:
            read(**changes)
        assert "own.yaml: " in str(refused.value)
        assert message in str(refused.value)

    def test_numbers_as_names_of_arms(self, read):
        arms = {128: {"method.lambda_kd": 1.0}, 256: {"method.lambda_kd": 2.0}}
        assert [arm.name for arm in read(arms=arms).arms] == ["128", "256"]

    def test_rows_of_references_need_no_arm(self, read):
        found = read(published={"teacher-resnet50": {"test_knn": 60}})
        assert found.published["teacher-resnet50"] == {"test_knn": 60.0}

    def test_a_name_that_is_near(self):
        with pytest.raises(
            ConfigError, match=r"--experiment 'seed/temperatur' is unknown; did you mean 'seed/temperature'\?"
        ):
            load_experiment("seed/temperatur")

    def test_a_file_that_is_not_there(self, tmp_path):
        with pytest.raises(ConfigError, match="there is no such file"):
            load_experiment(str(tmp_path / "none.yaml"))

    @pytest.mark.parametrize(
        ("value", "at_cpu"),
        [({"paper": 1, "cpu": 2}, 2), ({"paper": 1}, None), (3, 3), ([1, 2], [1, 2]), ({}, {}), ({"a": 1}, {"a": 1})],
    )
    def test_values_of_a_scale(self, value, at_cpu):
        assert at_scale(value, "cpu") == at_cpu


class TestArms:
    def test_the_same_configuration_twice(self, read):
        arms = {"one": {"method.lambda_kd": 100.0}, "hundred": {"method.lambda_kd": 100.0}}
        with pytest.raises(ConfigError, match="the arms one and hundred are one configuration"):
            scaled(read(arms=arms), SMOKE)

    def test_arms_that_differ_in_data(self, read):
        arms = {"one": {}, "larger": {"data.batch_size": 24}}
        with pytest.raises(ConfigError, match=r"differ in data.batch_size \(64 and 24\), which `varies` does not name"):
            scaled(read(arms=arms), SMOKE)

    @pytest.mark.parametrize("varies", ["data.batch_size", "data"])
    def test_a_setting_or_its_section_may_vary(self, read, varies):
        arms = {"one": {}, "larger": {"data.batch_size": 24}}
        found = scaled(read(arms=arms, varies=[varies]), SMOKE)
        assert [arm.settings for arm in found.arms] == [{"data.batch_size": 64}, {"data.batch_size": 24}]

    def test_arms_of_one_method_differ_in_nothing_unsaid(self, read):
        with pytest.raises(ConfigError, match=r"differ in method.lambda_kd \(1.0 and 100.0\)"):
            scaled(read(varies=[]), SMOKE)

    @pytest.mark.parametrize(("path", "value"), [("train.epochs", 7), ("eval.knn", "dino"), ("augment.blur", 0.5)])
    def test_arms_of_two_methods_share_images_epochs_and_scores(self, read, path, value):
        arms = {"alone": SIMCLR, "dogo": {path: value}}
        with pytest.raises(ConfigError, match=f"alone and dogo differ in {path}"):
            scaled(read(arms=arms), SMOKE)

    def test_arms_of_two_methods_have_their_own_optimisers(self, read):
        found = scaled(read(arms={"alone": SIMCLR, "dogo": {"train.weight_decay": 0.5}}, varies=[]), SMOKE)
        assert [arm.config.train.weight_decay for arm in found.arms] == [1e-6, 0.5]

    def test_a_setting_that_a_method_lacks_is_the_others(self, read):
        found = scaled(read(arms={"alone": SIMCLR, "dogo": {}}, settings={"method.tau_kd": 0.25}), SMOKE)
        assert [getattr(arm.config.method, "tau_kd", None) for arm in found.arms] == [None, 0.25]

    def test_a_wrong_value_names_experiment_arm_and_scale(self, read):
        with pytest.raises(ConfigError, match=r"own.yaml, arm one at scale smoke: .*method.lambda_kd = -1"):
            scaled(read(arms={"one": {"method.lambda_kd": -1.0}}), SMOKE)

    def test_a_preset_that_is_not_there(self, read):
        with pytest.raises(ConfigError, match=r"dogo has no preset 'papers'; did you mean 'paper'\?"):
            scaled(read(preset={"smoke": "papers"}), SMOKE)


class TestSizes:
    def test_an_unknown_scale(self):
        with pytest.raises(ConfigError, match=r"--scale 'papers' is unknown; did you mean 'paper'\?"):
            load_scale("papers")

    @pytest.mark.parametrize("name", SCALES)
    def test_every_scale_says_what_it_is_for(self, name):
        assert load_scale(name).about
        assert load_scale(name).seeds >= 1

    def test_arms_of_other_scales_are_left_out(self, read):
        arms = {**TWO_LAMBDAS, "ten": {"method.lambda_kd": 10.0, "scales": ["paper"]}}
        assert [arm.name for arm in scaled(read(arms=arms), SMOKE).arms] == ["one", "hundred"]

    def test_a_scale_without_arms(self, read):
        arms = {"ten": {"method.lambda_kd": 10.0, "scales": ["paper", "small"]}}
        with pytest.raises(ConfigError, match="has no arm at scale smoke; it has some at paper, small"):
            scaled(read(arms=arms), SMOKE)

    def test_settings_of_scale_experiment_and_user_come_in_this_order(self, read):
        scale = ExperimentScale(
            "smoke", "", "default", 1, {"train.lr": 0.1, "train.epochs": 2}, {}, {"cifar10": "digits"}
        )
        experiment = read(settings={"train.lr": {"smoke": 0.2, "paper": 9.0}, "train.clip_norm": 3.0})
        found = scaled(experiment, scale, Given(settings={"train.clip_norm": 4.0})).arms[0].config.train
        assert (found.epochs, found.lr, found.clip_norm) == (2, 0.2, 4.0)

    def test_a_value_that_a_scale_lacks_is_the_presets(self, read):
        found = scaled(read(settings={"train.lr": {"paper": 9.0}}), SMOKE)
        assert found.arms[0].config.train.lr == 3e-3  # preset default of dogo

    def test_stand_ins(self, read):
        experiment = read(settings={"method.backbones": ["resnet18", "wrn40_2"], "teacher.backbone": "resnet50"})
        scale = ExperimentScale(
            "smoke", "", "default", 1, {}, {"resnet18": "resnet10_w4", "resnet50": "resnet10_w8"}, {"cifar10": "digits"}
        )
        found = scaled(experiment, scale).arms[0].config
        assert found.method.backbones == ("resnet10_w4", "wrn40_2")
        assert found.teacher.backbone == "resnet10_w8"

    def test_seeds_and_trials(self, read):
        experiment = read(seeds={"smoke": 2}, search={"small": 40})
        assert (scaled(experiment, SMOKE).seeds, scaled(experiment, SMOKE).trials) == (2, 0)
        assert scaled(experiment, SMOKE, Given(seeds=5, trials=7)).seeds == 5
        assert scaled(experiment, SMOKE, Given(seeds=5, trials=7)).trials == 7
        assert scaled(experiment, load_scale("small")).trials == 40
        assert scaled(experiment, load_scale("small")).seeds == 3


class TestGiven:
    def test_images_of_the_paper_have_to_be_given(self, read):
        experiment = read(images="imagenet")
        with pytest.raises(ConfigError, match="at scale paper needs imagenet: give its folder with --data"):
            scaled(experiment, load_scale("paper"))
        assert scaled(experiment, load_scale("paper"), Given(data="digits")).arms[0].config.data.source == "digits"
        assert scaled(experiment, SMOKE).arms[0].config.data.source == "digits"

    def test_images_of_tasks_have_to_be_given(self, read):
        experiment = read(settings={"eval.tasks": ["noise", "copies:{copydays}"]})
        with pytest.raises(
            ConfigError, match=r"needs copydays: give --images copydays=PATH, or none instead of a path"
        ):
            scaled(experiment, load_scale("cpu"))

    def test_images_of_tasks(self, read):
        tasks = ["noise", "transfer:{cifar100}", "copies:{copydays}"]
        experiment = read(settings={"eval.tasks": tasks})
        found = scaled(experiment, load_scale("cpu"), Given(images={"copydays": "/data/copydays"}))
        wanted = ("noise", "transfer:torchvision:CIFAR100", "copies:/data/copydays")
        assert found.arms[0].config.eval.tasks == wanted

    def test_none_leaves_out_what_needs_the_images(self, read):
        tasks = ["noise", "transfer:{cifar100}", "copies:{copydays}"]
        given = Given(images={"copydays": "none", "cifar100": "none"})
        found = scaled(read(settings={"eval.tasks": tasks}), load_scale("cpu"), given)
        assert found.arms[0].config.eval.tasks == ("noise",)

    def test_tasks_on_the_same_images_run_once(self, read):
        tasks = ["transfer:{cifar10}", "transfer:{cifar100}"]
        assert scaled(read(settings={"eval.tasks": tasks}), SMOKE).arms[0].config.eval.tasks == ("transfer:digits",)

    def test_images_that_nothing_needs(self, read):
        with pytest.raises(ConfigError, match=r"--images voc=...: .* has no such images; it has copydays"):
            scaled(read(settings={"eval.tasks": ["copies:{copydays}"]}), SMOKE, Given(images={"voc": "toy"}))


class TestTeachers:
    def test_a_teacher_has_to_be_given_at_the_papers_scale(self, read):
        experiment = read(**TAUGHT, needs={"teacher": "MoCo v2's ResNet-50"})
        with pytest.raises(ConfigError, match="at scale paper needs MoCo v2's ResNet-50: give it with --teacher"):
            scaled(experiment, load_scale("paper"))
        assert scaled(experiment, load_scale("cpu")).arms[0].config.teacher.sources == ()
        found = scaled(experiment, load_scale("paper"), Given(teachers=("a.pth", "b.pth")))
        assert found.arms[0].config.teacher.sources == ("a.pth", "b.pth")

    def test_a_teacher_has_to_be_given_at_scales_of_ones_choice(self, read):
        experiment = read(**TAUGHT, needs={"teacher": {"cpu": "a network of other images"}})
        with pytest.raises(ConfigError, match=r"at scale cpu needs a network of other images.*; arm four has none"):
            scaled(experiment, load_scale("cpu"))
        assert scaled(experiment, load_scale("paper")).arms

    def test_arms_without_a_teacher_need_none(self, read):
        experiment = read(needs={"teacher": "MoCo v2's ResNet-50"})
        assert scaled(experiment, load_scale("paper")).arms[0].config.teacher.sources == ()

    @pytest.mark.parametrize(
        ("teachers", "r18", "r50", "long"),
        [
            (("resnet50=b.pth",), (), ("b.pth",), ("b.pth",)),
            (("resnet50=b.pth", "long=c.pth"), (), ("b.pth",), ("c.pth",)),
            (("r50=b.pth", "r50=c.pth"), (), ("b.pth", "c.pth"), ()),
        ],
    )
    def test_teachers_by_arm_or_network(self, read, teachers, r18, r50, long):
        experiment = read(
            method="simreg",
            varies=["teacher"],
            arms={
                "r18": {"teacher.backbone": "resnet18"},
                "r50": {"teacher.backbone": "resnet50"},
                "long": {"teacher.backbone": "resnet50", "teacher.epochs": 800},
            },
        )
        found = scaled(experiment, SMOKE, Given(teachers=teachers))
        assert [arm.config.teacher.sources for arm in found.arms] == [r18, r50, long]

    @pytest.mark.parametrize("teachers", [("a.pth",), ("runs/lr=1",), ("resnet50=b.pth", "a.pth")])
    def test_different_teachers_must_be_named(self, read, teachers):
        arms = {"r18": {"teacher.backbone": "resnet18"}, "r50": {"teacher.backbone": "resnet50"}}
        experiment = read(method="simreg", varies=["teacher"], arms=arms)
        with pytest.raises(ConfigError, match=r"learn from different teachers; .* NAME is one of resnet18, resnet50"):
            scaled(experiment, SMOKE, Given(teachers=teachers))
        same = read(method="simreg", varies=["method.head_depth"], arms={"a": {}, "b": {"method.head_depth": 1}})
        found = scaled(same, SMOKE, Given(teachers=("runs/lr=1",)))
        assert [arm.config.teacher.sources for arm in found.arms] == [("runs/lr=1",)] * 2
