"""``pyg-bgformer evaluate``: scores an existing model."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from pyg_bgformer.config.arguments import Parser, split_keys
from pyg_bgformer.engine.evaluate_model import evaluate_model
from pyg_bgformer.errors import InputError
from pyg_bgformer.files import atomic_path
from pyg_bgformer.memory import keep_freed_memory
from pyg_bgformer.report.progress import Display

DESCRIPTION = """Scores a model on images with classes, without training. The table and the JSON are those of a run.

MODEL is a run, a saved model, a name on the Hugging Face hub, or the name of a backbone such as timm/resnet50.
DATA is one of:
  a folder of photos, FOLDER/<class>/<image>: all classes are scored
  a run, a recipe or a dataset: its test images are scored
If MODEL is a run, DATA may be left out: the test images of the run are scored. It is the same if DATA is the
folder that the run was trained on."""

EPILOG = """Any other key of a recipe can be set too, for example --evaluation.recall_at "[1, 10]".

examples:
  pyg-bgformer evaluate runs/folder-bgformer-seed0-... other_photos
  pyg-bgformer evaluate runs/folder-bgformer-seed0-...               the test images of the run
  pyg-bgformer evaluate timm/resnet50 photos --weights resnet50.safetensors
  pyg-bgformer evaluate timm/resnet50 cub200 --data.root /my/CUB_200_2011 --json"""


def main(arguments: Sequence[str]) -> int:
    """Scores a model and prints the table. Returns the exit code."""
    keep_freed_memory()
    parser = Parser("evaluate", DESCRIPTION, EPILOG)
    parser.add_argument("model", metavar="MODEL", help="a run, a saved model, or a backbone")
    parser.add_argument("data", nargs="?", metavar="DATA", help="a folder, a run, a recipe or a dataset")
    parser.add_argument(
        "--weights", metavar="FILE", help="file of a backbone's weights (default: downloaded)"
    )
    parser.add_argument(
        "--image-size", type=int, metavar="PIXELS", help="side of the images that a backbone sees"
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="print the result as JSON; progress goes to standard error",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="also write the JSON to a file")
    parser.add_argument("--verbose", action="store_true", help="show all scores")
    own, keys = split_keys(arguments)
    given, unknown = parser.parse_known_intermixed_args(own)
    display = Display(Console(stderr=True) if given.json else None, verbose=given.verbose)
    if given.out is not None and not given.out.parent.is_dir():
        raise InputError(f"{given.out} cannot be written: there is no folder {given.out.parent}")
    result = evaluate_model(
        given.model,
        given.data,
        weights=given.weights,
        image_size=given.image_size,
        settings=[*keys, *unknown],
        display=display,
    )
    text = json.dumps(asdict(result), indent=2)
    if given.json:
        print(text)
    else:
        display.result(result)
    if given.out is not None:
        try:
            with atomic_path(given.out) as path:
                path.write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            raise InputError(f"{given.out} cannot be written: {error.strerror or error}") from error
    return 0
