"""Folders as timm and transformers write them: files, normalisation, and what is refused; nothing is executed."""

import json
import pickle
from pathlib import Path

import pytest
import timm
import torch
from helpers.builders.hub_folders import VIT, as_vit, drawn, loaded, tiny_vit, write
from helpers.builders.teacher_networks import HALF, IMAGENET, images
from safetensors.torch import save_file
from timm.models import save_for_hf

from raydistill.artifacts import teachers
from raydistill.artifacts.store import Store
from raydistill.config import ConfigError, TeacherConfig
from raydistill.models.hub_folders import read_folder
from raydistill.models.teacher import TeacherError
from raydistill.planning.prepare import locate

PLAIN_PIXELS = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


class TestNormalization:
    @pytest.mark.parametrize(
        ("preprocessor", "expected"),
        [
            (None, IMAGENET),
            ({"image_mean": list(HALF[0]), "image_std": list(HALF[1]), "rescale_factor": 0.00392156862745098}, HALF),
            ({"do_resize": True}, IMAGENET),
            ({"do_normalize": False, "image_mean": [0.5] * 3}, PLAIN_PIXELS),
        ],
    )
    def test_of_transformers(self, tmp_path, preprocessor, expected):
        folder = write(tmp_path / "vit", VIT, as_vit(tiny_vit()), preprocessor=preprocessor)
        assert read_folder(folder).normalization == expected

    @pytest.mark.parametrize(
        ("preprocessor", "said"),
        [
            ({"rescale_factor": 0.0078}, "1/255"),
            ({"do_rescale": False}, "1/255"),
            ({"image_mean": 0.5}, "image_mean = 0.5"),
            ({"image_std": [0.2, 0.2, 0]}, "image_std"),
        ],
    )
    def test_of_an_unknown_kind(self, tmp_path, preprocessor, said):
        folder = write(tmp_path / "vit", VIT, as_vit(tiny_vit()), preprocessor=preprocessor)
        with pytest.raises(TeacherError, match=rf"preprocessor_config\.json.*{said}"):
            read_folder(folder)


class TestTimm:
    @pytest.mark.parametrize("name", ["test_vit", "test_resnet", "test_convnext", "test_efficientnet"])
    def test_what_timm_writes(self, tmp_path, name):
        net = drawn(timm.create_model(name, num_classes=3))
        save_for_hf(net, tmp_path, safe_serialization=True)
        found, size = read_folder(tmp_path), net.pretrained_cfg["input_size"][-1]
        assert (found.library, found.backbone) == ("timm", f"timm:{name}")
        assert found.normalization == (net.pretrained_cfg["mean"], net.pretrained_cfg["std"])
        net.reset_classifier(0)
        torch.testing.assert_close(loaded(tmp_path, size)(images(size)), net(images(size)))

    def test_old_files_have_one_level(self, tmp_path):
        net = drawn(timm.create_model("test_vit", num_classes=0, img_size=32))
        config = {"architecture": "test_vit", "mean": list(HALF[0]), "std": list(HALF[1]), "classifier": "head"}
        folder = write(tmp_path / "vit", config, net.state_dict(), form="pytorch_model.bin")
        assert read_folder(folder).normalization == HALF
        torch.testing.assert_close(loaded(folder, 32)(images(32)), net(images(32)))

    def test_wrapped_by_transformers(self, tmp_path):
        net = drawn(timm.create_model("test_vit", num_classes=0, img_size=32))
        config = {"model_type": "timm_wrapper", "architecture": "test_vit", "pretrained_cfg": {"mean": [0.5] * 3}}
        state = {f"timm_model.{name}": value for name, value in net.state_dict().items()}
        folder = write(tmp_path / "vit", config, state)
        assert read_folder(folder).normalization == ((0.5,) * 3, IMAGENET[1])
        torch.testing.assert_close(loaded(folder, 32)(images(32)), net(images(32)))

    @pytest.mark.parametrize(
        ("config", "said"),
        [
            ({"architecture": "vit_unheard_of"}, r"config\.json: architecture 'vit_unheard_of' is unknown to timm"),
            ({"architecture": "test_vit", "model_args": {"act_layer": "relu"}}, "change test_vit by act_layer"),
            (
                {"architecture": "test_vit", "global_pool": "avg"},
                "global_pool 'avg', and timm:test_vit pools by 'token'",
            ),
            ({"architecture": "test_vit2"}, "not the weights of timm:test_vit2"),
        ],
    )
    def test_what_does_not_fit(self, tmp_path, config, said):
        net = timm.create_model("test_vit", num_classes=0, img_size=32)
        folder = write(tmp_path / "vit", config, net.state_dict())
        with pytest.raises(TeacherError, match=said):
            loaded(folder, 32)


