"""What a finished run leaves beside its scores: the trained method, and the embeddings of the test images."""

from collections.abc import Sequence

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from pyg_bgformer.config.schema import Config
from pyg_bgformer.deploy.embedding_model import EmbeddingModel
from pyg_bgformer.engine.evaluate import Extracted
from pyg_bgformer.engine.setup import build_method
from pyg_bgformer.engine.state import read_checkpoint
from pyg_bgformer.errors import InputError
from pyg_bgformer.methods import Method
from pyg_bgformer.runs.folder import RunFolder

SPLITS = ("queries", "gallery")
"""Names of the tensors; without a gallery the queries are all test images."""

MOST_KEPT = 20_000
"""Test images; the embeddings of more are not kept."""


def load_trained(config: Config, folder: RunFolder, num_classes: int) -> Method:
    """Returns the method whose encoder a finished run tested, in eval mode; the first weights are not needed.

    Args:
        config: The run.
        folder: Its folder.
        num_classes: Number of training classes.

    Raises:
        InputError: If the encoder or the checkpoint is missing, damaged, or does not fit the recipe.
    """
    encoder = EmbeddingModel.from_pretrained(folder.path).encoder
    with torch.random.fork_rng(devices=[]):
        method = build_method(config, num_classes, encoder)
    content = read_checkpoint(folder.checkpoint)
    try:
        method.load_state_dict(content["best"] or content["method"])
    except RuntimeError as error:
        line = " ".join(str(error).split())
        raise InputError(f"{folder.checkpoint} does not fit the recipe beside it: {line}") from error
    return method.eval()


def keep_embeddings(folder: RunFolder, extracted: Sequence[Extracted]) -> None:
    """Writes the embeddings of the test images, where they are not too many, for pages and for other uses.

    Args:
        folder: The run's folder.
        extracted: The test images, or queries and gallery.
    """
    if sum(len(split.labels) for split in extracted) > MOST_KEPT:
        return
    tensors = {name: split.features["embedding"] for name, split in zip(SPLITS, extracted, strict=False)}
    with folder.writing(folder.embeddings) as path:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)


def kept_embeddings(folder: RunFolder) -> list[Tensor] | None:
    """Returns the embeddings of the test images, or of queries and gallery; nothing where they were not kept.

    Args:
        folder: The run's folder.

    Raises:
        InputError: If the file is damaged.
    """
    if not folder.embeddings.exists():
        return None
    try:
        tensors = load_file(folder.embeddings)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{folder.embeddings} is damaged: {error}; remove it") from error
    return [tensors[name] for name in SPLITS if name in tensors]
