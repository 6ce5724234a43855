import pytest
import yaml

from pyg_bgformer.config.recipe import PARTS, read_config
from pyg_bgformer.errors import InputError
from pyg_bgformer.losses import LOSSES, loss_options
from pyg_bgformer.losses.metric_learning import metric_learning_names
from pyg_bgformer.registry import REQUIRED

VALUES = {"loss": "contrastive", "margin": 0.5, "Tn": 10, "Tp": 0}
"""For options of losses that have no default."""


@pytest.fixture
def write(tmp_path):
    def write(text, name="recipe.yaml"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


def test_what_a_config_writes_is_read_as_the_same_config(write):
    parts = ["--method.name=bgformer", "--method.k=7", "--sampler.name=chunks", "--geometry.name=poincare"]
    config = read_config([*parts, "--seed", "3", "--data.crop_scale", "[0.5, 0.9]", "--train.milestones=[2]"])
    assert read_config(["--config", write(yaml.safe_dump(config.as_dict()))]) == config


@pytest.mark.parametrize("name", [*LOSSES, *metric_learning_names()])
def test_every_loss_is_written_and_read_as_the_same_loss(name, write):
    options = loss_options(name)
    needed = {key: VALUES[key] for key, option in options.items() if option.default is REQUIRED}
    config = read_config(["--config", write(yaml.safe_dump({"loss": {"name": name, **needed}}))])
    assert config.loss.options.keys() == options.keys()
    again = read_config(["--config", write(yaml.safe_dump(config.as_dict()))])
    assert again == config
    kinds = {key: type(value) for key, value in config.loss.options.items()}
    assert {key: type(value) for key, value in again.loss.options.items()} == kinds


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [("cross_batch_memory", "memory_size", 512), ("soft_triple", "centers_per_class", 4)],
)
def test_whole_numbers_of_a_loss_stay_whole(name, key, value):
    needed = ["--loss.loss", "contrastive"] if name == "cross_batch_memory" else []
    found = read_config(["--loss.name", name, *needed, f"--loss.{key}", str(value)]).loss.options[key]
    assert (found, type(found)) == (value, int)


def test_the_command_line_overrides_the_recipe_which_overrides_the_defaults(write):
    path = write("train: {epochs: 3, lr: 0.1}\nmethod: {name: bgformer, k: 4}")
    config = read_config(["--config", path, "--train.epochs=5", "--method.k", "6"])
    assert (config.train.epochs, config.train.lr, config.method.options["k"]) == (5, 0.1, 6)
    assert config.method.options["alpha"] == 0.5


def test_text_of_the_command_line_is_read_as_the_type_of_its_key():
    given = [
        "--data.root",
        "007",
        "--encoder.weights",
        "null",
        "--train.head_lr",
        "1e-3",
        "--data.flip",
        "false",
    ]
    config = read_config(
        [*given, "--loss.name=cross_batch_memory", "--loss.loss", "{name: triplet, margin: 1}"]
    )
    assert (config.data.root, config.encoder.options["weights"]) == ("007", None)
    assert (config.train.head_lr, config.data.flip) == (0.001, False)
    assert config.loss.options["loss"] == {"name": "triplet", "margin": 1}


def test_a_replaced_part_starts_from_its_own_defaults_and_the_dropped_options_are_named(write):
    path = write("loss: {name: pairwise_cross_entropy, tau: 0.1}\nsampler: {classes: 4, samples: 3}")
    said = []
    given = [
        "--config",
        path,
        "--loss.name",
        "multi_similarity",
        "--loss.alpha",
        "3",
        "--sampler.name=random",
    ]
    config = read_config(given, say=said.append)
    assert config.loss.options["alpha"] == 3
    assert config.sampler.options == {"classes": 20, "samples": 5}
    assert said == [
        "sampler: replaced classes by random; its options classes, samples are dropped",
        "loss: replaced pairwise_cross_entropy by multi_similarity; its options tau are dropped",
    ]


def test_the_same_part_keeps_its_options(write):
    said = []
    path = write("loss: {name: triplet, margin: 0.3}")
    config = read_config(["--config", path, "--loss.name", "triplet"], say=said.append)
    assert config.loss.options["margin"] == 0.3
    assert said == []


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ("train: {epocs: 3}", ["train.epocs", "'train.epochs'"]),
        ("trian: {epochs: 3}", ["trian.epochs", "'train.epochs'"]),
        ("lr: 3", ["'lr'", "'train.lr'"]),
        ("config: /etc/passwd", ["'config'"]),
        ("method: {name: bgformer, lambda: 1}", ["method.lambda", "method 'bgformer'", "'method.lam'"]),
        ("method: {name: plain, k: 3}", ["method.k", "method 'plain'"]),
        ("sampler: {super_classes: 2}", ["sampler.super_classes", "sampler 'classes'"]),
        ("sampler: {name: hierarchical}", ["sampler.super_classes is missing"]),
        ("geometry: {c: 1}", ["geometry.c", "geometry 'sphere'"]),
        ("method: {name: bgfromer}", ["bgfromer", "'bgformer'"]),
        ("loss: {name: proxy_anchr}", ["proxy_anchr", "'proxy_anchor'"]),
        ("sampler: {name: chunk}", ["'chunk'", "'chunks'"]),
        ("encoder: {name: resnet50}", ["'resnet50'"]),
        ("geometry: {name: spere}", ["'spere'", "'sphere'"]),
        ("train: {epochs: many}", ["train.epochs", "a whole number of at least 1", "'many'"]),
        ("train: {epochs: null}", ["train.epochs", "null"]),
        ("train: {optimizer: admw}", ["train.optimizer", "'adamw'"]),
        ("encoder: {pooling: sum}", ["encoder.pooling", "avgmax", "'sum'"]),
        ("data: [1, 2]", ["data", "mapping", "[1, 2]"]),
        ("data:", ["data", "mapping", "null"]),
        ("method: plain", ["{name: plain}"]),
    ],
)
def test_mistakes_give_one_short_line_that_names_them(write, recipe, words):
    with pytest.raises(InputError) as error:
        read_config(["--config", write(recipe)])
    line = str(error.value)
    assert "\n" not in line
    assert len(line) < 200
    assert all(word in line for word in words), line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--train.epocs", "3"], ["train.epocs", "'train.epochs'"]),
        (["--loss.tua", "3"], ["loss.tua", "'loss.tau'"]),
        (["--train.epochs", "x"], ["train.epochs", "'x'"]),
        (["--train.epochs"], ["train.epochs"]),
        (["--seed", "1", "2"], ["'2'", "a key"]),
        (["--seed", "9" * 5000], ["seed"]),
    ],
)
def test_mistakes_on_the_command_line_give_one_short_line(arguments, words):
    with pytest.raises(InputError) as error:
        read_config(arguments)
    assert len(str(error.value)) < 200
    assert all(word in str(error.value) for word in words), error.value


def test_help_explains_the_options_of_the_parts_that_are_chosen(capsys):
    with pytest.raises(SystemExit) as end:
        read_config(["--method.name", "bgformer", "--help"])
    assert end.value.code == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "--method.k K Number of visual neighbours of each sample" in printed
    assert "at least 1. (a whole number of at least 1; default: 15)" in printed
    assert "--train.lr LR Learning rate. (a number of at least 0; default: 0.0003)" in printed
    assert ":class:" not in printed


def test_every_kind_of_part_has_a_default():
    config = read_config([])
    assert {kind: getattr(config, kind).name for kind in PARTS} == {
        kind: part.default for kind, part in PARTS.items()
    }
