from dataclasses import replace

import pytest
import torch
import yaml

from pyg_bgformer.config.recipe import read_config
from pyg_bgformer.config.shipped import find_recipe, recipes_folder
from pyg_bgformer.engine.launch import build_fabric
from pyg_bgformer.engine.loop import train_batch
from pyg_bgformer.engine.optim import build_optimizer, build_schedule
from pyg_bgformer.engine.setup import build_method
from pyg_bgformer.engine.state import TrainState
from pyg_bgformer.errors import InputError
from pyg_bgformer.methods import METHODS

RECIPES = sorted(recipes_folder().glob("*/*.yaml"))
DATASETS = sorted({recipe.parent.name for recipe in RECIPES})
BENCHMARKS = {"cub200": 100, "cars196": 98, "sop": 11318, "inshop": 3997}
"""Training classes of each."""

VARIANTS = {"plain_sphere": "plain", "proxy_anchor": "plain", "bgformer_resnet50": "bgformer"}
"""Recipes that are not named by their method alone."""


def recipes_of(dataset):
    return {recipe.stem: recipe for recipe in RECIPES if recipe.parent.name == dataset}


SMALLER = {
    "timm/vit_small_patch16_224": "timm/vit_tiny_patch16_224",
    "timm/vit_base_patch16_224": "timm/vit_tiny_patch16_224",
    "torchvision/resnet50": "torchvision/resnet18",
}
"""Encoders of the benchmarks, and one of the same kind that takes a step in a second."""


@pytest.mark.parametrize("dataset", DATASETS)
def test_recipes_are_what_their_place_says_and_build_their_parts(dataset):
    encoders = {}
    for name, recipe in recipes_of(dataset).items():
        config = read_config(["--config", f"{dataset}/{name}", "--encoder.weights", "null"])
        assert config.data.name == dataset.removesuffix("_cpu")
        assert config.method.name == VARIANTS.get(name, name), recipe
        if config.sampler.name == "classes":
            assert config.sampler.options["classes"] <= BENCHMARKS.get(dataset, 964)  # Omniglot's
        assert all(0 < epoch < config.train.epochs for epoch in config.train.milestones)
        with torch.device("meta"):  # shapes alone: without memory and time
            built = encoders.get(str(config.encoder))
            method = build_method(config, BENCHMARKS.get(dataset, 100), built)
            encoders[str(config.encoder)] = method.encoder
            optimizer = build_optimizer(method, config.train)
        assert isinstance(method, METHODS.find(config.method.name))
        assert len(optimizer.param_groups) >= 2
        rates = [group["lr"] for group in optimizer.param_groups]
        assert build_schedule(optimizer, config.train).get_last_lr() == rates


@pytest.mark.parametrize("dataset", BENCHMARKS)
def test_a_benchmark_has_a_recipe_for_every_method_and_they_share_their_framework(dataset):
    recipes = {name: yaml.safe_load(path.read_text()) for name, path in recipes_of(dataset).items()}
    assert recipes.keys() == {*METHODS, *VARIANTS}
    for first, second, keys in (
        ("plain", "batchformer", {"method"}),
        ("plain", "plain_sphere", {"geometry", "loss"}),
        ("bgformer", "dybgr", {"method", "encoder"}),
    ):
        one, other = recipes[first], recipes[second]
        assert one.keys() == other.keys()
        assert {key for key in one if one[key] != other[key]} == keys


@pytest.mark.parametrize("dataset", sorted({*DATASETS} - {*BENCHMARKS}))
def test_other_recipes_of_a_dataset_differ_in_the_method_alone(dataset):
    recipes = recipes_of(dataset)
    assert recipes.keys() == {*METHODS}
    plain, bgformer = (yaml.safe_load(recipes[name].read_text()) for name in ("plain", "bgformer"))
    assert plain.pop("method") != bgformer.pop("method")
    assert plain == bgformer


@pytest.mark.parametrize("name", [*METHODS, *VARIANTS])
def test_a_published_recipe_takes_a_step_that_moves_every_part(name):
    config = read_config(["--config", f"cub200/{name}", "--encoder.weights", "null", "--train.device", "cpu"])
    config = replace(config, encoder=replace(config.encoder, name=SMALLER[config.encoder.name]))
    fabric = build_fabric(config.train)
    method = build_method(config, num_classes=6)
    _, optimizer = fabric.setup(method, build_optimizer(method, config.train))
    before = [[p.detach().clone() for p in group["params"]] for group in optimizer.param_groups]
    state = TrainState(method.train(), optimizer, build_schedule(optimizer, config.train))
    images = torch.randn(12, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    readings, reached = train_batch(fabric, state, config.train, images, torch.arange(12) // 2)
    assert readings.values()["loss"] > 0
    for group, old in zip(optimizer.param_groups, before, strict=True):
        moved = [not torch.equal(*pair) for pair in zip(group["params"], old, strict=True)]
        assert any(moved), group["name"]
        assert all(p in reached for p in group["params"]), group["name"]


def test_a_recipe_is_found_by_its_short_name_or_its_path(tmp_path, monkeypatch):
    recipe = recipes_folder() / "digits" / "bgformer.yaml"
    assert find_recipe("digits/bgformer") == find_recipe("digits/bgformer.yaml") == recipe
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    own = tmp_path / "digits" / "bgformer.yaml"
    own.write_text("seed: 1")
    assert find_recipe("digits/bgformer.yaml").resolve() == own
    assert find_recipe("digits/bgformer") == recipe


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("digits/bgfromer", "'digits/bgformer'"),
        ("nowhere.yaml", "nowhere.yaml"),
        ("x" * 5000, "File name too long"),
    ],
)
def test_an_unknown_recipe_is_one_short_line(name, words):
    with pytest.raises(InputError) as error:
        find_recipe(name)
    assert words in str(error.value)
    assert len(str(error.value)) < 250
