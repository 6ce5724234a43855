"""What the pages say is carried out: every command and every program on them, at small sizes.

The blocks of a page (``bash``, ``python``) are carried out in their order, in one new folder and one namespace.
``/my/images`` is a small folder of images. A path that ends in ``...`` stands for the newest one that begins so. A
comment before a block changes this:

- ``<!-- small -->`` adds the settings of :data:`SMALL` to its commands ``run`` and ``study``. They train on the
  small folder, so that ``runs/glyphs-...`` on a page is ``runs/folder-...`` here.
- ``<!-- with: ARGUMENTS -->`` adds these arguments to every command.
- ``<!-- file: NAME -->``: the block is the content of a file, which later commands use.
- ``<!-- slow -->``: it is carried out by ``pytest -m slow`` alone.
- ``<!-- not run: REASON -->``: the tests do not carry it out, because it needs something or takes too long.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from pyg_bgformer.cli.main import main
from pyg_bgformer.data.datasets import DATASETS
from pyg_bgformer.data.samplers import SAMPLERS
from pyg_bgformer.encoders import ENCODERS
from pyg_bgformer.geometry import GEOMETRIES
from pyg_bgformer.losses import LOSSES
from pyg_bgformer.methods import METHODS

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "data/README.md", "experiments/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
SMALL = shlex.split(
    "--data.name folder --data.root my/images --data.image_size 16 --data.resize 16 --data.workers 0 "
    "--data.feature_cache features --encoder.name conv4 --encoder.embedding_dim 8 --sampler.classes 2 "
    "--sampler.samples 2 --sampler.batches_per_epoch 1 --train.epochs 1 --train.warmup_epochs 0 --report.page false"
)
REASONS = ("needs ", "takes ")


class Block(NamedTuple):
    """A block of a page.

    Attributes:
        line: Its first line.
        language: What stands behind the three backquotes.
        text: Its content.
        notes: What the comments before it say, by name.
    """

    line: int
    language: str
    text: str
    notes: dict[str, str]


def blocks_of(page: Path) -> list[Block]:
    """Returns the blocks of a page."""
    text = page.read_text(encoding="utf-8")
    found = re.finditer(
        r"^((?:[ ]*<!--[^\n]*-->\n+)*)([ ]*)(`{3,})([^\n`]*)\n(.*?)^\2\3$", text, re.DOTALL | re.MULTILINE
    )
    return [
        Block(
            line=text.count("\n", 0, match.start(3)) + 1,
            language=match[4].strip(),
            text=match[5],
            notes=dict(re.findall(r"<!-- ([\w ]+?)(?:: (.*?))? -->", match[1])),
        )
        for match in found
    ]


def carried_out(page: Path, *, slow: bool) -> list[Block]:
    """Returns the blocks of a page that a test carries out."""
    return [
        block
        for block in blocks_of(page)
        if (block.language in ("bash", "python") or "file" in block.notes)
        and "not run" not in block.notes
        and (slow or "slow" not in block.notes)
    ]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder as a reader's: a copy of the repository's examples, some images, and registries of its own."""
    for name in ("benchmarks", "examples", "experiments"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("results"))
    random = np.random.default_rng(0)
    for name in ("bed", "bowl", "chair", "cup", "lamp", "mug", "table", "vase"):
        (tmp_path / "my" / "images" / name).mkdir(parents=True)
        pattern = random.integers(0, 255, (4, 4, 3))
        for number in range(4):
            noisy = np.clip(pattern + random.normal(0, 30, (4, 4, 3)), 0, 255).astype(np.uint8)
            image = Image.fromarray(noisy).resize((24, 24))
            image.save(tmp_path / "my" / "images" / name / f"{number}.jpg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYG_BGFORMER_DATA", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    return tmp_path


@contextmanager
def as_a_new_process() -> Iterator[None]:
    """Undoes what plug-ins register and import."""
    modules, registries = set(sys.modules), (DATASETS, ENCODERS, GEOMETRIES, LOSSES, METHODS, SAMPLERS)
    parts = [dict(registry.parts) for registry in registries]
    try:
        yield
    finally:
        for registry, before in zip(registries, parts, strict=True):
            registry.parts = before
        for name in set(sys.modules) - modules:
            if name.startswith("pyg_bgformer_plugin"):
                del sys.modules[name]


def newest(pattern: str) -> str:
    """Returns the path that was made last of those that a pattern describes."""
    return max(Path().glob(pattern), key=lambda path: path.stat().st_mtime_ns).as_posix()


def as_here(text: str) -> str:
    """Returns the text of a block with the paths of this folder in the place of a reader's."""
    text = text.replace("/my/", f"{Path.cwd()}/my/").replace("runs/glyphs-", "runs/folder-")
    return re.sub(r"[\w./-]+-\.\.\.", lambda match: newest(match[0].replace("...", "*")), text)


def carry_out(block: Block, names: dict[str, object]) -> None:
    """Carries out a block of a page; fails with what was printed if a command fails."""
    if "file" in block.notes:
        Path(block.notes["file"]).write_text(as_here(block.text), encoding="utf-8")
    elif block.language == "python":
        exec(compile(as_here(block.text), f"line {block.line}", "exec"), names)
    else:
        without_comments = re.sub(r"\\\n|(?<=\s)#.*|^#.*", " ", block.text, flags=re.MULTILINE)
        for line in without_comments.splitlines():
            command(as_here(line), block.notes)


def command(line: str, notes: dict[str, str]) -> None:
    """Carries out one command; ours in this process, because a new one takes seconds to start."""
    if not (words := shlex.split(line)):
        return
    ours = [["pyg-bgformer"], ["python", "experiments/run.py"], ["python", "-m", "pyg_bgformer"]]
    start = next((start for start in ours if words[: len(start)] == start), None)
    if start is None:
        done = subprocess.run(
            ["bash", "-c", f"{line} {notes.get('with', '')}"], capture_output=True, text=True
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        return
    arguments = words[len(start) :] if start != ours[1] else ["run", *words[len(start) :]]
    arguments = [
        path
        for word in arguments
        for path in (sorted(map(str, Path().glob(word))) if "*" in word else [word])
    ]
    arguments += SMALL if "small" in notes and arguments[0] in ("run", "study") else []
    arguments += shlex.split(notes.get("with", ""))
    try:
        with as_a_new_process():
            code = main(arguments)
    except SystemExit as end:  # of --help and --version
        code = end.code
    assert code in (0, None) or (code == 1 and arguments[0] == "diff"), f"{line}\nexit code {code}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_what_a_page_says_runs(page, place):
    names = {"__name__": "__main__"}
    for block in carried_out(page, slow=False):
        carry_out(block, names)


@pytest.mark.slow
@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if carried_out(page, slow=True) != carried_out(page, slow=False)],
    ids=lambda page: page.relative_to(ROOT).as_posix(),
)
def test_what_a_page_says_runs_also_where_it_takes_long(page, place):
    names = {"__name__": "__main__"}
    for block in carried_out(page, slow=True):
        carry_out(block, names)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_block_has_a_language_and_every_omission_a_reason(page):
    for block in blocks_of(page):
        where = f"{page}, line {block.line}"
        assert block.language in ("bash", "python", "yaml", "text", "{toctree}"), where
        assert block.notes.keys() <= {"small", "with", "file", "slow", "not run"}, where
        assert block.notes.get("not run", "needs ").startswith(REASONS), where
    commands = [
        b
        for b in blocks_of(page)
        if b.language == "text" and re.search(r"^(pyg-bgformer|python|make|pip) ", b.text, re.M)
    ]
    assert commands == []


def test_the_method_of_the_tutorial_has_nine_lines():
    code = next(block.text for block in blocks_of(ROOT / "docs" / "own_method.md") if "file" in block.notes)
    assert len([line for line in code.splitlines() if line.strip()]) == 9
