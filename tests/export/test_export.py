"""Exports: they give the run's own embeddings wherever they are loaded, and are whole or not there."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.builders.datafiles import png
from helpers.builders.exported import read_by_others
from helpers.builders.runs import TINY, sweep, trial
from safetensors import safe_open

from raydistill.cli import main
from raydistill.config import ConfigError
from raydistill.export import formats, load
from raydistill.export.encoders import choose, embed_plain, sample
from raydistill.export.formats import open_format
from raydistill.export.resolve import resolve_run
from raydistill.export.write import ExportError, export
from raydistill.methods import FeatureDims, MethodContext

HEADS = {"hidden_dim": 8, "projection_dim": 8}
CNN = {"name": "simclr", **HEADS}
NETWORKS = {
    "narrow": TINY,
    "stride2": {**TINY, "stem": "stride2"},
    "imagenet": {**TINY, "stem": "imagenet"},
    "narrow-stem": {**TINY, "stem": "narrow"},
    "resnet18": {**CNN, "backbone": "resnet18"},
    "mobilenet": {**CNN, "backbone": "mobilenetv3_small_050"},
    "mobilenet-small": {**CNN, "backbone": "mobilenetv3_small_050", "stem": "small"},
    "torchvision": {**CNN, "backbone": "torchvision:mobilenet_v3_small"},
    "vit": {"name": "sdssl", "backbone": "vit_w32_p4_d3", "intermediate_dim": 8, **HEADS},
    "sssd": {"name": "sssd", "backbone": "resnet10_w4", "clusters": 4},
    "peers": {"name": "dogo", "backbones": ["resnet10_w4", "resnet10_w8"], **HEADS},
}
SIZES = {"resnet18": 32, "mobilenet": 32, "mobilenet-small": 16, "torchvision": 32}
STUDENTS = [(name, "student") for name in NETWORKS]
OTHERS = [("vit", "block_1"), ("sssd", "exit_1"), ("peers", "peer_2")]
CASES = [
    *(("timm", *case) for case in [*STUDENTS, *OTHERS] if case not in (("torchvision", "student"), ("sssd", "exit_1"))),
    *(("torch-export", *case) for case in [("vit", "student"), ("sssd", "exit_1"), ("torchvision", "student")]),
    *(("onnx", *case) for case in [("narrow", "student"), ("vit", "block_1"), ("sssd", "exit_1")]),
    ("mlflow", "narrow", "student"),
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A trial of each network, found."""
    home = tmp_path_factory.mktemp("runs")
    for name, method in NETWORKS.items():
        size = SIZES.get(name, 8)
        given = MethodContext(size, 40, (10,) * 4 if name == "sssd" else ())
        trial(home / name, method, given=given, image_size=size)
    return {name: resolve_run(name, home, "") for name in NETWORKS}


def written(run, form, out, **options):
    return export(run, open_format(form), out, **options)


def agree(found, expected):
    """Within 1e-5 of the largest entry."""
    return np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


def embeddings(run, encoder, images):
    return embed_plain(choose(run, encoder), images, run.context["image_size"]).numpy()


@pytest.mark.parametrize(("name", "encoder"), [*STUDENTS, *OTHERS])
def test_raydistill_loads_its_own_export(runs, tmp_path, name, encoder):
    images, _ = sample(runs[name].config)
    expected = embeddings(runs[name], encoder, images)
    done = written(runs[name], "safetensors", tmp_path / "out", encoder=encoder)
    assert done.difference <= 1e-5
    loaded = load(tmp_path / "out")
    assert loaded.dim == expected.shape[1]
    assert np.array_equal(embed_plain(loaded, images, runs[name].context["image_size"]).numpy(), expected)
    assert expected.std(0).max() > 1e-3 * np.abs(expected).max(), "images differ"


