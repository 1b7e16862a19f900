"""Accuracy of a probe that learned noisy labels, against the most frequent label of each colour."""

import pytest
import torch
from helpers.builders.subjects import SeesColours, coloured, subject

from raydistill.evaluation.labelled import redrawn
from raydistill.evaluation.tasks.noise import score


def test_a_probe_on_colours_says_the_most_frequent_noisy_label(tmp_path):
    """Features that are one-hot classes: a converged probe says of each class what most of its labels say."""
    asked = subject(SeesColours(), coloured(tmp_path, 20), noise_rates=(0, 0.2, 0.95))
    found = score(asked).scores
    assert list(found) == ["test_probe_noise_0", "test_probe_noise_20", "test_probe_noise_95"]
    assert found["test_probe_noise_0"] == 1
    labels = asked.dataset.bank.labels
    for rate in (0.2, 0.95):
        noisy = redrawn(labels, rate, 3, (asked.config.data.split_seed, 0))
        counts = [noisy[labels == each].bincount(minlength=3) for each in range(3)]
        assert all(count.topk(2).values.diff().abs() > 0 for count in counts), "no ties, else the test says nothing"
        right = [count.argmax().item() == each for each, count in enumerate(counts)]
        assert found[f"test_probe_noise_{100 * rate:g}"] == pytest.approx(sum(right) / 3)


def test_the_run_s_seed_draws_no_labels(tmp_path):
    root = coloured(tmp_path)
    one, other = (score(subject(SeesColours(), root, seed=seed, noise_rates=(0.6,))) for seed in (0, 1))
    assert one == other


def test_validation_labels_are_noisy_and_test_labels_are_clean(tmp_path, monkeypatch):
    seen = []

    def fit(train, val, test, config, classes):
        seen.append((train[1], val[1], test[1]))
        return type("Found", (), {"test": 0.5})()

    monkeypatch.setattr("raydistill.evaluation.tasks.noise.fit_probe", fit)
    asked = subject(SeesColours(), coloured(tmp_path, 30), limit=None, noise_rates=(1,))
    assert score(asked).scores == {"test_probe_noise_100": 0.5}
    ((train, val, test),) = seen
    for noisy, clean in ((train, asked.dataset.bank.labels), (val, asked.dataset.val.labels)):
        assert 0.3 < noisy.ne(clean).double().mean() < 0.9
    assert torch.equal(test, asked.dataset.test.labels)
