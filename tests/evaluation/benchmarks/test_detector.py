"""Detectors on distilled ResNets: which networks, which maps and regions, and that all of their weights learn."""

import copy

import pytest
import torch
from torchvision.models.detection import FasterRCNN, MaskRCNN

from raydistill.evaluation.benchmarks.detector import ImageScale, build_detector, fit_scale
from raydistill.evaluation.tasks.base import TaskError
from raydistill.models.backbones import Backbone

SCALE = ImageScale((64,), 0.08)
SHOWN = ((0.5, 0.5, 0.5), (0.2, 0.2, 0.2))


def encoder(name="resnet10_w4", size=64):
    """A network whose blocks all have a say, as those of a trained one: timm's begin with norms of weight 0."""
    torch.manual_seed(0)
    found = Backbone(name, image_size=size).eval()
    for module in found.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.ones_(module.weight)
    return found


def batch(masks=False):
    """Two images of one size and one of another, with a bright square in each."""
    torch.manual_seed(1)
    images = [torch.rand(3, 64, 64), torch.rand(3, 48, 64)]
    boxes = torch.tensor([[8.0, 8.0, 40.0, 40.0]])
    targets = [{"boxes": boxes, "labels": torch.tensor([1])} for _ in images]
    for image, target in zip(images, targets, strict=True):
        image[:, 8:40, 8:40] = 1
        if masks:
            target["masks"] = (image[:1] == 1).byte()
    return images, targets


@pytest.mark.parametrize(
    ("neck", "masks"), [("c4", False), ("c4", True), ("fpn", False), ("fpn", True)], ids=lambda each: str(each)
)
def test_gradients_reach_every_weight_and_the_encoder_stays(neck, masks):
    own = encoder()
    for each in own.parameters():
        each.requires_grad_(False)
    before = copy.deepcopy(own.state_dict())
    scale = SCALE if neck == "c4" else ImageScale((32,), 0.04)
    detector = build_detector(own, 2, neck, scale, SHOWN, masks=masks).train()
    losses = detector(*batch(masks))
    kinds = {"loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg"}
    assert set(losses) == kinds | ({"loss_mask"} if masks else set())
    sum(losses.values()).backward()
    assert isinstance(detector, MaskRCNN if masks else FasterRCNN)
    assert [name for name, each in detector.named_parameters() if each.grad is None or not each.grad.any()] == []
    first = own.net.layer1[0].conv1.weight
    assert any(torch.equal(first, each) for each in detector.backbone.parameters())
    assert all(torch.equal(value, before[name]) for name, value in own.state_dict().items())
    assert not any(each.requires_grad for each in own.parameters())
    assert not own.training


def test_c4_proposes_on_the_third_stage_and_the_fourth_is_the_head():
    own = encoder("torchvision:resnet18")
    detector = build_detector(own, 20, "c4", SCALE, SHOWN, masks=True).eval()
    with torch.no_grad():
        maps = detector.backbone(torch.zeros(1, 3, 64, 96))
        assert maps.shape == (1, 256, 16, 24)  # the small stem has stride 1, two of the three stages have 2
        head = detector.roi_heads.heads
        assert head.box_head(torch.zeros(5, 256, 14, 14)).shape == (5, 512)
        assert head.mask_predictor(head.mask_head(torch.zeros(5, 256, 14, 14))).shape == (5, 21, 14, 14)
    assert head.box_head.head is head.mask_head
    assert head.box_predictor.cls_score.out_features == 21
    stage = head.mask_head.stage.state_dict()
    assert all(torch.equal(value, own.net.layer4.state_dict()[name]) for name, value in stage.items())


