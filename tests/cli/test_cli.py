"""The command line: wrong settings are explained in a line, with exit code 2, before anything starts."""

import time
from functools import partial

import numpy as np
import pytest
import yaml
from helpers import commands
from helpers.commands import refused
from PIL import Image

from raydistill import config

TINY = ["--set", "data.limit=40", "--set", "data.batch_size=16", "--set", "data.image_size=8"]


run, launch = (partial(each, program="sweep.py") for each in (commands.run, commands.launch))


@pytest.mark.fault(13)
@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("method.lamda_kd: {values: [1]}", ["method.lamda_kd", "did you mean 'method.lambda_kd'"]),
        ("method.lambda_kd: {min: 5, max: 1}", ["parameters.method.lambda_kd.min = 5", "max = 1"]),
        (
            "method.lambda_kd: {distribution: log_uniform_values, min: 0, max: 1}",
            ["lambda_kd.min = 0", "log scale needs min > 0"],
        ),
        ("method.tau_kd: {values: []}", ["method.tau_kd.values = []"]),
    ],
)
def test_a_bad_space_is_refused_in_two_seconds_before_ray(tmp_path, body, said):
    path = tmp_path / "space.yaml"
    path.write_text(f"method: random\nmetric: {{name: val_knn, goal: maximize}}\nparameters:\n  {body}\n")
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        done = launch("--method", "dogo", "--search-space", str(path), cwd=tmp_path)
        seconds.append(time.perf_counter() - began)
        refused(done, "space.yaml", *said)
        if seconds[-1] < 2:
            break
    assert min(seconds) < 2
    refused(run("--method", "dogo", "--search-space", str(path), cwd=tmp_path), "space.yaml", *said)
    assert not (tmp_path / "runs").exists()


@pytest.mark.fault(13)
def test_an_unknown_metric_is_refused(tmp_path):
    (tmp_path / "space.yaml").write_text("method: random\nmetric: {name: val_kn}\nparameters: {train.lr: {value: 1}}\n")
    refused(run("--method", "dogo", "--search-space", "space.yaml", cwd=tmp_path), "val_kn", "val_knn")


@pytest.mark.fault(14)
def test_a_yaml_tag_is_refused_and_not_executed(tmp_path):
    victim = tmp_path / "executed"
    (tmp_path / "space.yaml").write_text(f"method: !!python/object/apply:pathlib.Path.touch [{victim}]\n")
    refused(run("--method", "dogo", "--search-space", "space.yaml", cwd=tmp_path), "space.yaml", "python/object")
    assert not victim.exists()


@pytest.mark.fault(15)
@pytest.mark.parametrize("name", ["../outside", "a/b", "/tmp/x", "", ".hidden"])
def test_path_traversal_in_a_name_is_refused(tmp_path, name):
    refused(run("--method", "dogo", "--name", name, cwd=tmp_path), "sweep name", "letters")


@pytest.mark.fault(17)
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--max-hours", "0"], "--max-hours 0: nothing can be trained in 0 hours"),
        (["--max-worker-hours", "0"], "--max-worker-hours 0: nothing can be trained"),
        (["--set", "data.batch_size=5000"], "data.batch_size = 5000 is larger than the 1150 training images"),
        (["--learners", "many"], "--learners 'many': give a number"),
        (["--workers", "3:2"], "--workers '3:2': give a number of at least 1, or a range"),
        (["--warm-start", "nothing"], "--warm-start 'nothing': there is no sweep"),
        (["--set", "data.batch_size=15", "--workers", "2"], "does not divide among 2 workers"),
        (["--data", "nowhere"], "neither a known name nor a path"),
        (["--data", "./nowhere"], "--data ./nowhere: there is no such file or folder"),
        (["--set", "method.backbones=[resnet81, resnet18]"], "resnet18"),
        (["--set", "train.lrr=1"], "did you mean 'train.lr'"),
        (["--set", "train.lr"], "section.field=value"),
        (["--set", "method.name=seed"], "--method"),
        (["--trails", "3"], "--trials"),
        (["--resume"], "no sweep of dogo"),
        (["--teacher", "moco.pth"], "teacher.sources: dogo learns from no frozen teacher"),
        (["--learners", "²"], "--learners '²': give a number"),
        (["--workers", "²"], "--workers '²': give a number"),
        (["--storage", ""], "--storage '': give a folder"),
        (["--set", "train.seed=99999999999"], "train.seed = 99999999999"),
        (["--set", "train.milestones=[5]"], "less than 1"),
        (["--set", "train.lr=yes"], "a number is expected, not yes or no"),
        (["--set", "train.weight_decay=.inf"], "finite"),
        (["--set", "trian.lr=1"], "trian: no such section; did you mean 'train'?"),
        (["--set", "method.backbones=[resnet18"], "not valid YAML"),
    ],
)
def test_what_cannot_run_is_refused(tmp_path, arguments, said):
    refused(run("--method", "dogo", *arguments, cwd=tmp_path), said)


