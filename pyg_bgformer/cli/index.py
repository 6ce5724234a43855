"""``pyg-bgformer index``: makes a searchable index of images."""

import sys
from collections.abc import Sequence
from pathlib import Path

from pyg_bgformer.config.arguments import Parser
from pyg_bgformer.data.images import ImageError
from pyg_bgformer.deploy.image_index import ImageIndex, find_images
from pyg_bgformer.deploy.load_model import load_model
from pyg_bgformer.deploy.vectors import read_vectors
from pyg_bgformer.engine.interruption import interrupted_by_signal
from pyg_bgformer.errors import Interrupted, check_range
from pyg_bgformer.report.progress import Display

EPILOG = """examples:
  pyg-bgformer index runs/folder-bgformer-seed0-... shop/ --out shop.index
  pyg-bgformer index runs/folder-bgformer-seed0-... shop/ --out shop.index --add   adds new images
  pyg-bgformer index runs/folder-bgformer-seed0-... vectors.parquet --out shop.index    from pyg-bgformer embed
  pyg-bgformer index runs/folder-bgformer-seed0-... shop/ --out shop.index --add --approximate

A search compares a query with all images. For more than about a million images, --approximate makes it faster. It
needs faiss: pip install 'pyg-bgformer[search]'. Images that are added later are found too: a search compares
the query with each of them. To make this fast as well, give --approximate again."""


def main(arguments: Sequence[str]) -> int:
    """Makes an index of images, or adds images to it. Returns the exit code."""
    given = index_parser().parse_intermixed_args(arguments)
    check_range("--batch-size", given.batch_size, at_least=1)
    display = Display()
    model = load_model(given.model)
    bad: list[ImageError] | None = [] if given.skip_bad else None
    of_vectors = len(given.images) == 1 and Path(given.images[0]).suffix in (".parquet", ".npz")
    images = read_vectors(given.images[0]) if of_vectors else find_images(given.images, bad)
    options = {"batch_size": given.batch_size, "device": given.device, "bad": bad}
    try:
        with interrupted_by_signal(), display.bar("indexing", len(images)) as advance:
            if given.add:
                index = ImageIndex(given.out, model)
                added = index.add(images, progress=lambda done, _: advance(done, ""), **options)
                display.line(f"{added:,} of {len(images):,} images were new")
            else:
                index = ImageIndex.create(
                    given.out, model, images, progress=lambda done, _: advance(done, ""), **options
                )
        if given.approximate:
            with interrupted_by_signal(), display.bar("building the approximate index", 1):
                recall = index.vectors.build_approximate()
            display.line(f"the approximate index finds {recall:.1%} of the 10 true neighbours")
    except KeyboardInterrupt as stop:
        kept = given.add or given.out.exists()
        raise Interrupted(
            "resume with the same command and --add" if kept else "nothing was written"
        ) from stop
    for error in bad or ():
        print(f"skipped: {error}", file=sys.stderr)
    display.line(f"{given.out}: {len(index):,} images, {model.dim} dimensions, model {model.sha256[:12]}")
    return 0


def index_parser() -> Parser:
    """Returns the parser of the command's arguments."""
    parser = Parser(
        "index",
        "Embeds images and writes an index, a folder for `search` and `serve`. It has a copy of the model and the\n"
        "absolute paths of the images. Several processes may add to one index at the same time.",
        EPILOG,
    )
    parser.add_argument(
        "model", metavar="MODEL", help="a run, a saved model, a name on the hub, or a backbone"
    )
    parser.add_argument(
        "images",
        nargs="+",
        metavar="IMAGES",
        help="images or folders of images, or one .parquet or .npz file of vectors",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="INDEX", help="the index, a folder")
    parser.add_argument("--add", action="store_true", help="add images to an existing index")
    parser.add_argument("--approximate", action="store_true", help="build a faiss index for faster search")
    parser.add_argument(
        "--batch-size", type=int, default=64, metavar="N", help="images at a time (default: 64)"
    )
    parser.add_argument(
        "--skip-bad", action="store_true", help="skip images that cannot be read and list them"
    )
    parser.add_argument("--device", help="where to compute, for example cuda (default: cpu)")
    return parser
