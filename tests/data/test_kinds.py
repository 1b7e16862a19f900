"""Recipes fitted to a kind of images: what characters and views from above may and may not become."""

import colorsys
import json
from collections import Counter

import pytest
import torch
from helpers.builders.datafiles import folder

from raydistill import config
from raydistill.artifacts.bank import BankPage
from raydistill.artifacts.teachers import provenance
from raydistill.data.sources import load_dataset
from raydistill.data.views.augment import View, augment
from raydistill.data.views.recipes import RECIPES, AugmentationRecipe, recipe_for
from raydistill.options.base import AugmentConfig
from raydistill.presets import load_preset, preset_names

KINDS = ("photographs", "characters", "aerial", "microscopy", "grey")
PLAIN = ((0.0,) * 3, (1.0,) * 3)
COUNT = 400


def views(image, recipe, kind):
    images = image.expand(COUNT, *image.shape)
    return augment(images, range(COUNT), View(recipe, 0), size=16, seed=3, epoch=0, normalize=PLAIN, kind=kind)


@pytest.fixture
def still():
    """A recipe that changes nothing."""
    RECIPES["still"] = AugmentationRecipe(scale=(1, 1), ratio=(1, 1), flip_p=0)
    yield "still"
    del RECIPES["still"]
    recipe_for.cache_clear()


@pytest.mark.parametrize("name", RECIPES)
def test_published_recipes_are_those_of_photographs_and_the_evaluation_view_is_the_same_for_all(name):
    assert recipe_for(name) == recipe_for(name, "photographs") == RECIPES[name]
    assert {recipe_for("eval", kind) for kind in KINDS} == {RECIPES["eval"]}


@pytest.mark.parametrize("name", sorted(set(RECIPES) - {"eval", "cifar_auto"}))
def test_a_character_is_never_mirrored_and_keeps_most_of_itself(name):
    left = torch.zeros(3, 16, 16, dtype=torch.uint8)
    left[:, :, :8] = 255
    drawn = views(left, name, "characters")
    assert (drawn.mean((1, 2))[:, 0] >= drawn.mean((1, 2))[:, -1] - 1e-6).all()
    columns = views(left, name, "photographs").mean((1, 2))
    assert 0.1 < (columns[:, 0] < columns[:, -1]).double().mean() < 0.6, "mirrored half of the time"
    recipe = recipe_for(name, "characters")
    if recipe.crop == "resized" and recipe.scale_to == 1:
        assert recipe.scale[0] >= 0.7
        assert recipe.scale[1] >= RECIPES[name].scale[1]


@pytest.mark.parametrize("kind", ["aerial", "microscopy"])
def test_a_view_from_above_or_of_a_slide_has_all_eight_orientations_equally_often(still, kind):
    corner = torch.zeros(3, 16, 16, dtype=torch.uint8)
    corner[:, 2:6, 1:3] = 255  # neither symmetric nor in the middle
    turned = [torch.rot90(side, k, (1, 2)) for side in (corner, corner.flip(2)) for k in range(4)]
    found = Counter()
    for drawn in views(corner, still, kind):
        found[next(i for i, each in enumerate(turned) if torch.equal((drawn * 255).round().to(torch.uint8), each))] += 1
    assert set(found) == set(range(8))
    assert all(COUNT / 8 - 30 < count < COUNT / 8 + 30 for count in found.values()), "4.5 standard deviations"
    assert torch.equal(views(corner, still, "photographs") * 255, corner.expand(COUNT, 3, 16, 16).float())


@pytest.mark.parametrize("name", sorted(name for name, recipe in RECIPES.items() if recipe.crop == "resized"))
def test_a_stain_keeps_its_colour(name):
    """Eosin's pink and haematoxylin's purple stay apart in hue, which photographs' jitter mixes up."""
    hues = {}
    for stain, colour in {"pink": (230, 120, 180), "purple": (90, 60, 150)}.items():
        image = torch.tensor(colour, dtype=torch.uint8)[:, None, None].expand(3, 16, 16)
        drawn = views(image, name, "microscopy")[:, :, 3, 3]
        assert (drawn.amax(1) - drawn.amin(1) > 0.05).all(), "never grey"
        hues[stain] = torch.tensor([colorsys.rgb_to_hsv(*row)[0] for row in drawn.tolist()])
    assert hues["purple"].max() < hues["pink"].min()
    assert not recipe_for("cifar_auto", "microscopy").auto


