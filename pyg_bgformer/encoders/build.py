"""Encoders by name, with random, published or saved weights."""

from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor

from pyg_bgformer.encoders import published
from pyg_bgformer.encoders.backbone import Backbone, three_numbers
from pyg_bgformer.encoders.conv4 import Conv4
from pyg_bgformer.encoders.description import DESCRIPTION, TENSORS, read_description, read_saved_tensors
from pyg_bgformer.encoders.encoder import Encoder, EncoderSpec, FeatureNorm
from pyg_bgformer.encoders.pooling import Pooling
from pyg_bgformer.encoders.timm_backbone import PREFIX as TIMM
from pyg_bgformer.encoders.timm_backbone import TimmBackbone, check_timm_name
from pyg_bgformer.encoders.torchvision_backbone import PREFIX as TORCHVISION
from pyg_bgformer.encoders.torchvision_backbone import torchvision_backbone
from pyg_bgformer.encoders.weights import (
    file_hash,
    fit_tensors,
    is_weights_file,
    read_tensors,
    tensors_hash,
    weights_path,
    without_wrappers,
)
from pyg_bgformer.errors import InputError
from pyg_bgformer.ranges import PositiveInt
from pyg_bgformer.registry import Option, Registry, signature_options

OWN = "backbone.net."
"""Prefix of the backbone's keys in ``encoder.safetensors``."""

ENCODERS: Registry[Callable[[str], Backbone]] = Registry("encoder")
"""Backbones by name, besides those of torchvision and timm. Each is a class or function of the pooling.

>>> @ENCODERS.register("my_network")  # doctest: +SKIP
... def my_network(pooling: str) -> Backbone:
...     return MyBackbone(pooling)
"""

