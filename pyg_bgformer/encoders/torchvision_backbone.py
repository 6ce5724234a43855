"""Any torchvision classification model as a backbone."""

from collections.abc import Iterator
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision import models
from torchvision.models import WeightsEnum

from pyg_bgformer.encoders.backbone import Backbone
from pyg_bgformer.encoders.pooling import check_pooling, global_pool
from pyg_bgformer.errors import InputError, did_you_mean

PREFIX = "torchvision/"
# The names that torchvision's networks give to what comes after the last feature map.
HEADS = ("avgpool", "dropout", "flatten", "fc", "classifier", "head", "heads", "aux1", "aux2", "AuxLogits")
# MaxViT cuts its input into a fixed number of windows. The other networks take any size of at least 75 px.
_TRIAL_SIZE = {"maxvit_t": 224}


class TorchvisionBackbone(Backbone):
    """A torchvision network up to its last feature map, followed by global pooling.

    Average pooling gives the features that the network's own classifier sees. ConvNeXt and MaxViT keep the
    LayerNorm that follows their pooling. AlexNet and VGG lose two hidden layers, which are part of their
    classifiers.

    Args:
        name: The model's name in torchvision, for example ``"resnet50"``.
        pooling: ``"average"``, ``"max"`` or ``"avgmax"``, the sum of both.

    Shapes:
        - **input:** images (B, 3, H, W), normalised with ``mean`` and ``std``. GoogLeNet and Inception rescale them
          as their weights expect.
        - **output:** (B, feature_dim).

    Raises:
        InputError: If ``pooling`` is unknown.
    """

    def __init__(self, name: str, pooling: str = "average") -> None:
        check_pooling(pooling)
        net = _bare_model(name)
        mean, std = _normalisation(name)
        super().__init__(net, mean, std, head_prefixes=tuple(f"{head}." for head in HEADS))
        self.pooling = pooling
        self.rescales_input = isinstance(net, models.GoogLeNet | models.Inception3)
        self.ends_in_relu = isinstance(net, models.DenseNet)  # applied functionally by torchvision
        self.pooled_norm = _keep_pooled_norm(net)
        _remove_head(net)
        self.measure(_TRIAL_SIZE.get(name, 96))

    def forward(self, images: Tensor) -> Tensor:
        """Returns pooled features (B, feature_dim) of images (B, 3, H, W)."""
        features = _to_half_range(images) if self.rescales_input else images
        for part in _trunk(self.net):
            features = part(features)
        if self.ends_in_relu:
            features = F.relu(features)
        pooled = global_pool(features, self.pooling)
        if self.pooled_norm is None:
            return pooled
        norm: Any = self.net.get_submodule(self.pooled_norm)
        # ConvNeXt's norm takes maps and MaxViT's takes vectors. On pooled vectors both compute the same.
        return F.layer_norm(pooled, norm.normalized_shape, norm.weight, norm.bias, norm.eps)


class TorchvisionViT(Backbone):
    """A torchvision vision transformer. Its features are the class token after the last norm.

    Args:
        name: The model's name in torchvision, for example ``"vit_b_16"``.

    Shapes:
        - **input:** images (B, 3, S, S), with S the size that the model is made for (224 px), normalised with
          ``mean`` and ``std``.
        - **output:** (B, feature_dim).

    Raises:
        InputError: In the forward pass, if images have another size.
    """

    def __init__(self, name: str) -> None:
        net = models.get_model(name, weights=None)
        mean, std = _normalisation(name)
        super().__init__(
            net, mean, std, head_prefixes=("heads.",), image_size=net.image_size, patch_embedding="conv_proj"
        )
        net.heads = nn.Identity()
        self.measure(net.image_size)

    def forward(self, images: Tensor) -> Tensor:
        """Returns class-token features (B, feature_dim) of images (B, 3, S, S)."""
        size = self.net.image_size
        height, width = images.shape[-2:]
        if not height == width == size:
            raise InputError(
                f"this vision transformer needs images of {size} px, found {height} x {width} px"
            )
        features: Tensor = self.net(images)
        return features


def torchvision_backbone(name: str, pooling: str = "average") -> Backbone:
    """Returns a randomly initialised torchvision backbone.

    Args:
        name: The model's name, without the ``torchvision/`` prefix.
        pooling: See :class:`TorchvisionBackbone`. A vision transformer accepts the default only.

    Raises:
        InputError: If there is no such model, or the pooling is unknown or does not apply to it.
    """
    known = models.list_models(module=models)
    if name not in known:
        raise InputError(f"torchvision has no classification model '{name}'; {did_you_mean(name, known)}")
    if not name.startswith("vit_"):
        return TorchvisionBackbone(name, pooling)
    if pooling != "average":
        raise InputError(f"pooling '{pooling}' does not apply to {PREFIX}{name}: it returns its class token")
    return TorchvisionViT(name)


def torchvision_tags(name: str) -> type[WeightsEnum]:
    """Returns the enumeration of the weights that torchvision publishes for a model."""
    tags: type[WeightsEnum] = models.get_model_weights(name)
    return tags


def _bare_model(name: str) -> nn.Module:
    # Otherwise GoogLeNet and Inception have extra classifiers, and in training mode return their outputs too.
    options = {"aux_logits": False, "init_weights": True} if name in ("googlenet", "inception_v3") else {}
    net: nn.Module = models.get_model(name, weights=None, **options)
    return net


def _normalisation(name: str) -> tuple[list[float], list[float]]:
    published = next(iter(models.get_model_weights(name))).transforms()
    return published.mean, published.std


def _keep_pooled_norm(net: nn.Module) -> str | None:
    """Reduces a classifier to the LayerNorm that it starts with, and returns the name of this LayerNorm, if any."""
    if not isinstance(net, models.ConvNeXt | models.MaxVit):
        return None
    index, norm = next((i, m) for i, m in net.classifier.named_children() if isinstance(m, nn.LayerNorm))
    net.classifier = nn.ModuleDict({index: norm})
    return f"classifier.{index}"


def _remove_head(net: nn.Module) -> None:
    for head in HEADS:
        if hasattr(net, head) and not isinstance(getattr(net, head), nn.ModuleDict):
            delattr(net, head)


def _trunk(net: nn.Module) -> Iterator[nn.Module]:
    """Yields the parts in the order of their registration, in which torchvision computes them."""
    for name, part in net.named_children():
        if isinstance(part, nn.ModuleList):
            yield from part
        elif name not in HEADS:
            yield part


def _to_half_range(images: Tensor) -> Tensor:
    """Returns images with mean 0.5 and std 0.5 instead of ImageNet's mean and std."""
    std = images.new_tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    mean = images.new_tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    return (images * std + mean - 0.5) / 0.5
