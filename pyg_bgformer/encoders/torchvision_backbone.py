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
# Everything after the last feature map, under the names that torchvision's families give it.
HEADS = ("avgpool", "dropout", "flatten", "fc", "classifier", "head", "heads", "aux1", "aux2", "AuxLogits")
# MaxViT cuts its input into a fixed number of windows; the others take any size from 75 px on.
_TRIAL_SIZE = {"maxvit_t": 224}


class TorchvisionBackbone(Backbone):
    """A torchvision network up to its last feature map, then global pooling.

    Average pooling gives the features that the network's own classifier sees, tested for every family;
    where the family has a LayerNorm after pooling (ConvNeXt, MaxViT) that is kept. AlexNet and VGG have
    two hidden layers inside the classifier: those go with it.

    Args:
        name: The model's name in torchvision, for example ``"resnet50"``.
        pooling: ``"average"``, ``"max"`` or ``"avgmax"``, the sum of both.

    Shapes:
        - **input:** images (B, 3, H, W) normalised with ``mean`` and ``std``. GoogLeNet and Inception take
          ImageNet-normalised images like the others and rescale them inside, as their weights expect.
        - **output:** (B, feature_dim).
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
        # The weights alone: ConvNeXt's norm takes maps and MaxViT's takes vectors, the maths is one.
        return F.layer_norm(pooled, norm.normalized_shape, norm.weight, norm.bias, norm.eps)


class TorchvisionViT(Backbone):
    """A torchvision vision transformer; its features are the class token after the last norm.

    Args:
        name: The model's name in torchvision, for example ``"vit_b_16"``.

    Shapes:
        - **input:** images (B, 3, S, S), S the size the model is made for (224 px).
        - **output:** (B, feature_dim).
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
        """Returns class-token features (B, feature_dim); raises InputError for another image size."""
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
        pooling: As for :class:`TorchvisionBackbone`; a vision transformer takes the default only.

    Raises:
        InputError: If there is no such model, or the pooling does not apply to it.
    """
    known = models.list_models(module=models)
    if name not in known:
        raise InputError(f"torchvision has no classification model '{name}'; {did_you_mean(name, known)}")
    if not name.startswith("vit_"):
        return TorchvisionBackbone(name, pooling)
    if pooling != "average":
        raise InputError(f"pooling '{pooling}' does not apply to {PREFIX}{name}: it gives its class token")
    return TorchvisionViT(name)


def torchvision_tags(name: str) -> type[WeightsEnum]:
    """Returns the weights that torchvision publishes for a model, as its enumeration."""
    tags: type[WeightsEnum] = models.get_model_weights(name)
    return tags


def _bare_model(name: str) -> nn.Module:
    # GoogLeNet and Inception would otherwise have two extra classifiers that change the training output.
    options = {"aux_logits": False, "init_weights": True} if name in ("googlenet", "inception_v3") else {}
    net: nn.Module = models.get_model(name, weights=None, **options)
    return net


def _normalisation(name: str) -> tuple[list[float], list[float]]:
    published = next(iter(models.get_model_weights(name))).transforms()
    return published.mean, published.std


def _keep_pooled_norm(net: nn.Module) -> str | None:
    """Reduces the classifier to the LayerNorm it starts with; returns the name that weight files use for it."""
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
    """Yields the parts in the order they are registered in, which is torchvision's order of computation."""
    for name, part in net.named_children():
        if isinstance(part, nn.ModuleList):
            yield from part
        elif name not in HEADS:
            yield part


def _to_half_range(images: Tensor) -> Tensor:
    """Returns images normalised with mean 0.5 and std 0.5 of those with ImageNet's mean and std."""
    std = images.new_tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    mean = images.new_tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    return (images * std + mean - 0.5) / 0.5
