"""The encoder: backbone, pooling, feature normalisation and embedding head as one module."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self, get_args

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pyg_bgformer.encoders.backbone import Backbone
from pyg_bgformer.encoders.pooling import Pooling
from pyg_bgformer.errors import InputError, did_you_mean

FeatureNorm = Literal["none", "layer", "l2", "batch"]


@dataclass(frozen=True)
class EncoderSpec:
    """What an encoder is built from. The specification and the tensors are the whole encoder.

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
    """A backbone and a linear embedding head, which turn each image into one vector.

    In evaluation mode the vector of an image does not depend on the rest of the batch. In training mode it does if
    there is a BatchNorm that is not frozen.

    Args:
        backbone: The network that computes pooled features.
        spec: What the encoder is built from.
        weights_tag: Where the backbone's weights came from: a tag, the name of a file, or ``"random"``.
        weights_hash: SHA-256 of these weights, or ``None`` for random ones.
        notes: Lines for the user about these weights, for example keys that were left out.

    Attributes:
        reduction: With ``pca_dim``, the projection on principal components that :meth:`fit_pca` sets. It is not
            trained.
        feature_norm: The normalisation of the pooled features. It has no parameters. With ``batch`` it has running
            statistics, which are used in evaluation mode.
        head: ``nn.Linear(feature_dim, embedding_dim)`` with an orthogonal weight and a zero bias. With
            ``head_norm``, a ``nn.BatchNorm1d(feature_dim)`` comes before it.
        feature_dim, embedding_dim: Sizes of the features, after the reduction, and of the embeddings.
        mean, std: Mean and standard deviation of each channel of RGB images in [0, 1], as the weights expect.

    Shapes:
        - **input:** images (B, 3, H, W), normalised with ``mean`` and ``std``, or uint8 images, which are
          normalised here.
        - **output:** (B, embedding_dim), not normalised.

    Raises:
        InputError: If ``embedding_dim`` is below 1, ``pca_dim`` or ``feature_norm`` does not fit, or a part to be
            frozen does not exist.
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
        """Returns pooled features (B, feature_dim), after the reduction and the normalisation.

        Args:
            x: Images (B, 3, H, W), or outputs of the backbone (B, F) that were computed earlier.
        """
        outputs = self.backbone(self.normalised(x)) if x.dim() == 4 else x
        features: Tensor = self.feature_norm(self.reduction(outputs))
        return features

    def normalised(self, images: Tensor) -> Tensor:
        """Returns uint8 images (B, 3, H, W) normalised for the backbone. Other images are returned unchanged."""
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
        """Sets the reduction to the projection on the principal components of outputs of the backbone.

        Args:
            outputs: ``(M, F)``, M and F at least ``pca_dim``.

        Raises:
            InputError: If ``pca_dim`` is not set, or is larger than M or F.
        """
        if not isinstance(self.reduction, nn.Linear):
            raise InputError("pca_dim is not set: there is no reduction to fit")
        components = self.reduction.out_features
        if components > min(outputs.shape):
            raise InputError(
                f"pca_dim: found {components}, expected at most {min(outputs.shape)}: there are {len(outputs)} "
                f"training images of {outputs.size(1)} channels"
            )
        # In float64, because the covariance squares rounding errors.
        from sklearn.decomposition import PCA  # slow to import

        pca = PCA(components, svd_solver="covariance_eigh").fit(outputs.double().cpu().numpy())
        weight = torch.from_numpy(pca.components_).to(self.reduction.weight)
        self.reduction.weight.copy_(weight)
        self.reduction.bias.copy_(-weight @ torch.from_numpy(pca.mean_).to(weight))

    def forward(self, images: Tensor) -> Tensor:
        """Returns embeddings (B, embedding_dim), not normalised, of images (B, 3, H, W)."""
        embeddings: Tensor = self.head(self.features(images))
        return embeddings

    def freeze_backbone(self, frozen: bool) -> None:
        """Freezes the whole backbone for a warm-up, or ends the warm-up.

        A frozen backbone is in evaluation mode too, so its BatchNorm statistics do not change. At the end of the
        warm-up, only the parts that were trainable before become trainable again.

        Args:
            frozen: Whether to freeze the backbone.
        """
        frozen = frozen or self.spec.frozen
        self.backbone_frozen = frozen
        for name, parameter in self.backbone.named_parameters():
            parameter.requires_grad_(not frozen and name in self._trainable)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Sets training or evaluation mode. Frozen parts stay in evaluation mode."""
        super().train(mode)
        if self.backbone_frozen:
            self.backbone.eval()
        if self.spec.frozen_batchnorm:
            for norm in self._batchnorms():
                norm.eval()
        return self

    def check_image_size(self, size: int) -> None:
        """Raises an error if the backbone does not take images of a size, by a forward pass of one image.

        Args:
            size: Side of the images in pixels.

        Raises:
            InputError: If the backbone fails. The message names the nearest sizes that it takes.
        """
        self.backbone.check_image_size(size, self.spec.name)

    @property
    def trains_batchnorm(self) -> bool:
        """Returns whether the backbone's outputs in training mode depend on statistics of the batch."""
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
            "pca_dim: principal components need a backbone that is not trained; set frozen: true"
        )
    if not 1 <= components <= channels:
        raise InputError(f"pca_dim: found {components}, expected 1 to {channels}, the backbone's channels")
    return nn.Linear(channels, components).requires_grad_(False)


def _feature_norm(name: str, channels: int) -> nn.Module:
    if name not in get_args(FeatureNorm):
        raise InputError(f"unknown feature_norm '{name}'; {did_you_mean(name, get_args(FeatureNorm))}")
    if name == "layer":
        return nn.LayerNorm(channels, elementwise_affine=False)
    if name == "l2":
        return nn.RMSNorm(channels, eps=1e-5, elementwise_affine=False)
    return nn.BatchNorm1d(channels, affine=False) if name == "batch" else nn.Identity()
