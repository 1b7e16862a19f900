"""Frozen teachers and their files."""

import json

import pytest
import torch
from helpers.builders.teacher_networks import DIM, HALF, IMAGENET, images, mlp, network
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from raydistill.models.teacher import (
    FrozenTeacher,
    TeacherError,
    assemble_head,
    describe_head,
    load_teacher,
    save_teacher,
)

HEADS = [
    [nn.Linear(DIM, 6)],
    [nn.Linear(DIM, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU(inplace=True), nn.Linear(8, 6)],
    [nn.Linear(DIM, 8), nn.ReLU(), nn.Linear(8, 6), nn.BatchNorm1d(6, affine=False)],
    [nn.Linear(DIM, 8), nn.GELU(), nn.Linear(8, 6)],
]


class TestFrozenTeacher:
    def test_outputs_and_widths(self):
        backbone, head = network(), mlp(*HEADS[1])
        teacher = FrozenTeacher(backbone, head, IMAGENET, IMAGENET)
        assert teacher.widths == (DIM, 6)
        assert torch.equal(teacher(images(), "features"), backbone(images()))
        assert torch.equal(teacher(images(), "head"), head(backbone(images())))

    def test_normalisation_of_the_batches_is_converted(self):
        backbone = network()
        pixels = images()
        (mean, std), (own_mean, own_std) = [
            [torch.tensor(v).view(1, 3, 1, 1) for v in pair] for pair in (HALF, IMAGENET)
        ]
        expected = backbone((pixels - own_mean) / own_std)
        teacher = FrozenTeacher(backbone, None, IMAGENET, HALF)
        torch.testing.assert_close(teacher((pixels - mean) / std, "features"), expected, rtol=1e-4, atol=1e-5)

    def test_the_same_normalisation_changes_no_bit(self):
        backbone = network()
        same = ([*HALF[0]], [*HALF[1]])
        assert torch.equal(FrozenTeacher(backbone, None, HALF, same)(images(), "features"), backbone(images()))

    def test_nothing_moves_it(self):
        teacher = FrozenTeacher(network(), mlp(*HEADS[1]), IMAGENET, HALF)
        before = {name: value.clone() for name, value in teacher.state_dict().items()}
        nn.ModuleList([teacher]).train()
        outputs = [teacher(images().requires_grad_(), output) for output in ("features", "head")]
        assert not any(output.requires_grad for output in outputs)
        assert not any(parameter.requires_grad for parameter in teacher.parameters())
        assert not any(module.training for module in teacher.modules())
        assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())

    def test_float32_from_half_precision(self):
        teacher = FrozenTeacher(network().bfloat16(), mlp(*HEADS[1]).bfloat16(), IMAGENET, IMAGENET)
        for output in ("features", "head"):
            assert teacher(images().bfloat16(), output).dtype == torch.float32

    def test_without_a_head(self):
        teacher = FrozenTeacher(network(), None, IMAGENET, IMAGENET)
        assert teacher.widths == (DIM, None)
        with pytest.raises(ValueError, match="no head"):
            teacher(images(), "head")


class TestHeads:
    @pytest.mark.parametrize("layers", HEADS)
    def test_described_and_assembled_again(self, layers):
        head = mlp(*layers)
        described = json.loads(json.dumps(describe_head(head)))
        again = assemble_head(described)
        again.load_state_dict(head.state_dict())
        features = torch.randn(4, DIM)
        assert describe_head(again) == described
        assert torch.equal(again.eval()(features), head(features))

    def test_other_layers_are_refused(self):
        with pytest.raises(TypeError, match="Dropout"):
            describe_head(nn.Sequential(nn.Dropout()))
        with pytest.raises(TeacherError, match="dropout"):
            assemble_head([["dropout"]])


@pytest.fixture
def saved(tmp_path):
    teacher = FrozenTeacher(network(), mlp(*HEADS[1]), HALF, HALF)
    save_teacher(teacher, tmp_path / "teacher.safetensors", provenance={"seed": 3})
    return teacher, tmp_path / "teacher.safetensors"


class TestFiles:
    @pytest.mark.parametrize("layers", [None, *HEADS])
    def test_round_trip(self, tmp_path, layers):
        head = mlp(*layers) if layers else None
        teacher = FrozenTeacher(network(), head, HALF, IMAGENET)
        save_teacher(teacher, tmp_path / "t.safetensors", provenance={})
        again = load_teacher(tmp_path / "t.safetensors", IMAGENET)
        assert again.widths == teacher.widths
        for output in ["features", "head"][: 2 if layers else 1]:
            assert torch.equal(again(images(), output), teacher(images(), output))

    def test_stem_and_size_are_kept(self, tmp_path):
        teacher = FrozenTeacher(network("resnet10_w4", 32, "small"), None, HALF, HALF)
        save_teacher(teacher, tmp_path / "t.safetensors", provenance={})
        again = load_teacher(tmp_path / "t.safetensors", HALF)
        assert (again.backbone.stem, again.backbone.image_size) == ("small", 32)
        assert torch.equal(again(images(32), "features"), teacher(images(32), "features"))

    @pytest.mark.fault(8)
    def test_a_truncated_file_is_named(self, saved):
        _, path = saved
        path.write_bytes(path.read_bytes()[:-100])
        with pytest.raises(TeacherError, match=str(path)):
            load_teacher(path, HALF)

    @pytest.mark.fault(8)
    @settings(max_examples=30, deadline=None)
    @given(position=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
    def test_a_flipped_bit_is_found_or_harmless(self, tmp_path_factory, position, bit):
        path = tmp_path_factory.mktemp("teacher") / "t.safetensors"
        teacher = FrozenTeacher(network(), None, HALF, HALF)
        save_teacher(teacher, path, provenance={})
        content = bytearray(path.read_bytes())
        content[int(position * len(content))] ^= 1 << bit
        path.write_bytes(content)
        try:
            again = load_teacher(path, HALF)
        except TeacherError as error:
            assert str(path) in str(error)
        else:
            state = teacher.state_dict()
            assert all(torch.equal(value, state[name]) for name, value in again.state_dict().items())

    @pytest.mark.fault(8)
    def test_a_flipped_weight_is_found(self, saved):
        _, path = saved
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
        with pytest.raises(TeacherError, match="checksum"):
            load_teacher(path, HALF)

    @pytest.mark.parametrize(
        "metadata", [None, {"teacher": "[]"}, {"teacher": '{"format": "other"}'}, {"teacher": "{"}]
    )
    def test_safetensors_of_another_kind(self, tmp_path, metadata):
        save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors", metadata=metadata)
        with pytest.raises(TeacherError, match=r"other\.safetensors"):
            load_teacher(tmp_path / "other.safetensors", HALF)

    def test_a_missing_file(self, tmp_path):
        with pytest.raises(TeacherError, match="nowhere"):
            load_teacher(tmp_path / "nowhere", HALF)
