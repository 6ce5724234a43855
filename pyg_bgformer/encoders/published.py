"""Weights published under a tag: from the local cache, or fetched where there is a network."""

import os
import re
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

import timm
import torch
from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
from torch import Tensor
from torchvision.models import WeightsEnum

from pyg_bgformer.encoders.timm_backbone import PREFIX as TIMM
from pyg_bgformer.encoders.timm_backbone import timm_tags
from pyg_bgformer.encoders.torchvision_backbone import PREFIX as TORCHVISION
from pyg_bgformer.encoders.torchvision_backbone import torchvision_tags
from pyg_bgformer.errors import InputError, did_you_mean

_PROBE_SECONDS = 5.0
_TIMM_FILE = "model.safetensors"
# DenseNet's published files were written before layer names lost their inner dot.
_OLD_DENSENET = re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12])\.(.+)$")


def torchvision_weights(name: str, tag: str) -> tuple[str, Mapping[str, Tensor]]:
    """The weights of a torchvision model under one of its tags, for example ``IMAGENET1K_V1``.

    Returns:
        The tag's own name (``DEFAULT`` is resolved, so that it can be recorded) and its tensors.

    Raises:
        InputError: no such tag, or it is not cached and cannot be fetched.
    """
    tags = torchvision_tags(name)
    if tag not in tags.__members__:
        raise InputError(f"{TORCHVISION}{name} has no weights '{tag}': {did_you_mean(tag, tags.__members__)}")
    weights = tags[tag]
    return weights.name, _rename_densenet(_fetch_torchvision(weights, f"{TORCHVISION}{name}"))


def timm_checkpoint(name: str, weights: str) -> tuple[str, dict[str, Any]]:
    """Where timm finds the weights of a model.

    Args:
        name: the model, with or without a tag.
        weights: a tag, or ``"pretrained"``: the tag in the name, else timm's default.

    Returns:
        The full name with its tag, and the options of ``timm.create_model`` that load the weights.

    Raises:
        InputError: no such tag, a tag other than the one in the name, or not cached and cannot be fetched.
    """
    full_name = _timm_tagged(name, weights)
    config: Any = timm.get_pretrained_cfg(full_name)
    if not config.hf_hub_id:
        _require_network(config.url, f"{TIMM}{full_name}", _cached_by_torch(config.url))
        return full_name, {"pretrained": True}
    path = _fetch_timm(f"{TIMM}{full_name}", config.hf_hub_id)
    return full_name, {"pretrained": True, "pretrained_cfg_overlay": {"file": path}}


def _timm_tagged(name: str, weights: str) -> str:
    architecture, _, tag = name.partition(".")
    known = timm_tags(architecture)
    if not known:
        raise InputError(f"timm publishes no weights for {TIMM}{architecture}: take weights: null or a file")
    if weights != "pretrained" and weights not in known:
        raise InputError(f"{TIMM}{architecture} has no weights '{weights}': {did_you_mean(weights, known)}")
    if weights != "pretrained" and tag and weights != tag:
        raise InputError(f"weights '{weights}' contradict the tag in '{TIMM}{name}': name one of the two")
    chosen = tag if weights == "pretrained" else weights
    return f"{architecture}.{chosen}" if chosen else f"{architecture}.{_default_tag(architecture)}"


def _default_tag(architecture: str) -> str:
    config = timm.get_pretrained_cfg(architecture, allow_unregistered=False)
    return str(config.tag or "") if config else ""


def _fetch_torchvision(weights: WeightsEnum, owner: str) -> Mapping[str, Tensor]:
    _require_network(weights.url, f"{owner} {weights.name}", _cached_by_torch(weights.url))
    try:
        # The files are pickles of tensors: weights_only keeps anything else in them from running.
        return weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (OSError, RuntimeError) as error:
        raise InputError(f"weights {owner} {weights.name} not fetched: {_one_line(error)}") from error


def _fetch_timm(owner: str, repository: str) -> str:
    cached = try_to_load_from_cache(repository, _TIMM_FILE)
    if isinstance(cached, str):
        return cached
    _require_network(constants.ENDPOINT, owner, cached=False)
    try:
        return hf_hub_download(repository, _TIMM_FILE)
    except Exception as error:  # the hub's client raises its transport's own classes, which vary by version
        raise InputError(f"weights {owner} not fetched: {_one_line(error)}") from error


def _cached_by_torch(url: str) -> bool:
    return os.path.isfile(os.path.join(torch.hub.get_dir(), "checkpoints", url.rpartition("/")[2]))


def _require_network(url: str, owner: str, cached: bool) -> None:
    """Ask the host once, briefly: the libraries' own clients retry for most of a minute."""
    if cached:
        return
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=_PROBE_SECONDS).close()
    except urllib.error.HTTPError:
        return  # the host answers; what it thinks of this request is the download's business
    except OSError as error:
        reason = _one_line(getattr(error, "reason", error))
        raise InputError(
            f"weights {owner} are not cached and {url} cannot be reached ({reason}): "
            "give the path of a local .safetensors file, or null for random weights"
        ) from error


def _rename_densenet(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    return {_OLD_DENSENET.sub(r"\1\2.\3", key): tensor for key, tensor in tensors.items()}


def _one_line(error: object) -> str:
    return " ".join(str(error).split())
