"""A view depends on its image, seed and epoch alone; what is refused, and what any image gives."""

from __future__ import annotations

import pytest
import torch
from helpers.views import PLAIN, assert_close, noise, view
from hypothesis import given, settings
from hypothesis import strategies as st

from raydistill.data.views.augment import View, augment, evaluate_view, normalization
from raydistill.data.views.recipes import RECIPES, AugmentationRecipe

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("recipe", list(RECIPES))
@pytest.mark.parametrize(("height", "width", "size"), [(32, 32, 32), (21, 37, 12), (9, 5, 19)])
def test_a_view_does_not_depend_on_its_batch(recipe, height, width, size):
    images = noise(23, height, width)
    whole = view(images, recipe, size=size)
    order = torch.randperm(23, generator=torch.Generator().manual_seed(0))
    assert torch.equal(view(images[order], recipe, indices=order, size=size), whole[order])
    assert torch.equal(view(images[4:11], recipe, indices=range(4, 11), size=size), whole[4:11])
    for k in (0, 7, 22):
        assert torch.equal(view(images[k : k + 1], recipe, indices=[k], size=size), whole[k : k + 1])


def test_neither_threads_nor_chunks_matter(monkeypatch):
    images = noise(19, 230, 226)
    whole = view(images, "byol1", size=224)
    torch.set_num_threads(2)
    assert torch.equal(view(images, "byol1", size=224), whole)
    monkeypatch.setattr("raydistill.data.views.augment._CACHE_BYTES", 1)
    assert torch.equal(view(images, "byol1", size=224), whole)


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad, torch.enable_grad])
def test_several_chunks_are_made_in_the_callers_mode(monkeypatch, mode):
    images = torch.randint(0, 256, (20, 3, 12, 12), dtype=torch.uint8)
    whole = augment(images, range(20), View("simclr", 0), size=12, seed=0, epoch=0, normalize=normalization("x", 12))
    monkeypatch.setattr("raydistill.data.views.augment._CACHE_BYTES", 1)
    with mode():
        views = augment(
            images, range(20), View("simclr", 0), size=12, seed=0, epoch=0, normalize=normalization("x", 12)
        )
        assert views.is_inference() == torch.is_inference_mode_enabled()
    assert torch.equal(views, whole)


def test_images_of_several_sizes():
    images = [noise(1, height, width)[0] for height, width in [(32, 32), (9, 50), (61, 20), (32, 32)]]
    whole = view(images, "moco2")
    for k, image in enumerate(images):
        assert torch.equal(view(image[None], "moco2", indices=[k])[0], whole[k])
    assert torch.equal(view([images[0], images[3]], indices=[0, 3]), whole[[0, 3]])


def test_replay_and_what_changes_a_view():
    images = noise(6, 16, 16)
    base = view(images, indices=[7] * 6)
    assert torch.equal(view(images, indices=[7] * 6), base)
    for change in ({"draw": 1}, {"seed": 1}, {"epoch": 1}, {"indices": [8] * 6}, {"recipe": "byol2"}):
        assert not torch.equal(view(images, **{"indices": [7] * 6, **change}), base)


@pytest.mark.gpu
@pytest.mark.parametrize("recipe", ["byol2", "simclr", "eval"])
def test_cuda_agrees_with_cpu(recipe):
    images = noise(16, 32, 32)
    settings_ = {"size": 24, "seed": 0, "epoch": 0, "normalize": PLAIN}
    cuda = augment(images, range(16), View(recipe, 0), device="cuda", **settings_)
    # Solarisation jumps at 0.5, so that a difference in the last bit can show in single pixels.
    assert (cuda.cpu() - augment(images, range(16), View(recipe, 0), **settings_)).abs().mean() < 1e-5


def test_form_of_the_result():
    images = noise(3, 16, 16)
    before = images.clone()
    out = view(images, "simclr", size=20)
    assert out.shape == (3, 3, 20, 20)
    assert out.dtype == torch.float32
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(images, before)
    assert view(images, "swav_small", size=28).shape == (3, 3, 12, 12)
    assert view(images[:0], "simclr", size=20).shape == (0, 3, 20, 20)
    assert torch.equal(view(images, "eval"), evaluate_view(images, size=24, normalize=PLAIN))


def test_blur_of_dogos_recipes_starts_at_224():
    sharp = torch.zeros(40, 3, 8, 8, dtype=torch.uint8)
    sharp[..., 4:] = 255
    sharp = sharp.repeat_interleave(28, 2).repeat_interleave(28, 3)
    for recipe in ("simclr", "simsiam_dogo"):
        assert RECIPES[recipe].blur_min_size == 224
        assert RECIPES[recipe].blur_p == 0.5
    RECIPES["late_blur"] = AugmentationRecipe(scale=(1, 1), ratio=(1, 1), flip_p=0, blur_p=1.0, blur_min_size=224)
    try:
        assert_close(view(sharp[:2, :, ::2, ::2], "late_blur", size=112), sharp[:2, :, ::2, ::2] / 255, 1e-6)
        assert (view(sharp[:2], "late_blur", size=224) - sharp[:2] / 255).abs().max() > 0.1
    finally:
        del RECIPES["late_blur"]


@pytest.mark.parametrize(
    ("images", "indices", "recipe", "words"),
    [
        (noise(2, 8, 8), [0, 1], "simlcr", "simlcr.*simclr"),
        (noise(2, 8, 8), [0], "simclr", "2 images with 1 indices"),
        (noise(2, 8, 8).float(), [0, 1], "simclr", "float32.*uint8"),
        (noise(2, 8, 8)[:, :1], [0, 1], "simclr", r"\(2, 1, 8, 8\).*uint8"),
        ([noise(1, 8, 8)[0], torch.zeros(8, 8, dtype=torch.uint8)], [0, 1], "simclr", r"\(8, 8\)"),
    ],
)
def test_what_is_refused(images, indices, recipe, words):
    with pytest.raises(ValueError, match=words):
        view(images, recipe, indices=indices)


def test_images_too_small_to_normalise_are_refused():
    with pytest.raises(ValueError, match=r"digits.*3 px"):
        normalization("digits", 3)


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(4, 40),
    width=st.integers(4, 40),
    size=st.integers(4, 40),
    recipe=st.sampled_from(sorted(RECIPES)),
    fill=st.sampled_from([None, 0, 255]),
    seed=st.integers(0, 2**63 - 1),
)
def test_any_image_gives_finite_values_in_range(height, width, size, recipe, fill, seed):
    images = noise(3, height, width, seed % 97)
    if fill is not None:
        images.fill_(fill)
    out = view(images, recipe, size=size, seed=seed, indices=[0, 2**40, seed])
    assert torch.isfinite(out).all()
    assert out.min() >= -1e-5
    assert out.max() <= 1 + 1e-5
