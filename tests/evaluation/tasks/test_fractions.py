"""Accuracy of a probe that learned some of the labels."""

from helpers.builders.subjects import SeesColours, coloured, subject

from raydistill.evaluation.final import score_encoder
from raydistill.evaluation.tasks import fractions


def test_colours_need_one_label_of_each(tmp_path):
    asked = subject(SeesColours(), coloured(tmp_path), label_percents=(1, 12.5, 100))
    assert fractions.score(asked).scores == {
        "test_probe_1_percent": 1,
        "test_probe_12.5_percent": 1,
        "test_probe_100_percent": 1,
    }


def test_each_share_has_its_own_rows(tmp_path, monkeypatch):
    """Of 10 images of a class 2 validate, so that 8 are left: 1 % is one image, 25 % are two, 50 % four."""
    counts = []
    kept = fractions.fit_probe

    def fit(train, *rest):
        counts.append(train[1].bincount().tolist())
        return kept(train, *rest)

    monkeypatch.setattr(fractions, "fit_probe", fit)
    fractions.score(subject(SeesColours(), coloured(tmp_path), label_percents=(1, 25, 50)))
    assert counts == [[1] * 3, [2] * 3, [4] * 3]


def test_all_labels_score_what_the_probe_scores():
    asked = subject(label_percents=(100,))
    whole = score_encoder(asked.encoder, asked.dataset, asked.config, asked.device)
    assert fractions.score(asked).scores == {"test_probe_100_percent": whole["test_probe"]}
