from pathlib import Path

import pytest
import torch
import yaml

from pyg_bgformer.config.recipe import read_config
from pyg_bgformer.engine.loop import train_batch
from pyg_bgformer.engine.optim import build_optimizer, build_schedule
from pyg_bgformer.engine.setup import build_fabric, build_method
from pyg_bgformer.engine.state import TrainState
from pyg_bgformer.errors import InputError
from pyg_bgformer.methods import METHODS

RECIPES = sorted((Path(__file__).parents[2] / "experiments" / "recipes").glob("*/*.yaml"))
BENCHMARKS = {"cub200": 100, "cars196": 98, "sop": 11318, "inshop": 3997}
"""Training classes of each."""

VARIANTS = {
    "plain_sphere": "plain",
    "proxy_anchor": "plain",
    "bgformer_resnet50": "bgformer",
}
"""Recipes that are not named by their method alone."""


def write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_shipped_recipe_is_read_and_says_what_its_place_says(recipe):
    config = read_config(["--config", str(recipe)])
    dataset, method = recipe.parent.name.removesuffix("_cpu"), VARIANTS.get(recipe.stem, recipe.stem)
    assert (config.data.name, config.method.name) == (dataset, method)
    if config.sampler.name == "classes":
        assert config.sampler.options["classes"] <= BENCHMARKS.get(dataset, 964)  # Omniglot's
    assert all(0 < epoch < config.train.epochs for epoch in config.train.milestones)


@pytest.mark.parametrize("dataset", BENCHMARKS)
def test_every_benchmark_has_a_recipe_for_every_method(dataset):
    names = {recipe.stem for recipe in RECIPES if recipe.parent.name == dataset}
    assert names == {*METHODS, *VARIANTS}


@pytest.mark.parametrize("dataset", BENCHMARKS)
@pytest.mark.parametrize(
    ("first", "second", "keys"),
    [
        ("plain", "batchformer", {"method"}),
        ("plain", "plain_sphere", {"geometry", "loss"}),
        ("bgformer", "dybgr", {"method", "encoder"}),
    ],
)
def test_published_recipes_that_share_their_framework_differ_in_nothing_else(dataset, first, second, keys):
    one, other = (
        yaml.safe_load(next(r for r in RECIPES if (r.parent.name, r.stem) == (dataset, name)).read_text())
        for name in (first, second)
    )
    assert one.keys() == other.keys()
    assert {key for key in one if one[key] != other[key]} == keys


@pytest.mark.parametrize("dataset", ["digits", "glyphs", "omniglot", "cub200_cpu"])
def test_recipes_of_a_dataset_differ_in_the_method_alone(dataset):
    plain, bgformer = (
        yaml.safe_load(next(r for r in RECIPES if (r.parent.name, r.stem) == (dataset, method)).read_text())
        for method in ("plain", "bgformer")
    )
    assert plain.pop("method") != bgformer.pop("method")
    assert plain == bgformer


def test_what_a_config_writes_is_read_as_the_same_config(tmp_path):
    method = ["--method.name", "bgformer", "--method.k", "7"]
    loss = ["--loss.name", "triplet", "--loss.margin", "0.3"]
    config = read_config([*method, *loss, "--seed", "3", "--data.crop_scale", "[0.5, 0.9]"])
    path = write(tmp_path / "config.yaml", yaml.safe_dump(config.as_dict()))
    assert read_config(["--config", path]) == config


def test_the_command_line_overrides_the_recipe_which_overrides_the_defaults(tmp_path):
    path = write(tmp_path / "r.yaml", "train: {epochs: 3, lr: 0.1}\nmethod: {name: bgformer, k: 4}")
    config = read_config(["--config", path, "--train.epochs=5", "--method.k", "6"])
    assert (config.train.epochs, config.train.lr, config.method.options["k"]) == (5, 0.1, 6)
    assert config.method.options["alpha"] == 0.5


def test_a_method_named_on_the_command_line_brings_its_own_options(tmp_path):
    path = write(tmp_path / "r.yaml", "method: {name: plain}")
    config = read_config(["--config", path, "--method.name", "bgformer", "--method.k", "4"])
    assert config.method.options["k"] == 4


