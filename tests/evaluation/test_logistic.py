"""The probe to convergence against scikit-learn's logistic regression."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from raydistill.evaluation import logistic
from raydistill.evaluation.logistic import REGULARIZATIONS, logistic_probe


def digits(seed, parts=(900, 450, 447)):
    """Train, validation and test of the digits' pixels, in an order of their own; five dimensions never change."""
    pixels, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(labels))
    pixels, labels = torch.from_numpy(pixels[order]).float(), torch.from_numpy(labels[order])
    return list(zip(pixels.split(parts), labels.split(parts), strict=True))


def overlapping(seed, n=300, dim=12, classes=4):
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, dim, generator=generator)
    scale = torch.logspace(-3, 3, dim)

    def split(count):
        labels = torch.randint(classes, (count,), generator=generator)
        return (centres[labels] + 1.5 * torch.randn(count, dim, generator=generator)) * scale + 5 * scale, labels

    return [split(n), split(n), split(n)]


@pytest.mark.parametrize("data", [digits(0), digits(1), overlapping(0), overlapping(1), overlapping(2)])
def test_it_scores_what_scikit_learn_scores_and_chooses_the_same_regularisation(data):
    (train, train_labels), (val, val_labels), (test, test_labels) = data
    classes = int(train_labels.max()) + 1
    found = logistic_probe(train, train_labels, val, val_labels, test=test, test_labels=test_labels, classes=classes)
    scaler = StandardScaler().fit(train.double().numpy())
    x, v, t = (scaler.transform(part.double().numpy()) for part in (train, val, test))
    models = [LogisticRegression(C=c, tol=1e-8, max_iter=5000).fit(x, train_labels.numpy()) for c in REGULARIZATIONS]
    scores = [model.score(v, val_labels.numpy()) for model in models]
    best = models[REGULARIZATIONS.index(found.regularization)]
    # A sample at the border may fall to the other side by rounding, at most one or two.
    assert found.val == pytest.approx(best.score(v, val_labels.numpy()), abs=2.5 / len(val))
    assert found.val == pytest.approx(max(scores), abs=2.5 / len(val))
    assert found.test == pytest.approx(best.score(t, test_labels.numpy()), abs=2.5 / len(test))
    expected = torch.from_numpy(best.predict_log_proba(t)).exp()
    assert (found.test_logits.double().softmax(1) - expected).abs().max() < 0.02


def wide():
    """More dimensions than images, of which each class has a few, and some dimensions never change."""
    generator = torch.Generator().manual_seed(5)
    rows = torch.randn(40, 90, generator=generator)
    rows[:, :10] = 3.0
    return rows, torch.arange(40) % 8


@pytest.mark.parametrize("data", [overlapping(3)[0], digits(2)[0], wide()], ids=["overlapping", "digits", "wide"])
@pytest.mark.parametrize("c", REGULARIZATIONS)
def test_the_minimum_is_scikit_learns(data, c):
    train, labels = data
    mean, scale = logistic.standardizer(train)
    x, classes = (train - mean) / scale, int(labels.max()) + 1
    mine = logistic._fit((x, labels), classes, c, np.zeros((classes, x.shape[1] + 1)), logistic._Directions.of(x))
    model = LogisticRegression(C=c, tol=1e-10, max_iter=10_000).fit(x.double().numpy(), labels.numpy())

    def loss(weights, bias):
        logits = x.double() @ torch.as_tensor(weights).T + torch.as_tensor(bias)
        entropy = torch.nn.functional.cross_entropy(logits, labels)
        return entropy.item() + (np.asarray(weights) ** 2).sum() / (2 * c * len(x))

    assert loss(mine[:, :-1], mine[:, -1]) <= loss(model.coef_, model.intercept_) + 1e-5


def test_the_strongest_of_equal_regularisations_wins_and_nothing_is_by_chance():
    rows = torch.tensor([[-2.0], [-1.0], [1.0], [2.0]])
    labels = torch.tensor([0, 0, 1, 1])
    first = logistic_probe(rows, labels, rows, labels, classes=2)
    assert (first.val, first.test, first.regularization) == (1.0, None, REGULARIZATIONS[0])
    assert logistic_probe(rows, labels, rows, labels, classes=2) == first


def test_it_goes_no_weaker_once_validation_has_fallen_twice(monkeypatch):
    (train, labels), (val, val_labels), _ = overlapping(4)
    tried, fit = [], logistic._fit
    monkeypatch.setattr(logistic, "_fit", lambda *args: tried.append(args[2]) or fit(*args))
    falling = iter([0.5, 0.6, 0.4, 0.5, 0.9])
    monkeypatch.setattr(logistic, "accuracy", lambda *args: next(falling))
    found = logistic_probe(train, labels, val, val_labels, classes=4)
    assert (found.val, found.regularization) == (0.6, REGULARIZATIONS[1])
    assert tried == list(REGULARIZATIONS[:4])


def test_features_that_are_not_finite_are_refused():
    rows, labels = torch.ones(4, 2), torch.tensor([0, 1, 0, 1])
    broken = rows.clone()
    broken[1, 0] = float("nan")
    with pytest.raises(ValueError, match="val: 1 feature rows"):
        logistic_probe(rows, labels, broken, labels, classes=2)
    with pytest.raises(ValueError, match="3 dimensions, train has 2"):
        logistic_probe(rows, labels, torch.ones(4, 3), labels, classes=2)


@pytest.mark.gpu
def test_a_gpu_finds_the_same_minimum():
    (train, labels), (val, val_labels), (test, test_labels) = digits(0)
    options = {"test_labels": test_labels, "classes": 10}
    here = logistic_probe(train, labels, val, val_labels, test=test, **options)
    there = logistic_probe(train.cuda(), labels, val.cuda(), val_labels, test=test.cuda(), **options)
    assert there.regularization == here.regularization
    assert there.test_logits.device.type == "cuda"
    assert there.test == pytest.approx(here.test, abs=0.01)
