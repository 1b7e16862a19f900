"""`raydistill evaluate`: any encoder on any images, beside raw pixels and the same network untrained."""

import json

import numpy as np
import pytest
import timm
import torch
import yaml
from helpers.builders.datafiles import save
from helpers.builders.runs import sweep
from sklearn.neighbors import KNeighborsClassifier
from timm.models import save_for_hf

import raydistill
from raydistill.cli import main
from raydistill.config import load
from raydistill.data.sources import load_dataset
from raydistill.data.views.augment import normalization
from raydistill.evaluation import references
from raydistill.evaluation.final import score_encoder
from raydistill.evaluation.references import untrained_student
from raydistill.models.backbones import Backbone


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("evaluated")
    sweep(home)
    return home


@pytest.fixture
def evaluated(home, tmp_path, capsys):
    """Run the command; return its rows by (data, encoder), and what it printed."""

    def run(*words, storage=home):
        out = tmp_path / "scores.json"
        with pytest.raises(SystemExit) as done:
            main(["evaluate", *map(str, words), "--storage", str(storage), "--out", str(out), "--overwrite"])
        assert not done.value.code
        rows = json.loads(out.read_text())["rows"]
        return {(row["data"], row["encoder"]): row["scores"] for row in rows}, capsys.readouterr().out

    return run


def refused(words, said, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["evaluate", *words])
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err


def test_a_run_beside_the_same_network_untrained_and_raw_pixels(home, evaluated):
    rows, printed = evaluated("demo-1")
    assert list(rows) == [("digits", "demo-1/t0001"), ("digits", "untrained"), ("digits", "pixels")]
    assert rows["digits", "demo-1/t0001"] == raydistill.evaluate(home / "demo-1")
    trial = home / "demo-1" / "trials" / "t0001"
    config = raydistill.load_config(trial / "config.yaml")
    fresh = untrained_student(config, str(trial))
    expected = score_encoder(fresh, load_dataset(config.data), config, torch.device("cpu"))
    assert rows["digits", "untrained"] == expected
    assert f"| {100 * expected['test_knn']:.2f}" in printed
    assert "k-NN averaged over k = 1, 2, 4, 8" in printed


def test_raw_pixels_by_a_papers_protocol_are_what_scikit_learn_finds(evaluated):
    given = ["digits", "--protocol", "simreg", "--set", "data.limit=200", "--set", "data.image_size=8"]
    rows, printed = evaluated("pixels", *given)
    found = load_dataset(load({"method": "simclr", "data": {"limit": 200, "image_size": 8, "split": "names"}}).data)
    splits = [[split.peek(k).double().numpy() for k in range(len(split))] for split in (found.train, found.test)]
    model = KNeighborsClassifier(1, metric="cosine").fit(_normalized(splits[0]), found.train.labels)
    expected = model.score(_normalized(splits[1]), found.test.labels)
    assert rows["digits", "pixels"]["test_knn_1"] == pytest.approx(expected)
    assert list(rows) == [("digits", "pixels")]
    assert "k-NN with k = 20, ties broken at random; linear probe: simreg" in printed


def _normalized(rows):
    """Pixels as views show them."""
    mean, std = (np.array(each)[:, None] for each in normalization("digits", 8))
    return ((np.array(rows).reshape(len(rows), 3, -1) / 255 - mean) / std).reshape(len(rows), -1)


def test_a_protocol_keeps_nothing_of_the_runs_own(home, evaluated):
    """A run with a rate, a length and a k of its own is scored as any other."""
    trial = sweep(home, "own-1") / "trials" / "t0001"
    values = yaml.safe_load((trial / "config.yaml").read_text())
    values["eval"] |= {"ks": [5], "probe": "seed", "probe_lr": 30.0, "probe_epochs": 5}
    (trial / "config.yaml").write_text(yaml.safe_dump(values))
    for protocol in ("dogo", "simreg"):
        own, other = (evaluated(f"{name}-1", "--protocol", protocol)[0] for name in ("own", "demo"))
        assert list(own.values()) == list(other.values())
    _, printed = evaluated("own-1", "--no-references")
    assert "with k = 5; linear probe: seed, at a rate of 30." in printed


def test_what_was_scored_and_what_validation_chose_is_said(evaluated):
    rows, printed = evaluated(
        *("demo-1", "--protocol", "simreg", "--set", "eval.probe_lr=[0.001,0.1]", "--labels-per-class", "1,500")
    )
    assert "digits: 40 train, 40 val, 40 test images, 10 classes; no scores with 500 labels of each class" in printed
    assert "linear probe: simreg, at a rate of 0.001 or 0.1; probe_lr: the rate that validation chose" in printed
    assert {scores["probe_lr"] for scores in rows.values()} <= {0.001, 0.1}
    assert not any("500" in metric for scores in rows.values() for metric in scores)


