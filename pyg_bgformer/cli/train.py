"""``pyg-bgformer train``: trains an encoder on a folder of photos."""

from collections.abc import Sequence

from pyg_bgformer.cli.run import report, speak_once
from pyg_bgformer.config.arguments import Parser, split_keys
from pyg_bgformer.config.recipe import read_config
from pyg_bgformer.engine.extension import resumed_config
from pyg_bgformer.engine.run import run
from pyg_bgformer.engine.train_folder import train_folder
from pyg_bgformer.errors import InputError, Interrupted
from pyg_bgformer.memory import keep_freed_memory
from pyg_bgformer.report.progress import Display
from pyg_bgformer.runs.folder import RunFolder

USAGE = """pyg-bgformer train FOLDER [--method NAME] [--holdout SHARE] [--weights FILE] [--out RUN] ...
       pyg-bgformer train --resume RUN [--train.epochs N]"""

DESCRIPTION = """Trains an encoder on a folder of photos, scores it, and writes a page with pictures.

FOLDER has a folder of images for each class: FOLDER/<class>/<image>. A share of the classes is not trained on; the
encoder is scored on it. If you have your own splits, use FOLDER/train/<class>/<image> and FOLDER/test/..., or query
and gallery instead of test. The tested classes may then be the trained ones."""

EPILOG = """Any other key of a recipe can be set too, for example --train.lr 3e-4; see pyg-bgformer run --help.

examples:
  pyg-bgformer train photos
  pyg-bgformer train photos --weights tf_efficientnet_lite0.safetensors     needs no network
  pyg-bgformer train photos --encoder timm/resnet50 --image-size 224 --epochs 20
  pyg-bgformer train photos --holdout none                                  trains the final model on all classes
  pyg-bgformer train more_photos --init runs/folder-bgformer-seed0-...      starts from that run's encoder
  pyg-bgformer train --resume runs/folder-bgformer-seed0-... --train.epochs 30"""


def main(arguments: Sequence[str]) -> int:
    """Trains on a folder, or resumes or extends a run. Returns the exit code."""
    keep_freed_memory()
    speak_once()
    parser = train_parser()
    own, keys = split_keys(arguments)
    given, unknown = parser.parse_known_intermixed_args(own)
    settings, choices = [*keys, *unknown], vars(given)
    resume, display = choices.pop("resume"), Display(verbose=choices.pop("verbose"))
    try:
        if resume is not None:
            if other := [name for name, value in choices.items() if value != parser.get_default(name)]:
                raise InputError(f"--resume takes --train.epochs N and no other setting; found {other[0]}")
            earlier = RunFolder.open(resume)
            folder = run(resumed_config(earlier, settings), display, earlier)
        elif given.folder is None:
            raise InputError("FOLDER is missing, the folder of photos; see pyg-bgformer train --help")
        else:
            folder = train_folder(settings=settings, display=display, **choices)
    except Interrupted as stop:
        raise Interrupted(f"resume with: pyg-bgformer train --resume {stop}") from stop
    config = read_config(["--config", str(folder.recipe)])
    try:
        report(folder, config, display)
    except KeyboardInterrupt as stop:
        raise Interrupted(f"the run is finished; write its page with: pyg-bgformer show {folder}") from stop
    display.line(f"next: pyg-bgformer embed {folder} {config.data.root} --out vectors.npz")
    return 0


def train_parser() -> Parser:
    """Returns the parser of the command's own arguments, which are the arguments of :func:`train_folder`."""
    parser = Parser("train", DESCRIPTION, EPILOG, usage=USAGE)
    parser.add_argument("folder", nargs="?", metavar="FOLDER", help="the folder of photos")
    for flag, name, kind, text in (
        ("--method", "NAME", str, "the training method (default: bgformer)"),
        ("--holdout", "SHARE", share, "share of the classes to score on, or none (default: 0.2)"),
        ("--image-size", "PIXELS", int, "side of the images that the encoder sees (default: 128)"),
        (
            "--encoder",
            "NAME",
            str,
            "a timm/... or torchvision/... model (default: timm/tf_efficientnet_lite0)",
        ),
        ("--weights", "FILE", str, "file of the encoder's pretrained weights (default: downloaded)"),
        ("--epochs", "N", int, "passes over the training images (default: 4)"),
        ("--init", "MODEL", str, "start from the encoder of a run or of a saved model"),
        ("--out", "RUN", str, "folder of the run (default: a new one in runs)"),
        ("--resume", "RUN", str, "an interrupted run, or a finished one to extend"),
    ):
        default = "bgformer" if flag == "--method" else None
        parser.add_argument(flag, metavar=name, type=kind, default=default, help=text)
    parser.add_argument("--verbose", action="store_true", help="show all scores at the end")
    return parser


def share(text: str) -> float:
    """Returns a share of the classes as a number. ``none`` is 0."""
    return 0.0 if text == "none" else float(text)
