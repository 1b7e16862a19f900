"""The report's page: what it says, of whole sweeps and of odd ones, and that it needs nothing from elsewhere."""

import random
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from helpers.builders.sweeps import BOTH, EPOCHS, SPACE, Trial, made_up, params, search, whole

from raydistill.records.leaderboard import LeaderboardEntry
from raydistill.report import frames
from raydistill.report.render.latex import latex
from raydistill.report.render.markdown import markdown
from raydistill.report.render.page import captions, page
from raydistill.report.summary import summarize

HOSTILE = "</td><script>alert(1)</script><img src=https://x.example/a.png> & \"q\" 'q' $x_1$ 100% #1 {a} ~ ^ \\ | `c`"
MLFLOW = "https://mlflow.example/#/runs/1"


class Page(HTMLParser):
    """What a browser would make of a page: its tags, and the text that is read."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.words, self.hidden = [], [], ""
        self.feed(text)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.hidden = tag if tag in ("script", "style") else self.hidden

    def handle_endtag(self, tag):
        self.hidden = "" if tag == self.hidden else self.hidden

    def handle_data(self, data):
        if not self.hidden:
            self.words.append(data)

    def all(self, name):
        return [attributes for tag, attributes in self.tags if tag == name]


@pytest.fixture(scope="module")
def sweep():
    tags = {
        "raydistill.command": "python sweep.py --method dogo --price 2",
        "raydistill.environment": '{"torch": "2.15", "gpu": "none"}',
        "raydistill.images": '{"train": 1150, "val": 287}',
        "raydistill.spent": '{"hours": 1.0, "accelerator_hours": 1.0, "epochs": 90, "money": 2.0}',
    }
    found = whole(100, tags=tags)
    found.trials.loc["t0005", "message"] = HOSTILE
    return found


@pytest.fixture(scope="module")
def document(sweep):
    return page(summarize(sweep, option=" --tracking-uri u"))


@pytest.fixture(scope="module")
def read(document):
    return Page(document)


def test_every_trial_is_on_the_page_and_what_it_takes_to_repeat_the_sweep(sweep, read):
    for key in sweep.trials.index:
        assert f" {key} " in read.text
    for said in (
        "The sweep tried 100 configurations of dogo on digits",
        "simclr-same-settings",
        "method.lambda_simsiam",
        "1150 train",
        "torch 2.15",
        "1.00 h, 1.00 worker hours, 2.00 at the price given",
        "python sweep.py --method dogo --price 2",
        "raydistill train dogo-1 --tracking-uri u",
        "raydistill export dogo-1 --format timm --tracking-uri u",
        "1 of 100 trials failed",
        "[simclr, simsiam]",
    ):
        assert said in read.text, said


def test_nothing_is_fetched_from_elsewhere(sweep, document, read):
    addresses = [
        value
        for _, attributes in read.tags
        for name, value in attributes.items()
        if name in ("src", "href", "xlink:href", "data", "poster", "srcset", "action")
    ]
    assert [address for address in addresses if not address.startswith("#")] == list(summarize(sweep).links.values())
    assert not read.all("link")
    assert len(read.all("script")) == 1
    assert not re.search(r"@import|url\((?!#)", document)


def test_a_hostile_message_is_text(document, read):
    assert HOSTILE in read.text
    assert "<script>alert" not in document
    assert not read.all("img")


def test_names_within_figures_do_not_clash_and_each_leads_somewhere(read):
    ids = [attributes["id"] for _, attributes in read.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = {
        value
        for _, attributes in read.tags
        for name, value in attributes.items()
        if value.startswith("#") and "href" in name
    }
    clips = {value[4:-1] for _, attributes in read.tags if (value := attributes.get("clip-path", "")).startswith("url")}
    assert {target[1:] for target in targets | clips} <= set(ids)
    assert clips


def test_the_page_can_be_read_by_ear(sweep, read):
    labels = [attributes["aria-label"] for attributes in read.all("svg") if attributes["role"] == "img"]
    assert labels == list(captions(sweep).values())
    assert read.all("title")
    assert read.all("html")[0]["lang"] == "en"
    assert all(attributes.get("scope") in ("col", "row") for attributes in read.all("th"))
    assert read.all("table")
    assert read.text.count("test k-NN accuracy (%)") == 1, "text of a figure is text, and said once"


def test_a_page_of_a_hundred_trials_is_not_large(sweep, document):
    assert len(sweep.role("search")) == 100
    assert len(document) < 1_500_000


def unscored(count):
    return [Trial(f"t{i:04d}", params(random.Random(i)), [], "failed", "no memory") for i in range(count)]


def running():
    trials = search(4)
    trials[1].outcome, trials[1].epochs = "running", trials[1].epochs[:2]
    trials[2].outcome, trials[2].epochs = "interrupted", trials[2].epochs[:1]
    return made_up(trials)


def unlabelled():
    trials = search(6)
    for trial in trials:
        trial.epochs = [{("val_instance" if k == "val_knn" else k): v for k, v in e.items()} for e in trial.epochs]
    rows = [
        LeaderboardEntry(name, {}, EPOCHS, [{"val_instance": 0.5 + i / 100 - offset} for i in range(3)])
        for name, offset in (("dogo", 0.0), ("simclr-same-settings", 0.1))
    ]
    return made_up(trials, rows, {"raydistill.outcome": "finished"}, metric="val_instance")


def test_scores_with_few_labels_have_a_table_of_their_own(sweep, read):
    assert "With few labels" not in read.text
    few = {f"test_knn_5_labels{end}": value for end, value in (("", 0.5), ("_low", 0.4), ("_high", 0.6))}
    rows = [replace(row, scores=[score | few for score in row.scores]) for row in sweep.rows]
    beside = {**sweep.tags, "raydistill.images": '{"train": 900, "labelled": 40, "val": 9, "test": 11}'}
    summary = summarize(replace(sweep, rows=rows, tags=beside))
    text = Page(page(summary)).text
    assert "With few labels configuration classifier 5 labels dogo k-NN 50.00 (40.00 to 60.00)" in text
    assert "over 10 draws" in text
    assert "900 train, 40 labelled, 9 val, 11 test" in text
    assert "of the labelled images where the source has no such split" in text
    assert "| dogo | k-NN | 50.00 (40.00 to 60.00) |" in re.sub(" +", " ", markdown(summary))


def without_identity():
    found = whole(6)
    return replace(found, identity={}, settings=frames.searched(found.params, {}))


def strange_settings():
    space = {
        "train.lr": {"distribution": "categorical", "values": [0.0, 0.1, 10.0]},
        "train.nesterov": {"distribution": "categorical", "values": [True, False]},
        "method.backbone": {"distribution": "categorical", "values": ["$a$_b", "x" * 60]},
        "method.queue_size": {"distribution": "categorical", "values": [128, 1024, 65536]},
        "data.batch_size": {"distribution": "int_uniform", "min": 16, "max": 16},
    }
    rng = random.Random(0)
    trials = search(8)
    for trial in trials:
        trial.params = {path: rng.choice(spec.get("values", [16])) for path, spec in space.items()}
    return made_up(trials, space=space)


def sparse_scores_and_nothing_searched():
    trials = search(6)
    for trial in trials:
        trial.epochs = [
            {k: v for k, v in e.items() if k == "loss" or (i + 1) % 3 == 0} for i, e in enumerate(trial.epochs)
        ]
    return made_up(trials, space={"train.optimizer": SPACE["train.optimizer"]})


def several_metrics_and_one_seed():
    found = whole(8, seeds=1)
    space = found.identity["space"] | {
        "metrics": [{"name": "val_knn", "goal": "maximize"}, {"name": "student_parameters", "goal": "minimize"}]
    }
    rows = [found.rows[0], replace(found.rows[0], name="dogo-t0003"), *found.rows[1:]]
    return replace(found, identity=found.identity | {"space": space}, rows=rows)


ODD = {
    "nothing yet": (lambda: made_up([]), ["has so far tried no configurations", "No trial has been trained to the"]),
    "one trial": (lambda: made_up(search(1)), ["Best so far", "there are 1.", "still running"]),
    "all failed": (lambda: made_up(unscored(3)), ["3 of 3 trials failed, most often with: no memory", "no winner"]),
    "unfinished": (running, ["1 still running", "1 trial was interrupted: t0002."]),
    "loss": (lambda: whole(6, metric="loss", goal="minimize"), ["reached a training loss of 0.2222"]),
    "no labels": (unlabelled, ["validation instance accuracy", "better by 10.0 points"]),
    "no sweep.yaml": (without_identity, ["trained to the end"]),
    "strange settings": (strange_settings, ["$a$_b", "65536"]),
    "nothing searched": (sparse_scores_and_nothing_searched, ["The search varied no setting."]),
    "several metrics": (
        several_metrics_and_one_seed,
        [
            "maximize val_knn, minimize student_parameters",
            "dogo-t0003",
            "one seed shows no spread",
            "The final rests on 1 seed",
        ],
    ),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_sweeps_have_reports_too(name):
    make, said = ODD[name]
    summary = summarize(make())
    read = Page(page(summary))
    for text in said:
        assert text in read.text, text
    assert " nan" not in read.text.lower()
    assert "nan" not in re.sub(r"[a-z]*nan[a-z]+|[a-z]+nan", "", " ".join(markdown(summary).lower().split()))
    assert latex(summary).startswith("%")


def test_what_a_condition_leaves_out_is_not_what_was_set_to_none(sweep):
    paths = sweep.searched
    shown = {trial.key: dict(zip(paths, trial.settings, strict=True)) for trial in summarize(sweep).trials}
    for key in sweep.role("search"):
        left_out = sweep.setting(key, "method.objectives") != BOTH
        assert (shown[key]["method.lambda_simsiam"] == "–") == left_out
    assert {shown[key]["train.clip_norm"] for key in sweep.role("search")} == {"none", "1"}
