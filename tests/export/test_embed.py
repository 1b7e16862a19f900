"""`raydistill embed`: the run's own embeddings of any images, in their order, with what is known of them."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from helpers.builders.datafiles import folder, parquet, pixels, png, save
from helpers.builders.runs import settings, sweep, trial
from helpers.servers.buckets import BUCKET, s3_server
from PIL import Image
from sklearn.datasets import load_sample_image

from raydistill.cli import main
from raydistill.data.images import Raw, decode
from raydistill.data.sources import load_dataset, open_source
from raydistill.data.views.augment import evaluate_view, normalization
from raydistill.evaluation.online import embed_split
from raydistill.export import embed
from raydistill.export.encoders import choose, embed_plain
from raydistill.export.resolve import resolve_run
from raydistill.models.backbones import Backbone
from raydistill.storage import Remote


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder with a sweep, which is the current one."""
    monkeypatch.chdir(tmp_path)
    sweep(tmp_path / "runs")
    return tmp_path / "runs"


def run(*arguments, code=0):
    with pytest.raises(SystemExit) as ended:
        main(["embed", *arguments])
    assert ended.value.code == code


def read(path="embeddings.parquet"):
    table = pq.read_table(path)
    return table.drop_columns("embedding").to_pydict(), np.stack(table["embedding"].to_numpy())


def agree(found, expected):
    """Within 1e-5 of the largest entry: sums may round otherwise in a batch of another size."""
    return np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


def expected(home, images, encoder="student"):
    return embed_plain(choose(resolve_run("demo-1", home, ""), encoder), images, 8).numpy()


def test_a_split_has_the_rows_of_the_run_in_its_order(home):
    run("demo-1", "digits", "--batch-size", "100")
    known, found = read()
    dataset = load_dataset(settings(limit=None).data)
    assert {name: known["split"].count(name) for name in ("train", "val", "test")} == {
        "train": len(dataset.train),
        "val": len(dataset.val),
        "test": len(dataset.test),
    }
    encoder = choose(resolve_run("demo-1", home, ""), "student")
    for name in ("train", "val", "test"):
        mine = np.array(known["split"]) == name
        features, labels = embed_split(encoder, dataset, getattr(dataset, name), torch.device("cpu"))
        assert agree(found[mine], features.numpy())
        assert np.array(known["label"])[mine].tolist() == labels.tolist()
    assert known["class"] == [str(label) for label in known["label"]]
    run("demo-1/t0001", "digits", "--split", "val", "--out", "val.parquet")
    assert agree(read("val.parquet")[1], found[np.array(known["split"]) == "val"])


def test_folders_files_and_parquet_give_the_same_embeddings(home, tmp_path):
    folder(tmp_path / "images")
    run("demo-1", "images")
    known, found = read()
    images = [np.array(Image.open(path)) for path in known["image"]]
    assert agree(found, expected(home, images))
    assert set(known["class"]) == {"cat", "dog"}
    run("demo-1", known["image"][3], "--out", "one.parquet")
    one, embedding = read("one.parquet")
    assert one == {"image": [known["image"][3]], "split": ["train"]}
    assert agree(embedding[0], found[3])
    parquet(tmp_path / "images.parquet", [png(image) for image in images])
    run("demo-1", "images.parquet", "--out", "rows.parquet")
    rows, again = read("rows.parquet")
    assert rows["image"][0].startswith(f"{tmp_path / 'images.parquet'} row ")
    order = [int(name.rpartition(" ")[2]) for name in rows["image"]]
    assert agree(again, found[order])
    assert "label" not in rows


def test_images_without_a_label_among_others_have_none_in_the_file(home, tmp_path):
    parquet(tmp_path / "part.parquet", [png(pixels(8, 8)) for _ in range(30)], [0, 1, None] * 10, names=["cat", "dog"])
    run("demo-1", "part.parquet")
    known, found = read()
    assert len(found) == len(set(known["image"])) == 30, "all images, with a label or without"
    rows = [int(name.rpartition(" ")[2]) for name in known["image"]]
    assert known["label"] == [[0, 1, None][row % 3] for row in rows]
    assert known["class"] == [["cat", "dog", None][row % 3] for row in rows]
    assert {split for split, label in zip(known["split"], known["label"], strict=True) if label is None} == {"train"}