def test_maps_of_the_trunk_are_those_of_the_network():
    """timm and torchvision name their activation differently; both trunks give what the whole network pools."""
    for name in ("resnet10_w4", "torchvision:resnet18"):
        own = encoder(name, 32)
        detector = build_detector(own, 2, "c4", SCALE, SHOWN).eval()
        images = torch.randn(1, 3, 32, 32)
        with torch.no_grad():
            maps = detector.roi_heads.box_head.head.stage(detector.backbone(images))
            assert torch.allclose(maps.mean((2, 3)), own(images), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "strides"), [("resnet10_w4", (2, 4, 8, 16)), ("timm:resnet10t", (1, 2, 4, 8))], ids=["stride2", "small"]
)
def test_regions_are_pooled_by_the_strides_of_the_stem_even_if_images_are_padded(name, strides):
    for neck, own in (("c4", strides[2:3]), ("fpn", strides)):
        detector = build_detector(encoder(name), 2, neck, SCALE, SHOWN, masks=True)
        heads = detector.roi_heads.heads if neck == "c4" else detector.roi_heads
        for pool in (heads.box_roi_pool, heads.mask_roi_pool):
            assert pool.scales == [1 / stride for stride in own]
        assert detector.transform.size_divisible == strides[-1]


def test_a_region_of_224_px_of_800_goes_to_the_third_map_of_the_pyramid():
    """FPN (arXiv 1612.03144), equation 1: k = floor(4 + log2(side / 224)), and k = 4 is the map of stride 16."""
    own = encoder()
    pool = build_detector(own, 2, "fpn", fit_scale(400, 50), SHOWN).roi_heads.box_roi_pool  # an eighth of the sizes
    sides = torch.tensor([13.0, 15.0, 29.0, 57.0])  # of 224 / 8 = 28: less than half, more than half, all, twice
    boxes = torch.stack([torch.zeros(4), torch.zeros(4), sides, sides], 1)
    assert pool.map_levels([boxes]).tolist() == [0, 1, 2, 3]


def test_anchors_and_sizes_keep_their_share_of_small_images():
    """The long side is enlarged to at most twice its size: images of 64 px to 128 px, 0.16 of 800."""
    large = fit_scale(400, 500)
    assert (large.share, large.longest) == (1, 1333)
    assert large.sides == (400, 432, 464, 496, 528, 560, 592, 624, 656, 688, 720, 752, 784, 800)
    small = fit_scale(400, 64)
    assert small.share == 0.16
    assert (small.sides[0], small.sides[-1], small.longest) == (64, 128, 213)
    detector = build_detector(encoder(), 2, "c4", small, SHOWN)
    assert detector.rpn.anchor_generator.sizes[0] == pytest.approx((5.12, 10.24, 20.48, 40.96, 81.92))
    assert detector.transform.image_mean == list(SHOWN[0])
    assert detector.transform.image_std == list(SHOWN[1])


def test_boxes_and_masks_share_the_last_stage_and_lose_what_torchvision_says():
    """With batch norms that do not look at the batch, torchvision's own heads give the same losses as the shared ones.

    Else they do not: they run the last stage once more. The shared heads run it once, so its norms see one batch.
    """
    detector = build_detector(encoder(), 2, "c4", SCALE, SHOWN, masks=True).train()
    shared = detector.roi_heads

    def losses(heads):
        detector.roi_heads = heads
        torch.manual_seed(3)
        return {name: float(value.detach()) for name, value in detector(*batch(masks=True)).items()}

    norm = shared.heads.mask_head.norm
    losses(shared)
    assert norm.num_batches_tracked == 1
    for module in detector.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    assert losses(shared) == pytest.approx(losses(shared.heads), rel=1e-5)


@pytest.mark.parametrize("name", ["vit_w16_d2", "wrn10_2", "torchvision:mobilenet_v2"])
def test_networks_without_the_four_stages_are_refused(name):
    with pytest.raises(TaskError, match=rf"{name} has no .*; a detector needs the four stages.*resnet10_w16, resnet18"):
        build_detector(encoder(name), 2, "c4", SCALE, SHOWN)


def test_an_encoder_without_a_network_is_refused():
    with pytest.raises(TaskError, match="Flatten has no conv1"):
        build_detector(torch.nn.Flatten(), 2, "fpn", SCALE, SHOWN)
