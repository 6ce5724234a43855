"""Small charts of a run: what changed from epoch to epoch, and Recall@K."""

from collections.abc import Mapping, Sequence

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pyg_bgformer.report.colors import ACCENTS, FAINT, INK, MUTED

SIZE = (4.4, 2.7)
"""In inches."""


def line_chart(
    x: Sequence[float],
    lines: Mapping[str, Sequence[float]],
    title: str,
    x_label: str,
    *,
    x_names: Sequence[str] | None = None,
    log: bool = False,
) -> Figure:
    """Returns a chart of one or more lines, each with its name at its end or, where they are many, in a legend.

    Args:
        x: Places on the horizontal axis.
        lines: Values at these places, by name. NaN leaves a place out.
        title: Says what the values are.
        x_label: Says what the places are.
        x_names: Written at the places instead of numbers.
        log: Whether the values' axis is logarithmic.
    """
    figure = Figure(figsize=SIZE, layout="constrained")
    FigureCanvasAgg(figure)
    panel = figure.subplots()
    for number, (name, values) in enumerate(lines.items()):
        there = [(place, value) for place, value in zip(x, values, strict=True) if value == value]
        color = ACCENTS[number % len(ACCENTS)]
        marker = "o" if len(there) <= 25 else ""
        panel.plot(
            *zip(*there, strict=True), marker=marker, markersize=3.5, linewidth=1.8, color=color, label=name
        )
    panel.set_title(title, fontsize=10.5, color=INK, loc="left")
    panel.set_xlabel(x_label, fontsize=9, color=MUTED)
    panel.tick_params(colors=MUTED, labelsize=8.5, length=0)
    panel.grid(axis="y", color=FAINT, linewidth=0.7)
    panel.set_axisbelow(True)
    for side in ("top", "right", "left"):
        panel.spines[side].set_visible(False)
    panel.spines["bottom"].set_color(FAINT)
    if log:
        panel.set_yscale("log")
    if x_names is None:
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    else:
        panel.set_xticks(list(x), list(x_names))
    if len(lines) > 1:
        panel.legend(frameon=False, fontsize=8.5, labelcolor=INK)
    return figure
