"""Pages of the site that are made from the program itself, so that they cannot be out of date.

Keys come from the types and docstrings of ``config/schema.py`` and of the registered parts. Commands come from
``--help``, recipes from their files, the API from docstrings. Pages elsewhere in the repository are taken over.
"""

import contextlib
import io
import os
import re
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from unittest import mock

from pyg_bgformer.cli.main import COMMANDS, main
from pyg_bgformer.config.arguments import help_text
from pyg_bgformer.config.recipe import PARTS, SECTIONS, SINGLE
from pyg_bgformer.config.shipped import recipes_folder
from pyg_bgformer.config.values import shown, words
from pyg_bgformer.data.samplers import SAMPLERS
from pyg_bgformer.encoders import ENCODERS
from pyg_bgformer.geometry import GEOMETRIES
from pyg_bgformer.losses import LOSSES
from pyg_bgformer.losses.metric_learning import metric_learning_names
from pyg_bgformer.methods import METHODS
from pyg_bgformer.registry import REQUIRED, Option, signature_options

ROOT = Path(__file__).parents[1]
GENERATED = Path(__file__).parent / "generated"

API = {
    "graph": ("The batch graph", ["graph"]),
    "nn": ("Layers and networks", ["nn"]),
    "losses": ("Losses and geometry", ["losses", "geometry"]),
    "data": ("Data", ["data"]),
    "encoders": ("Encoders", ["encoders"]),
    "methods": ("Methods", ["methods"]),
    "evaluation": ("Evaluation", ["evaluation"]),
    "deploy": (
        "Trained models",
        [
            "deploy.embedding_model",
            "deploy.load_model",
            "deploy.embed_files",
            "deploy.vectors",
            "deploy.image_index",
            "deploy.index",
            "deploy.export",
            "deploy.server",
            "deploy.sklearn",
        ],
    ),
    "runs": (
        "Runs, registries and errors",
        ["engine.train_folder", "engine.evaluate_model", "runs.folder", "runs.result", "registry", "errors"],
    ),
}
"""Pages of the API: their titles, and the modules on them."""

TAKEN_OVER = {
    "data/README.md": "datasets",
    "experiments/README.md": "experiments",
    "experiments/RESULTS.md": "results",
    "CONTRIBUTING.md": "contributing",
    "CHANGELOG.md": "changelog",
    "SECURITY.md": "security",
}
"""Pages elsewhere in the repository, and their names in the site."""

TABLES = {f"experiments/results/{file.name}": file.stem for file in ROOT.glob("experiments/results/*.md")}
"""Tables of the studies, which the page of results links to."""


def write_pages() -> None:
    """Writes all generated pages; a page that has not changed keeps its time, so that Sphinx passes over it."""
    pages = {"keys": keys_page(), "commands": commands_page(), "recipes": recipes_page()}
    pages |= {f"api_{name}": api_page(title, modules) for name, (title, modules) in API.items()}
    pages |= {name: taken_over(ROOT / page) for page, name in TAKEN_OVER.items()}
    pages |= {name: "---\norphan: true\n---\n" + taken_over(ROOT / page) for page, name in TABLES.items()}
    GENERATED.mkdir(exist_ok=True)
    for name, text in pages.items():
        file = GENERATED / f"{name}.md"
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            file.write_text(text, encoding="utf-8")


def keys_page() -> str:
    """Returns the page of all keys of a recipe, with their defaults."""
    parts = {
        "sampler": [*SAMPLERS],
        "encoder": [next(iter(ENCODERS))],
        "geometry": [*GEOMETRIES],
        "loss": [*LOSSES, *metric_learning_names()],
        "method": [*METHODS],
    }
    lines = [
        "# Keys of a recipe",
        "",
        "Every key can stand in a recipe, or on the command line as `--train.epochs 5`. The first part of its name",
        "is the section. Options of a sampler, an encoder, a geometry, a loss and a method depend on its `name`.",
        "",
        *table(SINGLE),
    ]
    for name, section in SECTIONS.items():
        lines += ["", f"## {name}", "", *table(signature_options(section), f"{name}.")]
    for kind, names in parts.items():
        lines += ["", f"## {kind}", "", f"`{kind}.name` is `{PARTS[kind].default}` by default.", ""]
        if kind == "encoder":
            lines += [
                "Every encoder has these options: `conv4`, `torchvision/MODEL` and `timm/MODEL`.",
                "",
            ]
            lines += table(PARTS[kind].options(names[0]), f"{kind}.")
            continue
        for name in names:
            options = PARTS[kind].options(name)
            lines += [f"### {kind} `{name}`", ""]
            lines += [*table(options, f"{kind}."), ""] if options else ["No options.", ""]
    return "\n".join(lines) + "\n"


