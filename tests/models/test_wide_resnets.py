"""Wide ResNets: sizes as published, outputs as the released code computes them, and released files that fit."""

import math

import pytest
import torch
import torch.nn.functional as F
from helpers.builders.teacher_networks import images, mlp, shaken
from torch import nn
from torchvision.models.resnet import Bottleneck, ResNet

from raydistill.models.backbones import Backbone
from raydistill.models.released import load_released

PIXELS = ((0.0,) * 3, (1.0,) * 3)


def on_meta(name, size, stem="auto"):
    """Shapes alone, without memory or time for the weights."""
    with torch.device("meta"):
        return Backbone(name, stem=stem, image_size=size)


def parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


class TestWideResNet:
    @pytest.mark.parametrize(
        ("name", "millions"),
        # The first three by arXiv 1605.07146, table 4 (wrn28_10: 36.5); the others as papers that distil them round.
        [("wrn40_4", 8.9), ("wrn16_8", 11.0), ("wrn28_10", 36.5), ("wrn28_2", 1.5), ("wrn16_2", 0.7), ("wrn10_2", 0.3)],
    )
    def test_as_many_parameters_as_published_with_ten_classes(self, name, millions):
        net = on_meta(name, 32)
        assert round((parameters(net) + 10 * net.dim + 10) / 1e6, 1) == pytest.approx(millions, abs=0.051)
        assert net.dim == 64 * int(name.rpartition("_")[2])

    @pytest.mark.parametrize("size", [12, 32, 64, 224])
    def test_any_size_of_images(self, size):
        net = Backbone("wrn10_1", image_size=size).eval()
        images = torch.randn(1, 3, size, size)
        assert net.net.conv1(images).shape == (1, 16, size, size), "its own stem is a small one"
        assert net.net.layer3(net.net.layer2(net.net.layer1(net.net.conv1(images)))).shape[-1] == math.ceil(size / 4)
        assert net(images).shape == (1, 64)

    def test_output_is_that_of_the_authors_function(self):
        """Written as szagoruyko/wide-residual-networks has it: pytorch/resnet.py, `block`."""
        net = shaken(Backbone("wrn16_2", image_size=8).net)
        state = net.state_dict()

        def norm(x, at):
            mean, var, weight, bias = (state[f"{at}.{n}"] for n in ("running_mean", "running_var", "weight", "bias"))
            return F.relu(F.batch_norm(x, mean, var, weight, bias))

        x = F.conv2d(images(8), state["conv1.weight"], padding=1)
        for group, first_stride in enumerate((1, 2, 2), 1):
            for block in range(2):
                at, stride = f"layer{group}.{block}", 1 if block else first_stride
                o1 = norm(x, f"{at}.bn1")
                y = F.conv2d(o1, state[f"{at}.conv1.weight"], stride=stride, padding=1)
                z = F.conv2d(norm(y, f"{at}.bn2"), state[f"{at}.conv2.weight"], padding=1)
                projection = state.get(f"{at}.shortcut.weight")
                x = z + (x if projection is None else F.conv2d(o1, projection, stride=stride))
        torch.testing.assert_close(net(images(8)), norm(x, "norm").mean((2, 3)))

    def test_starts_as_published(self):
        """He's initialisation by the outputs."""
        for name, module in Backbone("wrn10_2", image_size=32).net.named_modules():
            if isinstance(module, nn.Conv2d) and module.weight.numel() > 4000:
                expected = math.sqrt(2 / (module.out_channels * module.kernel_size[0] ** 2))
                assert module.weight.std().item() == pytest.approx(expected, rel=0.06), name

    def test_stems(self):
        image = torch.zeros(1, 3, 32, 32)
        sides = {s: Backbone("wrn10_1", stem=s, image_size=32).net.conv1(image).shape[-1] for s in ("small", "stride2")}
        assert sides == {"small": 32, "stride2": 16}

    @pytest.mark.parametrize("name", ["wrn12_2", "wrn4_2", "wrn28_0", "wrn29_2"])
    def test_a_depth_or_width_that_cannot_be_is_explained(self, name):
        with pytest.raises(ValueError, match=rf"'{name}': the depth of a wide ResNet is 6n \+ 4.*wrn28_2"):
            Backbone(name, image_size=32)

    @pytest.mark.parametrize("name", ["wrn_28_2", "wide_resnet28_2", "wrn28-2"])
    def test_other_spellings_lead_to_the_name(self, name):
        with pytest.raises(ValueError, match="wrn28_2"):
            Backbone(name, image_size=32)


