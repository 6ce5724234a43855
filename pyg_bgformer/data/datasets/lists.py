"""List files of the benchmarks, and how their rows differ from the official ones and from the folder."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from pyg_bgformer.data.image_files import some
from pyg_bgformer.errors import InputError


def find_list(file: Path) -> Path:
    """Returns a list file or, if it is missing, a copy with a number in its name: browsers save ``x (1).mat``."""
    if not file.is_file() and file.parent.is_dir():
        copy = re.compile(rf"{re.escape(file.stem)} ?\(\d+\){re.escape(file.suffix)}")
        copies = sorted(other for other in file.parent.iterdir() if copy.fullmatch(other.name))
        return copies[0] if copies else file
    return file


def read_lines(file: Path, dataset: str) -> list[str]:
    """Returns the lines of a list file, without a byte-order mark and without blank lines at the end.

    Args:
        file: The list. A numbered copy of it is read too, see :func:`find_list`.
        dataset: Name of the dataset in messages.

    Raises:
        InputError: If there is no such file.
    """
    file = find_list(file)
    if not file.is_file():
        raise InputError(f"{file}: no such file; expected the official lists of {dataset} there")
    return file.read_text(encoding="utf-8-sig", errors="replace").rstrip().splitlines()


def split_rows(file: Path, lines: Sequence[str], columns: str, first_line: int = 1) -> list[list[str]]:
    """Returns the rows below a heading, split at white space.

    Args:
        file: The file of the lines, for messages.
        lines: The heading and the rows.
        columns: The expected heading.
        first_line: Number of the heading's line in the file.

    Raises:
        InputError: If the heading is another one, or a row has another number of values.
    """
    expected = columns.split()
    if not lines or lines[0].split() != expected:
        found = lines[0] if lines else "the end of the file"
        raise InputError(f"{file}, line {first_line}: found '{found}'; expected the heading '{columns}'")
    rows = [line.split() for line in lines[1:]]
    for number, row in enumerate(rows, start=first_line + 1):
        if len(row) != len(expected):
            raise InputError(f"{file}, line {number}: found '{' '.join(row)}'; expected values for {columns}")
    return rows


def listed_files(listed: Iterable[str], there: Collection[str]) -> dict[str, str]:
    """Returns the file of each listed image that is in the folder. Upper and lower case may differ.

    >>> listed_files(["a/1.JPG", "a/2.JPG", "a/3.JPG"], ["a/1.JPG", "a/2.jpg"])
    {'a/1.JPG': 'a/1.JPG', 'a/2.JPG': 'a/2.jpg'}

    Args:
        listed: Paths in the lists.
        there: Paths of the images in the folder.
    """
    exact = set(there)
    others = {path.casefold(): path for path in exact.difference(listed)}
    files = {path: path if path in exact else others.get(path.casefold()) for path in listed}
    return {path: file for path, file in files.items() if file is not None}


def numbering_problems(file: str, found: Iterable[int], official: range) -> list[str]:
    """Returns one line for each difference between the numbers of a list's rows and the official ones.

    >>> numbering_problems("images.txt", [1, 2, 2, 6], range(1, 6))
    ['images.txt lacks 3 official rows: 3-5', 'images.txt has 1 row beyond the official ones: 6', \
'images.txt has 1 row more than once: 2']

    Args:
        file: Name of the list.
        found: The numbers of its rows.
        official: The official numbers.
    """
    times = Counter(found)
    missing = sorted(set(official) - times.keys())
    extra = sorted(times.keys() - set(official))
    repeated = sorted(number for number, count in times.items() if count > 1)
    lines = []
    if missing:
        lines.append(f"{file} lacks {_count(missing, 'official row')}: {ranges(missing)}")
    if extra:
        lines.append(f"{file} has {_count(extra, 'row')} beyond the official ones: {ranges(extra)}")
    if repeated:
        lines.append(f"{file} has {_count(repeated, 'row')} more than once: {ranges(repeated)}")
    return lines


def folder_problems(
    lists: str, listed: Collection[str], folder: str, there: Collection[str], files: Mapping[str, str]
) -> list[str]:
    """Returns a line if listed images are not in the folder, and one if images in it are not listed.

    Args:
        lists: Name of the list or lists.
        listed: Paths in the lists.
        folder: Name of the folder.
        there: Paths of the images in the folder.
        files: The file of each listed image that is there; see :func:`listed_files`.
    """
    absent, extra = sorted(set(listed) - files.keys()), sorted(set(there) - set(files.values()))
    lines = []
    if absent:
        lines.append(f"{_count(absent, 'image')} of {lists} not in {folder}: {some(absent)}")
    if extra:
        lines.append(f"{_count(extra, 'image')} of {folder} not in {lists}: {some(extra)}")
    return lines


def ranges(numbers: Sequence[int]) -> str:
    """Returns ascending numbers as text, with consecutive numbers as a range.

    >>> ranges([2, 3, 5, 7, 8, 9])
    '2-3, 5, 7-9'
    """
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return some([str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs])


def _count(things: Collection[object], name: str) -> str:
    return f"{len(things):,} {name}{'' if len(things) == 1 else 's'}"
