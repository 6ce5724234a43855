"""Training on a folder of photos."""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from pyg_bgformer.config.recipe import read_config
from pyg_bgformer.config.schema import Config
from pyg_bgformer.config.shipped import recipes_folder
from pyg_bgformer.data import ImageDataset, ImageError
from pyg_bgformer.data.decoding import decoded, get_mode
from pyg_bgformer.deploy.embedding_model import model_folder
from pyg_bgformer.encoders import build_encoder
from pyg_bgformer.encoders.description import read_description
from pyg_bgformer.engine.progress import Display, Silent
from pyg_bgformer.engine.run import run
from pyg_bgformer.engine.setup import build_dataset
from pyg_bgformer.engine.started import is_follower
from pyg_bgformer.errors import InputError
from pyg_bgformer.runs.folder import RunFolder

RESIZE = 9 / 8
"""Shorter side of a resized test image, relative to the side of the centre crop."""


EMBEDDING_DIM = 512
"""Size of the embedding, as in the recipes. It is smaller if the encoder has fewer features."""


def train_folder(
    folder: str | Path, *, out: str | Path | None = None, display: Display | None = None, **choices: Any
) -> RunFolder:
    """Trains an encoder on a folder of photos and scores it.

    >>> run = train_folder("photos", weights="tf_efficientnet_lite0.safetensors")  # doctest: +SKIP
    >>> model = EmbeddingModel.from_pretrained(run.path)                           # doctest: +SKIP

    Args:
        folder: A folder of photos, ``folder/class/image``. Or a folder with your own splits,
            ``folder/train/class/image`` and either ``folder/test/...``, or ``folder/query/...`` and
            ``folder/gallery/...``.
        out: The run's folder. It must not exist or must be empty. ``None`` takes
            ``runs/folder-<method>-seed<seed>-<time>``.
        display: Shows the progress and the result. ``None`` shows nothing.
        **choices: See :func:`folder_config`.

    Returns:
        The run's folder.

    Raises:
        InputError: If a folder, an image or a setting is wrong.
        RunError: If training diverges, a file cannot be written, or embeddings depend on their batch.
        Interrupted: If a signal stops the run. It can be resumed.
    """
    display = Silent() if display is None else display
    place = None if out is None else Path(out).expanduser()
    if place is not None and place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise InputError(f"{out} exists already; choose another folder for the run")
    config = folder_config(folder, say=display.line, **choices)
    if choices.get("init") is not None:
        display.line(f"starts from {choices['init']}; classes that it was trained on are not unseen classes")
    if not is_follower():
        check_images(build_dataset(config.data), config.data.workers, display)
    return run(config, display, out=place)


