"""The page of a search: photos and the images of an index that are most similar to them."""

from collections.abc import Sequence
from pathlib import Path

from pyg_bgformer.data.image_files import open_image
from pyg_bgformer.data.images import ImageError, decode_rgb
from pyg_bgformer.report.page import template, write_whole
from pyg_bgformer.report.thumbnails import data_uri, thumbnail

PICTURE = 180
"""Side in pixels of an image on the page."""


def write_search_page(
    out: Path, photos: Sequence[str], found: Sequence[Sequence[tuple[str, float]]], index: str
) -> None:
    """Writes a page of photos and their neighbours as one HTML file, which needs no other file.

    Images that cannot be read any more have no picture on the page.

    Args:
        out: The file.
        photos: Paths of the queries.
        found: Paths and similarities of the neighbours of each query, most similar first.
        index: Name of the index, for the title.

    Raises:
        InputError: If the page cannot be written.
    """
    pictures: dict[str, str | None] = {}

    def item(path: str, similarity: float | None = None) -> dict[str, str | float | None]:
        if path not in pictures:
            pictures[path] = picture_of(path)
        return {
            "path": path,
            "name": "/".join(Path(path).parts[-2:]),
            "picture": pictures[path],
            "similarity": similarity,
        }

    rows = [
        {"query": item(photo), "hits": [item(*hit) for hit in hits]}
        for photo, hits in zip(photos, found, strict=True)
    ]
    page = template("search.html").render(title=f"Search in {index}", rows=rows, size=PICTURE)
    write_whole(out, page.encode())


def picture_of(path: str) -> str | None:
    """Returns an image file as a small picture for a page, or ``None`` if it cannot be read any more.

    Args:
        path: The file.
    """
    try:
        with open_image(path) as stream:
            return data_uri(thumbnail(decode_rgb(stream, path), PICTURE))
    except (OSError, ImageError):
        return None
