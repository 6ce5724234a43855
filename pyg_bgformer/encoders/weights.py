"""Weights from local files: they are read without executing code, matched key by key, loaded and hashed."""

import hashlib
import math
import os
import pickle
import re
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.layers.pos_embed import resample_abs_pos_embed
from torch import Tensor, nn

from pyg_bgformer.errors import InputError, one_line

TORCH_FILES = (".pth", ".pt", ".bin")
WRAPPERS = ("module.", "_orig_mod.", "model.", "backbone.", "net.")
"""Prefixes of all keys that DistributedDataParallel, torch.compile and wrapping modules add."""
UNUSED = ("mask_token", "pre_logits.")
"""Beginnings of keys in many weight files of vision transformers that only pretraining or the classifier uses."""
POSITIONS = ("pos_embed", "encoder.pos_embedding")
SHOWN = 12


def is_weights_file(weights: str) -> bool:
    """Returns whether ``weights`` names a file or folder and not a tag.

    Args:
        weights: It names a file or folder if it contains a path separator or ends like a weight file.
    """
    return "/" in weights or os.sep in weights or weights.endswith((".safetensors", *TORCH_FILES))


def weights_path(weights: str, in_folder: str) -> Path:
    """Returns the file that ``weights`` names.

    Args:
        weights: A file or folder. ``~`` and environment variables such as ``$HOME`` are expanded.
        in_folder: Name of the file to take if ``weights`` is a folder.

    Raises:
        InputError: If an environment variable is not set, the ending is unknown, or there is no such file.
    """
    expanded = os.path.expandvars(os.path.expanduser(weights))
    if "$" in expanded:
        raise InputError(f"weights file '{weights}' names an environment variable that is not set")
    path = Path(expanded)
    if path.is_dir():
        path = path / in_folder
    if path.suffix not in (".safetensors", *TORCH_FILES):
        raise InputError(f"weights file '{path}' must end in .safetensors, {', '.join(TORCH_FILES)}")
    if not path.is_file():
        raise InputError(f"weights file '{path}' does not exist")
    return path


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Returns the tensors of a file by name, on the CPU. Nothing in the file is executed.

    Args:
        path: A ``.safetensors`` file, or a file of ``torch.save`` that holds a mapping from names to tensors.

    Raises:
        InputError: If the file cannot be read, is truncated or holds anything but tensors.
    """
    if path.suffix in TORCH_FILES:
        return _torch_tensors(path)
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"'{path}' is not a safetensors file, or truncated: {one_line(error)}") from error


def _torch_tensors(path: Path) -> dict[str, Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        forbidden = re.search(r"GLOBAL (\S+)", str(error))
        found = f"'{forbidden[1]}'" if forbidden else "something else"
        raise InputError(f"'{path}' must hold only tensors, found {found}; nothing of it was run") from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise InputError(f"'{path}' is not a file of torch.save, or truncated: {one_line(error)}") from error
    if not isinstance(content, Mapping):
        raise InputError(f"'{path}' must hold names and tensors, found {type(content).__name__}")
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise InputError(
                f"'{path}' must hold only names and tensors, found {type(value).__name__} under {key!r}: "
                "save only the network's state_dict"
            )
    return {key: value.detach() for key, value in content.items()}


def without_wrappers(tensors: Mapping[str, Tensor], expected: Collection[str]) -> dict[str, Tensor]:
    """Returns the tensors without the prefixes of :data:`WRAPPERS` that all their keys share.

    >>> list(without_wrappers({"module.model.a": torch.zeros(1), "module.model.b": torch.zeros(1)}, {"a", "b"}))
    ['a', 'b']

    Args:
        tensors: Tensors by name.
        expected: Keys of the network. As soon as one of them is found, no more prefixes are removed.
    """
    found = dict(tensors)
    while found and not any(key in expected for key in found):
        prefix = next((p for p in WRAPPERS if all(key.startswith(p) for key in found)), None)
        if prefix is None:
            break
        found = {key.removeprefix(prefix): tensor for key, tensor in found.items()}
    return found


def fit_tensors(
    net: nn.Module, tensors: Mapping[str, Tensor], *, source: str, ignored: tuple[str, ...] = ()
) -> list[str]:
    """Loads ``tensors`` into ``net``. Every tensor of the network is set, and keeps the network's type.

    BatchNorm's ``num_batches_tracked`` may be missing, because old files do not have it. Position embeddings of
    another image size are resampled. Keys that the network does not use are left out if they start with one of
    ``ignored`` or :data:`UNUSED`.

    Args:
        net: The network.
        tensors: Tensors by name.
        source: Name of the tensors in messages.
        ignored: Prefixes of a classifier's keys.

    Returns:
        Lines that say what was left out or resampled.

    Raises:
        InputError: If keys are missing or unexpected, or tensors have another shape or kind of number. The message
            lists them, and nothing is loaded.
    """
    expected = net.state_dict()
    unused = [key for key in tensors if key not in expected and key.startswith((*ignored, *UNUSED))]
    given = {key: value for key, value in tensors.items() if key not in unused}
    notes = [f"weights '{source}': left out {listed(unused)}"] if unused else []
    for key in POSITIONS:
        if key in given and key in expected and given[key].shape != expected[key].shape:
            resampled = _resampled(given[key], expected[key], net)
            if resampled is not None:
                before, after = given[key].shape[1], resampled.shape[1]
                notes.append(f"weights '{source}': resampled {key} from {before} to {after} positions")
                given[key] = resampled
    counters = {key for key in expected if key.endswith("num_batches_tracked")}
    shared = expected.keys() & given.keys()
    problems = {
        "missing": expected.keys() - given.keys() - counters,
        "unexpected": given.keys() - expected.keys(),
        "misshaped": {
            f"{key} {tuple(given[key].shape)} for {tuple(expected[key].shape)}"
            for key in shared
            if given[key].shape != expected[key].shape
        },
        "of another kind": {
            f"{key} {given[key].dtype} for {expected[key].dtype}"
            for key in shared - counters
            if given[key].is_floating_point() != expected[key].is_floating_point()
        },
    }
    if any(problems.values()):
        found = "; ".join(f"{len(keys)} {what} ({listed(keys)})" for what, keys in problems.items() if keys)
        raise InputError(f"weights '{source}' do not fit the network: {found}")
    # torch stores versions of layouts beside the keys. A file of tensors has none, so the network's are used.
    state: OrderedDict[str, Tensor] = OrderedDict(
        {key: given.get(key, value) for key, value in expected.items()}
    )
    state._metadata = expected._metadata  # type: ignore[attr-defined]
    net.load_state_dict(state)
    return notes


def _resampled(given: Tensor, expected: Tensor, net: Any) -> Tensor | None:
    """Returns position embeddings ``(1, N, C)`` for the network's grid of patches, or None if they do not fit."""
    if given.ndim != 3 or expected.ndim != 3 or given.shape[2] != expected.shape[2]:
        return None
    if hasattr(net, "patch_embed"):
        height, width = net.patch_embed.grid_size
    else:
        height = width = net.image_size // net.patch_size
    prefix = expected.shape[1] - height * width  # class and register tokens
    side = math.isqrt(max(given.shape[1] - prefix, 0))
    if side == 0 or side**2 + prefix != given.shape[1]:
        return None
    resampled: Tensor = resample_abs_pos_embed(given, [height, width], num_prefix_tokens=prefix)
    return resampled


def file_hash(path: Path) -> str:
    """Returns the SHA-256 of the bytes of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tensors_hash(tensors: Mapping[str, Tensor]) -> str:
    """Returns the SHA-256 of the names, types, shapes and bytes of tensors in hexadecimal, whatever their order."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def listed(keys: Iterable[str]) -> str:
    """Returns the first keys in alphabetical order as text, with the number of the others."""
    names = sorted(keys)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more}"