@pytest.mark.parametrize(
    ("name", "encoder", "absent"),
    [("vit", "block_1", "blocks.1."), ("sssd", "exit_1", "layer2."), ("sssd", "exit_1", "exits.")],
)
def test_an_export_has_no_weights_of_what_lies_behind_its_encoder(runs, tmp_path, name, encoder, absent):
    counts = {}
    for chosen in (encoder, "student"):
        written(runs[name], "safetensors", tmp_path / chosen, encoder=chosen)
        with safe_open(tmp_path / chosen / "encoder.safetensors", framework="pt") as file:
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
        about = json.loads((tmp_path / chosen / "provenance.json").read_text())
        known = dict(choose(runs[name], chosen).named_parameters())
        assert about["parameters"] == sum(state[key].numel() for key in state if key in known) > 0
        counts[chosen] = about["parameters"]
        assert chosen == "student" or not [key for key in state if absent in key]
    assert counts[encoder] < counts["student"]


@pytest.mark.slow
def test_others_read_what_the_cards_say_without_raydistill(runs, tmp_path):
    image = sample(runs["narrow"].config)[0][3]
    folders = []
    for form, name, encoder in CASES:
        folders.append(tmp_path / f"{name}-{encoder}-{form}")
        assert written(runs[name], form, folders[-1], encoder=encoder).difference <= 1e-5
    for (form, name, encoder), found in zip(CASES, read_by_others(folders, png(image)), strict=True):
        assert agree(found, embeddings(runs[name], encoder, [image])[0]), (form, name, encoder)


def test_timm_alone_builds_what_it_has_words_for(runs, tmp_path):
    """And says so, instead of loading half of it, where it has none."""
    import timm

    plain_ones, others = ("imagenet", "vit", "mobilenet"), ("mobilenet-small", "narrow")
    for name in plain_ones + others:
        written(runs[name], "timm", tmp_path / name)
        code = (tmp_path / name / "README.md").read_text()
        assert ("local-dir:" in code, "from load import load" in code) == (name in plain_ones, name in others)
    with pytest.raises(RuntimeError, match=r"conv1\.weight"):
        timm.create_model(f"local-dir:{tmp_path / 'narrow'}", pretrained=True)
    seen = timm.data.resolve_model_data_config(timm.create_model(f"local-dir:{tmp_path / 'vit'}"))
    assert seen["input_size"] == (3, 8, 8)
    assert seen["crop_mode"] == "squash"
    assert list(seen["mean"]) == json.loads((tmp_path / "vit" / "preprocessing.json").read_text())["mean"]


@pytest.mark.parametrize(("name", "encoder"), [("torchvision", "student"), ("sssd", "exit_1")])
def test_what_timm_cannot_build_is_refused(runs, tmp_path, name, encoder):
    with pytest.raises(ConfigError, match="no network of timm's; use safetensors, onnx, torch-export or mlflow"):
        written(runs[name], "timm", tmp_path / "out", encoder=encoder)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_cifar_images_give_the_same_embeddings_in_timm_and_onnxruntime(cifar10, tmp_path):
    trial(tmp_path / "run", NETWORKS["resnet18"], source=str(cifar10), image_size=32)
    run = resolve_run(str(tmp_path / "run"), tmp_path, "")
    images, seen = sample(run.config)
    assert seen.startswith("8 validation images")
    folders = [tmp_path / form for form in ("timm", "onnx")]
    for folder in folders:
        assert written(run, folder.name, folder).difference <= 1e-5
    for found in read_by_others(folders, png(images[0])):
        assert agree(found, embeddings(run, "student", images[:1])[0])


def test_provenance_and_card_say_where_it_comes_from(runs, tmp_path):
    written(runs["peers"], "safetensors", tmp_path / "out", encoder="peer_2")
    about = json.loads((tmp_path / "out" / "provenance.json").read_text())
    weights = (tmp_path / "out" / "encoder.safetensors").read_bytes()
    assert about["weights"]["sha256"] == hashlib.sha256(weights).hexdigest()
    assert (about["run"], about["encoder"], about["method"], about["epoch"]) == ("peers", "peer_2", "dogo", 1)
    assert about["data"] == {"source": "digits", "training_images": 40}
    assert set(about["versions"]["export"]) == {"raydistill", "python", "torch", "torchvision", "timm"}
    assert about["versions"]["training"] is None, "nobody wrote it down"
    assert about["scores"] == {}, "the student's score is not the peer's"
    card = (tmp_path / "out" / "README.md").read_text()
    assert "peer_2 of `dogo`" in card
    assert "50.00 %" not in card
    written(runs["peers"], "safetensors", tmp_path / "student")
    assert "| k-NN accuracy | validation | 50.00 % |" in (tmp_path / "student" / "README.md").read_text()


