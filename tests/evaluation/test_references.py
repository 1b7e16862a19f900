"""What a result is judged by: raw pixels against scikit-learn, the untrained student, a teacher's own features."""

import numpy as np
import pytest
import torch
from helpers.builders.runs import TINY, trial
from helpers.builders.states import same
from helpers.builders.teacher_networks import HALF, network
from PIL import Image
from sklearn.neighbors import KNeighborsClassifier

from raydistill import config
from raydistill.artifacts.store import Store
from raydistill.artifacts.teachers import FILE
from raydistill.data.sources import load_dataset
from raydistill.data.views.augment import normalization
from raydistill.evaluation.final import score_all, score_encoder
from raydistill.evaluation.references import RawPixels, score_references, untrained_student
from raydistill.models.teacher import FrozenTeacher, load_teacher, save_teacher
from raydistill.records.few_labels import few_label_table
from raydistill.records.leaderboard import LeaderboardEntry
from raydistill.training.checkpoint_files import CheckpointError
from raydistill.training.checkpoints import latest_checkpoint
from raydistill.training.single import train
from raydistill.trial_spec import TrialSpec


def evaluated(limit=200, **values):
    values = {"method": TINY, "data": {"limit": limit, "batch_size": 16, "image_size": 8}, **values}
    return config.load({**values, "eval": {"ks": [1], "probe_epochs": 2}})


def test_raw_pixels_score_what_scikit_learn_says_of_them():
    wanted = evaluated()
    data = load_dataset(wanted.data)
    found = score_encoder(RawPixels(), data, wanted, torch.device("cpu"))

    def rows(split):
        # A linear change of all pixels alike, as the network's normalisation is, and the cosine as the product says.
        pixels = (
            torch.stack(list(split.fetch(torch.arange(len(split)))[0])).float().flatten(1).div(255).sub(0.5).div(0.25)
        )
        return pixels.numpy(), split.labels.numpy()

    neighbours = KNeighborsClassifier(1, metric="cosine").fit(*rows(data.train))
    plain = {name: neighbours.score(*rows(getattr(data, name))) for name in ("val", "test")}
    assert plain["test"] > 0.8
    for name, accuracy in plain.items():
        assert found[f"{name}_knn"] == pytest.approx(accuracy, abs=0.05)


def test_large_images_are_averaged():
    images = torch.arange(64 * 64.0).view(1, 1, 64, 64).expand(2, 3, 64, 64)
    found = RawPixels()(images)
    assert found.shape == (2, 3 * 32 * 32)
    assert found[0, 0] == images[0, 0, :2, :2].mean()
    small = torch.rand(2, 3, 8, 8)
    assert torch.equal(RawPixels()(small), small.flatten(1))


def test_the_untrained_student_is_what_the_run_began_with(tmp_path):
    """A rate so small that training changes nothing but the statistics of the batch norms."""
    wanted = evaluated(40, train={"epochs": 1, "lr": 1e-30, "seed": 5, "optimizer": "sgd", "weight_decay": 0})
    train(TrialSpec(wanted), tmp_path, evaluate=lambda *_: {}, device="cpu")
    student = untrained_student(wanted, str(tmp_path))
    trained = latest_checkpoint(tmp_path)["method"]
    for name, value in student.named_parameters():
        assert torch.allclose(value, trained[f"backbone.{name}"], rtol=0, atol=1e-20), name
    other = wanted.model_copy(update={"train": wanted.train.model_copy(update={"seed": 6})})
    assert not same(untrained_student(other, str(tmp_path)).state_dict(), student.state_dict())
    with pytest.raises(CheckpointError, match="no checkpoint"):
        untrained_student(wanted, str(tmp_path / "nothing"))