def test_the_file_says_where_its_numbers_come_from_and_has_groups_of_rows(home, tmp_path, monkeypatch):
    monkeypatch.setattr(embed, "ROW_GROUP", 300)
    method = {"name": "dogo", "backbones": ["resnet10_w4", "resnet10_w8"], "hidden_dim": 8, "projection_dim": 8}
    trial(tmp_path / "peers", method)
    run("peers", "digits", "--encoder", "peer_2", "--split", "train")
    file = pq.ParquetFile("embeddings.parquet")
    about = json.loads(file.schema_arrow.metadata[b"raydistill"])
    assert (about["run"], about["encoder"], about["epoch"]) == ("peers", "peer_2", 1)
    assert file.metadata.num_row_groups > 2
    assert file.schema_arrow.field("embedding").type.list_size == 64


def test_an_export_embeds_as_its_run_does(home):
    run("demo-1", "digits", "--split", "val", "--out", "run.parquet")
    with pytest.raises(SystemExit):
        main(["export", "demo-1", "--format", "safetensors"])
    run("exports/demo-1-safetensors", "digits", "--split", "val", "--out", "export.parquet")
    assert np.array_equal(read("run.parquet")[1], read("export.parquet")[1])


def test_an_image_that_cannot_be_read_is_named_or_passed_over(home, tmp_path, capsys):
    save(tmp_path / "images" / "a.png", pixels())
    (tmp_path / "images" / "b.png").write_bytes(b"no image")
    run("demo-1", "images", code=2)
    assert "b.png: unreadable image" in capsys.readouterr().err
    assert not (tmp_path / "embeddings.parquet").exists()
    assert not list(tmp_path.glob(".embeddings*"))
    run("demo-1", "images", "--skip-bad")
    assert [name.rpartition("/")[2] for name in read()[0]["image"]] == ["a.png"]
    assert (
        "1 embeddings of 32 numbers, by demo-1/t0001, in embeddings.parquet; 1 images could" in capsys.readouterr().out
    )


def test_names_that_are_no_utf_8_are_escaped(home, tmp_path, capsys):
    """As an old archive unpacks them, in Latin-1."""
    place = tmp_path / "images" / os.fsdecode(b"caf\xe9")
    for name in (b"\xfc.png", b"b.png"):
        save(place / os.fsdecode(name), pixels())
    run("demo-1", "images")
    assert sorted(Path(name).name for name in read()[0]["image"]) == ["\\xfc.png", "b.png"]
    (place / os.fsdecode(b"kaputt-\xfc.png")).write_bytes(b"")
    run("demo-1", "images", "--out", "more.parquet", code=2)
    assert "kaputt-\\xfc.png: unreadable image" in capsys.readouterr().err


def test_progress_goes_to_the_other_stream(home, capsys, monkeypatch):
    monkeypatch.setattr("raydistill.cli.embed.SECONDS_BETWEEN_LINES", 0.0)
    run("demo-1", "digits", "--batch-size", "1000")
    said = capsys.readouterr()
    assert [line.split(",")[0] for line in said.err.splitlines()] == [
        "1000 of 1797 images",
        "1150 of 1797 images",
        "1438 of 1797 images",
        "1797 of 1797 images",
    ]
    assert len(said.out.splitlines()) == 1


