"""Writes and reads what pages need of a finished run: embeddings, the graph of a batch, the trained method."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from pyg_bgformer.config.schema import Config
from pyg_bgformer.data import ImageDataset
from pyg_bgformer.data.features import view_seeds
from pyg_bgformer.deploy.embedding_model import EmbeddingModel
from pyg_bgformer.encoders import Encoder
from pyg_bgformer.engine.evaluate import Extracted
from pyg_bgformer.engine.insight import unchanged
from pyg_bgformer.engine.loaders import train_samples
from pyg_bgformer.engine.setup import build_method, build_sampler, training_part
from pyg_bgformer.engine.state import read_checkpoint
from pyg_bgformer.errors import InputError, one_line
from pyg_bgformer.methods import Method
from pyg_bgformer.nn.ops import Edges
from pyg_bgformer.runs.folder import RunFolder

SPLITS = ("queries", "gallery")
"""Names of the tensors. Without a gallery, all test images are queries."""

MOST_KEPT = 20_000
"""Largest number of test images whose embeddings are kept."""


def load_trained(config: Config, folder: RunFolder, num_classes: int) -> Method:
    """Returns the trained method of a finished run, in evaluation mode.

    It does not need the pretrained weights that the run started from.

    Args:
        config: The run.
        folder: Its folder.
        num_classes: Number of training classes.

    Raises:
        InputError: If the encoder or the checkpoint is missing, damaged, or does not fit the recipe.
    """
    if not folder.checkpoint.exists():
        raise InputError(
            f"{folder} has no {folder.checkpoint.name}, which has the trained method; a run only keeps it with "
            "train.keep_checkpoint: true"
        )
    encoder = EmbeddingModel.from_pretrained(folder.path).encoder
    with torch.random.fork_rng(devices=[]):
        method = build_method(config, num_classes, encoder)
    checkpoint = read_checkpoint(folder.checkpoint)
    try:
        method.load_state_dict(checkpoint.best or checkpoint.method)
    except RuntimeError as error:
        line = one_line(error)
        raise InputError(f"{folder.checkpoint} does not fit the recipe beside it: {line}") from error
    return method.eval()


def training_images(
    config: Config, dataset: ImageDataset, encoder: Encoder, number: int
) -> tuple[Tensor, Tensor]:
    """Returns a training batch of the first epoch: images ``(N, 3, S, S)`` and labels ``(N,)``.

    Args:
        config: The run.
        dataset: The dataset with the splits of the run's protocol.
        encoder: Its mean and standard deviation normalise the images.
        number: Number of the batch, from 0.

    Raises:
        InputError: If the epoch has no such batch.
    """
    seen = training_part(config, dataset)
    plan = build_sampler(config.sampler, seen, config.seed).plan(0)
    if not 0 <= number < len(plan):
        raise InputError(
            f"batch: found {number}, expected 0 to {len(plan) - 1}, the batches of this run's first epoch"
        )
    samples = train_samples(config.data, config.seed, seen, encoder, cache=None)
    draws = plan[number]
    if (views := config.data.views) is not None:  # with a frozen encoder, each image has a few views
        rows = [int(samples.rows[position]) for position, _ in draws]
        seeds = [
            view_seeds(row, views)[draw[1] % views]  # the views are the same for all seeds of a run
            for row, draw in zip(rows, draws, strict=True)
        ]
        draws = [(position, seed) for (position, _), seed in zip(draws, seeds, strict=True)]
    drawn = samples.__getitems__(draws)
    labels = torch.tensor([label for _, label, _ in drawn])
    return torch.stack([image for image, _, _ in drawn]), labels


def batch_edges(method: Method, images: Tensor, labels: Tensor) -> Edges:
    """Returns the graph of a batch as a method sees it, on the CPU. The method does not change.

    Args:
        method: A trained method.
        images: ``(N, 3, S, S)``, normalised.
        labels: ``(N,)``, their classes.
    """
    device = next(method.parameters()).device
    with unchanged(method, device):
        features = method.encoder.features(images.to(device))
        edges = method.edges(features, labels.to(device))
    return {name: (edge_index.cpu(), weight.cpu()) for name, (edge_index, weight) in edges.items()}


def keep_graph(folder: RunFolder, edges: Edges) -> None:
    """Writes the graph of the first training batch, as the trained method sees it.

    Args:
        folder: The run's folder.
        edges: The graph from :func:`batch_edges`.

    Raises:
        RunError: If the file cannot be written.
    """
    tensors = {}
    for name, (edge_index, weight) in edges.items():
        tensors[f"{name}.edge_index"], tensors[f"{name}.weight"] = edge_index, weight
    keep(folder, folder.graph, tensors)


def kept_graph(folder: RunFolder) -> Edges | None:
    """Returns the graph that :func:`keep_graph` wrote, or :obj:`None` if there is no such file.

    Args:
        folder: The run's folder.

    Raises:
        InputError: If the file is damaged.
    """
    if not folder.graph.exists():
        return None
    tensors = read_kept(folder.graph)
    names = [name.removesuffix(".weight") for name in tensors if name.endswith(".weight")]
    return {name: (tensors[f"{name}.edge_index"], tensors[f"{name}.weight"]) for name in names}


def keep_embeddings(folder: RunFolder, extracted: Sequence[Extracted]) -> None:
    """Writes the embeddings of the test images, if there are at most :data:`MOST_KEPT`.

    Args:
        folder: The run's folder.
        extracted: Features of the test images, or of queries and gallery.

    Raises:
        RunError: If the file cannot be written.
    """
    if sum(len(split.labels) for split in extracted) > MOST_KEPT:
        return
    tensors = {name: split.features["embedding"] for name, split in zip(SPLITS, extracted, strict=False)}
    keep(folder, folder.embeddings, tensors)


def kept_embeddings(folder: RunFolder) -> list[Tensor] | None:
    """Returns the embeddings of the test images, or of queries and gallery, ``(N, D)`` each.

    Args:
        folder: The run's folder.

    Returns:
        One tensor, or two with a gallery; :obj:`None` if the run did not keep them.

    Raises:
        InputError: If the file is damaged.
    """
    if not folder.embeddings.exists():
        return None
    tensors = read_kept(folder.embeddings)
    return [tensors[name] for name in SPLITS if name in tensors]


def keep(folder: RunFolder, file: Path, tensors: Mapping[str, Tensor]) -> None:
    """Writes tensors to a file of a run.

    Args:
        folder: The run's folder.
        file: One of its files.
        tensors: Tensors by name.

    Raises:
        RunError: If the file cannot be written.
    """
    with folder.writing(file) as path:
        try:
            # Layers may share their edges, but the file format needs a copy for each name.
            save_file({name: tensor.clone().contiguous() for name, tensor in tensors.items()}, path)
        except SafetensorError as error:  # the library raises it for a full disk
            raise OSError(one_line(error)) from error


def read_kept(path: Path) -> dict[str, Tensor]:
    """Returns the tensors of a file that :func:`keep` wrote.

    Args:
        path: The file.

    Raises:
        InputError: If the file is damaged.
    """
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is damaged: {error}; remove it") from error