def test_a_network_that_cannot_see_the_images_is_refused_with_their_size(tmp_path):
    done = run("--method", "simclr", *TINY, "--set", "method.backbone=convnext_atto", "--dry-run", cwd=tmp_path)
    refused(done, "backbone 'convnext_atto' cannot be built for images of 8 px (")


def test_values_are_read_as_one_would_type_them():
    """`none` and `true`, as the tables of options show them."""
    typed = dict(map(config.parse_setting, ["method.hidden_dim=none", "data.fixed_views=none", "train.clip_norm=none"]))
    seed = config.load(config.assign({"method": "seed"}, typed))
    assert (seed.method.hidden_dim, seed.data.fixed_views, seed.train.clip_norm) == (None, None, None)
    sssd = config.load(config.assign({"method": {"name": "sssd"}}, dict([config.parse_setting("method.labels=true")])))
    assert sssd.method.labels == "true"
    assert config.load({"method": "simclr", "train": {"lr_scaling": "none"}}).train.lr_scaling == "none"


def test_a_population_that_would_never_copy_is_refused(tmp_path):
    (tmp_path / "space.yaml").write_text(
        "method: random\npopulation: {type: pbt, interval: 500}\nparameters: {train.lr: {min: 0.001, max: 0.1}}\n"
    )
    refused(run("--method", "dogo", "--search-space", "space.yaml", cwd=tmp_path), "never copy")


def test_a_population_without_a_checkpoint_of_every_epoch_is_refused(tmp_path):
    (tmp_path / "space.yaml").write_text(
        "method: random\npopulation: {type: pbt, interval: 2}\nparameters: {train.lr: {min: 0.001, max: 0.1}}\n"
    )
    done = run("--method", "dogo", "--search-space", "space.yaml", "--set", "train.checkpoint_every=2", cwd=tmp_path)
    refused(done, "train.checkpoint_every = 2: a population copies the weights of any epoch")


@pytest.mark.fault(17)
@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("method.queue_size: {values: [128, 99999]}", "method.queue_size = 99999: "),
        ("method.backbone: {values: [resnet10_w4, resnt18]}", "near: resnet18"),
    ],
)
def test_a_value_that_cannot_be_built_is_refused(tmp_path, body, said):
    (tmp_path / "space.yaml").write_text(f"method: random\nparameters: {{{body}}}\n")
    refused(run("--method", "seed", "--search-space", "space.yaml", cwd=tmp_path), "parameters.method.", said)


def test_a_warm_up_longer_than_the_training_is_said(tmp_path):
    done = run("--method", "dogo", *TINY, "--set", "train.warmup_epochs=9", "--epochs", "3", "--dry-run", cwd=tmp_path)
    assert "train.warmup_epochs = 9: trials of 3 epochs never reach" in done.stdout + done.stderr


def test_an_unknown_method_is_refused(tmp_path):
    refused(run("--method", "doggo", cwd=tmp_path), "did you mean 'dogo'")


