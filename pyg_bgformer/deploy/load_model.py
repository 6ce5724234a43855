"""Loads a model by name: a run, a saved model, a model of the hub, or a backbone."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from pyg_bgformer.deploy.embedding_model import EmbeddingModel
from pyg_bgformer.encoders import ENCODERS, Encoder, build_encoder
from pyg_bgformer.encoders.timm_backbone import PREFIX as TIMM
from pyg_bgformer.encoders.torchvision_backbone import PREFIX as TORCHVISION
from pyg_bgformer.errors import InputError

CROP = 7 / 8
"""Side of the centre crop relative to the shorter side of the resized image."""


def load_model(
    name: str | Path, *, weights: str | Path | None = None, image_size: int | None = None
) -> EmbeddingModel:
    """Returns a model by name, in evaluation mode.

    >>> load_model("runs/folder-bgformer-seed0")                  # doctest: +SKIP
    >>> load_model("timm/resnet50", weights="resnet50.safetensors")  # doctest: +SKIP

    Args:
        name: Folder of a run or of a saved model, a name on the Hugging Face hub, or a backbone: ``timm/<model>``,
            ``torchvision/<model>`` or one of :data:`~pyg_bgformer.encoders.ENCODERS`.
        weights: Weights of a backbone: a file, a tag, or ``"null"`` for random weights. ``None`` takes its
            pretrained weights.
        image_size: Side in pixels of the images that a backbone sees. ``None`` takes the size of its weights.

    Raises:
        InputError: If there is no such model, its files are damaged, or ``weights`` or ``image_size`` are given for
            a model that has its own.
    """
    if not is_backbone(name):
        if weights is not None or image_size is not None:
            raise InputError(f"'{name}' has its own weights and image size; set them only for a backbone")
        return EmbeddingModel.from_pretrained(name)
    return backbone_model(str(name), weights=weights, image_size=image_size)


def is_backbone(name: str | Path) -> bool:
    """Returns whether a name is the name of a backbone and not a folder or a model on the hub.

    Args:
        name: The name.
    """
    known = str(name).startswith((TIMM, TORCHVISION)) or str(name) in ENCODERS
    return known and not Path(name).expanduser().is_dir()


def backbone_model(
    name: str, *, weights: str | Path | None = None, image_size: int | None = None
) -> EmbeddingModel:
    """Returns a backbone as a model. Its embeddings are its pooled features, divided by their norm.

    Args:
        name: See :func:`load_model`.
        weights: See :func:`load_model`.
        image_size: See :func:`load_model`.

    Raises:
        InputError: If there is no such backbone, its weights are missing, or it does not take this image size.
    """
    published = "DEFAULT" if name.startswith(TORCHVISION) else "pretrained"
    given = published if weights is None else str(Path(weights).expanduser())
    with torch.random.fork_rng(devices=[]):
        built = build_encoder(name, weights=None if given == "null" else given)
        spec = replace(built.spec, embedding_dim=built.feature_dim)
        encoder = Encoder(
            built.backbone, spec, weights_tag=built.weights_tag, weights_hash=built.weights_hash
        )
    encoder.notes = built.notes
    assert isinstance(encoder.head, nn.Linear)
    nn.init.eye_(encoder.head.weight)
    size = built.backbone.image_size if image_size is None else image_size
    encoder.check_image_size(size)
    model = EmbeddingModel(
        encoder.to(memory_format=torch.channels_last),
        image_size=size,
        resize=round(size / CROP),
        training={"method": "untrained"},
    )
    return model.eval()
