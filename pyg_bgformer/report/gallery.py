"""Queries and what they find: which ones to look at, which classes are confused, and a picture of them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from pyg_bgformer.report.thumbnails import Picture, thumbnail

RIGHT, WRONG = "#2f9e6b", "#d6455d"
"""Frames of neighbours of the query's class and of another one."""


class Choice(NamedTuple):
    """Queries to look at, each list in its own order.

    Attributes:
        worst: Those with the lowest average precision, of different classes.
        random: Drawn from the others.
        best: Those with the highest average precision, of different classes.
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
    """Returns the worst, some random and the best queries; no query is chosen twice.

    Among equal average precisions the rank of the first neighbour of the query's own class decides, then the
    order of the queries. Queries without an average precision (NaN) are left out.

    Args:
        average_precision: ``(N,)`` of each query, as :class:`~pyg_bgformer.evaluation.RetrievalResult` has it.
        first_rank: ``(N,)`` of the first neighbour of the query's class, from 1.
        labels: Classes ``(N,)``.
        worst: At most how many.
        random: How many, as far as there are queries left.
        best: At most how many.
        seed: Of the random ones.
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
    """A query and what it finds.

    Attributes:
        query: Its image.
        neighbours: Images, the most similar one first, each with whether it is of the query's class.
    """

    query: Picture
    neighbours: Sequence[tuple[Picture, bool]]


class ConfusedPair(NamedTuple):
    """Two classes whose images find each other.

    Attributes:
        first: The class of which more neighbours are wrong.
        second: The other class.
        share: Of the neighbours that the images of both classes retrieve, the part that is of the other class.
        first_queries: Images of the first class, those that find most of the second class in front.
        second_queries: Images of the second class, in the same way.
    """

    first: int
    second: int
    share: float
    first_queries: list[int]
    second_queries: list[int]


def confused_pairs(
    labels: np.ndarray, neighbour_labels: np.ndarray, *, number: int = 6, images: int = 4
) -> list[ConfusedPair]:
    """Returns the pairs of classes that are most confused in retrieval, the most confused one first.

    Args:
        labels: Classes ``(N,)`` of the queries.
        neighbour_labels: Classes ``(N, k)`` of what each query retrieves.
        number: Of pairs, as far as there are confused ones.
        images: Of each class.
    """
    classes, of_query = np.unique(labels, return_inverse=True)
    sizes = np.bincount(of_query)
    k = neighbour_labels.shape[1]
    wrong = neighbour_labels != labels[:, None]
    known = wrong & np.isin(neighbour_labels, classes)  # a gallery may hold classes that no query has
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
    """Returns a picture of queries, one a row, and their neighbours framed in green (right) or red (wrong).

    A wrong neighbour also has a bar below it, for readers who do not tell the colours apart.

    Args:
        rows: Queries and neighbours.
        side: Pixels of an image.
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