ENCODERS.register("conv4")(Conv4)


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
    pca_dim: PositiveInt | None = None,
) -> Encoder:
    """Returns an encoder by name, in training mode.

    Random initial values come from torch's global generator, as for every torch module.

    Args:
        name: A name of :data:`ENCODERS` (``"conv4"``), ``"torchvision/<model>"`` or ``"timm/<model>"`` with or
            without a ``.<tag>``.
        weights: A tag (``"IMAGENET1K_V1"``; ``"pretrained"`` for the tag in a timm name), a file of weights with
            the keys of torchvision or timm, or the folder of an earlier run. Without it the weights are random,
            even if the name has a tag.
        pooling: ``"average"``, ``"max"`` or ``"avgmax"`` (the sum of both) over the feature map. Vision
            transformers return their class token instead, and accept only the default.
        embedding_dim: Size of the embeddings.
        frozen_batchnorm: Keep the loaded statistics and parameters of BatchNorm.
        frozen_patch_embedding: Keep the loaded patch embedding of a vision transformer.
        head_norm: Put a BatchNorm before the linear map of the head.
        feature_norm: Normalisation of the features, without parameters. ``"layer"`` standardises the features of
            each image, ``"l2"`` only scales them to a fixed length, and ``"batch"`` standardises each feature over
            the batch (by running statistics at test time). Methods and head get the normalised features.
        frozen: Keep the loaded weights of the whole backbone. Training then computes its outputs once
            (``data.views`` of each image), and trains only the head and what the method adds.
        pca_dim: With ``frozen``, the number of principal components of the training images to which the backbone's
            outputs are reduced. The projection becomes part of the encoder.

    Raises:
        InputError: If the name, tag or pooling is unknown, a file does not exist or does not fit, weights are not
            cached and cannot be downloaded, or an option does not fit the network.
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
        return Encoder(_backbone(name, pooling), spec)
    if is_weights_file(weights):
        return _with_file(spec, weights)
    if name.startswith(TIMM):
        model = name.removeprefix(TIMM)
        check_timm_name(model)
        full_name, checkpoint = published.timm_checkpoint(model, weights)
        return _with_tag(TimmBackbone(full_name, pooling, **checkpoint), spec, full_name.partition(".")[2])
    backbone = _backbone(name, pooling)
    if not name.startswith(TORCHVISION):
        raise InputError(f"'{name}' has no published weights '{weights}': give a weights file or null")
    tag, tensors = published.torchvision_weights(name.removeprefix(TORCHVISION), weights)
    fit_tensors(backbone.net, tensors, source=f"{name} {tag}", ignored=backbone.head_prefixes)
    return _with_tag(backbone, spec, tag)


def encoder_options(name: str) -> dict[str, Option]:
    """Returns the options that a recipe can set for an encoder: those of :func:`build_encoder`.

    Args:
        name: The encoder. Models of torchvision and timm are not looked up here.

    Raises:
        InputError: If there is no such encoder.
    """
    if not name.startswith((TORCHVISION, TIMM)):
        _registered(name)
    return signature_options(build_encoder)


def _backbone(name: str, pooling: str) -> Backbone:
    if name.startswith(TORCHVISION):
        return torchvision_backbone(name.removeprefix(TORCHVISION), pooling)
    if name.startswith(TIMM):
        check_timm_name(name.removeprefix(TIMM))
        return TimmBackbone(name.removeprefix(TIMM), pooling)
    return _registered(name)(pooling)


def _registered(name: str) -> Callable[[str], Backbone]:
    if name not in ENCODERS:
        known = [*ENCODERS, f"{TORCHVISION}MODEL", f"{TIMM}MODEL[.TAG]"]
        raise InputError(f"unknown encoder '{name}'; choose one of: {', '.join(known)}")
    return ENCODERS.find(name)


def _with_tag(backbone: Backbone, spec: EncoderSpec, tag: str) -> Encoder:
    return Encoder(backbone, spec, weights_tag=tag, weights_hash=tensors_hash(backbone.net.state_dict()))


def _with_file(spec: EncoderSpec, given: str) -> Encoder:
    path = weights_path(given, in_folder=TENSORS)
    backbone = _backbone(spec.name, spec.pooling)
    tensors = without_wrappers(read_tensors(path), backbone.net.state_dict())
    if any(key.startswith(OWN) for key in tensors):
        return _with_saved_encoder(spec, backbone, path, tensors)
    notes = fit_tensors(backbone.net, tensors, source=str(path), ignored=backbone.head_prefixes)
    return Encoder(backbone, spec, weights_tag=path.name, weights_hash=file_hash(path), notes=notes)


def _with_saved_encoder(
    spec: EncoderSpec, backbone: Backbone, path: Path, tensors: Mapping[str, Tensor]
) -> Encoder:
    """Returns an encoder with the backbone of an earlier encoder, and with the rest of it if that fits."""
    described = path.name == TENSORS and (path.parent / DESCRIPTION).exists()
    earlier = read_description(path.parent) if described else None
    if earlier is not None:
        tensors = read_saved_tensors(path.parent, earlier)
        backbone.mean, backbone.std = three_numbers(earlier.mean), three_numbers(earlier.std)
        if earlier.encoder.name.partition(".")[0] != spec.name.partition(".")[0]:
            raise InputError(
                f"'{path}' holds weights of {earlier.encoder.name}, expected those of {spec.name}"
            )
    trunk = {key.removeprefix(OWN): value for key, value in tensors.items() if key.startswith(OWN)}
    notes = fit_tensors(backbone.net, trunk, source=str(path), ignored=backbone.head_prefixes)
    if earlier is None:
        notes.append(
            f"weights '{path}': without {DESCRIPTION} beside it, mean and std are those of {spec.name}"
        )
    tag = f"{path.parent.name}/{path.name}"
    encoder = Encoder(backbone, spec, weights_tag=tag, weights_hash=file_hash(path))
    rest = {key: value for key, value in tensors.items() if not key.startswith(OWN)}
    own = {key: value for key, value in encoder.state_dict().items() if not key.startswith(OWN)}
    same = earlier is None or (earlier.encoder.pooling, earlier.encoder.feature_norm) == (
        spec.pooling,
        spec.feature_norm,
    )
    if same and {k: v.shape for k, v in rest.items()} == {k: v.shape for k, v in own.items()}:
        encoder.load_state_dict(rest, strict=False)
    else:
        notes.append(f"weights '{path}': left out its head, which does not fit this encoder")
    encoder.notes = tuple(notes)
    return encoder
