"""Any timm classification model as a backbone."""

import difflib
from typing import Any

import timm
import torch
from timm.layers import SelectAdaptivePool2d
from torch import Tensor, nn

from pyg_bgformer.encoders.backbone import Backbone
from pyg_bgformer.encoders.pooling import check_pooling
from pyg_bgformer.errors import InputError, did_you_mean

PREFIX = "timm/"
_TIMM_POOLING = {"average": "avg", "max": "max", "avgmax": "avgmax"}


class TimmBackbone(Backbone):
    """A timm network without its classifier.

    A network that ends in a feature map is pooled by timm's own pooling layer, at the place where the
    network has it. A vision transformer gives what its weights were trained to give (the class token for
    the ``vit_*`` models): ``pooling`` does not apply to it. Vision transformers take images of any size
    that is a multiple of their patch, where timm supports it.

    Args:
        name: the model's name in timm with or without a weights tag, for example
            ``"vit_small_patch16_224.augreg_in21k"``; the tag decides ``mean`` and ``std``.
        pooling: ``"average"``, ``"max"`` or ``"avgmax"`` of both.
        checkpoint: timm options that name the weights to load; none: random weights.

    Shapes:
        - **input:** images (B, 3, H, W) normalised with ``mean`` and ``std``.
        - **output:** (B, feature_dim).

    Raises:
        InputError: a pooling other than the default for a network without a feature map to pool.
    """

    def __init__(self, name: str, pooling: str = "average", **checkpoint: Any) -> None:
        check_pooling(pooling)
        if pooling == "average":
            net = _create(name, **checkpoint)
        else:
            _check_poolable(name, pooling)
            net = _create(name, global_pool=_TIMM_POOLING[pooling], **checkpoint)
        if pooling == "avgmax":
            _double_pooled(net)
        config: Any = net.pretrained_cfg
        super().__init__(
            net,
            config["mean"],
            config["std"],
            head_prefixes=_classifier_prefixes(config["classifier"]),
            patch_embedding="patch_embed" if hasattr(net, "patch_embed") else None,
        )
        self.measure(config["input_size"][-1])

    def forward(self, images: Tensor) -> Tensor:
        """Pooled (or class-token) features (B, feature_dim) of images (B, 3, H, W)."""
        return self.net(images)


class Double(nn.Module):
    """Twice its input: makes timm's mean of average and max pooling the sum of both."""

    def forward(self, features: Tensor) -> Tensor:
        """``2 * features``, of the same shape."""
        return 2 * features


def check_timm_name(name: str) -> None:
    """Refuse a model or a tag that timm does not have.

    Names such as ``hf-hub:...`` and ``local-dir:...``, which would fetch a stranger's files, are no models.

    Raises:
        InputError: no such model, or no such tag of the model.
    """
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        near = difflib.get_close_matches(architecture, timm.list_models(), n=1)
        hint = f"did you mean '{near[0]}'?" if near else "timm.list_models() lists them"
        raise InputError(f"timm has no model '{architecture}': {hint}")
    if tag and tag not in timm_tags(architecture):
        raise InputError(f"timm/{architecture} has no weights tag '{tag}': {_tag_hint(architecture, tag)}")


def timm_tags(architecture: str) -> list[str]:
    """The weights tags that timm publishes for an architecture."""
    names = (name.partition(".") for name in timm.list_pretrained(architecture))
    return [tag for found, _, tag in names if found == architecture]


def _tag_hint(architecture: str, tag: str) -> str:
    tags = timm_tags(architecture)
    return did_you_mean(tag, tags) if tags else "it has none"


def _create(name: str, **options: Any) -> nn.Module:
    try:
        return timm.create_model(name, num_classes=0, dynamic_img_size=True, **options)
    except TypeError as error:
        # timm has no list of the networks that take this option; the others refuse it by name.
        if "dynamic_img_size" not in str(error):
            raise
    return timm.create_model(name, num_classes=0, **options)


def _check_poolable(name: str, pooling: str) -> None:
    with torch.random.fork_rng(devices=[]):  # the look must not change the network built next
        parts = list(_create(name).modules())
    if not any(isinstance(part, SelectAdaptivePool2d) for part in parts):
        raise InputError(f"pooling '{pooling}' does not apply to {PREFIX}{name}: it has no feature map")


def _double_pooled(net: nn.Module) -> None:
    for part in list(net.modules()):
        if isinstance(part, SelectAdaptivePool2d):
            part.add_module("pool", nn.Sequential(part.pool, Double()))


def _classifier_prefixes(classifier: str | tuple[str, ...]) -> tuple[str, ...]:
    names = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    return tuple(f"{name}." for name in names)