def test_another_encoder_has_its_own_scores_also_in_an_export_of_the_export(runs, tmp_path):
    known = {"val_knn": 0.5, "val_knn_peer_2": 0.25, "test_knn_peer_2": 0.125, "test_probe_ensemble": 0.75}
    written(replace(runs["peers"], scores=known), "safetensors", tmp_path / "out", encoder="peer_2")
    again = resolve_run(str(tmp_path / "out"), tmp_path, "")
    assert again.scores == {"val_knn_peer_2": 0.25, "test_knn_peer_2": 0.125}
    written(again, "torch-export", tmp_path / "again")
    for folder in ("out", "again"):
        scores = json.loads((tmp_path / folder / "provenance.json").read_text())["scores"]
        assert scores == {"val_knn": 0.25, "test_knn": 0.125}
        assert "| k-NN accuracy | test | 12.50 % |" in (tmp_path / folder / "README.md").read_text()


SEED = {"name": "seed", "backbone": "resnet10_w4", "teacher": "features", "queue_size": 32}
TAUGHT = {
    "in the store": (
        {"run": {"method": {"name": "byol", "backbone": "resnet10_w16"}, "train": {"epochs": 30}}},
        "",
        "byol on resnet10_w16, 30 epochs",
    ),
    "of a library": ({"source": "timm:resnet18", "image_size": 8}, "", "timm:resnet18"),
    "called so by the sweep": (None, "timm:resnet18", "timm:resnet18"),
    "of a file": (
        {"sha256": "0", "format": "mocov2", "backbone": "torchvision:resnet50"},
        "/there/moco.pth",
        "moco.pth, mocov2, torchvision:resnet50",
    ),
    "of a file that is gone": (None, "/there/moco.pth", "moco.pth"),
    "forgotten": (None, "", "artifact:0123456789abcdef"),
}


