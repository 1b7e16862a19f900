"""Training of a whole network on labels: a linear layer on top, and the papers' recipes."""

from __future__ import annotations

import copy
import logging
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raydistill.config import EvalConfig
from raydistill.data.images import Images
from raydistill.data.sources import Dataset
from raydistill.data.stream import Stream
from raydistill.data.views.augment import View, normalization
from raydistill.evaluation.labelled import check_labels
from raydistill.evaluation.mixing import erased, mixed, soft_targets
from raydistill.evaluation.online import embed_split
from raydistill.evaluation.tasks.base import Subject, TaskError
from raydistill.evaluation.tasks.names import slug
from raydistill.training.devices import is_unsound, sound_kernels

log = logging.getLogger(__name__)
KD_TEMPERATURE, KD_WEIGHT = 4.0, 0.9
_DRAW = 2_000_000  # of the views, lest they be those that the encoder learned from
_BLOCK = re.compile(r"(layers?|blocks?|stages?)_?\d*")
_UNDECAYED = ("pos_embed", "cls_token")


@dataclass(frozen=True)
class TuningRecipe:
    """Recipe of a whole network's training.

    Args:
        optimizer: `adam` (L2), `adamw`, or `sgd` with a momentum of 0.9.
        lr: highest learning rate.
        batch_size: images of a step at most.
        epochs: passes over the images, where `eval.tune_epochs` says nothing else.
        weight_decay: of all parameters, or with `decay_matrices` of those with two dimensions and more, but for a
            ViT's class token and positions.
        decay_matrices: see there.
        schedule: of the rate, by epoch: `cosine` falls from `lr` to `lowest_lr`.
        lowest_lr: end of the cosine.
        warmup_epochs: linear, from `first_lr`.
        first_lr: begin of the warm-up.
        view: recipe of the augmentation.
        mixup, cutmix: parameters of their Beta distributions; 0: none.
        erasing: probability of random erasing.
        smoothing: of the labels.
        drop_path: probability by which the last block of a ViT is skipped; that of the others rises to it from 0.
        frozen_stem: whether all in front of the first block stays as it is.
    """

    optimizer: Literal["adam", "adamw", "sgd"]
    lr: float
    batch_size: int
    epochs: int = 100
    weight_decay: float = 0.0
    decay_matrices: bool = False
    schedule: Literal["constant", "cosine"] = "constant"
    lowest_lr: float = 0.0
    warmup_epochs: int = 0
    first_lr: float = 0.0
    view: str = "rrcflip"
    mixup: float = 0.0
    cutmix: float = 0.0
    erasing: float = 0.0
    smoothing: float = 0.0
    drop_path: float = 0.0
    frozen_stem: bool = False


# docs/tasks.md says which values are published and which are chosen here. Sources: DoGo, table 2, and the linear
# evaluation of NeurAI-Lab/DoGo; facebookresearch/moco-v3, transfer/README.md, and what facebookresearch/deit, main.py,
# takes where the command says nothing: a rate for 512 images, a smoothing of 0.1, rates from 1e-6 and down to 1e-5;
# SSSD, section 4.3. MoCo v3 freezes a ViT's patch projection in pre-training alone: DeiT's model trains it, and
# positions too.
RECIPES = {
    "dogo": TuningRecipe("adam", lr=3e-4, batch_size=64, weight_decay=1e-6),
    "sdssl": TuningRecipe(
        "adamw",
        lr=3e-4 * 128 / 512,
        batch_size=128,
        weight_decay=0.1,
        decay_matrices=True,
        schedule="cosine",
        lowest_lr=1e-5,
        warmup_epochs=3,
        first_lr=1e-6,
        mixup=0.8,
        cutmix=1.0,
        smoothing=0.1,
        drop_path=0.1,
    ),
    "sssd": TuningRecipe("sgd", lr=0.01, batch_size=256, schedule="cosine", frozen_stem=True),
}


