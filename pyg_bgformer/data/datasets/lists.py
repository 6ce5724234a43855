"""List files of the benchmarks: their rows, and how these differ from the official ones and from the folder."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from pyg_bgformer.errors import InputError

# How many of the things that differ a line names, before it says how many more there are.
_NAMED = 10


def read_lines(file: Path, dataset: str) -> list[str]:
    """The lines of a list file.

    Raises:
        InputError: There is no such file.
    """
    if not file.is_file():
        raise InputError(f"{file}: no such file; expected the official lists of {dataset} there")
    return file.read_text(encoding="utf-8", errors="replace").splitlines()


def split_rows(file: Path, lines: Sequence[str], columns: str, first_line: int = 1) -> list[list[str]]:
    """The rows below a heading, cut at white space.

    Args:
        file: What the lines are from, for messages.
        lines: The heading and the rows.
        columns: What the heading must be.
        first_line: Number of the heading's line in the file.

    Raises:
        InputError: Another heading, or a row with another number of values.
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


def numbering_notes(file: str, found: Iterable[int], official: range) -> list[str]:
    """One line for each way in which the numbers of a list's rows differ from the official ones.

    >>> numbering_notes("images.txt", [1, 2, 2, 6], range(1, 6))
    ['images.txt lacks 3 official rows: 3-5', 'images.txt has 1 row beyond the official ones: 6', \
'images.txt has 1 row more than once: 2']
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


def folder_notes(lists: str, listed: Collection[str], folder: str, there: Collection[str]) -> list[str]:
    """One line for images that are listed and not in the folder, and one for those that are in it unlisted."""
    absent, extra = sorted(set(listed) - set(there)), sorted(set(there) - set(listed))
    lines = []
    if absent:
        lines.append(f"{_count(absent, 'image')} of {lists} not in {folder}: {_some(absent)}")
    if extra:
        lines.append(f"{_count(extra, 'image')} of {folder} not in {lists}: {_some(extra)}")
    return lines


def ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers, runs drawn together.

    >>> ranges([2, 3, 5, 7, 8, 9])
    '2-3, 5, 7-9'
    """
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return _some([str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs])


def _count(things: Collection[object], name: str) -> str:
    return f"{len(things):,} {name}{'' if len(things) == 1 else 's'}"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
