"""``pyg-bgformer embed``: writes the vectors of images to a file."""

import sys
from collections.abc import Sequence

from pyg_bgformer.config.arguments import Parser
from pyg_bgformer.deploy.embed_files import embed_files
from pyg_bgformer.deploy.load_model import load_model
from pyg_bgformer.engine.interruption import interrupted_by_signal
from pyg_bgformer.errors import Interrupted
from pyg_bgformer.geometry import Sphere
from pyg_bgformer.memory import keep_freed_memory
from pyg_bgformer.report.progress import Display

DESCRIPTION = """Writes the path and the vector of each image to a file.

MODEL is a run, a saved model, a name on the Hugging Face hub, or the name of a backbone such as timm/resnet50.
IMAGES are files or folders of images. Subfolders are included. The file appears when it is complete. After an
interruption, the same command resumes the work."""

EPILOG = """examples:
  pyg-bgformer embed runs/folder-bgformer-seed0-... photos --out vectors.npz
  pyg-bgformer embed runs/folder-bgformer-seed0-... photos --out vectors.parquet --skip-bad    needs pyarrow
  pyg-bgformer embed timm/resnet50 a.jpg b.jpg --weights resnet50.safetensors --out vectors.csv
  pyg-bgformer embed MODEL photos --out vectors.parquet --engine ray --ray-workers 8           on a cluster"""


def main(arguments: Sequence[str]) -> int:
    """Embeds images. Returns the exit code."""
    keep_freed_memory()
    given = embed_parser().parse_intermixed_args(arguments)
    display = Display()
    model = load_model(given.model, weights=given.weights, image_size=given.image_size)
    try:
        with interrupted_by_signal(), display.bar("embedding", 100) as update:
            done = embed_files(
                model,
                given.images,
                given.out,
                skip_bad=given.skip_bad,
                batch_size=given.batch_size,
                device=given.device,
                workers=given.workers,
                progress=lambda count, all: update(100 * count // all, f"{count:,} of {all:,} images"),
                engine=given.engine,
                ray_workers=given.ray_workers,
            )
    except KeyboardInterrupt as stop:
        raise Interrupted("resume with the same command") from stop
    for error in done.bad:
        print(f"skipped: {error}", file=sys.stderr)
    kept = f" ({done.reused:,} of them from an interrupted run)" if done.reused else ""
    display.line(
        f"{done.out}: {done.images:,} images{kept}, {model.dim} dimensions, model {model.sha256[:12]}"
    )
    if not isinstance(model.geometry, Sphere):
        display.line(
            f"points of {model.geometry}: compare them by EmbeddingModel.similarity, not by the cosine"
        )
    if done.bad:
        display.line(f"skipped: {len(done.bad):,} of {done.images + len(done.bad):,} images")
    return 0


def embed_parser() -> Parser:
    """Returns the parser of the command's arguments."""
    parser = Parser("embed", DESCRIPTION, EPILOG)
    parser.add_argument("model", metavar="MODEL", help="a run, a saved model, or a backbone")
    parser.add_argument("images", nargs="+", metavar="IMAGES", help="images, or folders of images")
    parser.add_argument("--out", required=True, metavar="FILE", help="a .parquet, .npz or .csv file")
    parser.add_argument(
        "--skip-bad", action="store_true", help="skip images that cannot be read and list them"
    )
    parser.add_argument(
        "--batch-size", type=int, default=64, metavar="N", help="images at a time (default: 64)"
    )
    parser.add_argument("--device", help="where to compute, for example cuda (default: cpu)")
    parser.add_argument(
        "--workers", type=int, metavar="N", help="threads that read images (default: one for each CPU)"
    )
    parser.add_argument(
        "--weights", metavar="FILE", help="file of a backbone's weights (default: downloaded)"
    )
    parser.add_argument(
        "--image-size", type=int, metavar="PIXELS", help="side of the images that a backbone sees"
    )
    parser.add_argument(
        "--engine",
        choices=["local", "ray"],
        default="local",
        help="where to run: on this machine, or on a Ray cluster (default: local)",
    )
    parser.add_argument(
        "--ray-workers", type=int, default=2, metavar="N", help="number of Ray processes (default: 2)"
    )
    return parser