def table(options: Mapping[str, Option], before: str = "") -> Iterator[str]:
    """Yields the lines of a table of options."""
    yield "| key | default | what it decides | accepts |"
    yield "|---|---|---|---|"
    for key, option in options.items():
        default = "required" if option.default is REQUIRED else f"`{shown(option.default)}`"
        cells = [f"`{before}{key}`", default, help_text(option), words(option.type)]
        yield f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


def commands_page() -> str:
    """Returns the page of the commands, from what ``--help`` prints."""
    lines = ["# Commands", "", "This page shows what `--help` prints.", "", *printed([])]
    for name, text in COMMANDS.items():
        lines += ["", f"## {name}", "", f"{text[0].upper()}{text[1:]}.", "", *printed([name])]
    return "\n".join(lines) + "\n"


def printed(command: list[str]) -> list[str]:
    """Returns what the help of a command prints, as a block."""
    text = io.StringIO()
    with (
        mock.patch.dict(os.environ, COLUMNS="100"),
        contextlib.redirect_stdout(text),
        contextlib.suppress(SystemExit),
    ):
        main([*command, "--help"])
    return ["```text", text.getvalue().rstrip(), "```"]


def recipes_page() -> str:
    """Returns the page of the shipped recipes."""
    folder = recipes_folder()
    lines = [
        "# Recipes",
        "",
        "These files are in the package. `--config cub200/bgformer` takes one by its name.",
        "[Experiments](experiments.md) says where their settings come from.",
    ]
    for dataset in sorted(path for path in folder.iterdir() if path.is_dir()):
        lines += ["", f"## {dataset.name}"]
        for file in sorted(dataset.glob("*.yaml")):
            text = file.read_text(encoding="utf-8").rstrip()
            lines += ["", f"### {dataset.name}/{file.stem}", "", "```yaml", text, "```"]
    return "\n".join(lines) + "\n"


def api_page(title: str, modules: list[str]) -> str:
    """Returns a page of the API, which autodoc fills from docstrings."""
    lines = [f"# {title}"]
    for module in modules:
        name = f"pyg_bgformer.{module}"
        if not import_module(name).__doc__:
            raise ValueError(f"{name} has no docstring")
        lines += ["", f"## {name}", "", "```{eval-rst}", f".. automodule:: {name}", "   :members:", "```"]
    return "\n".join(lines) + "\n"


def taken_over(page: Path) -> str:
    """Returns a page of another folder of the repository with links that are right among the generated pages."""
    return with_links(page.read_text(encoding="utf-8"), page.parent, GENERATED)


def with_links(text: str, origin: Path, folder: Path) -> str:
    """Returns Markdown whose links to files are right in another folder.

    Links to pages that the site takes over lead to their place in the site. Links to folders become text.

    Args:
        text: The Markdown.
        origin: Folder that the links are relative to.
        folder: Folder that they shall be relative to.
    """

    def link(match: re.Match[str]) -> str:
        text, path, place = match.groups()
        target = (origin / path).resolve()
        if target.is_dir():
            return text
        if target == ROOT / "README.md":  # the site's first page has its place
            target = ROOT / "docs" / "index.md"
        name = (TAKEN_OVER | TABLES).get(target.relative_to(ROOT).as_posix())
        target = target if name is None else GENERATED / f"{name}.md"
        return f"[{text}]({os.path.relpath(target, folder)}{place or ''})"

    return re.sub(r"\[([^\]]*)\]\((?!http|#)([^)#\s]+)(#[^)]*)?\)", link, text)
