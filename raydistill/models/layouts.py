"""Layouts of released checkpoint files: where they hold the backbone and its SSL head. Names only, no weights."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
PLAIN_PIXELS = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))

CONTAINERS = ("state_dict", "model", "model_state_dict")
WRAPPERS = {"module", "_orig_mod"}
CLASSIFIERS = ("fc.", "classifier.", "head.", "heads.", "prototypes.")


class TensorLayout(NamedTuple):
    """The prefix of the backbone's names, that of its head's, and the normalisation of its images.

    `mlp`: a head of one linear layer, named like torchvision's classifier, is a classifier.
    """

    backbone: str
    head: str | None = None
    normalization: tuple[tuple[float, ...], tuple[float, ...]] = IMAGENET
    mlp: bool = False


PLACES: dict[str, tuple[TensorLayout, ...]] = {
    # facebookresearch/moco; v1 has one linear layer.
    "mocov2": (TensorLayout("encoder_q.", "encoder_q.fc."), TensorLayout("encoder_q.")),
    # facebookresearch/moco-v3; a ViT's projector is its head.
    "mocov3": (
        TensorLayout("base_encoder.", "base_encoder.fc."),
        TensorLayout("base_encoder.", "base_encoder.head."),
        TensorLayout("base_encoder."),
    ),
    # facebookresearch/swav; the prototypes are no part of the head.
    "swav": (TensorLayout("", "projection_head."), TensorLayout("")),
    "byol": (
        TensorLayout("online_encoder.net.", "online_encoder.projector."),  # lucidrains/byol-pytorch
        TensorLayout("online_network.encoder.", "online_network.projetion."),  # yaox12/BYOL-PyTorch, its spelling
        TensorLayout(  # sthalles/PyTorch-BYOL, trained on pixels in [0, 1]
            "online_network_state_dict.encoder.", "online_network_state_dict.projetion.net.", PLAIN_PIXELS
        ),
        TensorLayout("online_encoder.net."),
        TensorLayout("online_network.encoder."),
        TensorLayout("online_network_state_dict.encoder.", None, PLAIN_PIXELS),
        TensorLayout("online_network."),
        TensorLayout(""),  # ajtejankar/byol-convert: DeepMind's backbone under torchvision's names
    ),
    # Google's and both PyTorch versions were trained on pixels in [0, 1] without further normalisation.
    "simclr": (
        TensorLayout("backbone.", "backbone.fc.", PLAIN_PIXELS, mlp=True),  # sthalles/SimCLR
        TensorLayout("encoder.", "projector.", PLAIN_PIXELS),  # Spijkervet/SimCLR
        TensorLayout("", "fc.", IMAGENET, mlp=True),  # the SimCLR teachers of jacobswan1/SEED
        TensorLayout("backbone.", None, PLAIN_PIXELS),
        TensorLayout("encoder.", None, PLAIN_PIXELS),
        TensorLayout("", None, PLAIN_PIXELS),  # tonylins/simclr-converter
    ),
    # facebookresearch/dino: full checkpoints hold both networks, released backbones are bare.
    "dino": (
        TensorLayout("teacher.backbone.", "teacher.head.mlp."),
        TensorLayout("teacher.backbone."),
        TensorLayout("student.backbone.", "student.head.mlp."),
        TensorLayout("student.backbone."),
        TensorLayout("backbone.", "head.mlp."),
        TensorLayout("backbone."),
        TensorLayout(""),
    ),
    # jacobswan1/SEED
    "seed": (
        TensorLayout("student.", "student.fc."),
        TensorLayout("student."),
        TensorLayout("", "fc.", mlp=True),
        TensorLayout(""),
    ),
    # vturrisi/solo-learn, before and after its encoder was renamed; facebookresearch/barlowtwins and vicreg alike.
    "solo-learn": (
        TensorLayout("backbone.", "projector."),
        TensorLayout("encoder.", "projector."),
        TensorLayout("backbone."),
        TensorLayout("encoder."),
    ),
    # lightly-ai/lightly-train: the network that was trained, in a checkpoint of the training.
    "lightly-train": (
        TensorLayout("teacher_embedding_model.wrapped_model._model."),
        TensorLayout("student_embedding_model.wrapped_model._model."),
        TensorLayout("embedding_model.wrapped_model._model."),
    ),
    # facebookresearch/vissl
    "vissl": (
        TensorLayout("classy_state_dict.base_model.model.trunk._feature_blocks."),
        TensorLayout("trunk._feature_blocks."),
        TensorLayout("_feature_blocks."),
    ),
    # open-mmlab: mmpretrain and mmselfsup; MoCo's backbone is the first part of a sequence.
    "openmmlab": (TensorLayout("backbone."), TensorLayout("encoder_q.0.")),
    "plain": (TensorLayout(""), TensorLayout("backbone."), TensorLayout("encoder."), TensorLayout("net.")),
}

# What nn.Sequential(*resnet.children()) makes of torchvision's names, and a head whose layers have names of their own.
RESNET_CHILDREN = {"0": "conv1", "1": "bn1", **{str(4 + stage): f"layer{1 + stage}" for stage in range(4)}}
NAMED_HEAD = {"l1": "0", "bn1": "1", "l2": "3"}


def bare(name: str) -> str:
    """A tensor's name without what data-parallel and compiled networks add to it."""
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def detect_format(names: Iterable[str]) -> str:
    """The layout of a file with tensors of these names; `plain` where nothing tells.

    SimCLR weights converted from TensorFlow look plain; only `format: simclr` gives them their normalisation.
    """
    tensors = [bare(name) for name in names]

    def has(*prefixes: str) -> bool:
        return any(name.startswith(prefixes) for name in tensors)

    if has("encoder_q.0."):
        return "openmmlab"
    if has("encoder_q."):
        return "mocov2"
    if has("base_encoder."):
        return "mocov3"
    if any("_feature_blocks." in name for name in tensors):
        return "vissl"
    if any("embedding_model.wrapped_model._model." in name for name in tensors):
        return "lightly-train"
    if has("projector.") and (has("backbone.") or has("classifier.", "momentum_encoder.", "momentum_backbone.")):
        return "solo-learn"
    if has("teacher.backbone.", "student.backbone.", "head.mlp."):
        return "dino"
    if has("student."):
        return "seed"
    if has("online_encoder.", "online_network.", "online_network_state_dict."):
        return "byol"
    if has("prototypes.") or (has("projection_head.") and has("conv1.")):
        return "swav"
    if has("backbone.fc.0.") or (has("encoder.") and has("projector.")) or (has("fc.0.") and has("fc.3.")):
        return "simclr"
    return "seed" if has("fc.0.") else "plain"
