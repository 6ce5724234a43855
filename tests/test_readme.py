"""Links, recipes, keys and rows of results on the pages. That their commands run is tested in test_pages.py."""

import re
from pathlib import Path

import pytest

from pyg_bgformer.config.recipe import read_config
from pyg_bgformer.config.shipped import find_recipe
from pyg_bgformer.methods import METHODS

ROOT = Path(__file__).parents[1]
FOUND = ROOT / "experiments" / "RESULTS.md"
PAGES = [
    ROOT / "README.md",
    *ROOT.glob("*/README.md"),
    *ROOT.glob("docs/*.md"),
    ROOT / "CONTRIBUTING.md",
    FOUND,
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_pages_link_to_are_there(page):
    links = re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text(encoding="utf-8"))
    assert all((page.parent / link).exists() for link in links), links


def test_recipes_and_keys_in_commands_exist():
    recipes = [read_config(["--method.name", method]).as_dict() for method in METHODS]
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for recipe in re.findall(r"--config (\w+/\w+)", text):
            assert find_recipe(recipe).is_file()
        for key in re.findall(r"--((?:data|train|method|encoder|sampler|evaluation)\.\w+)", text):
            section, _, name = key.partition(".")

            assert any(name in recipe[section] for recipe in recipes), key


def test_rows_of_the_page_of_findings_are_those_of_the_studies_it_names():
    for section in FOUND.read_text(encoding="utf-8").split("\n## "):
        pages = re.findall(r"\(results/([\w-]+)\.md\)", section)
        studied = [(FOUND.parent / "results" / f"{page}.md").read_text(encoding="utf-8") for page in pages]
        rows = re.findall(r"^\| (?:backbone|embedding|refined) \|.*$", section, re.MULTILINE)
        for row in rows:
            assert any(row in page.splitlines() for page in studied), row


def test_every_study_that_was_carried_out_is_on_the_page_of_findings():
    text = FOUND.read_text(encoding="utf-8")
    for page in (FOUND.parent / "results").glob("*.md"):
        assert f"(results/{page.name})" in text, page.name
