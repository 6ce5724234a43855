"""``pyg-bgformer export``: writes a model as one file for other programs."""

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from pyg_bgformer.config.arguments import Parser
from pyg_bgformer.deploy.export import Format, Input, export_model
from pyg_bgformer.deploy.load_model import load_model
from pyg_bgformer.errors import Interrupted
from pyg_bgformer.report.progress import Display

EPILOG = """examples:
  pyg-bgformer export runs/folder-bgformer-seed0-... --format onnx --out shop.onnx
  pyg-bgformer export runs/folder-bgformer-seed0-... --format pt2 --input uint8

The exported model takes RGB images (B, 3, H, W), already resized and cropped to the model's size, and returns their
embeddings. It contains the normalisation, the encoder and the projection.
ONNX needs more libraries: pip install 'pyg-bgformer[export]'."""


def main(arguments: Sequence[str]) -> int:
    """Writes a model for other programs and compares it with PyTorch. Returns the exit code."""
    parser = Parser(
        "export",
        "Writes a model as one file that runs without this package. The command compares its embeddings with\n"
        "PyTorch's. If a number differs by more than 1e-4, no file is written and the exit code is 1.",
        EPILOG,
    )
    parser.add_argument(
        "model", metavar="MODEL", help="a run, a saved model, a name on the hub, or a backbone"
    )
    parser.add_argument(
        "--format", choices=get_args(Format), required=True, help="onnx, or pt2 for torch.export.load"
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="the file (default: model.onnx or model.pt2)"
    )
    parser.add_argument(
        "--input",
        choices=get_args(Input),
        default="float",
        help="type of the images: float from 0 to 1, or uint8 from 0 to 255 (default: float)",
    )
    given = parser.parse_intermixed_args(arguments)
    out = Path(f"model.{given.format}") if given.out is None else given.out
    display = Display()
    model = load_model(given.model)
    try:
        with display.bar(f"writing {out}", 1):
            difference = export_model(model, out, given.format, input=given.input)
    except KeyboardInterrupt as stop:
        raise Interrupted("nothing was written") from stop
    display.line(f"largest difference from PyTorch: {difference:.1e}")
    kind, size = "0 to 1" if given.input == "float" else "uint8", model.image_size
    display.line(
        f"{out} ({out.stat().st_size / 1e6:.1f} MB): images (B, 3, {size}, {size}), RGB, {kind}; "
        f"embeddings (B, {model.dim})"
    )
    return 0
