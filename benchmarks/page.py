"""Puts measured tables into the pages of docs/. A table follows the line ``<!-- table: FILE -->``.

python benchmarks/page.py
"""

import csv
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def main() -> None:
    for page in (ROOT / "docs").glob("*.md"):
        before = page.read_text(encoding="utf-8")
        after = with_tables(before)
        if after != before:
            page.write_text(after, encoding="utf-8")
            print(page.relative_to(ROOT))


def with_tables(text: str) -> str:
    """Returns a page with the rows that its files have now."""
    return re.sub(
        r"(<!-- table: (\S+) -->\n)(?:\|.*\n)*", lambda found: found[1] + markdown(ROOT / found[2]), text
    )


def markdown(file: Path) -> str:
    """Returns the rows of a CSV file as a table."""
    with file.open(newline="", encoding="utf-8") as lines:
        header, *rows = csv.reader(lines)
    rows = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(row)} |\n".replace("  |", " |").replace("| --- ", "|---") for row in rows)


if __name__ == "__main__":
    main()