@pytest.mark.parametrize("pixels", [0.4, 0.65])
def test_the_card_names_the_network_and_what_the_final_showed(tmp_path, pixels):
    folder = sweep(tmp_path / "runs")
    named = {"simclr": [0.5, 0.7], "simclr-tuned": [0.6, 0.8], "pixels": [pixels], "untrained": [0.25, 0.35]}
    scores = {name: [{"test_knn": value} for value in values] for name, values in (named | {"t0000": [0.9]}).items()}
    rows = [{"name": name, "settings": {}, "epochs": 1, "scores": found} for name, found in scores.items()]
    (folder / "results.json").write_text(json.dumps(rows))
    written(resolve_run("demo-1", tmp_path / "runs", ""), "safetensors", tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "a `resnet10_w4` with " in card
    assert (
        "Of this one run. Mean ± standard deviation over 2 seeds, in percent: "
        "`simclr` test k-NN accuracy 60.00 ± 14.14; baseline "
        "`simclr-tuned` test k-NN accuracy 70.00 ± 14.14. For reference: "
        f"`pixels` test k-NN accuracy {100 * pixels:.2f}; `untrained` test k-NN accuracy 30.00 ± 7.07."
    ) in card
    assert ("It does not beat raw pixels on test by k-NN accuracy." in card) == (pixels > 0.6)
    assert "90.00" not in card
    assert "Its sweep chose it by scores on the validation split" in card
    (folder / "results.json").write_text("[{")
    assert resolve_run("demo-1", tmp_path / "runs", "").final == ()


def test_the_card_of_a_run_that_no_search_chose_says_nothing_of_one(runs, tmp_path):
    written(runs["peers"], "safetensors", tmp_path / "out")
    assert "sweep chose" not in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize("case", TAUGHT)
def test_the_card_says_where_the_teacher_comes_from(tmp_path, case):
    made_of, called, said = TAUGHT[case]
    key = "artifact:0123456789abcdef"
    folder = sweep(tmp_path / "runs")
    winner = folder / "trials" / "t0001"
    trial(winner, SEED, given=MethodContext(8, 40, (), (FeatureDims(16, None),)), teacher=[key])
    store = tmp_path / "artifacts"
    if made_of is not None:
        (store / "teacher" / key[9:]).mkdir(parents=True)
        (store / "teacher" / key[9:] / "artifact.json").write_text(json.dumps({"made_of": made_of}))
    origin = {"id": "a1", "artifacts": str(store), "environment": {"torch": "2.0"}} | (
        {"teachers": {key: called}} if called else {}
    )
    (folder / "origin.json").write_text(json.dumps(origin))
    written(resolve_run("demo-1", tmp_path / "runs", ""), "safetensors", tmp_path / "out")
    written(resolve_run(str(tmp_path / "out"), tmp_path, ""), "torch-export", tmp_path / "again")
    for out in ("out", "again"):
        assert f", with the frozen teacher {said}." in (tmp_path / out / "README.md").read_text()
        about = json.loads((tmp_path / out / "provenance.json").read_text())
        assert about["teachers"] == [said]
        assert (about["versions"]["training"], about["sweep_id"]) == ({"torch": "2.0"}, "a1")
    (folder / "origin.json").unlink()
    single = resolve_run("demo-1", tmp_path / "runs", "", store)
    assert single.taught == ({key: said} if made_of and "file" not in case else single.taught), "its store is asked"


def test_images_that_are_not_here_are_made_up_and_said_to_be(tmp_path):
    trial(tmp_path / "run", source=str(tmp_path / "gone"))
    done = written(resolve_run(str(tmp_path / "run"), tmp_path, ""), "safetensors", tmp_path / "out")
    assert "8 images of noise" in done.seen


class TestFolder:
    def test_one_that_is_in_use_is_left_alone(self, runs, tmp_path):
        out = tmp_path / "out"
        written(runs["narrow"], "safetensors", out)
        with pytest.raises(ConfigError, match="not empty"):
            written(runs["narrow"], "safetensors", out)
        written(runs["narrow"], "timm", out, overwrite=True)
        assert not (out / "encoder.safetensors").exists()
        assert (out / "config.json").exists()
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "notes").touch()
        for foreign in (None, "", "[]", "{}", '{"run": "mine", "weights": {"file": "gone"}, "files": ["notes"]}'):
            if foreign is not None:
                (tmp_path / "mine" / "provenance.json").write_text(foreign)
            with pytest.raises(ConfigError, match="is no export"):
                written(runs["narrow"], "timm", tmp_path / "mine", overwrite=True)
        (tmp_path / "mine" / "provenance.json").unlink()
        with pytest.raises(ConfigError, match="is a file"):
            written(runs["narrow"], "timm", tmp_path / "mine" / "notes")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "out"]

    def test_what_somebody_put_into_an_export_is_not_deleted_with_it(self, runs, tmp_path):
        out = tmp_path / "out"
        written(runs["narrow"], "timm", out)
        (out / "__pycache__").mkdir()
        (out / "__pycache__" / "load.pyc").touch()
        written(runs["narrow"], "mlflow", out, overwrite=True)
        (out / "chapters").mkdir()
        (out / "chapters" / "thesis.tex").touch()
        with pytest.raises(ConfigError, match=r"holds chapters/thesis\.tex, which is not of the export"):
            written(runs["narrow"], "timm", out, overwrite=True)
        (out / "chapters" / "thesis.tex").unlink()
        written(runs["narrow"], "timm", out, overwrite=True)
        assert not (out / "MLmodel").exists()

    def test_an_export_that_differs_is_not_kept(self, runs, tmp_path, monkeypatch):
        form = open_format("safetensors")
        honest = form.embed
        monkeypatch.setattr(form, "embed", lambda folder, images: honest(folder, images) * 1.0003)
        with pytest.raises(ExportError, match=r"narrow: the export differs from the run by 0\.0003"):
            written(runs["narrow"], "safetensors", tmp_path / "out")
        assert list(tmp_path.iterdir()) == []

    def test_nothing_stays_of_one_that_failed_and_the_old_one_does(self, runs, tmp_path, monkeypatch):
        written(runs["narrow"], "safetensors", tmp_path / "out")
        before = (tmp_path / "out" / "provenance.json").read_text()

        def full(encoder, found, folder):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(open_format("timm"), "write", full)
        with pytest.raises(ConfigError, match="cannot be written \\(No space left"):
            written(runs["narrow"], "timm", tmp_path / "out", overwrite=True)
        assert [path.name for path in tmp_path.iterdir()] == ["out"]
        assert (tmp_path / "out" / "provenance.json").read_text() == before

    def test_the_old_one_comes_back_where_the_new_one_cannot_take_its_place(self, runs, tmp_path, monkeypatch):
        written(runs["narrow"], "safetensors", tmp_path / "out")
        rename = Path.rename

        def refused(path, target):
            if ".new-" in path.name:
                raise OSError(5, "Input/output error")
            return rename(path, target)

        monkeypatch.setattr(Path, "rename", refused)
        with pytest.raises(ConfigError, match="Input/output error"):
            written(runs["narrow"], "timm", tmp_path / "out", overwrite=True)
        assert [path.name for path in tmp_path.iterdir()] == ["out"]
        assert (tmp_path / "out" / "encoder.safetensors").exists()

    @pytest.mark.parametrize("damage", ["cut", "flipped", "kind"])
    def test_a_damaged_one_is_not_loaded(self, runs, tmp_path, damage):
        written(runs["narrow"], "safetensors", tmp_path / "out")
        file = tmp_path / "out" / "encoder.safetensors"
        if damage == "cut":
            file.write_bytes(file.read_bytes()[:-100])
        elif damage == "flipped":
            payload = bytearray(file.read_bytes())
            payload[-1] ^= 1
            file.write_bytes(payload)
        else:
            (tmp_path / "out" / "provenance.json").unlink()
            from safetensors.torch import save_file

            save_file({"weight": torch.zeros(1)}, file, metadata={"format": "pt"})
        with pytest.raises(ConfigError, match=r"encoder\.safetensors: damaged"):
            load(tmp_path / "out")