class TestFiles:
    @pytest.mark.parametrize("content", ["{", "[]", "\xff"])
    def test_no_json(self, tmp_path, content):
        folder = write(tmp_path / "vit", VIT, {"x": torch.zeros(1)})
        (folder / "config.json").write_bytes(content.encode("latin-1"))
        with pytest.raises(TeacherError, match=r"vit/config\.json: (cannot be read|is no JSON object)"):
            read_folder(folder)

    @pytest.mark.parametrize("name", ["preprocessor_config.json", "model.safetensors.index.json"])
    def test_other_files_that_are_no_json(self, tmp_path, name):
        folder = write(tmp_path / "vit", VIT, as_vit(tiny_vit()), shards=2)
        (folder / name).write_text("[1]")
        with pytest.raises(TeacherError, match=rf"vit/{name}: is no JSON object"):
            read_folder(folder)

    @pytest.mark.parametrize("name", ["../model.safetensors", "/etc/hostname", "..", "", "absent.safetensors"])
    def test_an_index_names_files_of_its_folder_alone(self, tmp_path, name):
        folder = write(tmp_path / "vit", VIT, as_vit(tiny_vit()), shards=2)
        save_file({"x": torch.zeros(1)}, tmp_path / "model.safetensors")
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": name}}))
        with pytest.raises(TeacherError, match=r"index\.json: names"):
            read_folder(folder)

    def test_no_weights(self, tmp_path):
        (tmp_path / "config.json").write_text(json.dumps(VIT))
        with pytest.raises(TeacherError, match=r"no weights; looked for model\.safetensors, .*pytorch_model\.bin"):
            read_folder(tmp_path)

    @pytest.mark.fault(8)
    def test_nothing_is_executed(self, tmp_path):
        fired = tmp_path / "fired"
        folder = write(tmp_path / "vit", VIT | {"auto_map": {"AutoModel": "modeling.Evil"}}, as_vit(tiny_vit()))
        (folder / "modeling.py").write_text(f"import pathlib; pathlib.Path({str(fired)!r}).touch()")
        loaded(folder)
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
        (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"x": Touch(fired)}))
        with pytest.raises(TeacherError, match=r"pytorch_model\.bin: refused"):
            loaded(folder)
        assert not fired.exists()


class Touch:
    """Unpickled, it leaves a trace."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


class TestStore:
    def test_a_folder_is_taken_in_once_whatever_the_teacher_trained_here_would_be(self, tmp_path):
        net, store = tiny_vit(), Store(tmp_path / "artifacts")
        preprocessor = {"image_mean": list(HALF[0]), "image_std": list(HALF[1])}
        folder = write(tmp_path / "vit", VIT, as_vit(net, "vit."), preprocessor=preprocessor)
        keys = {
            locate(store, str(folder), settings, 16)
            for settings in (TeacherConfig(), TeacherConfig(backbone="torchvision:resnet50", stem="imagenet"))
        }
        assert len(keys) == 1
        teacher = teachers.load(store, keys.pop().removeprefix("artifact:"), IMAGENET, torch.device("cpu"))
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in IMAGENET)
        own_mean, own_std = (torch.tensor(values).view(1, 3, 1, 1) for values in HALF)
        seen = teacher((images() - mean) / std, "features")
        assert torch.allclose(seen, net((images() - own_mean) / own_std), atol=1e-4)

    def test_what_is_read_decides_the_key(self, tmp_path):
        store, net = Store(tmp_path / "artifacts"), tiny_vit()
        folder = write(tmp_path / "vit", VIT, as_vit(net))
        keys = [locate(store, str(folder), TeacherConfig(), 16)]
        write(folder, VIT, as_vit(net), preprocessor={"image_mean": [0.5] * 3})
        keys.append(locate(store, str(folder), TeacherConfig(), 16))
        write(folder, VIT, as_vit(tiny_vit()))
        keys.append(locate(store, str(folder), TeacherConfig(), 16))
        assert len(set(keys)) == 3

    def test_of_an_empty_folder_what_was_looked_for_is_named(self, tmp_path):
        (tmp_path / "empty").mkdir()
        store = Store(tmp_path / "artifacts")
        with pytest.raises(ConfigError, match=r"empty holds no teacher; looked for config\.yaml .*config\.json with"):
            locate(store, str(tmp_path / "empty"), TeacherConfig(), 16)