def test_a_dry_run_prints_the_plan_and_starts_nothing(tmp_path):
    priced = ["--price", "36", "--dry-run"]
    done = run("--method", "dogo", "--trials", "5", "--epochs", "3", *TINY, *priced, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    plan = yaml.safe_load(done.stdout)
    assert plan["work"]["trials"] == 5
    assert plan["work"]["epochs of each"] == 3
    assert plan["configuration"]["data"]["limit"] == 40
    assert plan["search_space"]["method"] == "bayes"
    assert config.load(plan["configuration"]).train.epochs == 3
    assert {"trial-epochs", "time", "checkpoints", "workers", "money"} <= set(plan["estimate"])
    assert list(tmp_path.iterdir()) == []


def photos(folder, *, classes=("",), bad=False):
    """Small images, in a folder for each class."""
    rng = np.random.default_rng(0)
    for name in classes:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(40):
            pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i:02d}.png")
    if bad:
        (folder / classes[0] / "00.png").write_bytes(b"no image")
    return folder


def test_a_broken_image_ends_a_dry_run_in_a_line_that_names_it_and_the_cure(tmp_path):
    folder = photos(tmp_path / "photos", classes=("cat", "dog"), bad=True)
    arguments = ["--method", "simclr", "--data", str(folder), *TINY[2:], "--set", "data.split=draw", "--dry-run"]
    refused(run(*arguments, cwd=tmp_path), "cat/00.png: unreadable image", "--set data.on_bad_image=skip")
    done = run(*arguments, "--set", "data.on_bad_image=skip", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_images_without_labels_are_scored_by_what_needs_none(tmp_path):
    folder = photos(tmp_path / "photos")
    arguments = ["--method", "simclr", "--data", str(folder), *TINY[2:], "--set", "data.split=draw", "--dry-run"]
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    said, _, plan = done.stdout.partition("sweep: ")
    assert "has no labels: trials are scored by val_instance instead of val_knn" in said
    plan = yaml.safe_load("sweep: " + plan)
    assert plan["search_space"]["metric"] == {"name": "val_instance", "goal": "maximize"}
    assert plan["images"] == {"train": 26, "val": 6, "test": 8, "classes": "no labels", "trained at": "8 px"}
    (tmp_path / "own.yaml").write_text("method: random\nmetric: {name: val_knn}\nparameters: {train.lr: {value: 1}}\n")
    refused(run(*arguments, "--search-space", "own.yaml", cwd=tmp_path), "has no labels; use 'val_instance'")
    (tmp_path / "own.yaml").write_text("method: random\nmetric: {name: loss}\nparameters: {train.lr: {value: 1}}\n")
    assert run(*arguments, "--search-space", "own.yaml", cwd=tmp_path).returncode == 0, "a loss needs no labels"


def test_images_with_labels_beside_the_others_give_the_scores(tmp_path):
    many, few = photos(tmp_path / "many"), photos(tmp_path / "few", classes=("cat", "dog"))
    own = [*TINY[2:], "--set", "data.split=draw", "--dry-run"]
    arguments = ["--method", "simclr", "--data", str(many), "--labelled", str(few), *own]
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    said, _, plan = done.stdout.partition("sweep: ")
    plan = yaml.safe_load("sweep: " + plan)
    # The forty cats are the same images.
    assert f"{many}: 15 images are also validation or test images of data.labelled={str(few)!r}" in said
    assert plan["images"] == {
        "train": 25,
        "labelled": 51,
        "val": 13,
        "test": 16,
        "classes": 2,
        "trained at": "8 px",
    }
    assert plan["search_space"]["metric"] == {"name": "val_knn", "goal": "maximize"}
    assert plan["configuration"]["data"]["labelled"] == str(few)
    (tmp_path / "own.yaml").write_text("method: random\nmetric: {name: val_rank}\nparameters: {train.lr: {value: 1}}\n")
    refused(run(*arguments, "--search-space", "own.yaml", cwd=tmp_path), "'val_rank'", "has labels; use 'val_knn'")
    alone = run(*arguments[:4], *arguments[6:], "--search-space", "own.yaml", cwd=tmp_path)
    assert alone.returncode == 0, alone.stderr


def test_labelled_images_that_cannot_score_are_refused_in_a_line(tmp_path):
    many = photos(tmp_path / "many")
    arguments = ["--method", "simclr", "--data", str(many), "--dry-run", "--labelled"]
    refused(run(*arguments, str(photos(tmp_path / "flat")), cwd=tmp_path), "data.labelled=", "has no labels")
    refused(run(*arguments, str(tmp_path / "fla" / "x"), cwd=tmp_path), "--labelled", "there is no such file or folder")
    one = photos(tmp_path / "one", classes=("cat",))
    refused(run(*arguments, str(one), cwd=tmp_path), "all images lie in one folder, cat, which is no label")
    refused(run(*arguments, str(many), cwd=tmp_path), "is data.source itself; leave it out")


def test_near_names_of_data_are_given(tmp_path):
    photos(tmp_path / "photos")
    refused(run("--method", "dogo", "--data", "digit", cwd=tmp_path), "did you mean 'digits'")
    refused(run("--method", "dogo", "--data", "./fotos", cwd=tmp_path), "did you mean 'photos'")


def test_sweep_py_needs_not_say_that_it_sweeps(tmp_path):
    done = launch(cwd=tmp_path)
    assert done.returncode == 2
    assert "Usage: sweep.py [OPTIONS]" in done.stderr
    assert run("--help", cwd=tmp_path).stdout == run("sweep", "--help", cwd=tmp_path).stdout


@pytest.mark.slow
def test_train_runs_a_configuration_file_and_resumes_it(tmp_path):
    (tmp_path / "one.yaml").write_text(
        "method: {name: simclr, backbone: resnet10_w4}\n"
        "data: {limit: 40, batch_size: 16, image_size: 8}\ntrain: {epochs: 2, lr: 1e-2}\n"
    )
    first = commands.launch("train", "one.yaml", "--out", "out", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "epoch 2/2" in first.stdout
    assert "val_knn" in first.stdout
    again = commands.run("train", "one.yaml", "--out", "out", "--set", "train.epochs=3", cwd=tmp_path)
    assert "epoch 1/3" not in again.stdout
    assert "epoch 3/3" in again.stdout
    assert "nothing will be kept" not in first.stdout + again.stdout
    lines = commands.run("train", "one.yaml", "--set", "train.epochs=1", cwd=tmp_path).stdout.splitlines()
    assert lines[0].startswith("nothing will be kept; add --out FOLDER"), "before an epoch is spent"


def test_train_says_before_an_epoch_what_stays_random(tmp_path):
    (tmp_path / "one.yaml").write_text(
        "method: {name: byol, backbone: resnet10_w4, hidden_dim: 8, projection_dim: 8}\n"
        "data: {limit: 40, batch_size: 16, image_size: 8}\ntrain: {epochs: 1}\n"
    )
    _, line, *epochs = commands.run("train", "one.yaml", cwd=tmp_path).stdout.splitlines()
    assert line.startswith("method.momentum = 0.996: after 2 steps the momentum network still has 0.99 of its initial")
    assert len(epochs) == 1
    fitted = commands.run("train", "one.yaml", "--set", "method.momentum_window=0.1", cwd=tmp_path).stdout
    assert "momentum" not in fitted


def test_a_file_is_no_store_of_artifacts(tmp_path):
    from raydistill.records.locations import artifact_store

    (tmp_path / "file").touch()
    with pytest.raises(config.ConfigError, match="is a file"):
        artifact_store(str(tmp_path / "file"))


@pytest.mark.parametrize(
    ("space", "said"),
    [
        (
            "early_terminate: {type: hyperband}\nparameters: {train.lr: {min: 0.001, max: 0.1}}\n",
            "hyperband pauses trials",
        ),
        ("parameters: {train.checkpoint_every: {values: [1, 3]}}\n", "may not be searched, since it changes no result"),
    ],
)
def test_checkpoints_that_a_search_needs_are_not_left_out(tmp_path, space, said):
    (tmp_path / "space.yaml").write_text(f"method: random\n{space}")
    chosen = ["--set", "train.checkpoint_every=2"] if "pauses" in said else []
    refused(run("--method", "dogo", "--search-space", "space.yaml", *chosen, cwd=tmp_path), said)


def test_workers_of_one_group_do_not_share_a_gpu(tmp_path):
    done = run("--method", "dogo", "--packs-per-gpu", "2", "--workers", "1:2", "--dry-run", cwd=tmp_path)
    refused(done, "--packs-per-gpu: workers of one group cannot share a GPU")
