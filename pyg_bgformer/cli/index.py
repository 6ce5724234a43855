"""``pyg-bgformer index``: images and their embeddings in a folder that can be searched."""

from collections.abc import Sequence
from pathlib import Path

from pyg_bgformer.config.arguments import Parser
from pyg_bgformer.deploy.embedding_model import EmbeddingModel
from pyg_bgformer.deploy.image_index import ImageIndex, find_images
from pyg_bgformer.errors import Interrupted, check_range
from pyg_bgformer.report.progress import Display

EPILOG = """examples:
  pyg-bgformer index runs/folder-bgformer-seed0-... shop/ --out shop.index
  pyg-bgformer index runs/folder-bgformer-seed0-... shop/ --out shop.index --add   the images that are new
  pyg-bgformer index runs/folder-bgformer-seed0-... shop/ --out shop.index --add --approximate

A search compares a query with all images. From about a million images on, --approximate makes it faster; it needs
faiss (pip install 'pyg-bgformer[search]'). Images that are added later are still found: a search compares the query
with each of them until --approximate is given again."""


def main(arguments: Sequence[str]) -> int:
    """Makes an index of images, or adds images to it; returns the exit code."""
    parser = Parser(
        "index",
        "Embeds images and writes an index, a folder that `search` and `serve` use. It keeps a copy of the model\n"
        "and the paths of the images. Several processes may add to one index at a time.",
        EPILOG,
    )
    parser.add_argument(
        "model", metavar="MODEL", help="folder of a run or of a saved model, or a name on the hub"
    )
    parser.add_argument(
        "images", nargs="+", metavar="FOLDER", help="folders of images at any depth, or images"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="INDEX", help="the index, a folder")
    parser.add_argument("--add", action="store_true", help="add images to an index that exists")
    parser.add_argument("--approximate", action="store_true", help="build a faiss index, for many images")
    parser.add_argument(
        "--batch-size", type=int, default=64, metavar="N", help="images at a time (default: 64)"
    )
    parser.add_argument("--device", help="where to compute, for example cuda (default: cpu)")
    given = parser.parse_args(arguments)
    check_range("--batch-size", given.batch_size, at_least=1)
    display = Display()
    model, images = EmbeddingModel.from_pretrained(given.model), find_images(given.images)
    options = {"batch_size": given.batch_size, "device": given.device}
    try:
        if given.add:
            index = ImageIndex(given.out, model)
            found = len(images)
            images = index.missing(images)
            display.line(f"{len(images):,} of {found:,} images are new")
            with display.bar("embedding", len(images)) as advance:
                index.add(images, progress=lambda done, _: advance(done, ""), **options)
        else:
            with display.bar("embedding", len(images)) as advance:
                index = ImageIndex.create(
                    given.out, model, images, progress=lambda done, _: advance(done, ""), **options
                )
        if given.approximate:
            with display.bar("building the approximate index", 1):
                recall = index.vectors.build_approximate()
            display.line(f"the approximate index finds {recall:.1%} of the 10 true neighbours")
    except KeyboardInterrupt as stop:
        kept = given.add or given.out.exists()
        raise Interrupted(
            "resume with the same command and --add" if kept else "nothing was written"
        ) from stop
    display.line(f"{given.out}: {len(index):,} images, {model.dim} dimensions, model {model.sha256[:12]}")
    return 0
