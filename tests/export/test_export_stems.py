"""Exports of stems that timm has no word for."""

import pytest
from helpers.builders.runs import trial

from raydistill.export.formats import open_format
from raydistill.export.resolve import resolve_run
from raydistill.export.write import export

HEADS = {"hidden_dim": 8, "projection_dim": 8}


@pytest.mark.slow
@pytest.mark.parametrize("stem", ["imagenet", "small"])
def test_timm_gets_a_wide_resnet(tmp_path, stem):
    method = {"name": "simclr", "backbone": "resnet50x1", "stem": stem, **HEADS}
    trial(tmp_path / "run", method, image_size=16)
    run = resolve_run(str(tmp_path / "run"), tmp_path, "")
    assert export(run, open_format("timm"), tmp_path / "out").difference <= 1e-5
