import numpy as np
from PIL import Image, ImageColor

from pyg_bgformer.report.gallery import (
    RIGHT,
    WRONG,
    GalleryRow,
    choose_queries,
    confused_pairs,
    gallery_image,
)

NAN = float("nan")


def test_worst_and_best_queries_are_of_different_classes_and_disjoint():
    average = np.array([0.0, 0.0, 0.1, 1.0, 1.0, 0.9, 0.5, NAN])
    first = np.array([3, 9, 2, 1, 1, 1, 2, NAN])
    labels = np.array([0, 0, 1, 0, 1, 2, 2, 3])
    choice = choose_queries(average, first, labels, worst=2, random=9, best=2)
    assert choice.worst == [1, 2]  # query 1 of class 0 finds its class later than query 0
    assert choice.best == [4, 3]
    assert sorted(choice.random) == [0, 5, 6]


def test_random_queries_depend_on_the_seed_alone():
    average, labels = np.linspace(0, 1, 50), np.arange(50)
    ranks = np.ones(50)
    first = choose_queries(average, ranks, labels, seed=1)
    assert first == choose_queries(average, ranks, labels, seed=1)
    assert first.random != choose_queries(average, ranks, labels, seed=2).random


def test_fewer_queries_than_asked_for():
    choice = choose_queries(np.array([0.5, NAN]), np.array([1.0, NAN]), np.array([0, 1]))
    assert choice == ([0], [], [])


def test_confused_pairs_by_plain_loops():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 30) * 3  # classes 0, 3, 6, 9
    neighbours = rng.choice([0, 3, 6, 9, 50], (30, 5))
    expected = {}
    for a in (0, 3, 6, 9):
        for b in (0, 3, 6, 9):
            if a < b:
                crossing = sum((neighbours[i] == b).sum() for i in range(30) if labels[i] == a)
                crossing += sum((neighbours[i] == a).sum() for i in range(30) if labels[i] == b)
                expected[a, b] = crossing / (5 * np.isin(labels, [a, b]).sum())
    pairs = confused_pairs(labels, neighbours, number=100)
    found = {(min(p.first, p.second), max(p.first, p.second)): p.share for p in pairs}
    assert found == expected
    assert [p.share for p in pairs] == sorted(expected.values(), reverse=True)
    for pair in pairs:
        assert set(labels[pair.first_queries]) == {pair.first}
        hits = (neighbours[pair.first_queries] == pair.second).sum(axis=1)
        assert list(hits) == sorted(hits, reverse=True)


def test_without_wrong_neighbours_no_pair_is_confused():
    labels = np.array([0, 0, 1, 1])
    assert confused_pairs(labels, np.repeat(labels[:, None], 3, axis=1)) == []


def test_frames_say_which_neighbours_are_right():
    image = Image.new("RGB", (10, 10), "black")
    sheet = gallery_image([GalleryRow(image, [(image, True), (image, False)])], side=20)
    colors = {color for _, color in sheet.getcolors()}
    assert {ImageColor.getrgb(RIGHT), ImageColor.getrgb(WRONG)} <= colors
    assert sheet.width > 3 * 20
