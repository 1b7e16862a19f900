"""k-NN and probe against the released code's numbers, brute force and hand-computed answers."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.builders.datafiles import folder
from helpers.builders.runs import TINY, trial
from helpers.builders.runs import settings as settings_of
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from torch import nn

from raydistill import methods
from raydistill.config import EvalConfig
from raydistill.data import sources
from raydistill.evaluation import final
from raydistill.evaluation.features import embed
from raydistill.evaluation.knn import by_faiss, by_products, instance_accuracy, knn_accuracy, neighbours, vote
from raydistill.evaluation.logistic import logistic_probe
from raydistill.evaluation.probe import PROBE_PRESETS, _gradients, _schedule, linear_probe
from raydistill.training.checkpoints import latest_checkpoint

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "knn_weighted.json").read_text())


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Steps of microseconds wait milliseconds for a second thread where other programs hold the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def clusters(seed, n=60, classes=3, spread=0.8, dim=4):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % classes
    centres = torch.randn(classes, dim, generator=generator)
    return centres[labels] + spread * torch.randn(n, dim, generator=generator), labels


@pytest.mark.fault(18)
@pytest.mark.parametrize("k", [10, 20, 100])
def test_weighted_votes_are_dinos(k):
    x = GOLDEN["inputs"]
    train, test = torch.tensor(x["train"]), torch.tensor(x["test"])
    labels, expected = torch.tensor(x["train_labels"]), GOLDEN["expected"][f"top1_k{k}"]
    found = knn_accuracy(train, labels, test, torch.tensor(x["test_labels"]), ks=[k], temperature=0.07)
    assert 100 * found[k] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("k", [1, 2, 4, 8])
def test_majority_against_brute_force(k):
    train, labels = clusters(1)
    queries, _ = clusters(2, n=40)
    similarities, indices = neighbours(train, queries, 8)
    found = vote(similarities, labels[indices], 3, k=k)
    a, b = train.double().numpy(), queries.double().numpy()
    for i, query in enumerate(b):
        cosines = a @ query / (np.linalg.norm(a, axis=1) * np.linalg.norm(query))
        near = labels.numpy()[np.argsort(-cosines)[:k]]
        counts = Counter(near.tolist())
        winners = {label for label, count in counts.items() if count == max(counts.values())}
        assert found[i] == next(label for label in near if label in winners)


@pytest.mark.parametrize("k", [1, 20, 200])
def test_products_find_what_faiss_finds(k):
    train, queries = (torch.nn.functional.normalize(clusters(seed)[0]) for seed in (1, 2))
    k = min(k, len(train))
    (ours, first), (theirs, second) = by_products(train, queries, k), by_faiss(train, queries, k)
    torch.testing.assert_close(ours, theirs)
    assert (first == second).float().mean() > 0.999, "but for rows that are equally near"


def test_ties_by_hand():
    similarities = torch.tensor([[0.9, 0.8, 0.7, 0.6]])
    labels = torch.tensor([[2, 1, 1, 2]])
    assert vote(similarities, labels, 3, k=1).item() == 2
    assert vote(similarities, labels, 3, k=2).item() == 2
    assert vote(similarities, labels, 3, k=3).item() == 1
    assert vote(similarities, labels, 3, k=4).item() == 2
    generator = torch.Generator().manual_seed(0)
    random = [vote(similarities, labels, 3, k=4, ties="random", generator=generator).item() for _ in range(200)]
    assert set(random) == {1, 2}
    assert 60 < random.count(1) < 140


@pytest.mark.fault(19)
@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10**6), st.floats(-30, 30))
def test_order_and_scale_change_nothing(seed, exponent):
    train, labels = clusters(seed)
    queries, wanted = clusters(seed + 1, n=20)
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))
    before = knn_accuracy(train, labels, queries, wanted, ks=[1, 4])
    after = knn_accuracy(train[order] * 10**exponent, labels[order], queries * 3, wanted, ks=[1, 4])
    assert before == pytest.approx(after, abs=0.051)


@pytest.mark.parametrize("nearest", [0.9, -0.9])
def test_a_tiny_temperature_follows_the_nearest(nearest):
    similarities = torch.tensor([[nearest, nearest - 0.05, nearest - 0.06]])
    assert vote(similarities, torch.tensor([[1, 0, 0]]), 2, k=3, temperature=1e-4).item() == 1
    assert vote(similarities, torch.tensor([[1, 0, 0]]), 2, k=3, temperature=1.0).item() == 0


@pytest.mark.fault(17)
def test_zero_norm_single_class_and_more_neighbours_than_images():
    train, labels = clusters(3)
    train[0] = 0
    similarities, indices = neighbours(train, torch.zeros(2, 4), 200)
    assert similarities.shape == indices.shape == (2, 60)
    assert torch.equal(similarities, torch.zeros(2, 60))
    one = torch.zeros_like(labels)
    assert knn_accuracy(train, one, train, one, ks=[1, 500]) == {1: 1.0, 500: 1.0}
    assert linear_probe(train, one, train, one, classes=1, epochs=1).val == 1.0
    lone = (train[1:2], torch.tensor([1]))
    assert linear_probe(*lone, *lone, classes=2, preset="simreg").val == 1.0


@pytest.mark.fault(17)
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"train": torch.full((60, 4), torch.nan)}, "60 rows are not finite"),
        ({"queries": torch.zeros(0, 4), "query_labels": torch.zeros(0, dtype=torch.long)}, r"\(0, 4\)"),
        ({"queries": torch.zeros(60, 5)}, "4 and 5 dimensions"),
        ({"train_labels": torch.zeros(3, dtype=torch.long)}, "60 training features but 3 labels"),
        ({"query_labels": torch.full((60,), -1)}, "at least 0"),
        ({"ks": []}, "ks is empty"),
        ({"ks": [0, 1]}, "k = 0; expected at least 1"),
        ({"temperature": 0.0}, "temperature = 0.0"),
        ({"ties": "first"}, "'first'; expected one of nearest, random"),
    ],
)
def test_what_does_not_fit_is_said(change, said):
    train, labels = clusters(4)
    arguments = {"train": train, "train_labels": labels, "queries": train, "query_labels": labels, "ks": [1]}
    with pytest.raises(ValueError, match=said):
        knn_accuracy(**arguments | change)


@pytest.mark.fault(17)
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"val": torch.full((60, 4), torch.inf)}, "val: 60 feature rows are not finite"),
        ({"train": torch.zeros(60, 4).index_fill(0, torch.tensor([7]), torch.nan)}, "train: 1 feature rows"),
        ({"val": torch.zeros(60, 5)}, "val: 5 dimensions, train has 4"),
        ({"test": torch.zeros(0, 4), "test_labels": torch.zeros(0)}, r"test: features of shape \(0, 4\)"),
        ({"test": torch.zeros(60, 4)}, "one of them is missing"),
        ({"val_labels": torch.zeros(3)}, r"val: .* labels of shape \(3,\)"),
        ({"test": torch.zeros(2, 4), "test_labels": torch.tensor([0, 3])}, "test: labels from 0 to 3 with 3 classes"),
        ({"epochs": 0}, "epochs = 0; expected at least 1"),
        ({"preset": "dgo"}, "'dgo' is unknown; valid: dogo, simreg, seed, mocov3"),
    ],
)
def test_the_probe_says_what_does_not_fit(change, said):
    train, labels = clusters(4)
    arguments = {"train": train, "train_labels": labels, "val": train, "val_labels": labels, "classes": 3}
    with pytest.raises(ValueError, match=said):
        linear_probe(**arguments | change)


def test_the_probes_gradient_is_autograds():
    (features, labels), generator = clusters(7), torch.Generator().manual_seed(7)
    layer = nn.Linear(4, 3).double()
    for parameter in layer.parameters():
        parameter.data.normal_(generator=generator)
    nn.functional.cross_entropy(layer(features.double()), labels).backward()
    found = _gradients(features.double(), labels, layer.weight.data, layer.bias.data)
    assert torch.allclose(found[0], layer.weight.grad, rtol=1e-10, atol=1e-14)
    assert torch.allclose(found[1], layer.bias.grad, rtol=1e-10, atol=1e-14)


@given(
    rows=st.lists(st.integers(0, 3), min_size=1, max_size=30),
    asked=st.lists(st.integers(0, 3), min_size=1, max_size=9),
    k=st.integers(1, 40),
    chunk=st.sampled_from([1, 40, 2**24]),
)
@settings(deadline=None)
def test_products_take_the_first_of_equally_near_rows_whatever_the_chunks(rows, asked, k, chunk):
    """Unit vectors, so that all cosines are 0 or 1 exactly."""
    train, queries = (torch.eye(4)[torch.tensor(each)] for each in (rows, asked))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("raydistill.evaluation.knn.CHUNK_NUMBERS", chunk)
        similarities, indices = by_products(train, queries, min(k, len(train)))
    cosines = (np.array(asked)[:, None] == np.array(rows)).astype(np.float32)
    expected = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
    assert np.array_equal(indices.numpy(), expected)
    assert np.array_equal(similarities.numpy(), np.take_along_axis(cosines, expected, 1))


def test_instance_accuracy_finds_the_same_image_and_no_collapse():
    first = torch.eye(6)
    assert instance_accuracy(first, first + 0.1) == 1.0
    assert instance_accuracy(first, first.roll(1, 0)) == 0.0
    assert instance_accuracy(torch.ones(6, 3), torch.ones(6, 3)) == 0.0


def test_the_probe_separates_and_repeats():
    train, labels = clusters(5, n=120, spread=0.05)
    train = 30 * train
    arguments = {"test": train[60:], "test_labels": labels[60:], "classes": 3, "epochs": 600}
    first = linear_probe(train, labels, train[:60], labels[:60], **arguments)
    assert first.val == first.test == 1.0
    assert linear_probe(train, labels, train[:60], labels[:60], **arguments) == first


@pytest.mark.parametrize(("preset", "epochs", "margin"), [("dogo", 400, 0.02), ("simreg", 40, 0.06)])
def test_the_probe_comes_near_logistic_regression_on_real_images(preset, epochs, margin):
    digits = load_digits()
    features, labels = torch.tensor(digits.data, dtype=torch.float32), torch.tensor(digits.target)
    train, val, test = slice(0, 1000), slice(1000, 1300), slice(1300, None)
    found = linear_probe(
        features[train],
        labels[train],
        features[val],
        labels[val],
        test=features[test],
        test_labels=labels[test],
        classes=10,
        preset=preset,
        epochs=epochs,
    )
    reference = LogisticRegression(max_iter=2000).fit(features[train] / 16, labels[train])
    assert found.test == pytest.approx(reference.score(features[test] / 16, labels[test]), abs=margin)


# jacobswan1/SEED, main_lincls.py: a batch of 256, a tenth of the rate from the epochs 60 and 80 on.
# facebookresearch/moco-v3, main_lincls.py: a batch of 1024, half a cosine, by epoch.
RELEASED = {
    "seed": (256, 30, 100, lambda epoch, epochs: 0.1 ** ((epoch >= 60) + (epoch >= 80))),
    "mocov3": (1024, 12, 90, lambda epoch, epochs: 0.5 * (1 + np.cos(np.pi * epoch / epochs))),
}


@pytest.mark.parametrize("preset", RELEASED)
def test_the_probes_rates_are_those_of_the_released_code(preset):
    batch, lr, epochs, share = RELEASED[preset]
    settings = PROBE_PRESETS[preset]
    assert (settings.batch_size, settings.lr, settings.epochs, settings.weight_decay) == (batch, lr, epochs, 0)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=settings.lr)
    schedule = _schedule(optimizer, settings, epochs)
    for epoch in range(epochs):
        assert optimizer.param_groups[0]["lr"] == pytest.approx(lr * share(epoch, epochs), rel=1e-9)
        optimizer.step()
        schedule.step()


@pytest.mark.parametrize(("preset", "lr"), [("seed", None), ("seed", 3), ("mocov3", None), ("mocov3", 0.1)])
def test_the_probes_of_the_released_code_train_as_autograd_does(preset, lr):
    """A few epochs with torch's own layer and SGD; at such rates rounding grows with every further one."""
    batch, peak, _, share = RELEASED[preset]
    peak, epochs = peak if lr is None else lr * batch / 256, 5
    rows, labels = clusters(8, n=360, dim=6)
    train, val = slice(0, 300), slice(300, None)
    found = linear_probe(
        rows[train],
        labels[train],
        rows[val],
        labels[val],
        test=rows[val],
        test_labels=labels[val],
        classes=3,
        preset=preset,
        epochs=epochs,
        lr=lr,
        seed=4,
    )
    generator = torch.Generator().manual_seed(4)
    layer = nn.Linear(6, 3)
    layer.weight.data.normal_(0, 0.01, generator=generator)
    layer.bias.data.zero_()
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0, momentum=0.9, weight_decay=0.0, foreach=False)
    best, kept = -1.0, torch.empty(0)
    for epoch in range(epochs):
        optimizer.param_groups[0]["lr"] = peak * share(epoch, epochs)
        for part in torch.randperm(300, generator=generator).split(batch):
            optimizer.zero_grad()
            nn.functional.cross_entropy(layer(rows[part]), labels[part]).backward()
            optimizer.step()
        logits = layer(rows[val]).detach()
        right = (logits.argmax(1) == labels[val]).double().mean().item()
        if right > best:
            best, kept, chosen = right, logits, epoch + 1
    assert (found.val, found.best_epoch) == (best, chosen)
    assert (found.test_logits - kept).abs().max() < 1e-4 * kept.abs().max()