@pytest.mark.parametrize(
    ("recipe", "arguments", "words"),
    [
        ("train: {epocs: 3}", [], ["train.epocs", "'train.epochs'"]),
        ("trian: {epochs: 3}", [], ["trian.epochs", "'train.epochs'"]),
        ("epochs: 3", [], ["'epochs'", "'train.epochs'"]),
        ("method: {name: bgformer, lambda: 1}", [], ["method.lambda", "'method.lam'"]),
        ("method: {name: plain, k: 3}", [], ["method.k"]),
        ("method: {name: bgfromer}", [], ["bgfromer", "'bgformer'"]),
        ("loss: {name: proxy_anchr}", [], ["proxy_anchr", "'proxy_anchor'"]),
        ("loss: {name: triplet, margn: 1}", [], ["loss.margn", "'loss.margin'"]),
        ("train: {epochs: many}", [], ["train.epochs", "many"]),
        ("train: {epochs: 2.5}", [], ["train.epochs", "2.5"]),
        ("train: {epochs: 0}", [], ["train.epochs", "0"]),
        ("train: {epochs: 3, warmup_epochs: 3}", [], ["warmup_epochs"]),
        ("data: {image_size: 64, resize: 32}", [], ["data.resize"]),
        ("data: {label_noise: 40}", [], ["data.label_noise", "40"]),
        ("data: {image_noise: -0.1}", [], ["data.image_noise", "-0.1"]),
        ("data: [1, 2]", [], ["data"]),
        ("method: plain", [], ["method", "plain"]),
        ("evaluation: {recall_at: [0]}", [], ["recall_at"]),
        ("[1, 2]", [], ["mapping", "list"]),
        ("train: {epochs: [", [], ["not YAML"]),
        ("", ["--train.epocs", "3"], ["mapping"]),
        ("seed: 1", ["--train.epocs", "3"], ["train.epocs", "'train.epochs'"]),
        ("seed: 1", ["--train.epochs", "x"], ["train.epochs", "x"]),
    ],
)
def test_mistakes_give_one_line_that_names_them(tmp_path, recipe, arguments, words):
    path = write(tmp_path / "r.yaml", recipe)
    with pytest.raises(InputError) as error:
        read_config(["--config", path, *arguments])
    line = str(error.value)
    assert "\n" not in line
    assert all(word in line for word in words), line


def test_a_missing_recipe_is_named():
    with pytest.raises(InputError, match=r"nowhere\.yaml"):
        read_config(["--config", "nowhere.yaml"])


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_shipped_recipe_builds_its_method_and_optimiser(recipe):
    config = read_config(["--config", str(recipe), "--encoder.weights", "null"])
    method = build_method(config, num_classes=BENCHMARKS.get(recipe.parent.name, 100))
    optimizer = build_optimizer(method, config.train)
    assert isinstance(method, METHODS.find(config.method.name))
    assert len(optimizer.param_groups) >= 2
    assert build_schedule(optimizer, config.train).get_last_lr() == [g["lr"] for g in optimizer.param_groups]


@pytest.mark.parametrize("name", [*METHODS, *VARIANTS])
def test_a_published_recipe_takes_a_step_that_moves_every_part(name):
    recipe = next(r for r in RECIPES if (r.parent.name, r.stem) == ("cub200", name))
    config = read_config(["--config", str(recipe), "--encoder.weights", "null", "--train.device", "cpu"])
    fabric = build_fabric(config)
    method = build_method(config, num_classes=6)
    _, optimizer = fabric.setup(method, build_optimizer(method, config.train))
    before = [[p.detach().clone() for p in group["params"]] for group in optimizer.param_groups]
    state = TrainState(method.train(), optimizer, build_schedule(optimizer, config.train))
    images = torch.randn(12, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    values, reached = train_batch(fabric, state, config, images, torch.arange(12) // 2)
    assert values["loss"] > 0
    for group, old in zip(optimizer.param_groups, before, strict=True):
        moved = [not torch.equal(*pair) for pair in zip(group["params"], old, strict=True)]
        assert any(moved), group["name"]
        assert all(p in reached for p in group["params"]), group["name"]
