"""The tasks that train whole networks."""

import copy
from dataclasses import replace

import pytest
import torch
from helpers.builders.states import same
from helpers.builders.subjects import SeesColours, coloured, small, subject
from helpers.builders.teacher_networks import HALF, IMAGENET

from raydistill.evaluation.references import TeacherFeatures
from raydistill.evaluation.tasks import tuned_fractions, tuned_kd
from raydistill.evaluation.tasks.base import TaskError, run_tasks
from raydistill.evaluation.tasks.tuned import score
from raydistill.evaluation.tasks.tuned_kd import trainable
from raydistill.evaluation.tasks.tuning import RECIPES, TunedNetwork, TuningRecipe, tune
from raydistill.models.teacher import FrozenTeacher


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    """One-hot features: after a step at this rate the linear layer says what it was taught."""
    monkeypatch.setitem(RECIPES, "sssd", TuningRecipe("sgd", lr=1.0, batch_size=64))


def test_own_images_and_others_have_their_names(tmp_path):
    places = [coloured(tmp_path / name) for name in ("one", "two")]
    asked = subject(SeesColours(), places[0], tune="sssd", tune_epochs=1, tasks=["tuned", f"tuned:{places[1]}"])
    assert run_tasks(asked).scores == {"test_tuned": 1, "test_tuned_on_two": 1}
    assert run_tasks(asked, trained=False).scores == {}
    digits = subject(SeesColours(), tune="sssd", tune_epochs=1)
    assert score(replace(digits, source=str(places[1]))).scores == {"test_tuned_on_two": 1}


def test_shares_of_the_labels(tmp_path):
    """8 images of each of 3 colours train: 1 % is one image of each, 50 % are four."""
    asked = subject(SeesColours(), coloured(tmp_path), tune="sssd", tune_epochs=1, label_percents=(1, 50, 100))
    assert tuned_fractions.score(asked).scores == dict.fromkeys(
        ("test_tuned_1_percent", "test_tuned_50_percent", "test_tuned_100_percent"), 1
    )


def test_each_share_trains_on_its_rows(tmp_path, monkeypatch):
    seen = []

    def spy(encoder, dataset, subject, *, rows):
        seen.append(dataset.bank.labels[rows].bincount().tolist())
        return tune(encoder, dataset, subject, rows=rows)

    monkeypatch.setattr(tuned_fractions, "tune", spy)
    asked = subject(SeesColours(), coloured(tmp_path), tune="sssd", tune_epochs=1, label_percents=(1, 50, 100))
    found = tuned_fractions.score(asked).scores
    assert seen == [[1] * 3, [4] * 3, [8] * 3]
    assert found["test_tuned_100_percent"] == score(asked).scores["test_tuned"]


def test_without_a_teacher_it_says_so(tmp_path):
    with pytest.raises(TaskError, match="tuned_kd needs a teacher, and this network has learned from none"):
        tuned_kd.score(subject(SeesColours(), coloured(tmp_path)))
    assert run_tasks(subject(SeesColours(), coloured(tmp_path), tasks=["tuned_kd"])).scores == {}


def test_a_student_follows_its_teacher(tmp_path):
    """The teacher calls each colour by the name of the next one, and has 14.4 times the weight: all are wrong."""
    asked = subject(SeesColours(), coloured(tmp_path), tune="sssd", tune_epochs=1)
    wrong = TunedNetwork(SeesColours(), 3, 3, seed=0)
    with torch.no_grad():
        wrong.linear.weight.copy_(40 * torch.eye(3).roll(1, 0))
    assert tune(asked.encoder, asked.dataset, asked).test == 1
    assert tune(asked.encoder, asked.dataset, asked, teacher=wrong).test == 0


@pytest.mark.parametrize("wrap", [lambda teacher: teacher, TeacherFeatures])
def test_a_frozen_teacher_thaws_with_its_normalisation(wrap):
    teacher = FrozenTeacher(small(), None, HALF, IMAGENET)
    thawed = trainable(wrap(teacher))
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(thawed.eval()(images), teacher(images, "features"))
    assert thawed.dim == teacher.backbone.dim
    plain = small()
    assert trainable(plain) is plain


@pytest.mark.parametrize("wrap", [lambda teacher: teacher, TeacherFeatures])
def test_teacher_and_student_are_scored_and_stay_as_they_are(wrap):
    teacher = wrap(FrozenTeacher(small(seed=5), None, HALF, IMAGENET))
    asked = subject(tune="dogo", tune_epochs=2, teachers=(teacher,))
    before = copy.deepcopy([teacher.state_dict(), asked.encoder.state_dict()])
    found = tuned_kd.score(asked).scores
    assert set(found) == {"test_tuned_kd", "test_tuned_teacher"}
    assert found["test_tuned_teacher"] == tune(trainable(teacher), asked.dataset, asked).test
    assert same([teacher.state_dict(), asked.encoder.state_dict()], before)
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert not any(module.training for module in asked.encoder.modules())


def test_the_teacher_itself_learns_before_the_student(monkeypatch):
    learned = {}

    def spy(encoder, dataset, subject, *, teacher=None):
        found = tune(encoder, dataset, subject, teacher=teacher)
        learned["student" if teacher is not None else "teacher"] = (encoder, found.network.encoder)
        return found

    monkeypatch.setattr(tuned_kd, "tune", spy)
    asked = subject(tune_epochs=1, teachers=(FrozenTeacher(small(seed=5), None, HALF, IMAGENET),))
    tuned_kd.score(asked)
    for before, after in learned.values():
        assert not same(before.state_dict(), after.state_dict()), "all of it is trained, not the layer on top alone"