@dataclass(frozen=True)
class Tuned:
    """A network that has learned labels: the weights that were best on validation, and their epoch, counted from 1.

    `val` and `test` are accuracies in [0, 1].
    """

    network: TunedNetwork
    val: float
    test: float
    best_epoch: int


def recipe_for(settings: EvalConfig, source: str) -> TuningRecipe:
    """The recipe that `eval.tune` names, with `eval.tune_epochs`; MoCo v3's differs by the images.

    Args:
        settings: the section `eval`.
        source: of the images.
    """
    recipe, name = RECIPES[settings.tune], slug(source).replace("-", "")
    if settings.tune == "sdssl":
        if "cifar100" in name:
            recipe = replace(recipe, mixup=0.5)
        elif "flowers" in name:
            recipe = replace(recipe, mixup=0.0, cutmix=0.0, weight_decay=0.3, erasing=0.25)
        elif "pet" in name:
            recipe = replace(recipe, cutmix=0.0, drop_path=0.0)
    return recipe if settings.tune_epochs is None else replace(recipe, epochs=settings.tune_epochs)


def learning_rate(recipe: TuningRecipe, epoch: int) -> float:
    """Learning rate of an epoch, counted from 0; a warm-up takes at most half of the epochs."""
    warmup = min(recipe.warmup_epochs, recipe.epochs // 2)
    if epoch < warmup:
        return recipe.first_lr + (recipe.lr - recipe.first_lr) * epoch / warmup
    if recipe.schedule == "constant":
        return recipe.lr
    return recipe.lowest_lr + (recipe.lr - recipe.lowest_lr) * (1 + math.cos(math.pi * epoch / recipe.epochs)) / 2


def kd_loss(logits: Tensor, teacher: Tensor, targets: Tensor) -> Tensor:
    """Knowledge distillation: (1 - w) CE + w T^2 KL(teacher ‖ student), both softened by T = 4, with w = 0.9.

    Source: Hinton et al. (arXiv 1503.02531), in the form of SimReg's equation 3; T and w as HobbitLong/RepDistiller has
    them, since SEED's appendix names neither.

    Args:
        logits: (N, C) of the student.
        teacher: (N, C), its logits; no gradient reaches them.
        targets: (N, C), probabilities.
    """
    student, wanted = (F.log_softmax(each / KD_TEMPERATURE, dim=1) for each in (logits, teacher.detach()))
    kl = F.kl_div(student, wanted, reduction="batchmean", log_target=True)
    return (1 - KD_WEIGHT) * F.cross_entropy(logits, targets) + KD_WEIGHT * KD_TEMPERATURE**2 * kl


class TunedNetwork(nn.Module):
    """A copy of an encoder with a linear layer on top: images (N, 3, S, S) -> logits (N, classes).

    All of its weights are trained, also those that pre-training left as they were drawn, but for those in front of the
    first block where `frozen_stem` says so. Batch norms among these keep their statistics.

    Args:
        encoder: images -> (N, D).
        dim: D.
        classes: number of classes.
        seed: of the linear layer, whose weights are drawn from N(0, 0.01) and whose biases are 0.
        frozen_stem: see there.
    """

    def __init__(self, encoder: nn.Module, dim: int, classes: int, *, seed: int, frozen_stem: bool = False) -> None:
        super().__init__()
        self.encoder = copy.deepcopy(encoder).requires_grad_(True)
        self.linear = nn.Linear(dim, classes)
        nn.init.normal_(self.linear.weight, std=0.01, generator=torch.Generator().manual_seed(seed))
        nn.init.zeros_(self.linear.bias)
        if frozen_stem:
            for parameter in _in_front_of_blocks(self.encoder):
                parameter.requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        return self.linear(self.encoder(images).float())

    def train(self, mode: bool = True) -> Self:
        """Put all but what is frozen into a mode."""
        super().train(mode)
        for module in self.modules():
            own = list(module.parameters(recurse=False))
            if own and not any(parameter.requires_grad for parameter in own):
                module.training = False
        return self


def _in_front_of_blocks(encoder: nn.Module) -> Iterator[nn.Parameter]:
    """Parameters before those of the first block, in the network's own order; none where nothing is called a block."""
    named = list(encoder.named_parameters())
    inside = [any(map(_BLOCK.fullmatch, name.split("."))) for name, _ in named]
    return (parameter for _, parameter in named[: inside.index(True) if any(inside) else 0])


def width_of(encoder: nn.Module, image_size: int, device: torch.device) -> int:
    """Width D of an encoder's features, as it says itself (`dim`), or as a black image shows.

    Args:
        encoder: images (N, 3, S, S) -> (N, D).
        image_size: S.
        device: where it is.
    """
    if hasattr(encoder, "dim"):
        return int(encoder.dim)  # type: ignore[arg-type]
    with torch.no_grad():
        return int(copy.deepcopy(encoder).eval()(torch.zeros(1, 3, image_size, image_size, device=device)).shape[1])


def tune(
    encoder: nn.Module,
    dataset: Dataset,
    subject: Subject,
    *,
    rows: Tensor | None = None,
    teacher: TunedNetwork | None = None,
) -> Tuned:
    """Train a copy of an encoder and a linear layer on labels, by the recipe that `eval.tune` names.

    After each epoch the network classifies the validation images; the first of the best epochs is scored on test, once.
    Everything is computed in float32. Chance depends on `train.seed` alone. The section `augment` of a configuration
    does not change the recipe's views; the kind of the images does.

    Args:
        encoder: images (N, 3, S, S) -> (N, D); it stays as it is.
        dataset: the images.
        subject: its settings, seed and device, and the name of the images.
        rows: of `dataset.bank` that train; None: all.
        teacher: a network that has learned the labels, and whose logits the copy learns beside them.

    Raises:
        DataError: images without labels.
        TaskError: fewer than two images, features without gradients, or a loss that is not finite.
    """
    check_labels(dataset)
    config, device = subject.config, subject.device
    recipe = recipe_for(config.eval, subject.source or config.data.source)
    images = dataset.bank if rows is None else dataset.bank.subset(rows)
    if len(images) < 2:
        raise TaskError(f"{dataset.name}: one labelled image to train on; at least two are needed")
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), torch.enable_grad():
        torch.manual_seed(config.train.seed)
        network = TunedNetwork(
            encoder,
            width_of(encoder, dataset.image_size, device),
            len(dataset.classes),
            seed=config.train.seed,
            frozen_stem=recipe.frozen_stem,
        ).to(device)
        _add_drop_paths(network, recipe.drop_path)
        val, epoch = _train(
            network, _stream(images, dataset, recipe, config.train.seed, device), recipe, dataset, teacher
        )
    test = _accuracy(network, dataset, dataset.test, device)
    log.info("the whole network learned %d labels: %.4f on validation in epoch %d", len(images), val, epoch)
    return Tuned(network, val, test, epoch)


