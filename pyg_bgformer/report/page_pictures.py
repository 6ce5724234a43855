"""The sections of a page that show images: the gallery, confused classes, and the map of the embeddings."""

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
"""Images that a query of the gallery shows."""

PICTURE, POINT = 88, 44
"""Pixels of an image of the gallery and of one on the map."""

MAP_POINTS = 1000
"""Most points of the map: t-SNE of so many takes about two seconds."""


def gallery_groups(images: EmbeddedImages, found: Retrieved) -> list[dict[str, Any]]:
    """Returns the worst, some random and the best queries with what they find, for the template.

    Args:
        images: The test images.
        found: What they retrieve.
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
    """Returns one query and what it finds, for the template.

    Args:
        images: The test images.
        found: What they retrieve.
        query: Its position among the queries.
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
    """Returns what a query finds, for the template.

    Args:
        images: The test images.
        found: What they retrieve.
        query: Its position among the queries.
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
        found: What they retrieve.
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
        images: The test images; of a query and gallery set the queries are shown.
        method: How the map is made.
        seed: Decides which classes are shown if there are too many, and the map.
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
        "note": f"{what} of {len(shown)} of {len(images.labels)} images in {len(classes)} classes, a colour each.",
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
    """Returns an image as the gallery shows it.

    Args:
        picture: Any image.
    """
    return data_uri(thumbnail(picture, PICTURE))
