"""A trained encoder as two files that anybody can load offline."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from pyg_bgformer.encoders.build import build_encoder
from pyg_bgformer.encoders.encoder import Encoder, EncoderSpec
from pyg_bgformer.encoders.weights import file_hash, fit_tensors, read_tensors
from pyg_bgformer.errors import InputError
from pyg_bgformer.files import atomic_path

TENSORS = "encoder.safetensors"
DESCRIPTION = "encoder.json"
FORMAT = "pyg_bgformer.encoder.v1"
_KEYS = {"format", "spec", "mean", "std", "feature_dim", "weights_tag", "weights_hash", "sha256", "extra"}


def save_encoder(encoder: Encoder, folder: str | Path, extra: Mapping[str, Any] | None = None) -> None:
    """Write ``encoder.safetensors`` and ``encoder.json`` to a folder, made where it is missing.

    Each file is written beside its place and then moved there; the description, which carries the tensor
    file's hash, comes last, so that an interrupted write is recognised by :func:`load_encoder`.

    Args:
        encoder: the encoder; its freezing and its mode do not matter.
        folder: where the two files go.
        extra: plain values to keep with it (dataset, image size, seed, ...): anything JSON can hold.

    Raises:
        InputError: ``extra`` is not JSON, or the folder cannot be written.
    """
    folder = Path(folder)
    tensors = {key: value.detach().cpu().contiguous().clone() for key, value in encoder.state_dict().items()}
    try:
        json.dumps(extra, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"extra of save_encoder must be plain JSON values: {error}") from error
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(folder / TENSORS) as path:
            save_file(tensors, path)
        description = json.dumps(_describe(encoder, file_hash(folder / TENSORS), extra), indent=2)
        with atomic_path(folder / DESCRIPTION) as path:
            path.write_text(description + "\n", encoding="utf-8")
    except (OSError, SafetensorError) as error:
        raise InputError(f"encoder cannot be written to '{folder}': {error}") from error


def load_encoder(folder: str | Path) -> Encoder:
    """Load an encoder that :func:`save_encoder` wrote; needs no network and leaves torch's generator alone.

    >>> encoder = load_encoder("runs/mine")                                  # doctest: +SKIP
    >>> normalise = torchvision.transforms.v2.Normalize(encoder.mean, encoder.std)  # doctest: +SKIP
    >>> embeddings = encoder(normalise(images))                              # doctest: +SKIP

    Returns:
        The encoder on the CPU, in evaluation mode.

    Raises:
        InputError: a file is missing, truncated, of another format, or not the one it was saved with.
    """
    folder = Path(folder)
    description = encoder_info(folder)
    path = folder / TENSORS
    tensors = read_tensors(path)
    if file_hash(path) != description["sha256"]:
        raise InputError(
            f"'{path}' is not the file that {DESCRIPTION} beside it was written with: save again"
        )
    with torch.random.fork_rng(devices=[]):
        encoder = _build(description["spec"], folder / DESCRIPTION)
    fit_tensors(encoder, tensors, source=str(path))
    encoder.weights_tag = description["weights_tag"]
    encoder.weights_hash = description["weights_hash"]
    return encoder.eval()


def encoder_info(folder: str | Path) -> dict[str, Any]:
    """What ``encoder.json`` says: ``spec``, ``mean``, ``std``, ``weights_tag``, ``extra`` and so on.

    Raises:
        InputError: there is no such file, or it is not an encoder's description.
    """
    path = Path(folder) / DESCRIPTION
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"no encoder in '{folder}': it needs {DESCRIPTION} and {TENSORS}") from error
    except (OSError, ValueError) as error:
        raise InputError(f"'{path}' cannot be read as JSON (truncated?): {error}") from error
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise InputError(f"'{path}' does not describe an encoder: its format is not '{FORMAT}'")
    missing = sorted(_KEYS - description.keys())
    if missing:
        raise InputError(f"'{path}' lacks {', '.join(missing)}: it was not written by save_encoder")
    return description


def _describe(encoder: Encoder, sha256: str, extra: Mapping[str, Any] | None) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "spec": asdict(encoder.spec),
        "mean": encoder.mean,
        "std": encoder.std,
        "feature_dim": encoder.feature_dim,
        "weights_tag": encoder.weights_tag,
        "weights_hash": encoder.weights_hash,
        "sha256": sha256,
        "extra": dict(extra or {}),
    }


def _build(spec: Any, source: Path) -> Encoder:
    known = EncoderSpec.__dataclass_fields__.keys()
    if not isinstance(spec, dict) or spec.keys() != known:
        raise InputError(f"'{source}': spec must have exactly the keys {', '.join(known)}")
    return build_encoder(**spec)