def test_the_weights_best_on_validation_are_the_ones_scored():
    """Validation labels contradict training: the longer it trains, the worse it gets on them."""
    train, labels = clusters(6, n=90, spread=0.1)
    train = 30 * train
    arguments = {"test": train, "test_labels": labels, "classes": 3, "epochs": 600}
    early = linear_probe(train, labels, train, (labels + 1) % 3, **arguments)
    late = linear_probe(train, labels, train, labels, **arguments)
    assert late.test == 1.0
    assert early.best_epoch < 600
    assert early.test < late.test


def test_embedding_leaves_the_encoder_as_it_was():
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(12, 3), nn.BatchNorm1d(3), nn.Dropout(0.5)).train()
    encoder[2].eval()
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    batches = [torch.randn(4, 3, 2, 2), torch.randn(2, 3, 2, 2)]
    state = torch.get_rng_state()
    features = embed(encoder, batches, "cpu")
    assert torch.equal(torch.get_rng_state(), state)
    assert features.shape == (6, 3)
    assert not features.is_inference()
    assert encoder.training
    assert encoder[3].training
    assert not encoder[2].training
    assert all(torch.equal(before[k], v) for k, v in encoder.state_dict().items())
    with pytest.raises(ValueError, match="no images"):
        embed(encoder, [], "cpu")


