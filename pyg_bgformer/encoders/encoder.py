"""Backbone, pooling, feature normalisation and embedding head as one module."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self, get_args

import torch
from sklearn.decomposition import PCA
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pyg_bgformer.encoders.backbone import Backbone
from pyg_bgformer.encoders.pooling import Pooling
from pyg_bgformer.errors import InputError, did_you_mean

FeatureNorm = Literal["none", "layer", "batch"]


@dataclass(frozen=True)
class EncoderSpec:
    """What an encoder is built from; with its tensors it is the whole encoder.

    Attributes:
        name, pooling, embedding_dim, frozen, pca_dim, frozen_batchnorm, frozen_patch_embedding, head_norm,
            feature_norm: As in :func:`~pyg_bgformer.encoders.build_encoder`.
    """

    name: str
    pooling: Pooling = "average"
    embedding_dim: int = 128
    frozen_batchnorm: bool = False
    frozen_patch_embedding: bool = False
    head_norm: bool = False
    feature_norm: FeatureNorm = "none"
    frozen: bool = False
    pca_dim: int | None = None


class Encoder(nn.Module):
    """A backbone and a linear embedding head: one image, one vector, whatever else is in the batch.

    In training mode an unfrozen BatchNorm sees the batch; in evaluation mode nothing does.

    Args:
        backbone: The network that gives pooled features.
        spec: What the encoder was asked to be.
        weights_tag: Where the backbone's weights came from: a tag, a file's name, or ``"random"``.
        weights_hash: SHA-256 of those weights; ``None`` for random ones.
        notes: Lines for the user about those weights, such as keys that were left out.

    Attributes:
        reduction: With ``pca_dim``, the projection on principal components that :meth:`fit_pca` sets. It is not
            trained.
        feature_norm: What :meth:`features` applies to the backbone's pooled features. It has no parameters; with
            ``batch`` it keeps running statistics, which are used in evaluation mode.
        head: ``nn.Linear(feature_dim, embedding_dim)``, orthogonal weight and zero bias; with ``head_norm``
            after a ``nn.BatchNorm1d(feature_dim)``.
        feature_dim, embedding_dim: Sizes of the features, after the reduction, and of the embedding.
        mean, std: Normalisation of RGB images in 0..1 that the weights expect, three numbers each.

    Shapes:
        - **input:** images (B, 3, H, W), normalised with ``mean`` and ``std``; uint8 images are normalised here.
        - **output:** (B, embedding_dim), not normalised.

    Raises:
        InputError: If the embedding has no dimension, or a part to be frozen does not exist.
    """

    def __init__(
        self,
        backbone: Backbone,
        spec: EncoderSpec,
        *,
        weights_tag: str = "random",
        weights_hash: str | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        super().__init__()
        if spec.embedding_dim < 1:
            raise InputError(f"embedding_dim must be 1 or more, found {spec.embedding_dim}")
        self.backbone = backbone
        self.spec = spec
        self.weights_tag = weights_tag
        self.weights_hash = weights_hash
        self.notes = tuple(notes)
        self.reduction: nn.Module = nn.Identity()
        if spec.pca_dim is not None:
            self.reduction = _projection(backbone.feature_dim, spec.pca_dim, spec.frozen)
        self.feature_dim = spec.pca_dim or backbone.feature_dim
        self.embedding_dim = spec.embedding_dim
        self.mean, self.std = backbone.mean, backbone.std
        self.feature_norm = _feature_norm(spec.feature_norm, self.feature_dim)
        linear = nn.Linear(self.feature_dim, self.embedding_dim)
        nn.init.orthogonal_(linear.weight)
        nn.init.zeros_(linear.bias)
        norm = [nn.BatchNorm1d(self.feature_dim)] if spec.head_norm else []
        self.head = nn.Sequential(*norm, linear) if norm else linear
        self.backbone_frozen = False
        self._freeze_parts()
        self._trainable = {
            name for name, p in backbone.named_parameters() if p.requires_grad and not spec.frozen
        }
        self.freeze_backbone(spec.frozen)

    def features(self, x: Tensor) -> Tensor:
        """Returns pooled, reduced and normalised features (B, feature_dim).

        Args:
            x: Images (B, 3, H, W), or outputs of the backbone (B, F) that were computed earlier.
        """
        outputs = self.backbone(self.normalised(x)) if x.dim() == 4 else x
        features: Tensor = self.feature_norm(self.reduction(outputs))
        return features

    def normalised(self, images: Tensor) -> Tensor:
        """Returns images (B, 3, H, W) as the backbone takes them; those that are not uint8 are so already."""
        if images.dtype != torch.uint8:
            return images
        # filled on the device: to copy them there, the program would wait for all that a GPU has still to do
        mean, std = (
            torch.stack([torch.full((1, 1), value, device=images.device) for value in values])
            for values in (self.mean, self.std)
        )
        return images.float().mul_(1 / 255).sub_(mean).div_(std)

    @torch.no_grad()
    def fit_pca(self, outputs: Tensor) -> None:
        """Sets the reduction to the principal components of outputs of the backbone.

        Args:
            outputs: ``(M, F)``, M at least ``pca_dim``.

        Raises:
            InputError: If there are fewer outputs, or the backbone has fewer channels, than components.
        """
        if not isinstance(self.reduction, nn.Linear):
            raise InputError("pca_dim is not set: there is no reduction to fit")
        components = self.reduction.out_features
        if components > min(outputs.shape):
            raise InputError(
                f"pca_dim: found {components}, expected at most {min(outputs.shape)}: there are {len(outputs)} "
                f"training images of {outputs.size(1)} channels"
            )
        # in float64: a covariance squares the rounding of its data
        pca = PCA(components, svd_solver="covariance_eigh").fit(outputs.double().cpu().numpy())
        weight = torch.from_numpy(pca.components_).to(self.reduction.weight)
        self.reduction.weight.copy_(weight)
        self.reduction.bias.copy_(-weight @ torch.from_numpy(pca.mean_).to(weight))

    def forward(self, images: Tensor) -> Tensor:
        """Returns embeddings (B, embedding_dim), not normalised, of images (B, 3, H, W)."""
        embeddings: Tensor = self.head(self.features(images))
        return embeddings

    def freeze_backbone(self, frozen: bool) -> None:
        """Freezes the whole backbone for a warm-up, or makes trainable again what was so by construction.

        A frozen backbone is in evaluation mode too: its BatchNorm statistics stay where they are. An encoder that
        was built ``frozen`` stays so.

        Args:
            frozen: Whether to freeze it.
        """
        frozen = frozen or self.spec.frozen
        self.backbone_frozen = frozen
        for name, parameter in self.backbone.named_parameters():
            parameter.requires_grad_(not frozen and name in self._trainable)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Sets training or evaluation mode; frozen parts stay in evaluation mode."""
        super().train(mode)
        if self.backbone_frozen:
            self.backbone.eval()
        if self.spec.frozen_batchnorm:
            for norm in self._batchnorms():
                norm.eval()
        return self

    def check_image_size(self, size: int) -> None:
        """Refuses an image size that the backbone does not take, after one forward pass of one image.

        Args:
            size: Side of the images in pixels.

        Raises:
            InputError: If the backbone fails; the line names the nearest sizes it takes.
        """
        self.backbone.check_image_size(size, self.spec.name)

    @property
    def trains_batchnorm(self) -> bool:
        """Whether statistics of a batch enter the backbone's outputs in training mode."""
        return not (self.spec.frozen or self.spec.frozen_batchnorm) and bool(self._batchnorms())

    def _batchnorms(self) -> list[nn.Module]:
        return [module for module in self.backbone.modules() if isinstance(module, _BatchNorm)]

    def _freeze_parts(self) -> None:
        if self.spec.frozen_batchnorm:
            frozen = self._batchnorms()
            if not frozen:
                raise InputError(f"frozen_batchnorm: '{self.spec.name}' has no BatchNorm")
            for norm in frozen:
                norm.requires_grad_(False)
        if self.spec.frozen_patch_embedding:
            if self.backbone.patch_embedding is None:
                raise InputError(f"frozen_patch_embedding: '{self.spec.name}' has no patch embedding")
            self.backbone.net.get_submodule(self.backbone.patch_embedding).requires_grad_(False)


def _projection(channels: int, components: int, frozen: bool) -> nn.Linear:
    if not frozen:
        raise InputError(
            "pca_dim: principal components need a backbone that stays as it is; set frozen: true"
        )
    if not 1 <= components <= channels:
        raise InputError(f"pca_dim: found {components}, expected 1 to {channels}, the backbone's channels")
    return nn.Linear(channels, components).requires_grad_(False)


def _feature_norm(name: str, channels: int) -> nn.Module:
    if name not in get_args(FeatureNorm):
        raise InputError(f"unknown feature_norm '{name}'; {did_you_mean(name, get_args(FeatureNorm))}")
    if name == "layer":
        return nn.LayerNorm(channels, elementwise_affine=False)
    return nn.BatchNorm1d(channels, affine=False) if name == "batch" else nn.Identity()
