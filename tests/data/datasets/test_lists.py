import doctest
from pathlib import Path

import pytest

from pyg_bgformer.data.datasets import lists
from pyg_bgformer.errors import InputError


def test_examples():
    assert doctest.testmod(lists).failed == 0


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], "x.txt, line 1: found 'the end of the file'; expected the heading 'id path'"),
        (["path id"], "x.txt, line 1: found 'path id'; expected the heading"),
        (["id path", "1 a", "2"], "x.txt, line 3: found '2'; expected values for id path"),
        (["id path", ""], "x.txt, line 2: found ''"),
    ],
)
def test_a_damaged_list_is_named_with_its_line(lines: list[str], said: str):
    with pytest.raises(InputError, match=said):
        lists.split_rows(Path("x.txt"), lines, "id path")


def test_rows_are_cut_at_any_white_space():
    assert lists.split_rows(Path("x.txt"), ["id   path", "1\ta", "2   b "], "id path") == [
        ["1", "a"],
        ["2", "b"],
    ]


def test_long_differences_are_cut():
    notes = lists.folder_notes("the list", {str(n) for n in range(100, 150)}, "images/", {"100", "new"})
    assert notes == [
        f"49 images of the list not in images/: {', '.join(map(str, range(101, 111)))} and 39 more",
        "1 image of images/ not in the list: new",
    ]
    assert lists.ranges(range(0, 60, 3)) == "0, 3, 6, 9, 12, 15, 18, 21, 24, 27 and 10 more"


def test_nothing_differs():
    assert lists.folder_notes("the list", {"a"}, "images/", {"a"}) == []
    assert lists.numbering_notes("the list", [2, 1], range(1, 3)) == []