@pytest.mark.parametrize(("protocol", "limited"), [("sdssl", True), ("seed", False)])
def test_a_k_beyond_the_training_images_is_said(evaluated, protocol, limited):
    _, printed = evaluated("demo-1", "--protocol", protocol, "--no-references")
    assert ("; k is at most" in printed) is limited


def test_scores_that_are_done_are_kept_when_a_later_one_fails(home, tmp_path, monkeypatch, capsys):
    def broken(self, images):
        raise RuntimeError("the machine is on fire")

    monkeypatch.setattr(references.RawPixels, "forward", broken)
    out = tmp_path / "scores.json"
    with pytest.raises(RuntimeError):
        main(["evaluate", "demo-1", "--storage", str(home), "--out", str(out)])
    assert [row["encoder"] for row in json.loads(out.read_text())["rows"]] == ["demo-1/t0001", "untrained"]
    assert "| untrained" in capsys.readouterr().out


def test_images_without_labels_have_a_score_of_their_own(evaluated, tmp_path):
    rng = np.random.default_rng(0)
    for number in range(40):
        save(tmp_path / "flat" / f"{number}.png", rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    rows, printed = evaluated("demo-1", tmp_path / "flat", "--no-references")
    assert list(rows[str(tmp_path / "flat"), "demo-1/t0001"]) == ["test_instance"]
    assert "finds the other crop of it" in printed
    assert "k-NN" not in printed


def test_several_data_sets_have_a_mean(evaluated, tmp_path):
    rng = np.random.default_rng(0)
    for label, base in (("dark", 40), ("light", 180)):
        for number in range(24):
            pixels = rng.integers(base, base + 40, (8, 8, 3), dtype=np.uint8)
            save(tmp_path / "images" / label / f"{number}.png", pixels)
    rows, printed = evaluated("demo-1", "digits", tmp_path / "images", "--no-references")
    values = [scores["test_knn"] for scores in rows.values()]
    assert len(values) == 2
    assert rows[str(tmp_path / "images"), "demo-1/t0001"]["test_knn"] == 1.0
    assert "| mean of 2" in printed
    assert f"{50 * sum(values):.2f}" in printed.splitlines()[4]


def test_a_network_that_a_library_wrote_sees_images_as_it_was_trained_to(evaluated, tmp_path):
    net = timm.create_model("resnet10t", pretrained=False, num_classes=0)
    save_for_hf(net, tmp_path / "net", safe_serialization=True)
    given = [tmp_path / "net", "digits", "--set", "data.image_size=32", "--set", "data.limit=120"]
    rows, _ = evaluated(*given, "--protocol", "simreg", "--labels-per-class", "1")
    assert [name for _, name in rows] == [str(tmp_path / "net"), "untrained", "pixels"]
    assert rows["digits", str(tmp_path / "net")] != rows["digits", "untrained"]
    assert {"test_knn_1_labels", "test_knn_1_labels_low", "test_probe_1_labels"} < set(rows["digits", "pixels"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nothing", "digits"], "accepted: a sweep's name"),
        (["nothing", "digits"], "timm:NAME, torchvision:NAME, a checkpoint file, pixels"),
        (["timm:resnt18", "digits"], "near: resnet18"),
        (["pixels"], "say which images"),
        (["demo-1", "--protocol", "simrg"], "did you mean 'simreg'"),
        (["demo-1", "--set", "train.lr=3"], "evaluate takes settings of data.*, eval.*"),
        (["demo-1", "--set", "data.source=digits"], "DATA says which images are scored"),
        (["demo-1", "--set", "data.image_size=32"], "was trained at 8 px"),
        (["demo-1", "--labels-per-class", "few"], "give numbers, such as 1,5,20"),
        (["demo-1", "digits", "/nowhere"], "there is no such file or folder"),
        (["pixels", "digits", "--encoder", "peer_2"], "only a run has several encoders"),
        (["demo-1", "--set", "teacher.backbone=resnet18"], "says how a checkpoint is read, and demo-1 is a run"),
        (["demo-1", "/nowhere"], "there is no such file or folder"),
        (["demo-1", "--encoder", "peer_2"], "no encoder of that name"),
    ],
)
def test_what_cannot_be_scored_is_said(home, capsys, words, said):
    refused([*words, "--storage", str(home)], said, capsys)


def test_weights_that_cannot_be_had_are_said(monkeypatch, capsys):
    def offline(self, *given, **named):
        raise OSError("Name or service not known")

    monkeypatch.setattr(Backbone, "__init__", offline)
    said = "timm:resnet18 cannot be scored: the weights of timm:resnet18 cannot be downloaded (Name or"
    refused(["timm:resnet18", "digits"], said, capsys)
