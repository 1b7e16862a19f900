"""`raydistill data`: what images are understood to be, without training."""

from helpers.builders.datafiles import folder
from helpers.commands import refused, run
from PIL import Image


def test_it_says_what_is_read_and_draws_it(tmp_path):
    folder(tmp_path / "photos", ("Training", "Testing"))
    (tmp_path / "photos" / ".DS_Store").write_bytes(b"Bud1")
    done = run("data", "photos", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "test   12 images  2 classes: cat 6, dog 6" in done.stdout
    assert f"note: {tmp_path}/photos: passed over hidden files (1)" in done.stdout
    assert done.stdout.endswith("augmented views: images.png\n")
    assert Image.open(tmp_path / "images.png").width > 300
    assert run("data", "photos", cwd=tmp_path).returncode == 0, "it replaces its own picture"
    Image.new("RGB", (8, 8)).save(tmp_path / "mine.png")
    refused(run("data", "photos", "--out", "mine.png", cwd=tmp_path), "--out mine.png: is there already")


def test_broken_images_are_counted_and_end_nothing(tmp_path):
    folder(tmp_path / "photos", ("train", "test"))
    broken = sorted((tmp_path / "photos" / "train" / "cat").iterdir())[0]
    broken.write_bytes(broken.read_bytes()[:40])
    done = run("data", "photos", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "train" in done.stdout
    assert f"images that were looked at cannot be read: {broken}" in done.stdout
    assert "--set data.on_bad_image=skip" in done.stdout


def test_what_cannot_be_read_is_refused_in_a_line(tmp_path):
    folder(tmp_path / "photos", ("",), ("bus", "car", "train"))
    refused(run("data", "photos", cwd=tmp_path), "either the train split or a class")
    refused(run("data", "fotos", cwd=tmp_path), "data.source='fotos'", "did you mean 'photos'")
    refused(run("data", "digits", "--method", "dog", cwd=tmp_path), "dog", "did you mean")