def test_the_ensemble_is_scored_on_the_images_that_were_read(tmp_path, monkeypatch):
    """Of one network twice it is that network's score, also where another image stands in for a broken one."""
    data = {"source": str(folder(tmp_path / "images", per_class=8)), "limit": None, "on_bad_image": "skip"}
    trial(tmp_path / "run", **data)
    monkeypatch.setattr(
        final, "scored_encoders", lambda method, which: dict.fromkeys(("student", "again"), method.backbone)
    )
    for broken in (False, True):
        if broken:  # the last cat, for which the first dog stands in
            (tmp_path / "images" / "test" / "cat" / "7.png").write_bytes(b"no image")
        scores = final.score(settings_of(**data), str(tmp_path / "run"), threads=1)
        assert scores["test_probe_ensemble"] == scores["test_probe"] == scores["test_probe_again"]


def test_several_runs_are_scored_as_one_by_one_and_the_images_opened_once(tmp_path, monkeypatch):
    data = {"source": str(folder(tmp_path / "images", per_class=8)), "limit": None}
    wide = {**TINY, "backbone": "resnet10_w8"}
    runs = [(trial(tmp_path / "a", **data), str(tmp_path / "a"))]
    runs.append((trial(tmp_path / "b", wide, **data, batch_size=7), str(tmp_path / "b")))
    alone = [final.score(*run, threads=1) for run in runs]
    opened, load = [], sources.load_dataset
    monkeypatch.setattr(sources, "load_dataset", lambda data: opened.append(data) or load(data))
    assert final.score_all(runs, threads=1) == alone
    assert alone[0] != alone[1]
    assert len(opened) == 1
    gone = (runs[0][0], str(tmp_path / "gone"))
    assert final.score_all([runs[0], gone, runs[1]], threads=1) == [alone[0], f"{gone[1]}: no checkpoint", alone[1]]