def test_each_seed_has_its_untrained_student_and_each_teacher_its_row(tmp_path):
    places = [tmp_path / "a", tmp_path / "b"]
    for place in places:
        trial(place)
    seeds = [evaluated(40, train={"epochs": 1, "seed": seed}) for seed in (0, 1)]
    store = Store(tmp_path / "store")
    keys = []
    for number in range(2):
        torch.manual_seed(number)
        made = FrozenTeacher(network(size=8), None, HALF, HALF)
        folder = store.get("teacher", {"number": number}, lambda f, t=made: save_teacher(t, f / FILE, provenance={}))
        keys.append(folder.name)
    runs = list(zip(seeds, map(str, places), strict=True))
    rows = score_references(runs, [tuple(keys)] * 2, str(store.root), threads=1)
    assert list(rows) == ["pixels", "untrained", "teacher-1", "teacher-2"]
    assert [len(scores) for scores in rows.values()] == [1, 2, 1, 1]
    assert all(
        set(each) == {"val_knn", "test_knn", "val_probe", "test_probe"} for scores in rows.values() for each in scores
    )
    assert rows["untrained"][0] != rows["untrained"][1]
    # The teacher's row is that of its backbone, shown images as it was trained with them.
    data = load_dataset(seeds[0].data)
    shown = normalization(data.name, data.image_size)
    teacher = load_teacher(store.by_key("teacher", keys[0]) / FILE, shown)

    class Backbone(torch.nn.Module):
        def forward(self, images):
            (mean, std), (own_mean, own_std) = (
                [torch.tensor(part).view(1, 3, 1, 1) for part in each] for each in (shown, HALF)
            )
            return teacher.backbone((images * std + mean - own_mean) / own_std)

    alone = score_encoder(Backbone(), data, seeds[0], torch.device("cpu"))
    assert rows["teacher-1"][0] == pytest.approx(alone, abs=0.02)
    alone = score_references(runs[:1], [tuple(keys[:1])], str(store.root), threads=1)
    assert list(alone) == ["pixels", "untrained", "teacher"]
    # Teachers that were drawn anew for each seed are the entries of one row.
    redrawn = score_references(runs, [(keys[0],), (keys[1],)], str(store.root), threads=1)
    assert redrawn["teacher"] == [*rows["teacher-1"], *rows["teacher-2"]]
    assert rows["teacher-1"] != rows["teacher-2"]


def test_final_runs_and_references_are_scored_with_few_labels_alike(tmp_path):
    """Unlabelled images to learn from, the digits to score by: the same draws and test images for every row."""
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for index in range(40):
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(tmp_path / "photos" / f"{index}.png")
    images = {"source": str(tmp_path / "photos"), "labelled": "digits", "limit": 100, "image_size": 8}
    trial(tmp_path / "run", **images)
    wanted = config.load(
        {"method": TINY, "data": {**images, "batch_size": 16}, "eval": {"ks": [1], "labels_per_class": [1, 2]}}
    )
    store = Store(tmp_path / "store")
    made = FrozenTeacher(network(size=8), None, HALF, HALF)
    key = store.get("teacher", {}, lambda folder: save_teacher(made, folder / FILE, provenance={})).name
    runs = [(wanted, str(tmp_path / "run"))]
    rows = score_references(runs, [(key,)], str(store.root), threads=1)
    (final,) = score_all(runs, threads=1)
    few = {
        f"test_{by}_{count}_labels{end}"
        for by in ("knn", "probe")
        for count in (1, 2, "all")
        for end in ("", "_low", "_high")
    }
    for scores in (final, *(each[0] for each in rows.values())):
        assert set(scores) == {"val_knn", "test_knn", "val_probe", "test_probe"} | few
        assert scores["test_knn_2_labels_low"] < scores["test_knn_2_labels"] < scores["test_knn_2_labels_high"]
    assert rows["pixels"][0]["test_knn_2_labels"] > rows["pixels"][0]["test_knn_1_labels"] > 0.3
    table = few_label_table([LeaderboardEntry(name, {}, 0, scores) for name, scores in rows.items()])
    assert [line[:2] for line in table.body] == [
        [name, by] for name in ("pixels", "untrained", "teacher") for by in ("k-NN", "linear probe")
    ]
