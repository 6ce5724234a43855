"""What the README says runs as it is written."""

import re
from pathlib import Path

import pytest

from pyg_bgformer.config.recipe import read_config
from pyg_bgformer.config.shipped import find_recipe
from pyg_bgformer.deploy.embedding_model import EmbeddingModel
from pyg_bgformer.encoders import build_encoder
from pyg_bgformer.methods import METHODS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
FOUND = ROOT / "experiments" / "RESULTS.md"
PAGES = [
    ROOT / "README.md",
    *ROOT.glob("*/README.md"),
    *ROOT.glob("docs/*.md"),
    ROOT / "CONTRIBUTING.md",
    FOUND,
]


def python_block(word):
    return next(block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if word in block)


def test_the_training_loop_block_runs_and_is_under_ten_lines():
    block = python_block("BGFormer(")
    names = {}
    exec(block, names)
    assert names["refined"].shape == names["x"].shape
    assert len([line for line in block.splitlines() if line.strip()]) < 10


def test_the_deployment_block_runs(tmp_path):
    torch = pytest.importorskip("torch")
    EmbeddingModel(build_encoder("conv4", embedding_dim=8), image_size=28, resize=32).save_pretrained(
        tmp_path
    )
    block = python_block("from_pretrained").replace("runs/folder-bgformer-seed0-...", str(tmp_path))
    names = {"images": torch.rand(2, 3, 28, 28)}
    exec(block, names)
    assert names["embeddings"].shape == (2, 8)
    assert names["similarities"].diagonal().tolist() == pytest.approx([1, 1])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_pages_link_to_are_there(page):
    links = re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text(encoding="utf-8"))
    assert all((page.parent / link).exists() for link in links), links


def test_recipes_and_keys_in_commands_exist():
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for recipe in re.findall(r"--config (\w+/\w+)", text):
            assert find_recipe(recipe).is_file()
        for key in re.findall(r"--((?:data|train|method|encoder|sampler|evaluation)\.\w+)", text):
            section, _, name = key.partition(".")
            recipes = [read_config(["--method.name", method]).as_dict() for method in METHODS]
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
