import doctest
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
    listed = {str(n) for n in range(100, 150)}
    assert lists.folder_problems("the list", listed, "images/", {"100", "new"}, {"100": "100"}) == [
        f"49 images of the list not in images/: {', '.join(map(str, range(101, 111)))} and 39 more",
        "1 image of images/ not in the list: new",
    ]
    assert lists.ranges(range(0, 60, 3)) == "0, 3, 6, 9, 12, 15, 18, 21, 24, 27 and 10 more"


def test_nothing_differs():
    assert lists.folder_problems("the list", {"a"}, "images/", {"a"}, {"a": "a"}) == []
    assert lists.numbering_problems("the list", [2, 1], range(1, 3)) == []


def test_a_mark_of_byte_order_and_blank_lines_at_the_end_are_no_rows(tmp_path: Path):
    (tmp_path / "x.txt").write_bytes("\ufeff1 é\r\n2\tb\r\n\r\n \n".encode())
    assert lists.read_lines(tmp_path / "x.txt", "x") == ["1 é", "2\tb"]


@pytest.mark.parametrize("name", ["x (1).txt", "x(2).txt"])
def test_a_numbered_copy_stands_for_a_list(tmp_path: Path, name: str):
    (tmp_path / name).write_text("1 a\n")
    assert lists.read_lines(tmp_path / "x.txt", "x") == ["1 a"]
    (tmp_path / "x.txt").write_text("2 b\n")
    assert lists.read_lines(tmp_path / "x.txt", "x") == ["2 b"]


NAMES = st.text(st.characters(exclude_categories=["Zs", "Zl", "Zp", "Cc", "Cs"]), min_size=1, max_size=8)
BLANKS = st.text(" \t", min_size=1, max_size=3)


@settings(max_examples=30)
@given(st.lists(st.tuples(NAMES, NAMES), max_size=6), BLANKS, st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_rows_are_the_same_however_they_are_separated(rows, blank, end, marked):
    text = "".join(f"{blank.join(row)}{end}" for row in [("id", "path"), *rows])
    with TemporaryDirectory() as folder:
        file = Path(folder, "x.txt")
        file.write_bytes((("\ufeff" if marked else "") + text + end).encode())
        lines = lists.read_lines(file, "x")
    assert lists.split_rows(file, lines, "id path") == [list(row) for row in rows]


@given(st.sets(NAMES, max_size=8), st.sets(NAMES, max_size=8))
def test_a_listed_file_is_found_in_any_case_and_never_two_for_one(listed, more):
    there = {name.upper() for name in listed} | more
    files = lists.listed_files(sorted(listed), there)
    assert set(files.values()) <= there
    for name, file in files.items():
        assert name.casefold() == file.casefold()
    for name in listed & there:
        assert files[name] == name


@given(st.lists(st.integers(1, 30), max_size=30), st.integers(1, 20))
def test_numbers_that_are_named_are_those_that_differ(found, official):
    problems = lists.numbering_problems("x", found, range(1, official + 1))
    wrong = [set(range(1, official + 1)) - set(found), {n for n in found if n > official}]
    repeated = {n for n in found if found.count(n) > 1}
    assert len(problems) == sum(map(bool, [*wrong, repeated]))


@given(st.sets(st.integers(0, 40), max_size=12))
def test_ranges_name_each_number_once(numbers):
    text = lists.ranges(sorted(numbers))
    runs = [run.split("-") for run in text.split(", ")] if text else []
    named = [number for run in runs for number in range(int(run[0]), int(run[-1]) + 1)]
    assert "more" in text or named == sorted(numbers)
