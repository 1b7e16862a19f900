"""Whole networks in training: recipes, rates and losses by hand and against timm, and what stays as it was."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from helpers.builders.states import same
from helpers.builders.subjects import SeesColours, coloured, small, subject
from helpers.builders.teacher_networks import HALF, IMAGENET
from timm.scheduler import CosineLRScheduler
from torch import nn

from raydistill.config import EvalConfig
from raydistill.evaluation.references import TeacherFeatures
from raydistill.evaluation.tasks import tuning
from raydistill.evaluation.tasks.base import TaskError
from raydistill.evaluation.tasks.tuning import (
    RECIPES,
    TunedNetwork,
    TuningRecipe,
    kd_loss,
    learning_rate,
    recipe_for,
    tune,
    width_of,
)
from raydistill.models.teacher import FrozenTeacher


@pytest.mark.parametrize(
    ("epoch", "rate"),
    [
        (0, 1e-6),
        (1, 1e-6 + 74e-6 / 3),
        (2, 1e-6 + 2 * 74e-6 / 3),
        (50, 1e-5 + 65e-6 / 2),
        (75, 1e-5 + 65e-6 * (1 - 0.5**0.5) / 2),
    ],
)
def test_rates_of_moco_v3s_recipe_by_hand(epoch, rate):
    """3e-4 for 512 images are 7.5e-5 for 128; down to 1e-5, half of the way after 50 epochs of 100."""
    assert learning_rate(RECIPES["sdssl"], epoch) == pytest.approx(rate, rel=1e-9)


def test_rates_of_moco_v3s_recipe_are_timms():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=7.5e-5)
    schedule = CosineLRScheduler(optimizer, t_initial=100, lr_min=1e-5, warmup_t=3, warmup_lr_init=1e-6)
    for epoch in range(100):
        assert learning_rate(RECIPES["sdssl"], epoch) == pytest.approx(schedule._get_lr(epoch)[0], rel=1e-9)


def test_other_rates_by_hand():
    assert [learning_rate(RECIPES["dogo"], epoch) for epoch in (0, 99)] == [3e-4, 3e-4]
    assert [learning_rate(RECIPES["sssd"], epoch) for epoch in (0, 50)] == pytest.approx([0.01, 0.005])
    short = recipe_for(EvalConfig(tune="sdssl", tune_epochs=1), "digits")
    assert learning_rate(short, 0) == pytest.approx(7.5e-5), "one epoch is no warm-up"


@pytest.mark.parametrize(
    ("source", "changed"),
    [
        ("torchvision:CIFAR10", {}),
        ("torchvision:CIFAR100", {"mixup": 0.5}),
        ("/data/cifar-100-python", {"mixup": 0.5}),
        ("torchvision:Flowers102", {"mixup": 0.0, "cutmix": 0.0, "weight_decay": 0.3, "erasing": 0.25}),
        ("torchvision:OxfordIIITPet", {"cutmix": 0.0, "drop_path": 0.0}),
    ],
)
def test_moco_v3s_recipe_differs_by_the_images(source, changed):
    assert recipe_for(EvalConfig(tune="sdssl"), source) == replace(RECIPES["sdssl"], **changed)
    assert recipe_for(EvalConfig(tune="dogo", tune_epochs=7), source) == replace(RECIPES["dogo"], epochs=7)


def test_kd_loss_by_hand():
    """Softened by 4, the teacher says 3/4 and 1/4, the student 1/2 and 1/2.

    CE = ln 2 = 0.693147; KL = 0.75 ln 1.5 + 0.25 ln 0.5 = 0.130812; 0.1 CE + 0.9 * 16 KL = 1.953008.
    """
    teacher = torch.tensor([[4 * torch.log(torch.tensor(3.0)).item(), 0.0]])
    loss = kd_loss(torch.zeros(1, 2), teacher, torch.tensor([[1.0, 0.0]]))
    assert loss.item() == pytest.approx(1.953008, abs=1e-5)


def test_kd_loss_against_torch_and_its_gradient():
    generator = torch.Generator().manual_seed(0)
    logits, teacher = (torch.randn(5, 3, generator=generator, requires_grad=True) for _ in range(2))
    labels = torch.tensor([0, 1, 2, 1, 0])
    kl = nn.KLDivLoss(reduction="sum")(F.log_softmax(logits / 4, 1), F.softmax(teacher / 4, 1)) / 5
    loss = kd_loss(logits, teacher, F.one_hot(labels, 3).float())
    assert loss.item() == pytest.approx((0.1 * F.cross_entropy(logits, labels) + 0.9 * 16 * kl).item(), rel=1e-5)
    loss.backward()
    assert logits.grad.abs().sum() > 0
    assert teacher.grad is None


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_encoder_stays_as_it_is(recipe):
    encoder = small("vit_w32_p4_d2" if recipe == "sdssl" else "resnet10_w4")
    list(encoder.modules())[3].train()
    asked = subject(tune=recipe, tune_epochs=1)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    modes = [module.training for module in encoder.modules()]
    trainable = [parameter.requires_grad for parameter in encoder.parameters()]
    state = torch.random.get_rng_state()
    found = tune(encoder, asked.dataset, asked)
    assert same(encoder.state_dict(), before)
    assert [module.training for module in encoder.modules()] == modes
    assert [parameter.requires_grad for parameter in encoder.parameters()] == trainable
    assert all(parameter.grad is None for parameter in encoder.parameters())
    assert torch.equal(torch.random.get_rng_state(), state)
    after = found.network.encoder.state_dict()
    assert not same(after, before)
    assert found.best_epoch == 1


def test_a_seed_says_all():
    one, again, other = (
        tune(asked.encoder, asked.dataset, asked)
        for asked in (subject(small("vit_w32_p4_d2"), tune="sdssl", tune_epochs=2, seed=seed) for seed in (0, 0, 1))
    )
    assert same(one.network.state_dict(), again.network.state_dict())
    assert (one.val, one.test, one.best_epoch) == (again.val, again.test, again.best_epoch)
    assert not same(one.network.linear.state_dict(), other.network.linear.state_dict())


def test_frozen_patches_and_positions_of_pre_training_are_trained():
    encoder = small("vit_w32_p4_d2")
    assert not encoder.net.pos_embed.requires_grad
    asked = subject(tune="sdssl", tune_epochs=2)
    tuned = tune(encoder, asked.dataset, asked).network.encoder.net
    for name in ("pos_embed", "patch_embed.proj.weight"):
        assert not torch.equal(tuned.get_parameter(name), encoder.net.get_parameter(name))


def test_sssds_stem_keeps_weights_and_statistics():
    encoder = small()
    asked = subject(tune="sssd", tune_epochs=1)
    tuned = tune(encoder, asked.dataset, asked).network.encoder.state_dict()
    moved = {name.split(".")[1] for name, value in encoder.state_dict().items() if not torch.equal(value, tuned[name])}
    assert moved == {"layer1", "layer2", "layer3", "layer4"}


def test_what_has_no_blocks_is_trained_as_a_whole():
    network = TunedNetwork(nn.Sequential(nn.Flatten(), nn.Linear(192, 4)), 4, 3, seed=0, frozen_stem=True)
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_deeper_blocks_are_skipped_more_often():
    network = small("vit_w32_p4_d3")
    tuning._add_drop_paths(network, 0.1)
    chances = [(block.drop_path1.drop_prob, block.drop_path2.drop_prob) for block in network.net.blocks]
    assert chances == [(0, 0), (0.05, 0.05), (0.1, 0.1)]


def test_weight_decay_of_matrices_alone():
    network = TunedNetwork(small("vit_w32_p4_d2"), 32, 10, seed=0)
    decayed, plain = tuning._optimizer(network, RECIPES["sdssl"]).param_groups
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.1, 0.0)
    without = {names[id(parameter)] for parameter in plain["params"]}
    assert {"encoder.net.pos_embed", "encoder.net.cls_token", "linear.bias", "encoder.net.norm.weight"} <= without
    assert "linear.weight" in {names[id(parameter)] for parameter in decayed["params"]}
    assert len(decayed["params"]) + len(plain["params"]) == len(names)
    (everything,) = tuning._optimizer(network, RECIPES["dogo"]).param_groups
    assert everything["weight_decay"] == 1e-6


def learns_at_once(monkeypatch):
    """One-hot features: after a step at this rate the linear layer says what it was taught."""
    monkeypatch.setitem(RECIPES, "sssd", TuningRecipe("sgd", lr=1.0, batch_size=64))


def test_colours_are_learned_and_the_first_best_epoch_wins(tmp_path, monkeypatch):
    learns_at_once(monkeypatch)
    asked = subject(SeesColours(), coloured(tmp_path), tune="sssd", tune_epochs=3)
    found = tune(asked.encoder, asked.dataset, asked)
    assert (found.val, found.test, found.best_epoch) == (1, 1, 1)
    gradient = torch.eye(3) - 1 / 3  # of a step from weights near 0, with the same number of each colour
    expected = gradient / 3
    assert torch.allclose(found.network.linear.weight, expected, atol=0.06), "those of the first epoch"


def test_only_the_chosen_rows_train(tmp_path, monkeypatch):
    """Without a red image, red is called something else; a third of the test images is red."""
    learns_at_once(monkeypatch)
    asked = subject(SeesColours(), coloured(tmp_path), tune="sssd", tune_epochs=2)
    rows = torch.nonzero(asked.dataset.bank.labels != 2)[:, 0]
    found = tune(asked.encoder, asked.dataset, asked, rows=rows)
    assert found.test == pytest.approx(2 / 3)


def test_a_batch_is_full_where_images_are_many():
    """60 images by at most 25: three batches of 20; and by at most 64: one of all."""
    asked = subject(limit=60)
    for most, size in ((25, 20), (64, 60)):
        recipe = replace(RECIPES["dogo"], batch_size=most)
        stream = tuning._stream(asked.dataset.bank, asked.dataset, recipe, 0, asked.device)
        assert (stream.batch_size, stream.steps_per_epoch) == (size, 60 // size)


def test_the_width_of_features():
    assert width_of(small(), 8, torch.device("cpu")) == 32
    assert width_of(nn.Sequential(nn.Flatten(), nn.BatchNorm1d(192)), 8, torch.device("cpu")) == 192


def test_one_image_is_too_few():
    asked = subject()
    with pytest.raises(TaskError, match="digits: one labelled image to train on; at least two are needed"):
        tune(asked.encoder, asked.dataset, asked, rows=torch.tensor([3]))


def test_a_loss_that_is_not_finite_is_named():
    class Broken(SeesColours):
        def forward(self, images):
            return super().forward(images) * torch.inf

    asked = subject(Broken(), tune_epochs=2)
    with pytest.raises(TaskError, match="the loss of the whole network is not finite in epoch 1 of 2"):
        tune(asked.encoder, asked.dataset, asked)


def test_a_network_that_cannot_be_trained_is_refused():
    asked = subject(TeacherFeatures(FrozenTeacher(small(), None, HALF, IMAGENET)), tune_epochs=1)
    with pytest.raises(TaskError, match="features without gradients, so that it cannot be trained"):
        tune(asked.encoder, asked.dataset, asked)
