"""Scores on other images than the run's."""

from dataclasses import replace

import pytest
from helpers.builders.datafiles import save
from helpers.builders.subjects import SeesColours, coloured, subject

from raydistill.data.images import DataError
from raydistill.evaluation.final import score_encoder
from raydistill.evaluation.tasks.base import run_tasks
from raydistill.evaluation.tasks.names import slug
from raydistill.evaluation.tasks.transfer import score


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("torchvision:CIFAR100", "cifar100"),
        ("torchvision:STL10-unlabeled", "stl10-unlabeled"),
        ("/data/My Pictures (2)/", "my-pictures-2"),
        ("hf:owner/Some.Name_x", "some-name_x"),
        ("s3://bucket/flowers/", "flowers"),
        ("digits", "digits"),
        ("/", "images"),
    ],
)
def test_names_in_metrics(source, name):
    assert slug(source) == name


def test_the_current_folder_is_called_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert slug(".") == slug(str(tmp_path))


def test_colours_are_all_found(tmp_path):
    """The run has digits, of which this network knows nothing; the task's own images are plain colours."""
    asked = replace(subject(SeesColours(), labels_per_class=(1,)), source=str(coloured(tmp_path / "Plain Colours")))
    assert score(asked).scores == {"test_knn_on_plain-colours": 1, "test_probe_on_plain-colours": 1}


def test_scores_are_those_of_a_run_on_these_images(tmp_path):
    root = coloured(tmp_path / "colours")
    asked = replace(subject(knn="simreg", ks=[1, 2, 4, 8]), source=str(root))
    found = score(asked).scores
    own = score_encoder(asked.encoder, asked.images(), asked.config, asked.device)
    assert found == {f"{name}_on_colours": own[name] for name in ("test_knn", "test_knn_1", "test_probe")}


def test_several_sources_have_a_mean(tmp_path):
    places = [str(coloured(tmp_path / name)) for name in ("one", "two")]
    tasks = [f"transfer:{place}" for place in places]
    found = run_tasks(subject(SeesColours(), tasks=tasks)).scores
    each = [f"test_{kind}_on_{name}" for name in ("one", "two") for kind in ("knn", "probe")]
    assert found == dict.fromkeys([*each, "test_knn_transfer", "test_probe_transfer"], 1)
    # With one that is missing, the mean would be another one.
    found = run_tasks(subject(SeesColours(), tasks=[*tasks, f"transfer:{tmp_path / 'missing'}"]))
    assert found.scores == dict.fromkeys(each, 1)
    assert list(found.left_out) == [f"transfer:{tmp_path / 'missing'}"]


def test_images_without_labels_are_refused(tmp_path):
    for i in range(20):
        save(tmp_path / f"{i}.png")
    with pytest.raises(DataError, match="have no labels, which this task needs"):
        score(replace(subject(), source=str(tmp_path)))


def test_the_task_among_the_settings_does_not_run_itself():
    seen = subject(SeesColours(), tasks=("transfer:digits",))
    assert set(score(replace(seen, source="digits")).scores) == {"test_knn_on_digits", "test_probe_on_digits"}
