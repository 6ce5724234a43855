"""Small line charts of a run."""

import math
from collections.abc import Mapping, Sequence
from itertools import cycle

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pyg_bgformer.report.colors import ACCENTS, FAINT, INK, MUTED

SIZE = (4.4, 2.7)
"""Width and height in inches."""


def line_chart(
    x: Sequence[float],
    lines: Mapping[str, Sequence[float]],
    title: str,
    x_label: str,
    *,
    before: Mapping[str, Sequence[float]] | None = None,
    x_names: Sequence[str] | None = None,
) -> Figure:
    """Returns a chart of one or more lines. If there are several, a legend names them.

    Args:
        x: Positions on the horizontal axis.
        lines: Values at these positions, by name. NaN values are left out.
        title: Title of the chart.
        x_label: Label of the horizontal axis.
        before: Other values, which are drawn dashed in the colour of the line of the same name.
        x_names: Texts at the positions instead of numbers.
    """
    figure = Figure(figsize=SIZE, layout="constrained")
    FigureCanvasAgg(figure)
    panel = figure.subplots()
    color = dict(zip(lines, cycle(ACCENTS), strict=False))
    for drawn, style in ((before or {}, "--"), (lines, "-")):
        for name, values in drawn.items():
            there = [(place, value) for place, value in zip(x, values, strict=True) if not math.isnan(value)]
            panel.plot(
                [place for place, _ in there],
                [value for _, value in there],
                style,
                color=color[name],
                linewidth=1.8 if style == "-" else 1.2,
                marker="o" if len(there) <= 25 else "",
                markersize=3.5 if style == "-" else 2.5,
                label=name if style == "-" else "_",
            )
    panel.set_title(title, fontsize=10.5, color=INK, loc="left")
    panel.set_xlabel(x_label, fontsize=9, color=MUTED)
    panel.tick_params(colors=MUTED, labelsize=8.5, length=0)
    panel.grid(axis="y", color=FAINT, linewidth=0.7)
    panel.set_axisbelow(True)
    for side in ("top", "right", "left"):
        panel.spines[side].set_visible(False)
    panel.spines["bottom"].set_color(FAINT)
    panel.ticklabel_format(axis="y", scilimits=(-3, 4))
    panel.yaxis.get_offset_text().set_color(MUTED)
    if len(x) == 1 or x_names is not None:
        panel.set_xticks(list(x), list(x_names or map(str, x)))
    else:
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    if len(lines) > 1:
        panel.legend(frameon=False, fontsize=8.5, labelcolor=INK)
    return figure