def test_a_library_that_is_missing_is_named_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setattr(formats, "find_spec", lambda name: None if name == "onnxscript" else True)
    with pytest.raises(ConfigError, match=r"--format onnx needs onnxscript: pip install 'raydistill\[export\]'"):
        formats.check_format("onnx")
    formats.check_format("timm")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["demo-1", "--format", "tim"], "--format 'tim' is unknown; did you mean 'timm'?"),
        (["demo-2", "--format", "timm"], "there is no run 'demo-2'"),
        (["demo-1", "--format", "timm", "--encoder", "studnt"], "has no encoder of that name; did you mean 'student'?"),
        (["demo-1", "--format", "timm", "--register", "x"], "--register x: needs --format mlflow"),
        (["demo-1", "--format", "timm", "--out", "s3://bucket/x"], "give a folder of this machine"),
        (["demo-1", "--format", "timm", "--out", "runs"], "--out runs: is not empty"),
    ],
)
def test_what_cannot_be_exported_is_said(tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    sweep(tmp_path / "runs")
    with pytest.raises(SystemExit) as ended:
        main(["export", *arguments])
    error = capsys.readouterr().err
    assert ended.value.code == 2
    assert said.replace("--out runs", f"--out {tmp_path}/runs") in error
    assert len(error.splitlines()) == 1


def test_an_unfinished_trial_is_exported_as_it_is_and_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    trial(tmp_path / "run", epoch=3, epochs=10)
    with pytest.raises(SystemExit) as ended:
        main(["export", "run", "--format", "safetensors"])
    assert ended.value.code == 0
    assert "run is at epoch 3 of 10; taken as it is" in capsys.readouterr().err
    out = tmp_path / "exports" / "run-safetensors"
    assert json.loads((out / "provenance.json").read_text())["epoch"] == 3
    assert "Training ended early: after 3 epochs of 10." in (out / "README.md").read_text()


def test_a_checkpoint_that_does_not_fit_its_configuration_is_named(tmp_path):
    trial(tmp_path / "run")
    written_down = tmp_path / "run" / "config.yaml"
    written_down.write_text(written_down.read_text().replace("resnet10_w4", "resnet10_w8"))
    with pytest.raises(ConfigError, match=r"run: its checkpoint does not fit its config\.yaml"):
        choose(resolve_run(str(tmp_path / "run"), tmp_path, ""), "student")
