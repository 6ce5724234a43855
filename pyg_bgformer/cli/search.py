"""``pyg-bgformer search``: finds the images of an index that are most similar to a photo."""

import json
from collections.abc import Sequence
from pathlib import Path

from pyg_bgformer.config.arguments import Parser
from pyg_bgformer.deploy.image_index import ImageIndex, find_images
from pyg_bgformer.report.progress import Display
from pyg_bgformer.report.search_page import write_search_page

EPILOG = """examples:
  pyg-bgformer search shop.index photo.jpg
  pyg-bgformer search shop.index photos/ -k 12 --html found.html     writes a page with pictures
  pyg-bgformer search shop.index photo.jpg --json | jq '.[0].neighbours[0].path'

The similarity is the cosine, from -1 to 1. In the Poincare ball it is the negative distance."""

NEIGHBOURS = 8


def main(arguments: Sequence[str]) -> int:
    """Searches an index for photos and prints their neighbours. Returns the exit code."""
    parser = Parser(
        "search",
        "Prints the images of an index that are most similar to each photo, most similar first.",
        EPILOG,
    )
    parser.add_argument("index", metavar="INDEX", help="made by pyg-bgformer index")
    parser.add_argument("photos", nargs="+", metavar="PHOTO", help="images, or folders of images")
    parser.add_argument(
        "-k",
        type=int,
        metavar="N",
        help=f"number of neighbours of each photo, at most the number of images (default: {NEIGHBOURS})",
    )
    parser.add_argument("--html", type=Path, metavar="FILE", help="also write an HTML page with the pictures")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--exact", action="store_true", help="do not use the approximate index")
    parser.add_argument("--model", help="a run or a saved model, if the index has no copy of its model")
    given = parser.parse_intermixed_args(arguments)
    index = ImageIndex(given.index, given.model)
    photos = find_images(given.photos)
    k = min(NEIGHBOURS, max(1, len(index))) if given.k is None else given.k
    hits = index.search(photos, k, exact=given.exact)
    found = [
        list(zip(names, similarities, strict=True))
        for names, similarities in zip(hits.names, hits.similarities.tolist(), strict=True)
    ]
    display = Display()
    if given.html is not None:
        write_search_page(given.html, photos, found, str(given.index))
    if given.json:
        neighbours = [[{"path": path, "similarity": value} for path, value in row] for row in found]
        answer = [{"query": photo, "neighbours": row} for photo, row in zip(photos, neighbours, strict=True)]
        display.line(json.dumps(answer, indent=1))
        return 0
    for photo, row in zip(photos, found, strict=True):
        display.line(photo)
        for rank, (path, similarity) in enumerate(row, start=1):
            display.line(f"{rank:4}  {similarity:8.4f}  {path}")
    if given.html is not None:
        display.line(f"page: {given.html} ({given.html.stat().st_size / 1e6:.1f} MB)")
    return 0
