"""The preset `dino`: a ResNet-18 learns from DINOv2 and DINOv3, whose published weights are drawn here."""

import math

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models import save_for_hf

from raydistill import config
from raydistill.artifacts import teachers
from raydistill.artifacts.store import open_store
from raydistill.config import ConfigError
from raydistill.data.sources import load_dataset
from raydistill.models import backbones
from raydistill.planning import prepare
from raydistill.presets import load_preset
from raydistill.sweep.options import prepare_settings
from raydistill.sweep.single_run import train_alone
from raydistill.trial_spec import TrialSpec

SIZE = {"vit_small_patch14_dinov2": 28, "vit_small_patch16_dinov3": 32}  # two patches each way
SMALL = {"data.limit": 24, "data.batch_size": 8, "data.fixed_views": 2, "train.epochs": 1, "train.warmup_epochs": 0}


def network(name):
    """The architecture with weights of its own, in the size of the published ones."""
    torch.manual_seed(0)
    net = timm.create_model(name, num_classes=0).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return net


@pytest.fixture(scope="module", params=SIZE)
def published(request, tmp_path_factory):
    """Name of a network, and the folder that timm writes of it."""
    folder = tmp_path_factory.mktemp("published") / request.param
    save_for_hf(network(request.param), folder, safe_serialization=True)
    return request.param, folder


def dino(name, source, **more):
    changes = SMALL | {"data.image_size": SIZE[name], "teacher.sources": [str(source)]} | more
    return config.load(config.assign(load_preset("simreg", "dino"), changes))


def trained(chosen, store):
    reports = []
    train_alone(
        TrialSpec(chosen),
        None,
        artifacts=store,
        device=torch.device("cpu"),
        on_epoch=reports.append,
        on_teacher_epoch=reports.append,
    )
    return reports


@pytest.mark.slow
def test_a_resnet18_learns_from_the_bank_of_a_folder_that_timm_wrote(published, tmp_path):
    name, folder = published
    chosen = dino(name, folder)
    (report,) = trained(chosen, tmp_path)
    assert 0 < report.metrics["loss"] < 4
    assert math.isfinite(report.metrics["val_knn"])
    store = open_store(tmp_path)
    (taught,) = (entry for entry in store.entries() if entry.kind == "teacher")
    pages = [np.load(file) for file in tmp_path.glob("bank/*/embeddings.npy")]
    assert [page.shape for page in pages] == [(24, 384)], "one version of the view in the one epoch"
    teacher = teachers.load(store, taught.key, prepare.IMAGENET, torch.device("cpu"))
    plain = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=0, img_size=SIZE[name]).eval()
    images = torch.randn(2, 3, SIZE[name], SIZE[name])
    with torch.no_grad():
        tokens = plain.forward_features(images)
    feature = tokens[:, 0] if "dinov2" in name else tokens[:, 5:].mean(1)  # after the class token and four registers
    assert torch.allclose(teacher(images, "features"), feature, atol=1e-4)


def test_what_the_features_of_the_teachers_are():
    v2, v3 = (timm.create_model(name, num_classes=0) for name in SIZE)
    assert (v2.global_pool, v2.num_features) == ("token", 384)
    assert (v3.global_pool, v3.num_features, v3.num_prefix_tokens) == ("avg", 384, 5)


@pytest.mark.parametrize("name", SIZE)
def test_the_registered_name_carries_the_published_weights(name):
    tag = {"vit_small_patch14_dinov2": "lvd142m", "vit_small_patch16_dinov3": "lvd1689m"}[name]
    assert f"{name}.{tag}" in timm.list_pretrained(f"{name}*")


def test_the_preset_names_weights_of_timm_and_a_size_that_its_patches_divide():
    chosen = config.load(load_preset("simreg", "dino"))
    (source,) = chosen.teacher.sources
    assert source.removeprefix("timm:") in timm.list_pretrained("*dinov2*")
    assert source.startswith(chosen.teacher.backbone + ".")
    assert chosen.data.image_size % 14 == chosen.data.image_size % 16 == 0
    assert chosen.method.teacher_output() == "features"


@pytest.fixture
def downloaded(monkeypatch):
    """timm's published weights without a network."""
    original = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda *args, pretrained=False, **more: original(*args, **more))


@pytest.mark.slow
@pytest.mark.usefixtures("downloaded")
def test_a_sweep_by_the_preset_alone_can_be_resumed(tmp_path):
    def prepared(**options):
        return prepare_settings(
            "simreg",
            preset="dino",
            set=SMALL | {"data.image_size": 28, "method.backbone": "resnet10_w4"},
            storage=tmp_path,
            artifacts=tmp_path / "artifacts",
            name="s",
            baseline_search=False,
            notify=lambda line: None,
            **options,
        )

    settings = prepared()
    (key,) = settings.base.teacher.sources
    assert key.startswith("artifact:")
    assert settings.teachers == {key: "timm:vit_small_patch14_dinov2.lvd142m"}
    settings.store()
    assert prepared(resume=True).base.teacher.sources == (key,)


@pytest.mark.slow
def test_a_file_of_weights_needs_no_other_option(tmp_path):
    """`--teacher FILE` with the preset's backbone."""
    name = "vit_small_patch14_dinov2"
    save_file(network(name).state_dict(), tmp_path / "weights.safetensors")
    chosen = dino(name, tmp_path / "weights.safetensors")
    located = prepare.located(chosen, open_store(tmp_path / "artifacts"), 28)
    (key,) = located.teacher.sources
    context = prepare.promised(located, load_dataset(located.data), open_store(tmp_path / "artifacts"))
    assert key.startswith("artifact:")
    assert [pair.features for pair in context.teachers] == [384]


def test_weights_that_cannot_be_downloaded_are_named_with_the_way_round(tmp_path, monkeypatch):
    def no_network(*_, **__):
        raise OSError("Name or service\nnot known")

    monkeypatch.setattr(backbones, "_timm", no_network)
    with pytest.raises(ConfigError) as said:
        prepare.located(config.load(load_preset("simreg", "dino")), open_store(tmp_path), 224)
    assert str(said.value) == (
        "teacher.sources: the weights of timm:vit_small_patch14_dinov2.lvd142m cannot be downloaded (Name or service "
        "not known); elsewhere, `hf download timm/vit_small_patch14_dinov2.lvd142m --local-dir FOLDER`, and "
        "give FOLDER in place of the name"
    )
