"""The layout of a released file is told by the names of its tensors."""

import pytest

from raydistill.config import TeacherConfig
from raydistill.models.layouts import PLACES, detect_format


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["module.encoder_q.conv1.weight"], "mocov2"),
        (["teacher.backbone.conv1.weight"], "dino"),
        (["module.student.conv1.weight"], "seed"),
        (["student.module.backbone.cls_token"], "dino"),
        (["module.conv1.weight", "module.prototypes.weight"], "swav"),
        (["online_network.encoder.0.weight"], "byol"),
        (["backbone.conv1.weight", "backbone.fc.0.weight"], "simclr"),
        (["conv1.weight", "fc.weight"], "plain"),
        (["backbone.conv1.weight", "projector.0.weight"], "solo-learn"),
        (["encoder.conv1.weight", "projector.0.weight"], "simclr"),
        (["encoder.conv1.weight", "projector.0.weight", "classifier.weight"], "solo-learn"),
        (["encoder_q.0.conv1.weight", "encoder_q.1.mlp.0.weight"], "openmmlab"),
        (["module.base_encoder.conv1.weight"], "mocov3"),
        ([], "plain"),
    ],
)
def test_detected_formats(names, expected):
    assert detect_format(names) == expected


@pytest.mark.parametrize("name", ["auto", *PLACES])
def test_every_layout_can_be_asked_for(name):
    assert TeacherConfig(format=name).format == name
