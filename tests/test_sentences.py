"""Pages for newcomers have short sentences."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", "docs/index.md", "docs/photos_to_search.md", "docs/compare.md", "docs/own_method.md"]


def sentences(text):
    """The sentences of a Markdown page, without code, tables, links' addresses and headings."""
    text = re.sub(r"^( *)```.*?^\1```$|<!--.*?-->", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"^(?:#|\||```).*$", "\n", text, flags=re.MULTILINE)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    for paragraph in re.split(r"\n\s*\n|\n\s*(?:[-*]|\d+\.) ", text):
        for sentence in re.split(r"(?<=[.:?!])\s+", " ".join(paragraph.split())):
            if words := re.findall(r"[\w'`@/.-]*\w[\w'`@/.-]*", sentence):
                yield words


@pytest.mark.parametrize("page", PAGES)
def test_sentences_have_fewer_than_20_words_on_average(page):
    lengths = [len(words) for words in sentences((ROOT / page).read_text(encoding="utf-8"))]
    average = sum(lengths) / len(lengths)
    print(f"{page}: {average:.1f} words in each of {len(lengths)} sentences, at most {max(lengths)}")
    assert average < 20
    assert max(lengths) <= 40


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150
