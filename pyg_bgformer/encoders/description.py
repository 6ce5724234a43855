"""A saved model: ``encoder.safetensors`` with its tensors, and ``encoder.json`` with all that their use needs."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from pyg_bgformer.encoders.encoder import EncoderSpec
from pyg_bgformer.encoders.weights import file_hash, read_tensors
from pyg_bgformer.errors import InputError, check_range
from pyg_bgformer.files import atomic_path, read_json
from pyg_bgformer.typed import checked

TENSORS = "encoder.safetensors"
DESCRIPTION = "encoder.json"
SCHEMA = 1
"""Number of the format of ``encoder.json``. It is raised when the format changes."""
LARGEST_IMAGE, LARGEST_NUMBER = 2**14, 1e3


@dataclass(frozen=True, kw_only=True)
class ModelDescription:
    """The content of ``encoder.json``.

    Args:
        schema: See :data:`SCHEMA`.
        encoder: What the encoder is built from.
        mean: Mean of each channel of RGB images in [0, 1], which is subtracted. It is stored because published
            weights of the same network differ in it.
        std: Standard deviation of each channel, by which the result is divided.
        image_size: Side in pixels of the images that the encoder sees.
        resize: Shorter side in pixels to which images are resized before the centre crop.
        geometry: Name and options of the space of the embeddings.
        weights_tag: Where the backbone's initial weights came from.
        weights_hash: SHA-256 of these weights, or :obj:`None` for random weights.
        training: How the model was trained, as plain values for people to read.
        scores: Test scores by name, from 0 to 1, or :obj:`None` for an undefined score.
        license: Identifier of the licence.
        sha256: SHA-256 of ``encoder.safetensors``.
    """

    schema: int = SCHEMA
    encoder: EncoderSpec
    mean: list[float]
    std: list[float]
    image_size: int
    resize: int
    geometry: dict[str, Any]
    weights_tag: str
    weights_hash: str | None
    training: dict[str, Any]
    scores: dict[str, float | None]
    license: str
    sha256: str


def read_description(folder: Path) -> ModelDescription:
    """Returns the content of ``encoder.json`` in a folder.

    Args:
        folder: The folder.

    Raises:
        InputError: If the file is missing, is damaged, has another format, or holds a number out of its range.
    """
    path = folder / DESCRIPTION
    if not path.is_file():
        raise InputError(
            f"no model in '{folder}': {DESCRIPTION} is missing (a run writes it when it is finished)"
        )
    content = read_json(path, "model description")
    found = content.get("schema") if isinstance(content, dict) else None
    if found != SCHEMA or isinstance(found, bool):
        raise InputError(
            f"'{path}' has schema {found!r:.40}, expected {SCHEMA}: it describes no model, or is damaged"
        )
    description: ModelDescription = checked(content, ModelDescription, f"'{path}'")
    if len(description.mean) != 3 or len(description.std) != 3:
        raise InputError(f"'{path}': mean and std must have three numbers, one for each channel")
    for value in description.mean:
        check_range(f"'{path}': mean", value, at_least=-LARGEST_NUMBER, at_most=LARGEST_NUMBER)
    for value in description.std:
        check_range(f"'{path}': std", value, above=0, at_most=LARGEST_NUMBER)
    check_range(f"'{path}': image_size", description.image_size, at_least=1, at_most=LARGEST_IMAGE)
    check_range(
        f"'{path}': resize", description.resize, at_least=description.image_size, at_most=LARGEST_IMAGE
    )
    return description


def read_saved_tensors(folder: Path, description: ModelDescription) -> dict[str, Tensor]:
    """Returns the tensors of a saved model, after their checksum was compared.

    Args:
        folder: The folder of both files.
        description: From :func:`read_description`.

    Raises:
        InputError: If the file is missing, cannot be read, or has another checksum than the description says.
    """
    path = folder / TENSORS
    if not path.is_file():
        raise InputError(f"no model in '{folder}': {TENSORS} is missing")
    if file_hash(path) != description.sha256:
        raise InputError(
            f"'{path}' is damaged, or not the file that {DESCRIPTION} beside it was written with: save it again"
        )
    return read_tensors(path)


def write_model(folder: Path, tensors: dict[str, Tensor], description: dict[str, Any]) -> None:
    """Writes ``encoder.safetensors`` and ``encoder.json``.

    The description is written last, with the checksum of the tensors. :func:`read_saved_tensors` therefore
    recognises an interrupted write.

    Args:
        folder: A folder that exists.
        tensors: Tensors of an encoder by name.
        description: Arguments of :class:`ModelDescription` without ``sha256``.

    Raises:
        OSError: If a file cannot be written.
        InputError: If the description holds something that is not a plain value.
    """
    plain = {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}
    _as_json(ModelDescription(**description, sha256=""))  # raises an error before anything is written
    with atomic_path(folder / TENSORS) as path:
        save_file(plain, path)
    text = _as_json(ModelDescription(**description, sha256=file_hash(folder / TENSORS)))
    with atomic_path(folder / DESCRIPTION) as path:
        path.write_text(text + "\n", encoding="utf-8")


def _as_json(description: ModelDescription) -> str:
    try:
        return json.dumps(asdict(description), indent=2, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"training and scores of a model must be plain values: {error}") from error
