"""Encoders by name."""

from pyg_bgformer.encoders import published, timm_backbone, torchvision_backbone
from pyg_bgformer.encoders.backbone import Backbone
from pyg_bgformer.encoders.conv4 import Conv4
from pyg_bgformer.encoders.encoder import Encoder, EncoderSpec, FeatureNorm
from pyg_bgformer.encoders.pooling import Pooling
from pyg_bgformer.encoders.weights import (
    file_hash,
    fit_tensors,
    is_weights_file,
    read_tensors,
    tensors_hash,
    weights_path,
)
from pyg_bgformer.errors import InputError
from pyg_bgformer.ranges import PositiveInt
from pyg_bgformer.registry import Option, signature_options

_TORCHVISION, _TIMM = torchvision_backbone.PREFIX, timm_backbone.PREFIX


def build_encoder(
    name: str,
    *,
    weights: str | None = None,
    pooling: Pooling = "average",
    embedding_dim: PositiveInt = 128,
    frozen_batchnorm: bool = False,
    frozen_patch_embedding: bool = False,
    head_norm: bool = False,
    feature_norm: FeatureNorm = "none",
    frozen: bool = False,
    pca_dim: int | None = None,
) -> Encoder:
    """Build an encoder by name.

    Random initial values come from torch's generator, as for every torch module.

    Args:
        name: ``"conv4"``, ``"torchvision/<model>"`` or ``"timm/<model>"`` with or without a ``.<tag>``.
        weights: ``None`` for random weights (nothing is fetched, even where the name has a tag); the path of
            a local ``.safetensors`` file in the library's own key layout (``~`` and ``$VARIABLES`` are
            expanded, half precision is cast, the classifier's keys are left out); or a tag: torchvision's
            ``IMAGENET1K_V1`` and so on, a timm tag, ``"pretrained"`` for the tag in a timm name.
        pooling: ``"average"``, ``"max"`` or ``"avgmax"`` (average + max) over the feature map. Vision
            transformers give their class token instead and refuse anything but the default.
        embedding_dim: size of the embedding.
        frozen_batchnorm: keep BatchNorm's statistics and affine parameters as they are loaded.
        frozen_patch_embedding: keep a vision transformer's patch embedding as it is loaded.
        head_norm: a BatchNorm over the features before the embedding's linear map.
        feature_norm: Normalisation of the backbone's features without parameters: ``"layer"`` of each image's
            features, ``"batch"`` of each feature over the batch (over running statistics when deployed). Methods,
            head and deployment all see the normalised features.
        frozen: Keep the whole backbone as it is loaded. Training then computes its outputs once (``data.views`` of
            each image) and trains the head, and what a method adds, on them.
        pca_dim: With ``frozen``, reduce the backbone's outputs to so many principal components of the training
            images, which become part of the encoder.

    Returns:
        The encoder, in training mode.

    Raises:
        InputError: an unknown name, tag or pooling; a file that does not exist or does not fit (its missing,
            unexpected and misshaped keys are listed); a tag that is not cached where there is no network; a
            part to freeze that the network does not have.
    """
    spec = EncoderSpec(
        name,
        pooling,
        embedding_dim,
        frozen_batchnorm,
        frozen_patch_embedding,
        head_norm,
        feature_norm,
        frozen,
        pca_dim,
    )
    if weights is None:
        return Encoder(_random_backbone(name, pooling), spec)
    if is_weights_file(weights):
        return _from_file(spec, weights)
    return _from_tag(spec, weights)


def encoder_options(name: str) -> dict[str, Option]:
    """Returns the options that a recipe may set for an encoder.

    Raises:
        InputError: If there is no encoder of that name.
    """
    if name != "conv4" and not name.startswith((_TORCHVISION, _TIMM)):
        raise InputError(
            f"unknown encoder '{name}': known are conv4, {_TORCHVISION}MODEL, {_TIMM}MODEL[.TAG]"
        )
    return signature_options(build_encoder)


def _random_backbone(name: str, pooling: str) -> Backbone:
    if name == "conv4":
        return Conv4(pooling)
    if name.startswith(_TORCHVISION):
        return torchvision_backbone.torchvision_backbone(name.removeprefix(_TORCHVISION), pooling)
    if name.startswith(_TIMM):
        model = name.removeprefix(_TIMM)
        timm_backbone.check_timm_name(model)
        return timm_backbone.TimmBackbone(model, pooling)
    encoder_options(name)  # raises
    raise AssertionError(name)


def _from_file(spec: EncoderSpec, given: str) -> Encoder:
    path = weights_path(given)
    backbone = _random_backbone(spec.name, spec.pooling)
    tensors = read_tensors(path)
    fit_tensors(backbone.net, tensors, source=str(path), ignored=backbone.head_prefixes)
    return Encoder(backbone, spec, weights_tag=path.name, weights_hash=file_hash(path))


def _from_tag(spec: EncoderSpec, tag: str) -> Encoder:
    if spec.name.startswith(_TORCHVISION):
        return _from_torchvision_tag(spec, tag)
    if spec.name.startswith(_TIMM):
        return _from_timm_tag(spec, tag)
    _random_backbone(spec.name, spec.pooling)  # names an unknown encoder first
    raise InputError(f"'{spec.name}' has no published weights '{tag}': give a .safetensors file or null")


def _from_torchvision_tag(spec: EncoderSpec, tag: str) -> Encoder:
    model = spec.name.removeprefix(_TORCHVISION)
    backbone = torchvision_backbone.torchvision_backbone(model, spec.pooling)
    tag, tensors = published.torchvision_weights(model, tag)
    fit_tensors(backbone.net, tensors, source=f"{spec.name} {tag}", ignored=backbone.head_prefixes)
    return _tagged(backbone, spec, tag)


def _from_timm_tag(spec: EncoderSpec, tag: str) -> Encoder:
    model = spec.name.removeprefix(_TIMM)
    timm_backbone.check_timm_name(model)
    full_name, checkpoint = published.timm_checkpoint(model, tag)
    backbone = timm_backbone.TimmBackbone(full_name, spec.pooling, **checkpoint)
    return _tagged(backbone, spec, full_name.partition(".")[2])


def _tagged(backbone: Backbone, spec: EncoderSpec, tag: str) -> Encoder:
    digest = tensors_hash(backbone.net.state_dict())
    return Encoder(backbone, spec, weights_tag=tag, weights_hash=digest)