@pytest.mark.parametrize("name", sorted(set(RECIPES) - {"eval", "cifar_auto"}))
def test_a_grey_photograph_stays_grey_and_is_drawn_as_any_photograph(name):
    image = torch.arange(256, dtype=torch.uint8).view(1, 16, 16).expand(3, 16, 16)
    drawn = views(image, name, "grey")
    assert (drawn.amax(1) - drawn.amin(1)).max() < 1e-5
    recipe, published = recipe_for(name, "grey"), RECIPES[name]
    assert (recipe.scale, recipe.flip_p, recipe.blur_p) == (published.scale, published.flip_p, published.blur_p)
    assert recipe.gray_p == 0
    assert recipe.jitter is None or recipe.jitter == (*published.jitter[:2], 0, 0)


def test_what_settings_say_comes_after_the_kind():
    changes = AugmentConfig(mirror=0.5, min_crop=0.3, hue=0.1)
    recipe = recipe_for("moco2", "characters", changes)
    assert (recipe.flip_p, recipe.scale, recipe.jitter, recipe.ratio) == (0.5, (0.3, 1), (0.4, 0.4, 0, 0.1), (0.9, 1.1))


def test_the_digits_are_characters_and_a_folder_is_not_unless_it_says_so(tmp_path):
    images = str(folder(tmp_path / "images", per_class=8))

    def kind(**data):
        return load_dataset(config.load({"method": "dogo", "data": data}).data).kind

    assert kind() == "photographs", "as version 0.1 had it, of which settings without a kind are"
    assert kind(kind="auto") == "characters"
    assert kind(kind="auto", source=images) == "photographs"
    assert kind(kind="characters", source=images) == "characters"


@pytest.mark.parametrize("method", sorted(config.METHODS))
def test_presets_for_small_machines_look_at_the_images_and_published_ones_do_not(method):
    for name in preset_names(method):
        kind = load_preset(method, name).get("data", {}).get("kind")
        assert kind == ("auto" if name in ("default", "cpu", "small", "dino") else None), name


def digits():
    return load_dataset(config.load({"method": "simclr", "data": {"limit": 40}}).data)


def test_artifacts_of_photographs_keep_their_keys_and_others_have_their_own():
    def made(kind):
        run = config.load({"method": "simclr", "data": {"kind": kind, "limit": 40}})
        return provenance(run, load_dataset(run.data))

    assert "kind" not in json.dumps(made("photographs"))
    assert made("characters") == made("photographs") | {"kind": "characters"}
    page = {kind: BankPage("k", {}, View("weak", 0), 0, "head", kind).provenance() for kind in KINDS}
    # "weak" has no colours to change, so that grey photographs have the pages of others, and slides those from above.
    assert len({json.dumps(each["recipe"]) for each in page.values()}) == 3
    moco2 = [BankPage("k", {}, View("moco2", 0), 0, "head", kind).provenance()["recipe"] for kind in KINDS]
    assert len({json.dumps(recipe) for recipe in moco2}) == 5
    changed = View("weak", 0).changed(AugmentConfig(rotation=10))
    assert BankPage("k", {}, changed, 0, "head").provenance() == page["photographs"] | {
        "recipe": page["photographs"]["recipe"] | {"rotation": 10}
    }
    assert provenance(config.load({"method": "simclr", "augment": {"hue": 0.2}, "data": {"limit": 40}}), digits()) == (
        provenance(config.load({"method": "simclr", "data": {"limit": 40}}), digits()) | {"augment": {"hue": 0.2}}
    )
    fields = {"crop", "scale", "ratio", "jitter", "jitter_p", "gray_p", "gray_first", "gray_twice", "blur_p"}
    fields |= {"blur_sigma", "blur_min_size", "solarize_p", "flip_p", "scale_to", "auto", "cutout"}
    assert set(page["photographs"]["recipe"]) == fields, "those of version 0.1, by which its pages are found"