def folder_config(
    folder: str | Path,
    *,
    method: str = "bgformer",
    holdout: float | None = None,
    image_size: int | None = None,
    encoder: str | None = None,
    weights: str | Path | None = None,
    epochs: int | None = None,
    init: str | Path | None = None,
    settings: Sequence[str] = (),
    say: Callable[[str], None] = lambda _: None,
) -> Config:
    """Returns the configuration of a training on a folder of photos: a recipe of ``folder/``, with other settings.

    Args:
        folder: See :func:`train_folder`.
        method: Name of the method.
        holdout: Share of the classes that is held out to score the encoder, from 0 to 1. 0 trains on all classes.
            ``None`` takes the recipe's share, as do the other ``None``.
        image_size: Side in pixels of the images that the encoder sees.
        encoder: Name of an encoder, for example ``"timm/resnet50"``.
        weights: A file with the encoder's pretrained weights, a tag, or ``"null"`` for random weights.
        epochs: Number of epochs.
        init: A run, a saved model or a name on the Hugging Face hub. Training starts from its encoder.
        settings: Other keys of the recipe as on the command line, for example ``["--train.lr", "3e-4"]``.
        say: Called with a line for each part that ``settings`` replace.

    Raises:
        InputError: If there is no such folder, or settings are wrong or contradict each other.
    """
    root = Path(folder).expanduser()
    if not root.exists():
        raise InputError(f"no folder {folder}; expected a folder with a folder of images for each class")
    if init is not None and (encoder is not None or weights is not None):
        raise InputError(
            "init starts from another model's encoder and weights; leave encoder and weights out"
        )
    chosen: dict[str, object] = {"data.root": root.resolve()}
    if init is not None:
        chosen |= settings_of_model(str(init))
    if encoder is not None:
        chosen |= settings_of_encoder(encoder)
    if image_size is not None:
        chosen |= {"data.image_size": image_size, "data.resize": round(RESIZE * image_size)}
    if weights is not None:
        file = Path(weights).expanduser()
        weights = file.resolve() if file.exists() else weights
    given = {"data.holdout": holdout, "train.epochs": epochs, "encoder.weights": weights}
    chosen |= {key: value for key, value in given.items() if value is not None}
    recipe = recipes_folder() / "folder" / f"{method}.yaml"
    if not recipe.is_file():  # a method of the user's own
        recipe = recipe.with_name("plain.yaml")
        chosen["method.name"] = method

    def say_of_settings(line: str) -> None:
        if not line.startswith("encoder:"):  # all options of the encoder are set above
            say(line)

    arguments = [f"--{key}={value}" for key, value in chosen.items()]
    return read_config(["--config", str(recipe), *arguments, *settings], say=say_of_settings)


def settings_of_encoder(name: str) -> dict[str, object]:
    """Returns the settings of a pretrained encoder, normalised as in the recipes.

    Args:
        name: Name of the encoder.

    Raises:
        InputError: If there is no such encoder.
    """
    with torch.device("meta"):  # only shapes are needed, which cost no memory and time
        encoder = build_encoder(name)
    weights = {"timm": "pretrained", "torchvision": "DEFAULT"}.get(name.partition("/")[0], "null")
    has_norm = any(isinstance(module, _BatchNorm) for module in encoder.modules())
    return {
        "encoder.name": name,
        "encoder.weights": weights,
        "encoder.frozen_batchnorm": has_norm and weights != "null",
        "encoder.feature_norm": "layer",
        "encoder.embedding_dim": min(EMBEDDING_DIM, encoder.feature_dim),
    }


def settings_of_model(model: str) -> dict[str, object]:
    """Returns the settings that start training from a model: its encoder, geometry and image size.

    Args:
        model: A run, a saved model, or a name on the Hugging Face hub.

    Raises:
        InputError: If there is no such model, or it has a projection (``pca_dim``).
    """
    folder = model_folder(model)
    description = read_description(folder)
    if description.encoder.pca_dim is not None:
        raise InputError(
            f"'{model}' projects features to the principal components of its own training images (pca_dim); "
            "start from a model without pca_dim"
        )
    geometry = {f"geometry.{key}": value for key, value in description.geometry.items()}
    options = {
        f"encoder.{key}": "null" if value is None else value
        for key, value in asdict(description.encoder).items()
    }
    sizes = {"data.image_size": description.image_size, "data.resize": description.resize}
    return {**options, **geometry, **sizes, "encoder.weights": folder.resolve()}


def check_images(dataset: ImageDataset, workers: int, display: Display) -> None:
    """Decodes every image of a dataset once to find damaged images before training.

    Args:
        dataset: The dataset.
        workers: Number of processes that decode images.
        display: Shows the progress.

    Raises:
        InputError: If images cannot be read. It names the first one and says how many others there are.
    """
    bad = []
    with (
        display.bar("checking the images", len(dataset)) as update,
        closing(decoded(dataset, get_mode, workers)) as outcomes,
    ):
        for number, outcome in enumerate(outcomes, start=1):
            update(number, "")
            if isinstance(outcome, ImageError):
                bad.append(outcome)
    if bad:
        more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
        raise InputError(f"{bad[0]}{more}")
