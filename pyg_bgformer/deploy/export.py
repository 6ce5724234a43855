"""Writes a model as one file that runs without this package: ONNX, or a program of ``torch.export``."""

import json
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from pyg_bgformer.deploy.embedding_model import EmbeddingModel
from pyg_bgformer.errors import InputError, RunError, check_choice, one_line

Format = Literal["onnx", "pt2"]
Input = Literal["float", "uint8"]

TOLERANCE = 1e-4
"""Largest accepted difference between an entry of the exported model's embeddings and PyTorch's."""
TRACED, CHECKED = 2, (1, 5)
"""Size of the batch that the model is traced with, and sizes of the batches that it is compared on."""

NEEDED = "exporting to ONNX needs onnx, onnxscript and onnxruntime: pip install 'pyg-bgformer[export]'"


def export_model(
    model: EmbeddingModel,
    out: str | Path,
    format: Format,
    *,
    input: Input = "float",
    tolerance: float = TOLERANCE,
) -> float:
    """Writes a model with its normalisation and projection as one file, and compares it with PyTorch.

    The exported model takes images ``(B, 3, image_size, image_size)`` for any B and returns their embeddings
    ``(B, D)``. The images are already resized and cropped. The metadata of the file describe the model and the
    preparation of images. They are the property ``pyg_bgformer`` in ONNX, and the extra file ``pyg_bgformer.json``
    in a program of ``torch.export``.

    Args:
        model: The model, on the CPU.
        out: The file. It is written after the comparison.
        format: ``"onnx"``, or ``"pt2"`` for :func:`torch.export.load`.
        input: ``"float"`` for RGB from 0 to 1, ``"uint8"`` for RGB from 0 to 255.
        tolerance: Largest accepted difference between entries of the embeddings.

    Returns:
        The largest difference.

    Raises:
        InputError: If ``format`` or ``input`` is unknown, the model cannot be exported, a library is missing, or
            the file cannot be written.
        RunError: If the embeddings of the exported model differ by more than ``tolerance``. No file is written.
    """
    check_choice("format", format, get_args(Format))
    check_choice("input", input, get_args(Input))
    out = Path(out).expanduser()
    deployed = Deployed(model, input).eval()
    facts = {
        "model": model.sha256,
        "image_size": model.image_size,
        "resize": model.resize,
        "input": input,
        "geometry": {"name": type(model.geometry).__name__, **asdict(model.geometry)},  # type: ignore[call-overload]
    }
    write = write_onnx if format == "onnx" else write_program
    try:
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=".export-") as folder:
            file = Path(folder) / f"model.{format}"
            embed = write(deployed, deployed.images(TRACED), file, json.dumps(facts))
            difference = largest_difference(embed, deployed)
            if not difference <= tolerance:
                raise RunError(
                    f"{out} was not written: its embeddings differ by {difference:.1e} from PyTorch's, "
                    f"expected at most {tolerance:.0e}"
                )
            file.replace(out)
    except OSError as error:
        raise InputError(f"{out} cannot be written: {error.strerror or one_line(error)}") from error
    return difference


class Deployed(nn.Module):
    """A model for export. It takes images as floats from 0 to 1 or as uint8.

    Args:
        model: The model.
        input: Type of the images.
    """

    def __init__(self, model: EmbeddingModel, input: Input) -> None:
        super().__init__()
        self.model = model
        self.input = input

    def forward(self, images: Tensor) -> Tensor:
        """Returns embeddings ``(B, D)`` of images ``(B, 3, H, W)``."""
        embeddings: Tensor = self.model(images.float() / 255 if self.input == "uint8" else images)
        return embeddings

    def images(self, count: int) -> Tensor:
        """Returns random images ``(count, 3, image_size, image_size)``. Equal counts give equal images.

        Args:
            count: Number of images.
        """
        shape = (count, 3, self.model.image_size, self.model.image_size)
        values = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(count))
        return values.byte() if self.input == "uint8" else values / 255


def largest_difference(embed: Callable[[Tensor], Tensor], deployed: Deployed) -> float:
    """Returns the largest absolute difference between entries of the two models' embeddings.

    Args:
        embed: The exported model.
        deployed: The same model in PyTorch.
    """
    with torch.no_grad():
        batches = [deployed.images(count) for count in CHECKED]
        return max(float((embed(images) - deployed(images)).abs().max()) for images in batches)


def write_program(deployed: Deployed, images: Tensor, file: Path, facts: str) -> Callable[[Tensor], Tensor]:
    """Writes a program of ``torch.export``. Returns the program after loading it from the file.

    Args:
        deployed: The model.
        images: Example images for tracing.
        file: The file to write.
        facts: The metadata, as JSON.

    Raises:
        InputError: If ``torch.export`` cannot trace the model.
    """
    with quiet():
        program = exported(deployed, images)
        torch.export.save(program, file, extra_files={"pyg_bgformer.json": facts})
        loaded: Callable[[Tensor], Tensor] = torch.export.load(file).module()
    return loaded


def write_onnx(deployed: Deployed, images: Tensor, file: Path, facts: str) -> Callable[[Tensor], Tensor]:
    """Writes an ONNX file. Returns a function that runs it with onnxruntime.

    Args:
        deployed: The model.
        images: Example images for tracing.
        file: The file to write.
        facts: The metadata, as JSON.

    Raises:
        InputError: If a library is missing, ``torch.export`` cannot trace the model, or ONNX cannot express it.
    """
    try:
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InputError(NEEDED) from error
    with quiet():
        program = exported(deployed, images)
        try:
            converted: Any = torch.onnx.export(
                program, input_names=["images"], output_names=["embeddings"], dynamo=True, verbose=False
            )
        except RuntimeError as error:
            raise InputError(f"the model cannot be written as ONNX: {one_line(error)[:200]}") from error
        converted.model.metadata_props["pyg_bgformer"] = facts
        converted.save(str(file))
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])

    def embed(images: Tensor) -> Tensor:
        (embeddings,) = session.run(["embeddings"], {"images": images.numpy()})
        return torch.from_numpy(embeddings)

    return embed


def exported(deployed: Deployed, images: Tensor) -> torch.export.ExportedProgram:
    """Returns the program of a model for any number of images.

    Args:
        deployed: The model.
        images: Example images for tracing.

    Raises:
        InputError: If ``torch.export`` cannot trace the model.
    """
    batch = {0: torch.export.Dim("batch")}
    try:
        with torch.no_grad():
            return torch.export.export(deployed, (images,), dynamic_shapes=(batch,))
    except RuntimeError as error:
        raise InputError(f"torch.export cannot trace the model: {one_line(error)[:200]}") from error


def quiet() -> warnings.catch_warnings:
    """Hides the warnings of the exporters, which the user can do nothing about."""
    return warnings.catch_warnings(action="ignore")
