"""Chooses queries to look at, finds confused classes, and draws queries with their neighbours."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from pyg_bgformer.report.thumbnails import Picture, thumbnail

RIGHT, WRONG = "#2f9e6b", "#d6455d"
"""Colours of the frames of neighbours: of the query's class, and of another class."""


class Choice(NamedTuple):
    """Queries to look at.

    Attributes:
        worst: Queries of different classes with the lowest average precision, lowest first.
        random: Random queries from the others.
        best: Queries of different classes with the highest average precision, highest first.
    """

    worst: list[int]
    random: list[int]
    best: list[int]


def choose_queries(
    average_precision: np.ndarray,
    first_rank: np.ndarray,
    labels: np.ndarray,
    *,
    worst: int = 8,
    random: int = 6,
    best: int = 4,
    seed: int = 0,
) -> Choice:
    """Returns the worst, some random and the best queries. No query is chosen twice.

    Queries with equal average precision are ordered by the rank of their first neighbour of the same class, then by
    position. Queries without an average precision (NaN) are left out.

    Args:
        average_precision: ``(N,)``, see :class:`~pyg_bgformer.evaluation.RetrievalResult`.
        first_rank: ``(N,)``, rank of the first neighbour of the query's class, from 1.
        labels: ``(N,)``, classes.
        worst: Largest number of worst queries.
        random: Largest number of random queries.
        best: Largest number of best queries.
        seed: Seed of the random queries.
    """
    defined = np.flatnonzero(~np.isnan(average_precision))
    order = defined[np.lexsort((defined, -first_rank[defined], average_precision[defined]))]
    lowest = _of_different_classes(order, labels, worst)
    rest = order[~np.isin(order, lowest)][::-1]
    highest = _of_different_classes(rest, labels, best)
    others = np.sort(rest[~np.isin(rest, highest)])
    drawn = np.random.default_rng(seed).permutation(others)[:random]
    return Choice(lowest, drawn.tolist(), highest)


class GalleryRow(NamedTuple):
    """A query and its neighbours.

    Attributes:
        query: Image of the query.
        neighbours: Images of the neighbours, most similar first, and whether each is of the query's class.
    """

    query: Picture
    neighbours: Sequence[tuple[Picture, bool]]


class ConfusedPair(NamedTuple):
    """Two classes whose images retrieve each other.

    Attributes:
        first: The class that retrieves a larger share of the other class.
        second: The other class.
        share: Share of all neighbours of both classes that are of the other class, from 0 to 1.
        first_queries: Images of the first class. Those that retrieve most images of the second class come first.
        second_queries: Images of the second class, in the same order.
    """

    first: int
    second: int
    share: float
    first_queries: list[int]
    second_queries: list[int]


def confused_pairs(
    labels: np.ndarray, neighbour_labels: np.ndarray, *, number: int = 6, images: int = 4
) -> list[ConfusedPair]:
    """Returns the pairs of classes that are most confused in retrieval, most confused first.

    Args:
        labels: ``(N,)``, classes of the queries.
        neighbour_labels: ``(N, k)``, classes of the neighbours of each query.
        number: Largest number of pairs.
        images: Largest number of images of each class in a pair.
    """
    classes, of_query = np.unique(labels, return_inverse=True)
    sizes = np.bincount(of_query)
    k = neighbour_labels.shape[1]
    wrong = neighbour_labels != labels[:, None]
    known = wrong & np.isin(neighbour_labels, classes)  # a gallery may have classes without a query
    queries, places = np.nonzero(known)
    found = np.searchsorted(classes, neighbour_labels[queries, places])
    keys, counts = np.unique(of_query[queries] * len(classes) + found, return_counts=True)
    single = dict(zip(keys.tolist(), counts.tolist(), strict=True))
    totals: dict[tuple[int, int], int] = {}
    for key, count in single.items():
        a, b = divmod(key, len(classes))
        totals[min(a, b), max(a, b)] = totals.get((min(a, b), max(a, b)), 0) + count
    shares = {pair: count / ((sizes[pair[0]] + sizes[pair[1]]) * k) for pair, count in totals.items()}
    pairs = []
    for a, b in sorted(shares, key=lambda pair: (-shares[pair], pair))[:number]:
        if single.get(b * len(classes) + a, 0) / sizes[b] > single.get(a * len(classes) + b, 0) / sizes[a]:
            first, second = b, a
        else:
            first, second = a, b
        confusing = [
            _most_confused(of_query == one, neighbour_labels == classes[other], images)
            for one, other in ((first, second), (second, first))
        ]
        share = float(shares[min(a, b), max(a, b)])
        pairs.append(ConfusedPair(int(classes[first]), int(classes[second]), share, *confusing))
    return pairs


def gallery_image(rows: Sequence[GalleryRow], side: int = 72) -> Image.Image:
    """Returns a picture with a row for each query. Neighbours have green frames (right) or red frames (wrong).

    A wrong neighbour also has a bar at its lower edge, for readers who cannot distinguish the colours.

    Args:
        rows: Queries and neighbours.
        side: Side of an image in pixels.
    """
    step, frame = side + 14, 4
    columns = 1 + max((len(row.neighbours) for row in rows), default=0)
    sheet = Image.new("RGB", (columns * step + 18, len(rows) * step + 8), "white")
    draw = ImageDraw.Draw(sheet)
    for line, (query, neighbours) in enumerate(rows):
        y = 8 + line * step
        sheet.paste(thumbnail(query, side), (8, y))
        for column, (picture, right) in enumerate(neighbours, start=1):
            x, color = 26 + column * step, RIGHT if right else WRONG
            draw.rectangle((x - frame, y - frame, x + side + frame - 1, y + side + frame - 1), fill=color)
            sheet.paste(thumbnail(picture, side), (x, y))
            if not right:
                draw.rectangle((x, y + side - 5, x + side - 1, y + side - 1), fill=color)
    return sheet


def _of_different_classes(order: np.ndarray, labels: np.ndarray, number: int) -> list[int]:
    _, firsts = np.unique(labels[order], return_index=True)
    return [int(query) for query in order[np.sort(firsts)][:number]]


def _most_confused(of_class: np.ndarray, hits: np.ndarray, number: int) -> list[int]:
    own = np.flatnonzero(of_class)
    order = np.argsort(-hits[own].sum(axis=1), kind="stable")
    return [int(query) for query in own[order][:number]]
