"""Weights that are published under a tag. They come from the local cache, or are downloaded."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url
from huggingface_hub.errors import LocalEntryNotFoundError
from torch import Tensor

from pyg_bgformer.encoders.timm_backbone import PREFIX as TIMM
from pyg_bgformer.encoders.timm_backbone import timm_tags
from pyg_bgformer.encoders.torchvision_backbone import PREFIX as TORCHVISION
from pyg_bgformer.encoders.torchvision_backbone import torchvision_tags
from pyg_bgformer.errors import InputError, did_you_mean, one_line

HUB_SECONDS = 5.0
TIMM_FILE = "model.safetensors"
# DenseNet's published files have layer names of an older version, such as norm.1 for norm1.
OLD_DENSENET = re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12])\.(.+)$")


def torchvision_weights(name: str, tag: str) -> tuple[str, Mapping[str, Tensor]]:
    """Returns the weights that torchvision publishes for a model under a tag.

    Args:
        name: The model.
        tag: The tag, for example ``IMAGENET1K_V1`` or ``DEFAULT``.

    Returns:
        The name of the tag, to which ``DEFAULT`` is resolved, and the tensors by name.

    Raises:
        InputError: If there is no such tag, or its weights are not cached and cannot be downloaded.
    """
    tags = torchvision_tags(name)
    if tag not in tags.__members__:
        raise InputError(f"{TORCHVISION}{name} has no weights '{tag}'; {did_you_mean(tag, tags.__members__)}")
    weights = tags[tag]
    owner = f"{TORCHVISION}{name} {weights.name}"
    _refuse_offline(weights.url, owner)
    try:
        # The files are pickles. With weights_only nothing in them is executed.
        tensors = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (OSError, RuntimeError) as error:
        raise _not_fetched(owner, error, weights.url) from error
    return weights.name, {OLD_DENSENET.sub(r"\1\2.\3", key): tensor for key, tensor in tensors.items()}


def timm_checkpoint(name: str, weights: str) -> tuple[str, dict[str, Any]]:
    """Returns how timm loads the weights of a model.

    Args:
        name: The model, with or without a tag.
        weights: A tag, or ``"pretrained"`` for the tag in the name. Without a tag in the name, ``"pretrained"``
            stands for timm's default tag.

    Returns:
        The model's full name with its tag, and the options of ``timm.create_model`` that load the weights.

    Raises:
        InputError: If there is no such tag, it differs from the tag in the name, or its weights are not cached and
            cannot be downloaded.
    """
    architecture, _, tag = name.partition(".")
    known = timm_tags(architecture)
    if not known:
        raise InputError(f"timm publishes no weights for {TIMM}{architecture}: use weights: null or a file")
    if weights != "pretrained" and weights not in known:
        raise InputError(f"{TIMM}{architecture} has no weights '{weights}'; {did_you_mean(weights, known)}")
    if weights != "pretrained" and tag and weights != tag:
        raise InputError(
            f"weights '{weights}' contradict the tag in '{TIMM}{name}': give only one of the two"
        )
    if weights == "pretrained" and not tag:
        default: Any = timm.get_pretrained_cfg(architecture, allow_unregistered=False)
        tag = str(default.tag or "") if default else ""
    else:
        tag = tag or weights
    full_name = f"{architecture}.{tag}" if tag else architecture
    config: Any = timm.get_pretrained_cfg(full_name)
    if not config.hf_hub_id:
        _refuse_offline(config.url, f"{TIMM}{full_name}")
        return full_name, {"pretrained": True}
    try:
        path = hub_file(config.hf_hub_id, TIMM_FILE)
    except OSError as error:
        raise _not_fetched(f"{TIMM}{full_name}", error, hf_hub_url(config.hf_hub_id, TIMM_FILE)) from error
    return full_name, {"pretrained": True, "pretrained_cfg_overlay": {"file": str(path)}}


def hub_file(repository: str, filename: str, **options: Any) -> Path:
    """Returns the path of a file of the Hugging Face hub, from the local cache or after a download.

    Without a network the download would retry for half a minute. So a short request for the file comes first. With
    ``HF_HUB_OFFLINE`` in the environment there is no request at all.

    Args:
        repository: Name of the repository, for example ``"timm/resnet18.a1_in1k"``.
        filename: Path of the file in the repository.
        **options: ``revision``, ``cache_dir`` or ``token``, as for ``hf_hub_download``.

    Raises:
        OSError: If the file is not cached and cannot be downloaded.
    """
    try:
        return Path(hf_hub_download(repository, filename, local_files_only=True, **options))
    except LocalEntryNotFoundError:
        pass
    try:
        url = hf_hub_url(repository, filename, revision=options.get("revision"))
        get_hf_file_metadata(url, timeout=HUB_SECONDS, token=options.get("token"))
        return Path(hf_hub_download(repository, filename, **options))
    except (
        Exception
    ) as error:  # the hub's library raises errors of several HTTP libraries, depending on its version
        raise OSError(one_line(error)) from error


def _refuse_offline(url: str, owner: str) -> None:
    """Raises an error for a download by torch.hub if ``HF_HUB_OFFLINE`` is set, which torch.hub does not read."""
    cached = os.path.join(torch.hub.get_dir(), "checkpoints", url.rpartition("/")[2])
    if constants.HF_HUB_OFFLINE and not os.path.isfile(cached):
        raise _not_fetched(owner, "HF_HUB_OFFLINE is set", url)


def _not_fetched(owner: str, reason: object, url: str) -> InputError:
    return InputError(
        f"weights {owner} are not cached and cannot be downloaded ({one_line(reason)}): download {url} where there "
        "is a network and give the path of that file as the weights (--weights FILE, in a recipe encoder.weights), "
        "or null for random weights"
    )
