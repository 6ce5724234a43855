"""The sections of a page with images: the gallery, confused classes, and the map of the embeddings."""

from typing import Any, Literal

import numpy as np
from matplotlib.colors import to_hex
from PIL import Image

from pyg_bgformer.report.colors import class_colors
from pyg_bgformer.report.embedded_images import EmbeddedImages, Retrieved
from pyg_bgformer.report.embedding_map import choose_points, embedding_map
from pyg_bgformer.report.gallery import choose_queries, confused_pairs
from pyg_bgformer.report.thumbnails import data_uri, sprite, thumbnail

NEIGHBOURS = 8
"""Number of neighbours that the gallery shows for each query."""

PICTURE, POINT = 88, 44
"""Side in pixels of an image in the gallery, and of an image on the map."""

MAP_POINTS = 1000
"""Largest number of points on the map. t-SNE of 1000 points takes about two seconds."""


def gallery_groups(images: EmbeddedImages, found: Retrieved) -> list[dict[str, Any]]:
    """Returns the worst, some random and the best queries with their neighbours, for the template.

    Args:
        images: The test images.
        found: Their neighbours and scores.
    """
    choice = choose_queries(found.scores.average_precision, found.scores.first_rank, images.labels)
    notes = {
        "worst": "lowest average precision, one for each class",
        "random": "drawn from all others",
        "best": "highest average precision, one for each class",
    }
    return [
        {
            "name": f"{name.capitalize()} queries",
            "note": notes[name],
            "rows": [query_row(images, found, query) for query in queries],
        }
        for name, queries in choice._asdict().items()
        if queries
    ]


def query_row(images: EmbeddedImages, found: Retrieved, query: int) -> dict[str, Any]:
    """Returns a query with its neighbours, for the template.

    Args:
        images: The test images.
        found: Their neighbours and scores.
        query: Position of the query among the queries.
    """
    own = int(images.labels[query])
    rank, precision = found.scores.first_rank[query], found.scores.average_precision[query]
    return {
        "picture": picture_uri(images.query_picture(query)),
        "name": images.class_names[own],
        "says": f"AP {precision:.2f}, first right image at rank {rank:.0f}",
        "hits": hits(images, found, query),
    }


def hits(images: EmbeddedImages, found: Retrieved, query: int) -> list[dict[str, Any]]:
    """Returns the neighbours of a query, for the template.

    Args:
        images: The test images.
        found: Their neighbours and scores.
        query: Position of the query among the queries.
    """
    own = images.labels[query]
    return [
        {
            "picture": picture_uri(images.item_picture(item)),
            "name": images.class_names[int(images.item_labels[item])],
            "right": bool(images.item_labels[item] == own),
            "similarity": f"{similarity:.2f}",
        }
        for item, similarity in zip(
            found.ids[query].tolist(), found.similarities[query].tolist(), strict=True
        )
    ]


def confused_sections(images: EmbeddedImages, found: Retrieved) -> list[dict[str, Any]]:
    """Returns the most confused pairs of classes with their pictures, for the template.

    Args:
        images: The test images.
        found: Their neighbours and scores.
    """
    return [
        {
            "share": f"{100 * pair.share:.0f} %",
            "sides": [
                {
                    "name": images.class_names[name],
                    "pictures": [picture_uri(images.query_picture(query)) for query in queries],
                }
                for name, queries in ((pair.first, pair.first_queries), (pair.second, pair.second_queries))
            ],
        }
        for pair in confused_pairs(images.labels, images.item_labels[found.ids])
    ]


def map_section(images: EmbeddedImages, method: Literal["tsne", "umap"], seed: int) -> dict[str, Any]:
    """Returns the points, colours and pictures of the map, for the template.

    Args:
        images: The test images. If there is a gallery, the queries are shown.
        method: Method of the map.
        seed: Decides the map, and which images are shown if there are too many.
    """
    shown = choose_points(images.labels, MAP_POINTS, seed)
    points = embedding_map(images.embeddings[shown], method=method, similarity=images.similarity, seed=seed)
    places = np.round(1000 * points * [1, -1] + [0, 1000]).astype(int)
    classes, groups = np.unique(images.labels[shown], return_inverse=True)
    colors = class_colors(len(classes))
    names = [images.class_names[int(name)] for name in classes]
    pictures = [images.query_picture(int(query)) for query in shown]
    columns = int(np.ceil(np.sqrt(len(shown))))
    sheet = sprite([thumbnail(picture, POINT) for picture in pictures], columns)
    what = {"tsne": "t-SNE", "umap": "UMAP"}[method]
    return {
        "note": f"{what} of {len(shown)} of {len(images.labels)} images, {len(classes)} classes by colour.",
        "radius": 7 if len(shown) > 400 else 10,
        "classes": [
            {
                "name": name,
                "color": to_hex(color),
                "points": [{"x": x, "y": y} for x, y in places[groups == number].tolist()],
            }
            for number, (name, color) in enumerate(zip(names, colors, strict=True))
        ],
        "data": {
            "sprite": data_uri(sheet, quality=70),
            "columns": columns,
            "shown": 2 * POINT,
            "rendering": "pixelated" if min(pictures[0].size) < POINT else "auto",
            "names": names,
            "points": np.column_stack([places, groups]).tolist(),
        },
    }


def picture_uri(picture: Image.Image) -> str:
    """Returns an image as a ``data:`` address, in the size of the gallery.

    Args:
        picture: The image.
    """
    return data_uri(thumbnail(picture, PICTURE))
