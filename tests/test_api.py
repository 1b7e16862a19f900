"""The public names: there, typed, described, and cheap to import; and what they do beyond the page of examples."""

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.builders.runs import DATA, trial
from PIL import Image
from torch import nn

import raydistill
from raydistill import config
from raydistill.config import ConfigError
from raydistill.methods import FeatureDims, MethodContext

ROOT = Path(__file__).parents[1]
TINY = {
    "method.backbone": "resnet10_w4",
    "method.hidden_dim": 8,
    "method.projection_dim": 8,
    **{f"data.{name}": value for name, value in DATA.items()},
    "train.epochs": 1,
    "eval.probe_epochs": 2,
}


def test_importing_the_package_imports_nothing_else_of_it():
    code = (
        "import sys; before = set(sys.modules); import raydistill; dir(raydistill)\n"
        "print(sorted({name.partition('.')[0] for name in set(sys.modules) - before} - sys.stdlib_module_names))\n"
        "print([name for name in sys.modules if name.startswith('raydistill.')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.stdout.splitlines() == ["['raydistill']", "[]"], done.stderr


def test_configurations_and_settings_come_without_torch_ray_and_mlflow():
    code = (
        "import sys, raydistill\n"
        "raydistill.load_config('dogo'), raydistill.Config, raydistill.SweepSettings, raydistill.RaydistillError\n"
        "raydistill.MethodConfig, raydistill.run_sweep, raydistill.load_sweep\n"
        "print({'torch', 'ray', 'mlflow', 'pandas'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.stdout.strip() == "set()", done.stderr


def test_each_public_name_is_there_listed_and_described():
    page = (ROOT / "docs" / "api.md").read_text()
    for name in raydistill.__all__:
        assert name in dir(raydistill)
        assert getattr(raydistill, name) is not None
        assert f"`{name}`" in page
    with pytest.raises(AttributeError, match="no attribute 'sweeps'"):
        raydistill.sweeps  # noqa: B018 - asked for to fail


def test_type_checkers_see_the_same_names():
    tree = ast.parse((ROOT / "raydistill" / "__init__.py").read_text())
    (guarded,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.name for node in guarded.body for alias in node.names}
    assert seen | {"__version__"} == set(raydistill.__all__)
    assert (ROOT / "raydistill" / "py.typed").exists()


def test_a_configuration_from_a_method_a_file_or_a_mapping(tmp_path):
    named = raydistill.load_config("simclr", set={"train.epochs": 3})
    assert (named.method.name, named.train.epochs) == ("simclr", 3)
    file = tmp_path / "run.yaml"
    file.write_text("method: simclr\ntrain: {epochs: 2}\n")
    assert raydistill.load_config(file).train.epochs == 2
    assert raydistill.load_config(config.dump(named)) == named
    with pytest.raises(ConfigError, match="did you mean 'simclr'"):
        raydistill.load_config("simcrl")
    with pytest.raises(ConfigError, match=r"train\.epoch = 3: no such setting; did you mean 'train.epochs'"):
        raydistill.load_config("simclr", set={"train.epoch": 3})
    with pytest.raises(ConfigError, match=r"preset 'huge' of method 'simclr' is unknown"):
        raydistill.load_config("simclr", preset="huge")


def test_training_goes_on_in_its_folder_and_the_encoder_is_the_one_there(tmp_path):
    first = raydistill.train(raydistill.load_config("simclr", set=TINY), tmp_path / "run", device="cpu")
    assert first.folder == tmp_path / "run"
    assert len(first.history) == 1
    assert first.history[-1] == first.metrics
    again = raydistill.train(first.config, tmp_path / "run", device="cpu")
    assert again.history == ()
    loaded = raydistill.load_encoder(tmp_path / "run")
    images = torch.randn(2, 3, loaded.image_size, loaded.image_size)
    assert torch.equal(first.encoder(images), loaded(images))
    assert torch.equal(first.encoder(images), again.encoder(images))
    with pytest.raises(ConfigError, match="holds a run of other settings"):
        raydistill.train(raydistill.load_config("simclr", set={**TINY, "train.lr": 0.1}), tmp_path / "run")
    with pytest.raises(ConfigError, match="no encoder of that name"):
        raydistill.load_encoder(tmp_path / "run", encoder="peer_2")


def test_without_a_folder_training_keeps_nothing_and_gives_the_same(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = raydistill.load_config("simclr", set=TINY)
    kept, passing = raydistill.train(settings, "run", device="cpu"), raydistill.train(settings, device="cpu")
    assert passing.folder is None
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(kept.encoder(images), passing.encoder(images))
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_run_and_its_encoder_have_the_same_scores_and_the_encoder_stays_as_it_was(tmp_path):
    result = raydistill.train(raydistill.load_config("simclr", set=TINY), tmp_path / "run", device="cpu")
    scores = raydistill.evaluate(tmp_path / "run", device="cpu")
    assert set(scores) == {"val_knn", "test_knn", "val_probe", "test_probe"}
    assert scores["val_knn"] == pytest.approx(result.metrics["val_knn"])
    chosen = {path: value for path, value in TINY.items() if path.startswith(("data.", "eval."))}
    encoder = result.encoder.train()
    assert raydistill.evaluate(encoder, set=chosen, device="cpu") == scores
    assert encoder.training


def test_a_run_is_scored_behind_its_head_by_seeds_protocol_and_seeds_head_is_an_encoder(tmp_path):
    method = {"name": "seed", "backbone": "resnet10_w4", "hidden_dim": 8, "queue_size": 16}
    context = MethodContext(8, 40, teachers=(FeatureDims(12, 6),))
    trial(tmp_path / "run", method, given=context, teacher=["artifact:absent"])
    chosen = {"eval.knn": "seed", "eval.probe": "logistic"}
    scores = raydistill.evaluate(tmp_path / "run", set=chosen, device="cpu")
    head = raydistill.load_encoder(tmp_path / "run", encoder="head")
    assert head.dim == 6
    settings = {**chosen, **{f"data.{name}": value for name, value in DATA.items()}}
    behind = raydistill.evaluate(head, set=settings, device="cpu")
    before = raydistill.evaluate(raydistill.load_encoder(tmp_path / "run"), set=settings, device="cpu")
    assert (scores["val_knn"], scores["test_knn"]) == (behind["val_knn"], behind["test_knn"])
    assert scores["test_probe"] == before["test_probe"]


def test_a_run_with_labelled_images_beside_its_own_is_scored_by_them(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for folder, count in {"photos": 32, "labelled/cat": 20, "labelled/dog": 20}.items():
        (tmp_path / folder).mkdir(parents=True)
        for index in range(count):
            pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / folder / f"{index}.png")
    for index, file in enumerate((tmp_path / "labelled" / "cat").iterdir()):
        (tmp_path / "photos" / f"copy-{index}.png").write_bytes(file.read_bytes())
    places = {"data.source": str(tmp_path / "photos"), "data.labelled": str(tmp_path / "labelled")}
    settings = {
        **TINY,
        **places,
        "data.limit": None,
        "data.split": "draw",
        "eval.ks": [1],
        "eval.labels_per_class": [5],
    }
    result = raydistill.train(raydistill.load_config("simclr", set=settings), tmp_path / "run", device="cpu")
    assert "7 images are also validation or test images" in capsys.readouterr().out
    scores = raydistill.evaluate(tmp_path / "run", device="cpu")
    assert scores["val_knn"] == result.metrics["val_knn"]
    assert {"test_knn_5_labels", "test_probe_all_labels_high"} <= set(scores)
    other = raydistill.evaluate(tmp_path / "run", "digits", set={"data.limit": 60}, device="cpu")
    # Digits are scored by their own labels, whatever scored the run.
    chosen = {path: value for path, value in settings.items() if path.startswith("eval.")}
    assert raydistill.evaluate(result.encoder, "digits", set={**chosen, "data.limit": 60}, device="cpu") == other


def test_what_cannot_be_evaluated_is_refused(tmp_path):
    network = nn.Sequential(nn.Flatten(), nn.LazyLinear(4))
    with pytest.raises(ConfigError, match="data: say which images"):
        raydistill.evaluate(network)
    with pytest.raises(ConfigError, match=r"train\.lr: the encoder is as it is"):
        raydistill.evaluate(network, "digits", set={"train.lr": 1})
    with pytest.raises(ConfigError, match="there is no run 'absent'"):
        raydistill.evaluate("absent", storage=tmp_path)


def test_a_sweep_with_a_wrong_option_or_setting_is_refused_before_it_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="trails: there is no such option of a sweep; did you mean 'trials'"):
        raydistill.run_sweep("dogo", trails=2)
    with pytest.raises(ConfigError, match="method 'dogoo' is unknown; did you mean 'dogo'"):
        raydistill.run_sweep("dogoo")
    with pytest.raises(ConfigError, match=r"there is no such file or folder"):
        raydistill.run_sweep("dogo", data="./nothing/here")
    with pytest.raises(ConfigError, match="workers '0'"):
        raydistill.run_sweep("dogo", workers=0)
    with pytest.raises(ConfigError, match="seeds = 0: expected at least 1"):
        raydistill.run_sweep("dogo", seeds=0)
    with pytest.raises(ConfigError, match="max_hours = -1: expected at least 0"):
        raydistill.run_sweep("dogo", max_hours=-1)
    plan = raydistill.plan_sweep("simclr", trials=2, set={"data.limit": 60, "data.batch_size": 20})
    with pytest.raises(ConfigError, match="trials: give options to plan_sweep"):
        raydistill.run_sweep(plan, trials=3)
    assert not (tmp_path / "runs").exists()


def test_a_plan_is_what_the_command_makes_of_the_same_options(tmp_path, monkeypatch):
    from raydistill import cli
    from raydistill.cli.sweeping import dry_run

    monkeypatch.chdir(tmp_path)
    plans = []
    monkeypatch.setattr(dry_run, "describe", lambda plan: plans.append(plan) or "")
    words = "--trials 3 --epochs 2 --seeds 1 --workers 1:2 --learners 2 --max-hours 1 --set data.limit=60"
    words += " --set data.batch_size=20 --set method.objectives=[simclr,simclr] --dry-run"
    with pytest.raises(SystemExit):
        cli.main(["sweep", "--method", "dogo", *words.split()])
    options = {"trials": 3, "epochs": 2, "seeds": 1, "workers": "1:2", "learners": 2, "max_hours": 1.0}
    chosen = {"data.limit": 60, "data.batch_size": 20, "method.objectives": ("simclr", "simclr")}
    plan = raydistill.plan_sweep("dogo", **options, set=chosen)
    (typed,) = plans
    assert typed.command != plan.command == ""
    assert {**vars(typed), "command": ""} == vars(plan)
