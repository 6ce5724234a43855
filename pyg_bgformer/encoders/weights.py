"""Weights from a local file: found, checked key by key, loaded and hashed. A pickle is never opened."""

import hashlib
import os
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from pyg_bgformer.errors import InputError

_SHOWN = 12


def is_weights_file(weights: str) -> bool:
    """Whether ``weights`` names a file rather than a tag: it holds a folder separator or a known ending."""
    return "/" in weights or os.sep in weights or weights.endswith((".safetensors", ".pth", ".pt", ".bin"))


def weights_path(weights: str) -> Path:
    """The file that ``weights`` names, with ``~`` and environment variables such as ``$HOME`` expanded.

    Raises:
        InputError: an environment variable is not set, the ending is not ``.safetensors``, or no such file.
    """
    expanded = os.path.expandvars(os.path.expanduser(weights))
    if "$" in expanded:
        raise InputError(f"weights file '{weights}' names an environment variable that is not set")
    path = Path(expanded)
    if path.suffix != ".safetensors":
        raise InputError(f"weights file '{path}' is not a .safetensors file: pickled weights are not opened")
    if not path.is_file():
        raise InputError(f"weights file '{path}' does not exist")
    return path


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a ``.safetensors`` file, on the CPU.

    Raises:
        InputError: the file cannot be read, is truncated or is of another format.
    """
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"'{path}' is no safetensors file, or truncated: {error}") from error


def fit_tensors(
    net: nn.Module, tensors: Mapping[str, Tensor], *, source: str, ignored: tuple[str, ...] = ()
) -> None:
    """Load ``tensors`` into ``net``: every tensor of the network is set, each cast to the network's type.

    Keys that start with one of ``ignored`` (a classifier that the encoder has no use for) are left out.

    Raises:
        InputError: keys are missing, unexpected or misshaped: they are listed, and nothing is loaded.
    """
    expected = net.state_dict()
    given = {key: value for key, value in tensors.items() if key in expected or not key.startswith(ignored)}
    problems = [
        _listed("missing", expected.keys() - given.keys()),
        _listed("unexpected", given.keys() - expected.keys()),
        _listed("misshaped", _misshaped(expected, given)),
    ]
    if any(problems):
        raise InputError(f"weights '{source}' do not fit the network: {'; '.join(filter(None, problems))}")
    # torch keeps layout versions beside the keys; a safetensors file has none, and the layout was checked.
    given_state = OrderedDict(given)
    given_state._metadata = expected._metadata  # type: ignore[attr-defined]
    net.load_state_dict(given_state)


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tensors_hash(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes in the order of the names, in hexadecimal."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _misshaped(expected: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> list[str]:
    return [
        f"{key} {tuple(given[key].shape)} for {tuple(expected[key].shape)}"
        for key in expected.keys() & given.keys()
        if expected[key].shape != given[key].shape
    ]


def _listed(what: str, keys: Iterable[str]) -> str:
    names = sorted(keys)
    if not names:
        return ""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{len(names)} {what} ({', '.join(names[:_SHOWN])}{more})"