def test_a_device_without_room_for_a_batch_asks_for_a_smaller_one(home, monkeypatch, capsys):
    def full(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(embed, "_features", full)
    run("demo-1", "digits", "--device", "cpu", code=2)
    assert "--batch-size 256: cpu has too little memory for it; use a smaller one" in capsys.readouterr().err
    assert not list(home.parent.glob("*embeddings*"))


def test_settings_of_the_images_may_be_given(home, capsys):
    run("demo-1", "digits", "--set", "data.limit=30", "--set", "data.split_seed=3", "--split", "val")
    known, found = read()
    dataset = load_dataset(settings(limit=30, split_seed=3).data)
    assert known["label"] == dataset.val.labels.tolist()
    encoder = choose(resolve_run("demo-1", home, ""), "student")
    assert agree(found, embed_split(encoder, dataset, dataset.val, torch.device("cpu"))[0].numpy())
    run("demo-1", "torchvision:MNIST", "--set", "data.root=elsewhere", "--overwrite", code=2)
    assert "under data.root='elsewhere'" in capsys.readouterr().err


def test_images_of_an_object_store_are_named_by_their_address(home, tmp_path, monkeypatch):
    monkeypatch.setenv("RAYDISTILL_CACHE", str(tmp_path / "cache"))
    images = folder(tmp_path / "images")
    parquet(tmp_path / "rows.parquet", [png(pixels()), png(pixels())])
    (images / "train" / "cat" / "bad.png").write_bytes(b"no image")
    with s3_server(tmp_path / "log"):
        for name in ("images", "rows.parquet"):
            Remote(f"s3://{BUCKET}/there/{name}").upload(tmp_path / name)
        run("demo-1", f"s3://{BUCKET}/there/images", "--skip-bad")
        run("demo-1", f"s3://{BUCKET}/there/rows.parquet", "--out", "rows.parquet.parquet", "--split", "train")
        run("demo-1", f"s3://{BUCKET}/there/images/train/cat/0.png", "--out", "one.parquet")
    known, found = read()
    assert len(known["image"]) == 24
    paths = [name.removeprefix(f"s3://{BUCKET}/there/") for name in known["image"]]
    assert agree(found, expected(home, [np.array(Image.open(path)) for path in paths]))
    assert read("rows.parquet.parquet")[0]["image"][0].startswith(f"s3://{BUCKET}/there/rows.parquet row ")
    assert read("one.parquet")[0]["image"] == [f"s3://{BUCKET}/there/images/train/cat/0.png"]


def before(encoder, images, size):
    """A batch of decoded images, viewed together."""
    views = evaluate_view(images, size=size, normalize=normalization("", size))
    with torch.inference_mode():
        return encoder(views).numpy()


def same_as_together(encoder, raw, size):
    rows = list(range(raw.count))
    read = [embed._read(raw, row, size=size, skip=False) for row in rows]
    assert {tuple(image.shape) for image in read if image.dtype == torch.float32} <= {(3, size, size)}
    assert all(image.nbytes <= 12 * size**2 for image in read), "nothing larger than a view waits"
    encoder = encoder.to(memory_format=torch.channels_last).eval()
    found = embed._features(encoder, read, size, torch.device("cpu"))
    assert np.array_equal(found, before(encoder, [decode(raw, row) for row in rows], size))


@pytest.mark.parametrize("size", [8, 16, 97])
def test_views_made_one_by_one_are_those_of_the_batch_bit_for_bit(size):
    digits = open_source(settings().data)["test"]
    pages = [Image.fromarray(image) for name in ("china.jpg", "flower.jpg") for image in [load_sample_image(name)]]
    photos = [page.resize((40 + 60 * i, 300 - 30 * i)) for i in range(4) for page in pages]

    def open_one(index):
        return digits.open(index) if index % 2 else photos[index % 8].copy()

    mixed = Raw(16, open_one, str, None, ())
    same_as_together(Backbone("resnet10_w4", image_size=size), mixed, size)


def test_views_of_cifar_images_made_one_by_one_are_those_of_the_batch(cifar10):
    raw = open_source(settings(source=str(cifar10)).data)["test"]
    same_as_together(Backbone("resnet10_w4", image_size=12), replace(raw, count=50), 12)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["demo-2", "digits"], "there is no run 'demo-2'"),
        (["demo-1", "nowhere"], "neither a known name nor a path"),
        (["demo-1", "./nowhere"], "IMAGES ./nowhere: there is no such file or folder"),
        (["demo-1", "digits", "--split", "tset"], "--split 'tset' is unknown; did you mean 'test'?"),
        (["demo-1", "digits", "--encoder", "studnet"], "did you mean 'student'"),
        (["demo-1", "digits", "--out", "runs"], "--out runs: is a folder"),
        (["demo-1", "digits", "--out", "s3://bucket/x"], "give a file of this machine"),
        (["demo-1", "digits", "--out", "there.parquet"], "is there already; choose another file, or add --overwrite"),
        (["demo-1", "digits", "--device", "gpu"], "--device gpu cannot be used"),
        (["demo-1", "digits", "--device", "meta"], "--device meta cannot be used (it computes nothing)"),
        (["demo-1", "digits", "--out", "~nobody-here/x"], "--out ~nobody-here/x: could not determine home directory"),
        (["demo-1", "~nobody-here/x"], "IMAGES ~nobody-here/x: could not determine home directory"),
        (["demo-1", "digits", "--set", "train.lr=1"], "--set train.lr: the encoder is as it is"),
        (["demo-1", "digits", "--set", "data.source=x"], "--set data.source: IMAGES says which they are"),
        (["demo-1", "digits", "--set", "data.image_size=9"], "--set data.image_size: the encoder's own is used"),
        (["demo-1", "digits", "--set", "data.on_bad_image=skip"], "use --skip-bad"),
        (["demo-1", "digits", "--set", "data.rooot=x"], "data.rooot = 'x': no such setting; did you mean 'data.root'?"),
        (["demo-1", "one.png", "--split", "val"], "--split val:"),
    ],
)
def test_what_cannot_be_embedded_is_said(home, tmp_path, capsys, arguments, said):
    (tmp_path / "there.parquet").touch()
    save(tmp_path / "one.png", pixels())
    run(*arguments, code=2)
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1