def _stream(images: Images, dataset: Dataset, recipe: TuningRecipe, seed: int, device: torch.device) -> Stream:
    """Batches of nearly equal size, so that at most one image less than there are batches is left out of an epoch.

    Args:
        images: those that train.
        dataset: the data set that they are from.
        recipe: says how many a batch may have.
        seed: of order and augmentation.
        device: where the views are made.
    """
    return Stream(
        images,
        size=dataset.image_size,
        batch_size=len(images) // math.ceil(len(images) / recipe.batch_size),
        seed=seed,
        normalize=normalization(dataset.name, dataset.image_size),
        device=device,
        kind=dataset.kind,
    )


def _train(
    network: TunedNetwork, stream: Stream, recipe: TuningRecipe, dataset: Dataset, teacher: TunedNetwork | None
) -> tuple[float, int]:
    """Train a network in place and give it the weights of its best epoch: validation accuracy and number of that one.

    Args:
        network: on the device of the stream.
        stream: of the images that train.
        recipe: how.
        dataset: with the images that validate.
        teacher: its logits are learned too, if there is one.
    """
    assert stream.images.labels is not None
    labels, device = stream.images.labels.to(stream.device), stream.device
    view, classes = View(recipe.view, _DRAW), len(dataset.classes)
    optimizer, unsound = _optimizer(network, recipe), is_unsound(network, device)
    best, best_epoch, kept = -1.0, 0, network.state_dict()
    if teacher is not None:
        teacher.eval()
    for epoch in range(recipe.epochs):
        network.train()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, epoch)
        total = torch.zeros((), device=device)
        for step, (views, indices) in enumerate(stream.epoch(epoch, (view,))):
            rng = np.random.default_rng([stream.seed, epoch, step])
            targets = soft_targets(labels[indices.to(device)], classes, recipe.smoothing)
            images = erased(views[view], rng, recipe.erasing)
            images, targets = mixed(images, targets, rng, mixup=recipe.mixup, cutmix=recipe.cutmix)
            logits = network(images)
            if teacher is None:
                loss = F.cross_entropy(logits, targets)
            else:
                with torch.no_grad():
                    wanted = teacher(images)
                loss = kd_loss(logits, wanted, targets)
            optimizer.zero_grad()
            with sound_kernels(unsound=unsound):
                loss.backward()
            _check_gradients(network)
            optimizer.step()
            total += loss.detach()
        if not torch.isfinite(total):
            raise TaskError(f"the loss of the whole network is not finite in epoch {epoch + 1} of {recipe.epochs}")
        found = _accuracy(network, dataset, dataset.val, device)
        if found > best:
            best, best_epoch = found, epoch + 1
            kept = {name: value.clone() for name, value in network.state_dict().items()}
    network.load_state_dict(kept)
    network.eval()
    return best, best_epoch


