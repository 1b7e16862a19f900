"""Faster R-CNN and Mask R-CNN of torchvision on a distilled ResNet, with the neck C4 or a feature pyramid (FPN)."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from raydistill.data.views.augment import Normalization
from raydistill.evaluation.tasks.base import TaskError

STAGES = ("layer1", "layer2", "layer3", "layer4")
FULL_SIDE, FULL_LONGEST = 800, 1333  # pixels of the short and of the long side at test, as Detectron2 has them
ANCHORS = (32, 64, 128, 256, 512)  # pixels at that scale
RATIOS = (0.5, 1.0, 2.0)
ENLARGED = 2  # how often the long side of small images is enlarged at most
ROI_SIDE = 14
FPN_CHANNELS = 256


@dataclass(frozen=True)
class ImageScale:
    """Sizes of the images that the detector sees.

    Args:
        sides: lengths of the short side in training, of which each image gets one; the last one is that of the test.
        share: of the papers' sizes.
    """

    sides: tuple[int, ...]
    share: float

    @property
    def longest(self) -> int:
        """The most pixels of the long side."""
        return round(FULL_LONGEST * self.share)


def fit_scale(smallest: int, long_side: float) -> ImageScale:
    """The papers' sizes, or the same share of each where images are small: twice their own size at test.

    Args:
        smallest: side of the training images in the papers; they go up in steps of 32 to 800.
        long_side: of the images, in pixels.
    """
    share = min(1.0, ENLARGED * long_side / FULL_SIDE)
    sides = (*range(smallest, FULL_SIDE, 32), FULL_SIDE)
    return ImageScale(tuple(max(1, round(side * share)) for side in sides), share)


@dataclass(frozen=True)
class _Stages:
    """Trunk of a ResNet: channels and stride of the map after each of its four stages."""

    net: Any
    channels: tuple[int, ...]
    strides: tuple[int, ...]


def build_detector(
    encoder: nn.Module,
    classes: int,
    neck: Literal["c4", "fpn"],
    scale: ImageScale,
    normalization: Normalization,
    *,
    masks: bool = False,
) -> nn.Module:
    """Build a detector on a copy of the encoder, on its device, with all weights to be trained.

    `c4`: regions are proposed on the map after the third stage, and the fourth one is the head of boxes and masks, with
    a batch norm behind it (Detectron2's Res5ROIHeads; facebookresearch/moco, detection/train_net.py). Detectron2's loss
    of boxes is L1, torchvision's is smooth below 1/9. `fpn`: torchvision's pyramid with its own heads. Anchors and the
    regions' scale keep their share of the image.

    Args:
        encoder: a ResNet of timm or torchvision as its `net`; it stays as it is.
        classes: number of classes, without the background.
        neck: `c4` or `fpn`.
        scale: sizes of the images.
        normalization: mean and standard deviation of each channel that the encoder expects.
        masks: whether it also predicts masks.

    Raises:
        TaskError: the network has not the four stages of a ResNet.
    """
    from torchvision.models.detection import FasterRCNN, MaskRCNN

    stages = _take_stages(encoder)
    parts = _c4(stages, classes, scale, masks=masks) if neck == "c4" else _fpn(stages, classes, scale, masks=masks)
    build = MaskRCNN if masks else FasterRCNN
    detector: Any = build(
        **parts,
        min_size=scale.sides,
        max_size=scale.longest,
        image_mean=list(normalization[0]),
        image_std=list(normalization[1]),
        size_divisible=stages.strides[-1],
        box_batch_size_per_image=512 if scale.share == 1 else 128,
    )
    if masks and neck == "c4":
        detector.roi_heads = _SharedHeads(detector.roi_heads)
    detector.requires_grad_(True)
    placed: nn.Module = detector.to(next(encoder.parameters()).device)
    return placed


def _take_stages(encoder: nn.Module) -> _Stages:
    """Copy an encoder's ResNet, and measure its maps."""
    net: Any = getattr(encoder, "net", None)
    missing = [name for name in ("conv1", "bn1", "maxpool", *STAGES) if not hasattr(net, name)]
    if missing:
        kind = getattr(encoder, "name", type(net if net is not None else encoder).__name__)
        raise TaskError(
            f"detection: {kind} has no {missing[0]}; a detector needs the four stages of a ResNet of timm or "
            "torchvision, for instance resnet10_w16, resnet18, resnet50, resnet50x2, torchvision:resnet34"
        )
    net = copy.deepcopy(net).eval()
    side, found = 64, []
    with torch.no_grad():
        maps = torch.zeros(1, 3, side, side, device=next(net.parameters()).device)
        for part in (_stem(net), *(getattr(net, name) for name in STAGES)):
            maps = part(maps)
            found.append((maps.shape[1], side // maps.shape[2]))
    channels, strides = zip(*found[1:], strict=True)
    return _Stages(net, channels, strides)


def _stem(net: Any) -> nn.Sequential:
    """First layers; their activation has another name in timm than in torchvision."""
    activation = net.act1 if hasattr(net, "act1") else net.relu
    return nn.Sequential(net.conv1, net.bn1, activation, net.maxpool)


class _Trunk(nn.Sequential):
    """Layers whose last map has `out_channels`."""

    def __init__(self, *layers: nn.Module, out_channels: int) -> None:
        super().__init__(*layers)
        self.out_channels = out_channels


class _LastStage(nn.Module):
    """Regions (R, C, 14, 14) -> maps (R, D, 7, 7): a ResNet's last stage and a batch norm."""

    def __init__(self, stage: nn.Module, channels: int) -> None:
        super().__init__()
        self.stage, self.norm = stage, nn.BatchNorm2d(channels)

    def forward(self, regions: Tensor) -> Tensor:
        maps: Tensor = self.norm(self.stage(regions))
        return maps


class _Pooled(nn.Module):
    """Maps of a head, averaged: (R, C, 14, 14) -> (R, D)."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, regions: Tensor) -> Tensor:
        maps: Tensor = self.head(regions)
        return maps.mean((2, 3))


class _SharedHeads(nn.Module):
    """Heads of boxes and masks on the same maps in training, as Detectron2 has it.

    torchvision's own would run the last stage twice, the second time on the regions with objects alone. Its batch norms
    would then average the statistics of two kinds of batches, and fit neither of them at test.
    """

    def __init__(self, heads: nn.Module) -> None:
        super().__init__()
        self.heads: Any = heads

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        sizes: list[tuple[int, int]],
        targets: list[dict[str, Tensor]] | None = None,
    ) -> Any:
        from torchvision.models.detection.roi_heads import fastrcnn_loss, maskrcnn_loss

        heads = self.heads
        if not self.training or targets is None:
            return heads(features, proposals, sizes)
        proposals, matches, labels, offsets = heads.select_training_samples(proposals, targets)
        maps = heads.mask_head(heads.box_roi_pool(features, proposals, sizes))
        classes, boxes = heads.box_predictor(maps.mean((2, 3)))
        loss_classes, loss_boxes = fastrcnn_loss(classes, boxes, labels, offsets)
        filled = [torch.where(each > 0)[0] for each in labels]
        loss_masks = maskrcnn_loss(
            heads.mask_predictor(maps[torch.cat(labels) > 0]),
            [each[rows] for each, rows in zip(proposals, filled, strict=True)],
            [each["masks"] for each in targets],
            [each["labels"] for each in targets],
            [each[rows] for each, rows in zip(matches, filled, strict=True)],
        )
        return [], {"loss_classifier": loss_classes, "loss_box_reg": loss_boxes, "loss_mask": loss_masks}


def _c4(stages: _Stages, classes: int, scale: ImageScale, *, masks: bool) -> dict[str, Any]:
    """Parts of a detector with the neck C4.

    Args:
        stages: of the backbone.
        classes: number of classes, without the background.
        scale: sizes of the images.
        masks: whether it has masks.
    """
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
    from torchvision.models.detection.mask_rcnn import MaskRCNNPredictor

    net, (*_, width, last) = stages.net, stages.channels
    head = _LastStage(net.layer4, last)
    predictor = FastRCNNPredictor(last, classes + 1)
    for layer, spread in ((predictor.cls_score, 0.01), (predictor.bbox_pred, 0.001)):  # as Detectron2 begins
        nn.init.normal_(layer.weight, std=spread)
        nn.init.zeros_(layer.bias)
    parts: dict[str, Any] = {
        "backbone": _Trunk(_stem(net), net.layer1, net.layer2, net.layer3, out_channels=width),
        "rpn_anchor_generator": AnchorGenerator((tuple(side * scale.share for side in ANCHORS),), (RATIOS,)),
        "rpn_pre_nms_top_n_train": 12000,
        "rpn_post_nms_top_n_train": 2000,
        "rpn_pre_nms_top_n_test": 6000,
        "rpn_post_nms_top_n_test": 1000,
        "box_roi_pool": _region_pool(stages, ["0"], stages.strides[2:3], ROI_SIDE, scale),
        "box_head": _Pooled(head),
        "box_predictor": predictor,
    }
    if masks:
        parts["mask_roi_pool"] = _region_pool(stages, ["0"], stages.strides[2:3], ROI_SIDE, scale)
        parts["mask_head"] = head
        parts["mask_predictor"] = MaskRCNNPredictor(last, FPN_CHANNELS, classes + 1)
    return parts


def _fpn(stages: _Stages, classes: int, scale: ImageScale, *, masks: bool) -> dict[str, Any]:
    """Parts of a detector with a feature pyramid.

    Args:
        stages: of the backbone.
        classes: number of classes, without the background.
        scale: sizes of the images.
        masks: whether it has masks.
    """
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.backbone_utils import BackboneWithFPN

    layers = {name: str(place) for place, name in enumerate(STAGES)}
    anchors = tuple((side * scale.share,) for side in ANCHORS)
    parts: dict[str, Any] = {
        "backbone": BackboneWithFPN(stages.net, layers, list(stages.channels), FPN_CHANNELS),
        "num_classes": classes + 1,
        "rpn_anchor_generator": AnchorGenerator(anchors, (RATIOS,) * len(anchors)),
        "box_roi_pool": _region_pool(stages, list(layers.values()), stages.strides, ROI_SIDE // 2, scale),
    }
    if masks:
        parts["mask_roi_pool"] = _region_pool(stages, list(layers.values()), stages.strides, ROI_SIDE, scale)
    return parts


def _region_pool(stages: _Stages, maps: list[str], strides: tuple[int, ...], side: int, scale: ImageScale) -> nn.Module:
    """RoIAlign whose maps have these strides.

    torchvision guesses the strides from the first batch, and guesses wrong where small images are padded much. So it
    gets an empty batch that fits.

    Args:
        stages: of the backbone.
        maps: names of the maps.
        strides: theirs.
        side: of the pooled regions.
        scale: sizes of the images; a region of 224 px at full scale goes to the third map of a pyramid.
    """
    from torchvision.ops import MultiScaleRoIAlign

    canonical = {"canonical_scale": 224 * scale.share, "canonical_level": round(math.log2(stages.strides[2]))}
    pool = MultiScaleRoIAlign(maps, side, sampling_ratio=0 if len(maps) == 1 else 2, **canonical)
    edge = 8 * max(strides)
    empty = {name: torch.zeros(1, 1, edge // step, edge // step) for name, step in zip(maps, strides, strict=True)}
    pool(empty, [torch.zeros(0, 4)], [(edge, edge)])
    return pool