def test_the_settings_name_the_probe(tmp_path):
    data = {"source": str(folder(tmp_path / "images", per_class=12)), "limit": None}
    run, place = trial(tmp_path / "run", **data), tmp_path / "run"

    def scored(probe, lr=None):
        wanted = run.model_copy(update={"eval": EvalConfig(probe=probe, probe_lr=lr)})
        return final.score(wanted, str(place), threads=1)["val_probe"]

    state = latest_checkpoint(place)
    method = methods.build(run.method, final.artifacts.given_from(state), seed=0)
    method.load_state_dict(state["method"])
    student, dataset = method.encoders()["student"].eval(), sources.load_dataset(run.data)
    splits = (final.embed_split(student, dataset, part, torch.device("cpu")) for part in (dataset.train, dataset.val))
    rows, classes = [part for split in splits for part in split], len(dataset.classes)
    seed = run.train.seed
    assert scored("dogo") == linear_probe(*rows, classes=classes, seed=seed).val
    assert scored("simreg") == linear_probe(*rows, classes=classes, seed=seed, preset="simreg").val
    assert scored("seed") == linear_probe(*rows, classes=classes, seed=seed, preset="seed").val
    assert scored("mocov3", 0.01) == linear_probe(*rows, classes=classes, seed=seed, preset="mocov3", lr=0.01).val
    assert scored("logistic") == logistic_probe(*rows, classes=classes).val


def test_images_without_labels_have_a_test_score_too(tmp_path):
    place = tmp_path / "images"
    place.mkdir()
    generator = torch.Generator().manual_seed(0)
    for i in range(30):
        save_png(place / f"{i}.png", torch.randint(0, 256, (8, 8, 3), generator=generator, dtype=torch.uint8))
    data = {"source": str(place), "limit": None}
    trial(tmp_path / "run", **data)
    scores = final.score(settings_of(**data), str(tmp_path / "run"), threads=1)
    assert list(scores) == ["test_instance"]
    assert 1 / 6 <= scores["test_instance"] <= 1, "six images are held out; an untrained network beats chance"


def save_png(path, pixels):
    Image.fromarray(pixels.numpy()).save(path)
