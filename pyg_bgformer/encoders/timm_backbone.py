"""Any timm classification model as a backbone."""

from typing import Any

import timm
import torch
from safetensors import SafetensorError
from timm.layers.adaptive_avgmax_pool import SelectAdaptivePool2d
from torch import Tensor, nn

from pyg_bgformer.encoders.backbone import Backbone
from pyg_bgformer.encoders.pooling import check_pooling
from pyg_bgformer.errors import InputError, did_you_mean, one_line

PREFIX = "timm/"


class TimmBackbone(Backbone):
    """A timm network without its classifier.

    If a network ends in a feature map, timm's own pooling layer pools it. A vision transformer returns what its
    weights were trained for, in the ``vit_*`` models the class token; ``pooling`` does not apply to it. Where timm
    supports it, vision transformers take images of any size that is a multiple of their patch size.

    Args:
        name: The model's name in timm with or without a weights tag, for example
            ``"vit_small_patch16_224.augreg_in21k"``. The tag decides ``mean`` and ``std``.
        pooling: ``"average"``, ``"max"`` or ``"avgmax"``, the sum of both.
        **checkpoint: Options of ``timm.create_model`` that name the weights. Without them the weights are random.

    Shapes:
        - **input:** images (B, 3, H, W) normalised with ``mean`` and ``std``.
        - **output:** (B, feature_dim).

    Raises:
        InputError: If the pooling is unknown, a network without a feature map gets another pooling than the
            default, or the weights cannot be read.
    """

    def __init__(self, name: str, pooling: str = "average", **checkpoint: Any) -> None:
        check_pooling(pooling)
        if pooling == "average":
            net = _create(name, **checkpoint)
        else:
            _check_poolable(name, pooling)
            net = _create(name, global_pool=pooling, **checkpoint)
        if pooling == "avgmax":  # timm computes the mean of both, not the sum
            for part in [part for part in net.modules() if isinstance(part, SelectAdaptivePool2d)]:
                part.add_module("pool", nn.Sequential(part.pool, Double()))
        config: Any = net.pretrained_cfg
        classifiers = config["classifier"]
        classifiers = (classifiers,) if isinstance(classifiers, str) else classifiers or ()
        super().__init__(
            net,
            config["mean"],
            config["std"],
            image_size=config["input_size"][-1],
            head_prefixes=tuple(f"{part}." for part in classifiers),
            patch_embedding="patch_embed" if hasattr(net, "patch_embed") else None,
        )
        self.measure(self.image_size)

    def forward(self, images: Tensor) -> Tensor:
        """Returns pooled or class-token features (B, feature_dim) of images (B, 3, H, W)."""
        features: Tensor = self.net(images)
        return features


class Double(nn.Module):
    """Doubles its input. It turns timm's mean of average and max pooling into their sum."""

    def forward(self, features: Tensor) -> Tensor:
        """Returns ``2 * features``."""
        return 2 * features


def check_timm_name(name: str) -> None:
    """Raises an error for a model or a tag that timm does not have.

    Names such as ``hf-hub:...`` and ``local-dir:...`` are refused too: they would load files that anyone can write.

    Args:
        name: The model, with or without a tag.

    Raises:
        InputError: If there is no such model, or no such tag of the model.
    """
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        hint = did_you_mean(architecture, timm.list_models())
        hint = hint if "?" in hint else "timm.list_models() lists them"
        raise InputError(f"timm has no model '{architecture}'; {hint}")
    tags = timm_tags(architecture)
    if tag and tag not in tags:
        hint = did_you_mean(tag, tags) if tags else "it has none"
        raise InputError(f"timm/{architecture} has no weights tag '{tag}'; {hint}")


def timm_tags(architecture: str) -> list[str]:
    """Returns the weights tags that timm publishes for an architecture."""
    names = (name.partition(".") for name in timm.list_pretrained(architecture))
    return [tag for found, _, tag in names if found == architecture]


def _create(name: str, **options: Any) -> nn.Module:
    try:
        try:
            return timm.create_model(name, num_classes=0, dynamic_img_size=True, **options)
        except TypeError as error:
            # timm has no list of the networks that take this option. The others name it in their error.
            if "dynamic_img_size" not in str(error):
                raise
        return timm.create_model(name, num_classes=0, **options)
    except (OSError, RuntimeError, SafetensorError) as error:
        if not options.get("pretrained"):
            raise
        raise InputError(f"weights {PREFIX}{name} cannot be loaded: {one_line(error)}") from error


def _check_poolable(name: str, pooling: str) -> None:
    with torch.random.fork_rng(devices=[]):  # so that the network built next has the same random weights
        parts = list(_create(name).modules())
    if not any(isinstance(part, SelectAdaptivePool2d) for part in parts):
        raise InputError(f"pooling '{pooling}' does not apply to {PREFIX}{name}: it has no feature map")
