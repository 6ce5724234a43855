import pytest
from matplotlib.figure import Figure

from pyg_bgformer.report.colors import FAINT, INK, class_colors, themed_svg


@pytest.mark.parametrize("number", [1, 7, 100])
def test_colors_of_classes_differ_and_are_neither_dark_nor_pale(number):
    colors = class_colors(number)
    assert len(set(colors)) == number
    for red, green, blue in colors:
        assert all(0 <= part <= 1 for part in (red, green, blue))
        assert 0.2 < 0.2126 * red + 0.7152 * green + 0.0722 * blue < 0.8


def test_greys_of_a_figure_become_variables_of_the_page():
    figure = Figure(figsize=(2, 2))
    panel = figure.subplots()
    panel.set_title("<script>", color=INK)
    panel.grid(color=FAINT)
    svg = themed_svg(figure)
    assert svg.startswith('<svg role="img" ')
    assert svg.rstrip().endswith("</svg>")
    assert "var(--ink)" in svg
    assert INK not in svg
    assert FAINT not in svg
    assert "&lt;script&gt;" in svg
    assert "<script>" not in svg
    assert "width=" not in svg[: svg.index(">")]