def _check_gradients(network: TunedNetwork) -> None:
    """Refuse an encoder without gradients, of which nothing would be trained. Raises: TaskError."""
    trained = [parameter for parameter in network.encoder.parameters() if parameter.requires_grad]
    if trained and all(parameter.grad is None for parameter in trained):
        raise TaskError("the network gives features without gradients, so that it cannot be trained")


def _optimizer(network: nn.Module, recipe: TuningRecipe) -> torch.optim.Optimizer:
    """The recipe's optimizer over all weights that are not frozen."""
    trained = [(name, parameter) for name, parameter in network.named_parameters() if parameter.requires_grad]
    plain = [recipe.decay_matrices and (p.ndim <= 1 or name.endswith(_UNDECAYED)) for name, p in trained]
    groups = [
        {
            "params": [p for (_, p), without in zip(trained, plain, strict=True) if without == which],
            "weight_decay": decay,
        }
        for which, decay in ((False, recipe.weight_decay), (True, 0.0))
    ]
    groups = [group for group in groups if group["params"]]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=recipe.lr, momentum=0.9, fused=True)
    return (torch.optim.Adam if recipe.optimizer == "adam" else torch.optim.AdamW)(groups, lr=recipe.lr, fused=True)


def _add_drop_paths(network: nn.Module, highest: float) -> None:
    """Have blocks of a ViT skipped at random in training (arXiv 1603.09382), the deeper the likelier."""
    if not highest:
        return
    from timm.layers import DropPath  # docs/architecture.md#late-imports

    blocks = [module for module in network.modules() if hasattr(module, "drop_path1") and hasattr(module, "drop_path2")]
    for number, block in enumerate(blocks):
        for name in ("drop_path1", "drop_path2"):
            setattr(block, name, DropPath(highest * number / max(1, len(blocks) - 1)))


def _accuracy(network: nn.Module, dataset: Dataset, split: Images, device: torch.device) -> float:
    """Share of the images of a split whose largest logit is that of their label.

    Args:
        network: images -> logits.
        dataset, split: the images.
        device: where the network is.
    """
    logits, labels = embed_split(network, dataset, split, device)
    return torch.eq(logits.argmax(1), labels).double().mean().item()