class Reference(ResNet):
    """SwAV's and SimCLR's wide ResNet-50 on torchvision's: all channels times `width`."""

    def __init__(self, width, padded):
        self.width = width
        super().__init__(Bottleneck, [3, 4, 6, 3])
        self.padding = nn.ConstantPad2d(1 if padded else 0, 0.0)
        self.conv1 = nn.Conv2d(3, 64 * width, 7, stride=2, padding=2 if padded else 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64 * width)
        self.fc = nn.Identity()

    def _make_layer(self, block, planes, blocks, **options):
        if planes == 64:
            self.inplanes = 64 * self.width
        return super()._make_layer(block, planes * self.width, blocks, **options)

    def forward(self, images):
        return super().forward(self.padding(images))


def trained(net):
    """Batch norms unlike fresh ones; weights shaken as much would overflow in so deep a network."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            for value in (module.weight, module.running_var, module.bias, module.running_mean):
                nn.init.uniform_(value, 0.5, 1.0)
    return net.eval()


def swav_file(source, head, dim):
    state = {f"module.{key}": value for key, value in source.state_dict().items()}
    state |= {f"module.projection_head.{key}": value for key, value in head.state_dict().items()}
    return state | {"module.prototypes.weight": torch.zeros(30, dim)}


class TestWideResNet50:
    @pytest.mark.parametrize(
        ("name", "millions"),
        # arXiv 2002.05709 (SimCLR), figure 1, and facebookresearch/swav, table of models.
        [("resnet50x1", 24), ("resnet50x2", 94), ("resnet50x4", 375), ("resnet50x5", 586)],
    )
    def test_names_shapes_and_parameters_as_published(self, name, millions):
        width = int(name[-1])
        net = on_meta(name, 224, stem="imagenet")
        with torch.device("meta"):
            expected = Reference(width, padded=False).state_dict()
        assert {k: v.shape for k, v in net.net.state_dict().items()} == {k: v.shape for k, v in expected.items()}
        assert round(parameters(net) / 1e6) == millions
        assert net.dim == 2048 * width

    @pytest.mark.parametrize(
        ("name", "form"),
        [
            ("resnet50x1", "swav"),
            ("resnet50x1", "simclr"),
            pytest.param("resnet50x2", "swav", marks=pytest.mark.slow),
            pytest.param("resnet50x2", "simclr", marks=pytest.mark.slow),
        ],
    )
    def test_released_files_give_what_their_networks_give(self, tmp_path, name, form):
        source = trained(Reference(int(name[-1]), padded=form == "swav"))
        dim = 2048 * source.width
        head = mlp(nn.Linear(dim, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 8)) if form == "swav" else None
        if form == "swav":
            content = swav_file(source, head, 8)
        else:  # as tonylins/simclr-converter writes resnet50-2x.pth, with the linear classifier
            classifier = {"fc.weight": torch.zeros(1000, dim), "fc.bias": torch.zeros(1000)}
            content = {"state_dict": source.state_dict() | classifier}
        torch.save(content, tmp_path / "file.pth")
        found, found_head, pixels = load_released(
            tmp_path / "file.pth", format=form, backbone=name, stem="imagenet", image_size=32
        )
        features = found.eval()(images(32))
        torch.testing.assert_close(features, source(images(32)), rtol=1e-4, atol=1e-4)
        assert (pixels == PIXELS) is (form == "simclr")
        if head is not None:
            torch.testing.assert_close(found_head.eval()(features), head(features))
        else:
            assert found_head is None

    @pytest.mark.parametrize("size", [12, 32, 64, 224])
    def test_stems(self, size):
        for stem, side in (("small", size), ("stride2", math.ceil(size / 2)), ("imagenet", math.ceil(size / 4))):
            net = on_meta("resnet50x2", size, stem).net
            stem_maps = net.maxpool(net.conv1(torch.zeros(1, 3, size, size, device="meta")))
            assert stem_maps.shape == (1, 128, side, side), stem

    @pytest.mark.parametrize(
        ("wrong", "near"), [("resnet50_w2", "resnet50x2"), ("resnet50w4", "resnet50x4"), ("resnet50x0", "resnet50x4")]
    )
    def test_other_spellings_lead_to_the_name(self, wrong, near):
        with pytest.raises(ValueError, match=rf"'{wrong}'.*{near}"):
            Backbone(wrong, image_size=32)
