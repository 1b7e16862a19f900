"""Published experiments that ship: every file is whole, and every arm can be trained."""

import itertools
from functools import cache

import pytest

from raydistill import config
from raydistill.config import ConfigError
from raydistill.experiments.catalogue import FOLDER, SCALES, at_scale, experiment_names, load_experiment
from raydistill.experiments.scales import NETWORKS, Given, load_scale, scaled
from raydistill.experiments.teachers import PLACE, teacher_names
from raydistill.methods import FeatureDims, MethodContext, build
from raydistill.records.leaderboard import PLAIN

NAMES = experiment_names()
read, size = cache(load_experiment), cache(load_scale)
ITEMS = {"sdssl": ("SD", 16), "sssd": ("SS", 9), "simreg": ("SR", 9), "seed": ("SE", 16), "dogo": ("DG", 11)}
SHARED = ("data", "augment", "eval")
DIGITS = 12  # pixels at which the digits are trained


@cache
def made(name, scale):
    """The arms of an experiment, with all that has to be given; none where the scale has none."""
    experiment, sized = read(name), size(scale)
    places = {
        place
        for arm in experiment.arms
        for text in at_scale(arm.settings.get("eval.tasks"), scale) or ()
        for place in PLACE.findall(text)
    }
    teachers = ()
    if experiment.needs.get("teacher"):
        names = teacher_names(experiment, sized.name)
        teachers = tuple(f"{each}=artifact:{each}" for each in names) if len(names) > 1 else ("artifact:made-up",)
    given = Given(data="digits", images=dict.fromkeys(places - set(sized.images), "toy"), teachers=teachers)
    if not any(scale in arm.scales for arm in experiment.arms):
        with pytest.raises(ConfigError, match="has no arm at scale"):
            scaled(experiment, sized, given)
        return ()
    return scaled(experiment, sized, given).arms


def flat(arm):
    plain = config.dump(arm.config)
    return {f"{section}.{key}": value for section, values in plain.items() for key, value in values.items()}


def may_differ(path, varies):
    given = path == "teacher.sources" and any(each.startswith("teacher.") for each in varies)
    return given or path in varies or path.partition(".")[0] in varies


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scale", SCALES)
def test_arms_are_different_configurations(name, scale):
    texts = [arm.config.model_dump_json() for arm in made(name, scale)]
    assert len(texts) == len(set(texts))


@pytest.mark.parametrize("name", NAMES)
def test_arms_differ_in_what_the_file_says(name):
    """Every pair of arms, not only those with the first; and nothing that is said to vary is the same everywhere."""
    varies, differing = read(name).varies, set()
    for scale in SCALES:
        for first, second in itertools.combinations(map(flat, made(name, scale)), 2):
            paths = {path for path in {*first, *second} if first.get(path) != second.get(path)}
            differing |= {each for path in paths for each in (path, path.partition(".")[0])}
            if first["method.name"] != second["method.name"]:
                paths = {path for path in paths if path.startswith(SHARED) or path == "train.epochs"}
            assert [path for path in sorted(paths) if not may_differ(path, varies)] == [], scale
    assert [path for path in varies if path not in differing] == []


@pytest.mark.parametrize("name", NAMES)
def test_numbers_and_claims_belong_to_columns(name):
    experiment = read(name)
    columns = set(experiment.metrics)
    assert len(columns) == len(experiment.metrics)
    for arm, row in experiment.published.items():
        assert set(row) <= columns, arm
        assert row, arm
        percents = {metric: value for metric, value in row.items() if not metric.startswith(PLAIN)}
        assert {metric: value for metric, value in percents.items() if not 1 < value < 100} == {}
    assert {metric for claim in experiment.claims for metric in claim.metrics} <= columns
    assert len(set(experiment.claims)) == len(experiment.claims)


@pytest.mark.parametrize("name", NAMES)
def test_published_numbers_bear_out_the_claims(name):
    """A claim whose two numbers are printed says what they say."""
    experiment = read(name)
    wrong = []
    for claim in experiment.claims:
        first, second = claim.metrics
        better = experiment.published.get(claim.better, {}).get(first)
        worse = experiment.published.get(claim.worse, {}).get(second)
        if better is not None and worse is not None:
            gain = worse - better if first.startswith(("test_mse", "val_mse")) else better - worse
            wrong += [claim] if gain <= 0 else []
    assert wrong == []


@pytest.mark.parametrize(("paper", "prefix", "count"), [(paper, *item) for paper, item in ITEMS.items()], ids=ITEMS)
def test_every_item_of_a_paper_is_covered(paper, prefix, count):
    covered = {each for name in NAMES if name.startswith(f"{paper}/") for each in read(name).ids}
    assert covered == {f"{prefix}-{number:02d}" for number in range(1, count + 1)}


@pytest.mark.parametrize("name", NAMES)
def test_a_trial_of_the_machinery_needs_nothing(name):
    experiment = read(name)
    assert scaled(experiment, size("smoke")).arms


@pytest.mark.parametrize("name", NAMES)
def test_every_method_of_a_trial_of_the_machinery_is_built(name):
    for arm in scaled(read(name), size("smoke")).arms:
        teachers = (FeatureDims(64, 128),) * arm.config.teacher.count
        given = MethodContext(arm.config.data.image_size or DIGITS, 600, (60,) * 10, teachers)
        assert build(arm.config.method, given, seed=0).encoders()["student"].dim > 0, arm.name


@pytest.mark.parametrize("scale", ["cpu", "smoke"])
@pytest.mark.parametrize("name", NAMES)
def test_networks_of_the_papers_have_stand_ins(name, scale):
    networks = size(scale).networks
    written = [at_scale(arm.settings.get(path), scale) for arm in read(name).arms for path in NETWORKS]
    flattened = [each for value in written if value for each in (value if isinstance(value, list) else [value])]
    assert [network for network in flattened if network not in networks] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_file_begins_with_a_short_comment(name):
    lines = (FOLDER / f"{name}.yaml").read_text().splitlines()
    comment = list(itertools.takewhile(lambda line: line.startswith("# "), lines))
    assert 1 <= len(comment) <= 4
    assert max(map(len, lines)) <= 120
