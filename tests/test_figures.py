"""Numbers on the pages that were measured are those of committed tables."""

import re
from pathlib import Path

import pandas as pd
import pytest

from benchmarks.page import with_tables
from pyg_bgformer.report.tables import comparison_markdown

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "experiments" / "results"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def means(study, score, encoder="trained"):
    """The mean over seeds of a score of the embedding in %, by row; and the spread over seeds."""
    found = pd.read_csv(RESULTS / f"{study}.csv")
    trained = found[(found["feature"] == "embedding") & (found["encoder"] == encoder)]
    by_row = trained.groupby("row")[score]
    return 100 * by_row.mean(), 100 * (by_row.max() - by_row.min())


def what_plain_training_learns_on_letters():
    before, after = (
        means("contest-glyphs", "map_at_r", state)[0]["plain"] for state in ("untrained", "trained")
    )
    return f"MAP@R rises from {before:.1f} to {after:.0f}"


def spread_of_seeds_and_methods():
    mean, spread = means("contest-frozen", "recall_at_1")
    seeds, methods = spread["plain"], mean.max() - mean.min()
    return (
        f"differs by {seeds:.1f} points between seeds, and the means of all methods by {methods:.1f} points"
    )


@pytest.mark.parametrize(
    ("page", "sentence"),
    [("README.md", what_plain_training_learns_on_letters), ("docs/protocol.md", spread_of_seeds_and_methods)],
)
def test_a_sentence_has_the_numbers_of_its_table(page, sentence):
    text = (ROOT / page).read_text(encoding="utf-8")
    assert sentence() in " ".join(text.split())


@pytest.mark.parametrize("table", sorted(RESULTS.glob("*.md")), ids=lambda table: table.stem)
def test_a_table_of_a_study_is_that_of_its_scores(table):
    if table.stem.endswith("-tuning"):
        pytest.skip("a table of trials: its study has other columns")
    text = table.read_text(encoding="utf-8")
    title = re.match(r"# (.*)", text)[1]
    again = comparison_markdown(pd.read_csv(table.with_suffix(".csv"), keep_default_na=True), title)
    rows = [line for line in text.splitlines() if line.startswith(("| backbone", "| embedding", "| refined"))]
    assert rows
    assert rows == [line for line in again.splitlines() if line in set(rows)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_rows_of_a_page_are_those_of_the_study_that_it_links_to(page):
    text = page.read_text(encoding="utf-8")
    studied = "".join(
        (page.parent / link).read_text(encoding="utf-8")
        for link in re.findall(r"\(([\w./-]*results/[\w-]+\.md)\)", text)
    )
    for row in re.findall(r"^\| (?:backbone|embedding|refined) \|.*$", text, re.MULTILINE):
        assert row in studied.splitlines()


NAMES = {
    "ms": "milliseconds",
    "ms an image": "milliseconds_an_image",
    "MiB": "peak_mib",
    "relative": "memory_ratio",
    "dense": "SSAConv dense",
    "sparse": "SSAConv sparse",
    "float32": "32-true",
    "bfloat16": "bf16-mixed",
    "ResNet-50": "resnet50",
    "ViT-S/16": "vit_small",
}
"""Words of a page's columns, and what the files of a GPU call them."""


def tables_from_files():
    """Yields the file and the column that a comment before a table names, and the rows of the table."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for name, column, table in re.findall(r"<!-- from: (\S+), (\w+) -->\n((?:\|.*\n)+)", text):
            rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
            yield pytest.param(ROOT / name, column, rows, id=f"{Path(name).stem}-{rows[0][0]}")


@pytest.mark.parametrize(("file", "usual", "rows"), list(tables_from_files()))
def test_every_number_of_a_table_is_that_of_its_line_and_column_in_the_file(file, usual, rows):
    lines = pd.read_csv(file, dtype=str, keep_default_na=False).drop(columns="of", errors="ignore")
    header, _, *rows = rows
    for label, *numbers in rows:
        for head, number in zip(header[1:], numbers, strict=True):
            words = [NAMES.get(word, word) for word in head.split(", ")]
            column = next((word for word in words if word in lines), usual)
            found = [
                line[column]
                for _, line in lines.iterrows()
                if label in [cell.strip("()") for cell in line]
                and all(word in lines or any(word in cell for cell in line) for word in words)
            ]
            if number:
                decimals = len(number.partition(".")[2])
                assert [f"{float(cell):.{decimals}f}" for cell in found] == [number], (label, head)
            else:
                assert not found, (label, head)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_measured_tables_are_those_of_their_files(page):
    text = page.read_text(encoding="utf-8")
    assert with_tables(text) == text, "put the files into the pages with: python benchmarks/page.py"


def test_every_measurement_on_a_cpu_is_on_a_page():
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    for file in (ROOT / "benchmarks" / "results").glob("cpu-*.csv"):
        assert f"<!-- table: benchmarks/results/{file.name} -->" in text
