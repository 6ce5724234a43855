"""Scores of an existing model, without training."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from torch import nn

from pyg_bgformer.config.recipe import read_config
from pyg_bgformer.config.schema import Component, Config
from pyg_bgformer.config.shipped import find_recipe
from pyg_bgformer.data import DATASETS, ImageDataset
from pyg_bgformer.deploy.embedding_model import EmbeddingModel
from pyg_bgformer.deploy.load_model import is_backbone, load_model
from pyg_bgformer.engine.evaluate import extract_all, measure_batch_dependence, score
from pyg_bgformer.engine.launch import build_fabric
from pyg_bgformer.engine.loaders import build_test_loaders, open_cache
from pyg_bgformer.engine.outputs import plain
from pyg_bgformer.engine.progress import Display, Silent
from pyg_bgformer.engine.setup import build_dataset, protocol_part
from pyg_bgformer.errors import InputError, did_you_mean
from pyg_bgformer.methods import Method
from pyg_bgformer.runs.folder import RunFolder
from pyg_bgformer.runs.provenance import provenance
from pyg_bgformer.runs.result import RunResult


def evaluate_model(
    model: str | Path,
    data: str | Path | None = None,
    *,
    weights: str | Path | None = None,
    image_size: int | None = None,
    settings: Sequence[str] = (),
    display: Display | None = None,
) -> RunResult:
    """Returns the scores of a model on images with classes. The model is not trained.

    >>> evaluate_model("timm/resnet50", "photos").trained["embedding"]["map_at_r"]  # doctest: +SKIP

    Args:
        model: Folder of a run or of a saved model, a name on the Hugging Face hub, or the name of a backbone such
            as ``"timm/resnet50"``. The pooled features of a backbone are scored.
        data: A folder of photos: all its classes are scored, or the test images if it has folders of splits. Or a
            run, a recipe or a dataset: its test images are scored. ``None`` takes the data of the run, and so does
            the folder that the run was trained on.
        weights: File of a backbone's weights.
        image_size: Side in pixels of the images that a backbone sees.
        settings: Keys of a recipe as on the command line, for example ``["--evaluation.recall_at", "[1, 10]"]``.
        display: Shows the progress. ``None`` shows nothing.

    Returns:
        The result. Its ``trained`` has the scores, and its ``untrained`` is empty.

    Raises:
        InputError: If there is no such model or data, they are damaged, or a setting is wrong.
        RunError: If features are NaN or infinite.
    """
    display = Silent() if display is None else display
    config = evaluated_config(model, data, settings)
    dataset = build_dataset(config.data)
    loaded = load_model(model, weights=weights, image_size=image_size)
    for note in (*loaded.encoder.notes, *(f"data: {note}" for note in dataset.notes)):
        display.line(note)
    return score_model(loaded, as_model(config, loaded), dataset, display)


def score_model(model: EmbeddingModel, config: Config, dataset: ImageDataset, display: Display) -> RunResult:
    """Returns the scores of a model on a dataset, see :func:`evaluate_model`.

    Args:
        model: The model.
        config: Data, protocol and evaluation, from :func:`as_model`.
        dataset: The images.
        display: Shows the progress.

    Raises:
        RunError: If features are NaN or infinite.
    """
    part = protocol_part(config.protocol, dataset)
    fabric = build_fabric(config.train, alone=True)
    method = Method(model.encoder.to(fabric.device), nn.Identity(), model.geometry, 0)
    cache = open_cache(config.data, dataset, display)
    loaders = build_test_loaders(
        config.data, config.evaluation.batch_size, part, model.encoder, cache, device=fabric.device
    )
    done = iter(range(1, 1 + sum(map(len, loaders))))
    with display.bar("embedding", sum(map(len, loaders))) as update:
        extracted = extract_all(fabric, method, loaders, lambda: update(next(done), ""))
    scores = plain(score(extracted, model.geometry, config.evaluation, config.seed))
    facts = model.training_facts
    if config.method.name == "untrained":
        del scores["backbone"]  # the embedding is the same
    own = facts.get("dataset_manifest_sha256") == dataset.manifest_hash
    tested = part.tested if own or dataset.official else "test classes"
    return RunResult(
        protocol="evaluation" if config.protocol.name == "final" else str(config.protocol),
        seed=config.seed,
        epochs=facts.get("epochs", 0),
        trained_epoch=facts.get("trained_epoch", 0),
        untrained={},
        trained=scores,
        last=None,
        refined_features=[],
        batch_dependence=measure_batch_dependence(fabric, method, loaders[0]),
        tested=tested,
        train_seconds=0.0,
        provenance=provenance(dataset, model.encoder, fabric.device, {}),
        config=config.as_dict(),
    )


def evaluated_config(model: str | Path, data: str | Path | None, settings: Sequence[str] = ()) -> Config:
    """Returns the configuration whose test images are scored.

    Args:
        model: See :func:`evaluate_model`.
        data: See :func:`evaluate_model`.
        settings: Keys of the recipe as on the command line.

    Raises:
        InputError: If there is no such data, or a setting is wrong.
    """
    run = None if is_backbone(model) else RunFolder(Path(model).expanduser())
    recipe = run.recipe if run is not None and run.recipe.is_file() else None
    if data is None:
        if recipe is None:
            raise InputError(f"'{model}' is not the folder of a run; give the data that it is scored on")
        return read_config(["--config", str(recipe), *settings])
    place = Path(data).expanduser()
    if place.is_dir():
        if (other := RunFolder(place)).recipe.is_file():
            return read_config(["--config", str(other.recipe), *settings])
        if recipe is not None:
            own = read_config(["--config", str(recipe), *settings])
            if own.data.name == "folder" and Path(str(own.data.root)).resolve() == place.resolve():
                return own
        folder = {"name": "folder", "root": place.resolve(), "holdout": 1, "min_images": 2}
        return read_config([*(f"--data.{key}={value}" for key, value in folder.items()), *settings])
    if str(data) in DATASETS:
        return read_config([f"--data.name={data}", *settings])
    try:
        return read_config(["--config", str(find_recipe(data)), *settings])
    except InputError as error:
        if place.exists() or "neither a file" not in str(error):
            raise
        hint = did_you_mean(str(data), DATASETS)
        raise InputError(
            f"no data '{data}': expected a folder, a run, a recipe or a dataset; {hint}"
        ) from error


def as_model(config: Config, model: EmbeddingModel) -> Config:
    """Returns a configuration with the encoder, the geometry and the image size of a model.

    Args:
        config: The configuration to change.
        model: The model.
    """
    options = asdict(model.encoder.spec)
    settings = dict(model.geometry_settings())
    return replace(
        config,
        data=replace(config.data, image_size=model.image_size, resize=model.resize, views=None),
        encoder=Component(options.pop("name"), {"weights": model.encoder.weights_tag, **options}),
        geometry=Component(settings.pop("name"), settings),
        method=Component(str(model.training_facts.get("method", "unknown"))),
    )
