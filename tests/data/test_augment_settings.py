"""The settings `augment.*`: each does what torchvision or a computation of its own says, and none does nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.views import COUNT, CPU, PLAIN, assert_close, draws, noise, planes_of
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tv

from raydistill.data.views import pixels
from raydistill.data.views.augment import View, augment, crop_boxes, is_grey, jitter_parameters
from raydistill.data.views.recipes import RECIPES, AugmentationRecipe, recipe_for
from raydistill.options.base import AugmentConfig

pytestmark = pytest.mark.usefixtures("one_thread")

KINDS = ("photographs", "characters", "aerial", "microscopy", "grey")
SHARES = st.none() | st.floats(0, 1)
ANY = st.builds(
    AugmentConfig,
    min_crop=st.none() | st.floats(0.01, 1),
    mirror=SHARES,
    mirror_vertical=SHARES,
    rotation=st.none() | st.floats(0, 180),
    jitter=SHARES,
    brightness=st.none() | st.floats(0, 2),
    contrast=st.none() | st.floats(0, 2),
    saturation=st.none() | st.floats(0, 2),
    hue=st.none() | st.floats(0, 0.5),
    grey=SHARES,
    blur=SHARES,
    blur_sigma=st.none() | st.floats(1e-4, 0.25),
    solarize=SHARES,
    cutout=st.none() | st.floats(0, 0.99),
)


def view(images, recipe, size=16, draw=0, kind="photographs", indices=None, seed=0, **changes):
    indices = range(len(images)) if indices is None else indices
    chosen = View(recipe, draw).changed(AugmentConfig(**changes))
    return augment(images, indices, chosen, size=size, seed=seed, epoch=0, normalize=PLAIN, kind=kind)


def recipe_of(name, **changes):
    return recipe_for(name, "photographs", AugmentConfig(**changes))


@pytest.fixture
def still():
    """A recipe that changes nothing."""
    RECIPES["still"] = AugmentationRecipe(scale=(1, 1), ratio=(1, 1), flip_p=0)
    yield "still"
    del RECIPES["still"]
    recipe_for.cache_clear()


def own_settings(recipe):
    """The settings that say what a recipe says itself."""
    jitter = recipe.jitter or (None,) * 4
    return {
        "min_crop": recipe.scale[0],
        "mirror": recipe.flip_p,
        "mirror_vertical": 0.0,
        "turns": False,
        "rotation": 0.0,
        "jitter": recipe.jitter_p if recipe.jitter else 0.0,
        **dict(zip(("brightness", "contrast", "saturation", "hue"), jitter, strict=True)),
        "grey": recipe.gray_p,
        "solarize": recipe.solarize_p,
        "cutout": recipe.cutout,
        **({} if recipe.blur_min_size else {"blur": recipe.blur_p}),
    }


class TestWhatStays:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("name", RECIPES)
    def test_no_setting_changes_nothing(self, name, kind):
        assert View(name, 1).changed(AugmentConfig()) == View(name, 1)
        assert recipe_for(name, kind, AugmentConfig()) == recipe_for(name, kind)

    @pytest.mark.parametrize("name", [n for n, r in RECIPES.items() if r.crop == "resized" and not r.gray_twice])
    def test_the_settings_of_a_recipe_give_its_very_bits(self, name):
        images = noise(12, 30, 22)
        assert torch.equal(view(images, name, **own_settings(RECIPES[name])), view(images, name))

    @settings(max_examples=30, deadline=None)
    @given(changes=ANY)
    def test_the_evaluation_view_is_never_changed(self, changes):
        assert View("eval", 0).changed(changes) == View("eval", 0)
        assert recipe_for("eval", "photographs", changes) == RECIPES["eval"]

    @settings(max_examples=40, deadline=None)
    @given(changes=ANY, recipe=st.sampled_from(sorted(RECIPES)), size=st.integers(4, 33), height=st.integers(4, 33))
    def test_any_settings_give_finite_views_that_no_neighbour_changes(self, changes, recipe, size, height):
        images, chosen = noise(5, height, 17), changes.chosen()
        whole = view(images, recipe, size, **chosen)
        assert torch.isfinite(whole).all()
        assert whole.min() >= -1e-5
        assert whole.max() <= 1 + 1e-5
        assert torch.equal(view(images[3:4], recipe, size, indices=[3], **chosen), whole[3:4])
        assert torch.equal(view(images, recipe, size, **chosen), whole), "a replay"

    def test_two_strengths_see_the_same_draws(self, still):
        """So what a search compares differs in the strength alone."""
        weak, strong = (recipe_of("moco2", brightness=strength) for strength in (0.1, 0.2))
        factors, order = jitter_parameters(weak, draws("moco2", 50))
        more, same_order = jitter_parameters(strong, draws("moco2", 50))
        np.testing.assert_allclose(more[:, 0] - 1, 2 * (factors[:, 0] - 1), atol=1e-12)
        np.testing.assert_array_equal(more[:, 1:], factors[:, 1:])
        np.testing.assert_array_equal(same_order, order)
        images = noise(300, 6, 6)
        some, others = (
            (view(images, still, 6, solarize=share) - images / 255).abs().amax((1, 2, 3)) > 1e-6 for share in (0.2, 0.5)
        )
        assert 0 < some.sum() < others.sum()
        assert others[some].all()


class TestCrops:
    @settings(max_examples=60, deadline=None)
    @given(
        least=st.floats(0.01, 1),
        side=st.integers(4, 300),
        recipe=st.sampled_from(sorted(set(RECIPES) - {"eval"})),
        kind=st.sampled_from(KINDS),
        seed=st.integers(0, 2**32),
    )
    def test_every_box_keeps_the_smallest_share(self, least, side, recipe, kind, seed):
        chosen = recipe_for(recipe, kind, AugmentConfig(min_crop=least))
        boxes = crop_boxes(chosen, draws(recipe, 50, seed), np.array([[side, side]] * 50))
        # A box is rounded to whole pixels on each side.
        assert ((boxes[:, 2] + 0.5) * (boxes[:, 3] + 0.5) >= least * side * side * (1 - 1e-9)).all()
        assert (boxes[:, :2] >= 0).all()
        assert (boxes[:, :2] + boxes[:, 2:] <= side).all()

    @pytest.mark.parametrize("recipe", ["simclr", "cifar_sup"])
    def test_the_law_is_torchvisions(self, recipe):
        torch.manual_seed(0)
        law = v2.RandomResizedCrop(1, scale=(0.4, 1.0))
        params = [law.make_params([torch.empty(3, 100, 100)]) for _ in range(COUNT)]
        theirs = np.array([[p["top"], p["left"], p["height"], p["width"]] for p in params], float)
        ours = crop_boxes(recipe_of(recipe, min_crop=0.4), draws(recipe), np.array([[100, 100]] * COUNT)).astype(float)
        for measure in (lambda b: b[:, 2] * b[:, 3], lambda b: b[:, 3] / b[:, 2], lambda b: b[:, 0]):
            assert stats.ks_2samp(measure(ours), measure(theirs)).pvalue > 1e-3

    def test_small_views_keep_the_proportion_of_their_crops(self):
        low, high = recipe_of("swav_small", min_crop=0.1).scale
        assert (low, round(high / low, 9)) == (0.1, round(0.14 / 0.05, 9))
        assert recipe_of("swav_small", min_crop=0.9).scale == (0.9, 1.0)


class TestGeometry:
    @pytest.mark.parametrize("name", ["mirror", "mirror_vertical"])
    @pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
    def test_share_of_mirrored_views(self, still, name, share):
        images = noise(600, 8, 8)
        drawn, flip = view(images, still, 8, **{name: share}), tv.hflip if name == "mirror" else tv.vflip
        mirrored = (drawn - flip(images) / 255).abs().amax((1, 2, 3)) < 1e-6
        unmoved = (drawn - images / 255).abs().amax((1, 2, 3)) < 1e-6
        assert (mirrored ^ unmoved).all()
        assert stats.binomtest(int(mirrored.sum()), 600, share).pvalue > 1e-3

    def test_mirroring_both_ways_is_independent(self, still):
        corner = torch.zeros(2000, 3, 4, 4, dtype=torch.uint8)
        corner[:, :, 0, 0] = 255
        drawn = view(corner, still, 4, mirror=0.5, mirror_vertical=0.5)[:, 0, [0, 0, 3, 3], [0, 3, 0, 3]]
        assert stats.chisquare(drawn.round().sum(0).numpy()).pvalue > 1e-3

    @pytest.mark.parametrize("name", sorted(set(RECIPES) - {"eval"}))
    def test_turns_are_those_of_images_from_above(self, name):
        assert recipe_of(name, turns=True) == recipe_for(name, "aerial")
        off = recipe_for(name, "aerial", AugmentConfig(turns=False, mirror=RECIPES[name].flip_p))
        assert off == RECIPES[name]

    @pytest.mark.parametrize("size", [7, 24, 32])
    def test_rotation_is_torchvisions_on_an_image_mirrored_at_its_border(self, size):
        images, degrees = noise(9, size, size), np.array([0.0, 5, -5, 17.5, 45, 90, -90, 133, 180])
        ours = pixels.rotate(planes_of(images), degrees)
        for k, angle in enumerate(degrees):
            around = tv.pad(images[k].double() / 255, [size - 1], padding_mode="symmetric")
            turned = tv.rotate(around, float(angle), interpolation=v2.InterpolationMode.BILINEAR)
            assert_close(ours[:, k], tv.center_crop(turned, [size, size]), 1e-4)

    def test_angles_are_uniform_to_either_side_and_only_rotate(self, still):
        images = noise(40, 20, 20)
        angles = (2 * draws(still, 40)("angle")[:, 0] - 1) * 15
        plain = planes_of(images)
        assert_close(view(images, still, 20, rotation=15.0).transpose(0, 1), pixels.rotate(plain, angles), 1e-5)
        assert stats.kstest((2 * draws(still)("angle")[:, 0] - 1) * 15, stats.uniform(-15, 30).cdf).pvalue > 1e-3

    def test_a_rotated_flat_image_stays_flat(self, still):
        flat = torch.full((50, 3, 9, 9), 200, dtype=torch.uint8)
        assert_close(view(flat, still, 9, rotation=180.0), flat / 255, 1e-5)


class TestColours:
    @pytest.mark.parametrize("recipe", ["simclr", "weak", "moco1"])
    def test_jitter_law_is_torchvisions(self, recipe):
        torch.manual_seed(0)
        strengths = {"brightness": 0.3, "contrast": 1.2, "saturation": 0.1, "hue": 0.05}
        law = v2.ColorJitter(*strengths.values())
        params = [law.make_params([]) for _ in range(COUNT)]
        factors, _ = jitter_parameters(recipe_of(recipe, **strengths), draws(recipe))
        for place, name in enumerate(strengths):
            assert stats.ks_2samp(factors[:, place], [float(p[f"{name}_factor"]) for p in params]).pvalue > 1e-3

    def test_one_strength_leaves_the_others_as_the_recipe_has_them(self):
        assert recipe_of("byol1", saturation=0.7).jitter == (0.4, 0.4, 0.7, 0.1)
        assert recipe_of("weak", hue=0.2).jitter == (0, 0, 0, 0.2)

    @pytest.mark.parametrize("recipe", ["simclr", "weak"])
    def test_share_of_jittered_views(self, recipe):
        flat = torch.full((800, 3, 4, 4), 128, dtype=torch.uint8)
        drawn = view(flat, recipe, 4, jitter=0.35, brightness=0.5, grey=0)[:, 0, 0, 0]
        moved = int(((drawn - 128 / 255).abs() > 1e-5).sum())
        assert stats.binomtest(moved, 800, 0.35).pvalue > 1e-3

    @pytest.mark.parametrize("recipe", ["simclr", "weak", "simsiam_dogo", "moco1"])
    def test_share_of_grey_views(self, recipe):
        """Also where the recipe itself draws twice."""
        grey = int(is_grey(recipe_of(recipe, grey=0.4), draws(recipe)).sum())
        assert stats.binomtest(grey, COUNT, 0.4).pvalue > 1e-3

    @pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
    def test_share_of_solarised_views(self, still, share):
        images = noise(500, 6, 6)
        drawn = view(images, still, 6, solarize=share)
        inverted = (drawn - tv.solarize(images, 128) / 255).abs().amax((1, 2, 3)) < 1e-6
        assert ((drawn - images / 255).abs().amax((1, 2, 3)) < 1e-6)[~inverted].all()
        assert stats.binomtest(int(inverted.sum()), 500, share).pvalue > 1e-3

    @pytest.mark.parametrize(("share", "side"), [(0.25, 4), (0.5, 8), (0.0, 0)])
    def test_cutout_makes_a_hole_of_its_share(self, still, share, side):
        white = torch.full((400, 3, 16, 16), 255, dtype=torch.uint8)
        drawn = view(white, still, 16, cutout=share)
        missing = (drawn == 0).sum((1, 2, 3)) / 3
        assert missing.max() == side**2
        assert ((drawn == 0) | (drawn == 1)).all()
        # The middle is uniform over pixels, and the hole ends at the border.
        rows = [len(set(range(max(0, m - side // 2), min(16, m + side // 2)))) for m in range(16)]
        assert missing.mean().item() == pytest.approx(np.mean(np.outer(rows, rows)), rel=0.1)


class TestBlur:
    @pytest.mark.parametrize("recipe", ["simclr", "moco2", "weak"])
    @pytest.mark.parametrize("size", [12, 32])
    def test_it_blurs_its_share_at_any_size(self, recipe, size):
        RECIPES["sharp"] = AugmentationRecipe(
            scale=(1, 1), ratio=(1, 1), flip_p=0, blur_min_size=RECIPES[recipe].blur_min_size
        )
        try:
            images = noise(500, size, size)
            drawn = view(images, "sharp", size, blur=0.3, blur_sigma=0.2)
            moved = int(((drawn - images / 255).abs().amax((1, 2, 3)) > 1e-4).sum())
            assert stats.binomtest(moved, 500, 0.3).pvalue > 1e-3
        finally:
            del RECIPES["sharp"]
            recipe_for.cache_clear()

    @pytest.mark.parametrize("size", [12, 32, 96])
    def test_it_is_torchvisions_with_a_sigma_relative_to_the_image(self, still, size):
        images, share = noise(6, size, size), 0.05
        uniform = draws(still, 6)("sigma")[:, 0]
        sigma = share * size * (0.05 + 0.95 * uniform)
        taps = 2 * int(np.ceil(3 * share * size)) + 1
        ours = view(images, still, size, blur=1.0, blur_sigma=share)
        for k in range(6):
            assert_close(ours[k], tv.gaussian_blur(images[k].double() / 255, [taps] * 2, [sigma[k]]))

    @pytest.mark.parametrize("share", [0.04, 0.1])
    def test_it_spreads_a_point_over_the_same_share_of_images_of_any_size(self, still, share):
        """The standard deviation of the response, as a share of the side, and the sigma that was drawn."""
        spreads = []
        for size in (33, 65, 225):
            point = torch.zeros(20, 3, size, size, dtype=torch.uint8)
            point[:, :, size // 2, size // 2] = 255
            response = view(point, still, size, blur=1.0, blur_sigma=share)[:, 0].sum(1).double()
            place = torch.arange(size).double() - size // 2
            spreads.append((response @ place**2 / response.sum(1)).sqrt() / size)
        drawn = share * (0.05 + 0.95 * draws(still, 20)("sigma")[:, 0])
        seen = drawn * 33 > 0.6  # narrower than that, a Gaussian falls between the pixels
        for spread in spreads:
            np.testing.assert_allclose(spread.numpy()[seen], drawn[seen], rtol=0.03)


@pytest.mark.gpu
def test_cuda_agrees_with_cpu():
    images, chosen = noise(16, 32, 32), View("weak", 0).changed(AugmentConfig(rotation=30, blur=0.5, blur_sigma=0.05))
    common = {"size": 24, "seed": 0, "epoch": 0, "normalize": PLAIN}
    cuda = augment(images, range(16), chosen, device="cuda", **common)
    assert (cuda.cpu() - augment(images, range(16), chosen, device=CPU, **common)).abs().mean() < 1e-5


def test_jitter_alone_gives_a_recipe_without_colours_a_jitter():
    assert recipe_for("weak", "photographs", AugmentConfig(jitter=0.0)).jitter is None
    jittered = recipe_for("weak", "photographs", AugmentConfig(jitter=0.8))
    assert (jittered.jitter, jittered.jitter_p) == ((0.4, 0.4, 0.0, 0.0), 0.8)
    own = recipe_for("moco2", "photographs", AugmentConfig(jitter=0.5))
    assert own.jitter == RECIPES["moco2"].jitter
