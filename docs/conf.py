"""Settings of the documentation site: ``make docs`` builds it, without a network."""

import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

from generated_pages import with_links, write_pages

from pyg_bgformer import __version__

project = "pyg_bgformer"
author = "The pyg_bgformer authors"
copyright = author
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "mixed"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = ["Shapes"]

html_theme = "furo"
html_title = f"pyg_bgformer {release}"
html_copy_source = False
html_math_renderer = "mathml"


def mathml(formula: str, as_block: bool = False) -> str:
    """Returns a formula as MathML; two commands that the converter does not know are written by others."""
    known = formula.replace("\\Big\\Vert", "\\Vert").replace("\\dots", "\\ldots")
    return tex2mathml(known, as_block=as_block)


def visit_math(self: Any, node: nodes.math) -> None:
    """Writes a formula in a line as MathML, which browsers show without a script."""
    self.body.append(mathml(node.astext()))
    raise nodes.SkipNode


def visit_math_block(self: Any, node: nodes.math_block) -> None:
    """Writes a formula with lines of its own."""
    for line in node.astext().split("\n\n"):
        aligned = f"\\begin{{aligned}}{line}\\end{{aligned}}" if "&" in line else line
        self.body.append(f'<div class="formula">{mathml(aligned, as_block=True)}</div>')
    raise nodes.SkipNode


def mend_links(app: Sphinx, name: str, source: list[str]) -> None:
    """Makes links to pages outside of this folder lead to their place in the site."""
    if not name.startswith("generated/"):
        folder = Path(app.srcdir)
        source[0] = with_links(source[0], folder, folder)


def setup(app: Sphinx) -> None:
    """Adds the formulas' renderer, and writes the generated pages before all pages are read."""
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math_block, None))
    app.connect("builder-inited", lambda _: write_pages())
    app.connect("source-read", mend_links)
