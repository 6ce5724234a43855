"""Draws a batch graph: the images of a batch on a circle, joined by the edges of the graph."""

import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path as FilePath
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyBboxPatch, Wedge
from matplotlib.path import Path
from torch import Tensor
from torch_geometric.data import Data

from pyg_bgformer.errors import InputError
from pyg_bgformer.files import atomic_path
from pyg_bgformer.report.colors import FAINT, INK, MUTED, class_colors
from pyg_bgformer.report.thumbnails import Picture, thumbnail

Edges = Mapping[str, tuple[Tensor, Tensor]]
"""Edge index ``(2, E)`` and weight ``(E,)``, or one weight for each head ``(E, H)``, by name."""

SEMANTIC = "semantic"
"""Edges of this kind are drawn outside the circle, if the layer has other edges to draw inside."""

GREY = (0.48, 0.49, 0.51)
"""Colour of the edges between classes, on white and on black."""

IN_ONE_ROW = 64
"""Largest number of images in one row on the circle."""

CLASS_GAP = 0.9
"""Gap between two classes on the circle, in widths of an image."""

FONT_SIZE = 8.0
"""Size of the names of classes, in points."""

LINES, SHORTEST = 3, 6
"""Largest number of lines of a name, and fewest letters in a line. With less room, the name is left out."""


def plot_batch_graph(
    graph: Data | Edges | Tensor,
    images: Tensor | Sequence[Picture],
    weights: Tensor | Mapping[str, Tensor] | None = None,
    labels: Tensor | None = None,
    *,
    class_names: Mapping[int, str] | Sequence[str] | None = None,
    title: str | None = None,
    max_images: int = 120,
    max_edges: int = 1200,
    panel_inches: float | None = None,
    thumbnail_side: int = 64,
) -> Figure:
    """Returns a picture of a batch: images, grouped by class on a circle and joined by the edges of their graph.

    Edges between images of one class have the colour of the class. Edges between classes are grey. A wider line has
    more weight. The weights of both directions are added, and self loops are left out. The ring shows which share
    of the weight that arrives at a class comes from its own images. There is a panel for each layer.

    .. code-block:: python

        graph = batch_graph(features, labels, k=10)
        plot_batch_graph(graph, images).savefig("graph.svg")

    Args:
        graph: A ``Data`` object of :func:`~pyg_bgformer.batch_graph`, the result of
            :meth:`~pyg_bgformer.methods.Method.edges`, or an edge index ``(2, E)``.
        images: A picture for each of the N nodes.
        weights: Weights ``(E,)`` or ``(E, H)`` of a single set of edges, or of several sets by name. Without them,
            all edges of a set have equal weight.
        labels: ``(N,)``, classes. ``None`` takes those of ``Data``. If it has none, all images are one class.
        class_names: Names of the classes by label.
        title: Title above the picture.
        max_images: Largest number of images. The last classes are left out if there are more. Percentages are of
            all images.
        max_edges: Largest number of edges of each set. The strongest ones are drawn.
        panel_inches: Side of a panel in inches. ``None`` takes 7, or 10 for more than 64 images.
        thumbnail_side: Side of an image in the figure, in pixels.

    Returns:
        Figure: The figure. ``figure.savefig("graph.svg")`` writes it, and a notebook shows it.

    Raises:
        ValueError: If the numbers of nodes, labels and images differ, or an edge leads outside the graph.
    """
    labels = _labels(graph, labels, len(images))
    sets = edge_sets(graph, weights)
    _check(sets, labels, len(images))
    panels = _panels(sets)
    place = circle_layout(labels, max_images)
    pictures = [thumbnail(images[node], thumbnail_side) for node in place.nodes]
    if panel_inches is None:
        panel_inches = 7.0 if len(pictures) <= IN_ONE_ROW else 10.0
    columns = min(len(panels), 2)
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(columns * panel_inches, rows * (panel_inches + 0.6)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for panel in axes:
        panel.set_axis_off()
    for panel, (inner, outer) in zip(axes, panels, strict=False):
        edges, semantic = sets[inner], None if outer is None else sets[outer]
        _draw_edges(panel, edges, place, max_edges, outside=False)
        if semantic is not None:
            _draw_edges(panel, semantic, place, max_edges, outside=True)
        _draw_pictures(panel, pictures, place)
        _draw_ring(panel, class_shares(*edges, labels), place, class_names, panel_inches)
        _caption(panel, inner, outer, edges, labels, place, max_edges)
    if title is not None:
        figure.suptitle(title, color=INK, fontsize="x-large")
    return figure


def write_figure(figure: Figure, name: FilePath) -> list[FilePath]:
    """Writes a figure as ``NAME.svg`` and ``NAME.png``.

    Args:
        figure: The figure.
        name: Path of the files without ending.

    Returns:
        The files.

    Raises:
        InputError: If a file cannot be written.
    """
    files = [name.with_name(f"{name.name}.{ending}") for ending in ("svg", "png")]
    for file in files:
        try:
            with atomic_path(file) as partial:
                figure.savefig(partial, format=file.suffix[1:], dpi=200)
        except OSError as error:
            raise InputError(f"{file} cannot be written: {error.strerror or error}") from error
    return files


class CircleLayout(NamedTuple):
    """Positions of images on a circle of radius 1.

    Attributes:
        nodes: M images that are drawn, grouped by class.
        angles: ``(M,)``, angle of each image in radians, counterclockwise.
        radii: ``(M,)``, distance of the centre of each image from the centre of the circle.
        side: Width of an image.
        spans: First and last angle of each class.
        labels: ``(M,)``, class of each image.
    """

    nodes: list[int]
    angles: Tensor
    radii: Tensor
    side: float
    spans: dict[int, tuple[float, float]]
    labels: Tensor


def circle_layout(labels: Tensor, max_images: int) -> CircleLayout:
    """Returns positions on a circle, with the images of a class beside each other.

    More than :data:`IN_ONE_ROW` images are in two rows.

    Args:
        labels: ``(N,)``, classes.
        max_images: Largest number of images. The first classes that fit are shown, at least one.
    """
    classes, sizes = np.unique(labels.numpy(), return_counts=True)
    fitting = max(1, int((sizes.cumsum() <= max_images).sum()))
    chosen = classes[:fitting].tolist()
    nodes = [node for name in chosen for node in (labels == name).nonzero().flatten().tolist()]
    of_nodes = labels[nodes]
    gap = CLASS_GAP if len(chosen) > 1 else 0.0
    number = torch.searchsorted(torch.tensor(chosen), of_nodes)
    position = torch.arange(len(nodes)) + gap * number
    step = 2 * math.pi / (len(nodes) + gap * len(chosen))
    angles = math.pi / 2 - step * (position + gap / 2)
    rows = 1 if len(nodes) <= IN_ONE_ROW else 2
    side = min(0.2, 0.86 * rows * step)
    radii = 1 + 1.04 * side * (torch.arange(len(nodes)) % rows)
    spans = {}
    for name in chosen:
        own = angles[of_nodes == name]
        spans[name] = (float(own[0]) + step / 2, float(own[-1]) - step / 2)
    return CircleLayout(nodes, angles, radii, side, spans, of_nodes)


def edge_sets(graph: Data | Edges | Tensor, weights: Tensor | Mapping[str, Tensor] | None = None) -> Edges:
    """Returns the sets of edges of a graph by name, with a weight for each edge. Weights are averaged over heads.

    Args:
        graph: See :func:`plot_batch_graph`.
        weights: See :func:`plot_batch_graph`.

    Raises:
        ValueError: If there are no edges, or weights without edges of the same name.
    """
    found: dict[str, tuple[Tensor, Tensor | None]] = {}
    if isinstance(graph, Tensor):
        found["edges"] = graph, None
    elif isinstance(graph, Data):
        names = [key for key in graph.keys() if key.endswith("edge_index")]  # noqa: SIM118
        found = {name.removesuffix("edge_index").strip("_") or "edges": (graph[name], None) for name in names}
    else:
        found = dict(graph)
    given = weights if isinstance(weights, Mapping) else {}
    if isinstance(weights, Tensor):
        given = {next((name for name in found if _kind_and_layer(name)[0] != SEMANTIC), "edges"): weights}
    if not found or given.keys() - found.keys():
        raise ValueError(
            f"found weights {sorted(given)} and edges {sorted(found)}, expected edges of these names"
        )
    sets = {}
    for name, (edge_index, own) in found.items():
        weight = given.get(name, own)
        weight = torch.ones(edge_index.size(1)) if weight is None else weight.detach().float().cpu()
        sets[name] = edge_index.detach().cpu(), weight if weight.dim() == 1 else weight.mean(dim=1)
    return sets


def undirected(edge_index: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Returns each pair of nodes once, lower node first, with the sum of its weights. Self loops are left out.

    Args:
        edge_index: ``(2, E)``.
        weight: ``(E,)``.

    Returns:
        Pairs ``(2, M)`` and their weights ``(M,)``.
    """
    apart = edge_index[0] != edge_index[1]
    ends = edge_index[:, apart].sort(dim=0).values.numpy()
    pairs, place = np.unique(ends, axis=1, return_inverse=True)
    sums = np.bincount(place.flatten(), weights=weight[apart].numpy(), minlength=pairs.shape[1])
    return torch.from_numpy(pairs), torch.from_numpy(sums).float()


def class_shares(edge_index: Tensor, weight: Tensor, labels: Tensor) -> dict[int, float]:
    """Returns for each class the share of the weight at its images that comes from the same class, from 0 to 1.

    Self loops are left out. The share is 0 if a class gets no weight.

    Args:
        edge_index: ``(2, E)``, source and target of each edge.
        weight: ``(E,)``, from 0.
        labels: ``(N,)``, classes.
    """
    source, target = edge_index
    mass = weight * (source != target)
    same = mass * (labels[source] == labels[target])
    shares = {}
    for name in np.unique(labels.numpy()).tolist():
        arrives = labels[target] == name
        shares[name] = float(same[arrives].sum() / mass[arrives].sum().clamp(min=1e-12))
    return shares


def _labels(graph: Data | Edges | Tensor, labels: Tensor | None, number: int) -> Tensor:
    if labels is None and isinstance(graph, Data):
        labels = graph.y
    return torch.zeros(number, dtype=torch.int64) if labels is None else labels.detach().cpu()


def _check(sets: Edges, labels: Tensor, number: int) -> None:
    if labels.shape != (number,):
        raise ValueError(f"expected one label for each of {number} images, found shape {tuple(labels.shape)}")
    for name, (edge_index, weight) in sets.items():
        if edge_index.shape != (2, len(weight)):
            raise ValueError(f"{name}: edges {tuple(edge_index.shape)} do not fit {len(weight)} weights")
        if edge_index.numel() and not 0 <= int(edge_index.min()) <= int(edge_index.max()) < number:
            raise ValueError(f"{name}: found an edge outside the graph of {number} images")


def _panels(sets: Edges) -> list[tuple[str, str | None]]:
    """Returns the names of the edges that each panel draws inside and outside the circle."""
    kinds = {name: _kind_and_layer(name) for name in sets}
    outer = {layer: name for name, (kind, layer) in kinds.items() if kind == SEMANTIC}
    inner = [name for name, (kind, _) in kinds.items() if kind != SEMANTIC]
    return [(name, outer.get(kinds[name][1])) for name in inner] or [(name, None) for name in sets]


def _kind_and_layer(name: str) -> tuple[str, str]:
    """Returns for example ``("visual", "0")`` for ``layers.0.visual``, and ``("visual", "")`` for ``visual``."""
    parts = re.split(r"[./]", name)
    kind = " ".join(part for part in parts if part != "layers" and not part.isdigit())
    return kind, next((part for part in parts if part.isdigit()), "")


def _draw_edges(
    panel: Axes, edges: tuple[Tensor, Tensor], place: CircleLayout, max_edges: int, outside: bool
) -> None:
    """Draws pairs as curves: first those between classes, then those within classes, the strongest last."""
    pairs, weight = _drawn(edges, place, max_edges)
    if not len(weight):
        return
    colors = _class_color(place)
    strength = (weight / weight.max()).tolist()
    row = {node: number for number, node in enumerate(place.nodes)}
    paths, shades, widths = [], [], []
    thin = min(1.0, math.sqrt(300 / len(weight)))
    for (first, second), share in zip(pairs.t().tolist(), strength, strict=True):
        i, j = row[first], row[second]
        name = int(place.labels[i])
        same = name == int(place.labels[j])
        paths.append(_curve(place, i, j, outside))
        shades.append((*colors[name], 0.35 + 0.6 * share) if same else (*GREY, 0.12 + 0.6 * share))
        widths.append(
            (0.25 + 0.35 * share)
            if outside
            else thin * ((0.8 if same else 0.3) + (2.2 if same else 1.5) * share)
        )
    panel.add_collection(
        PathCollection(paths, facecolors="none", edgecolors=shades, linewidths=widths, zorder=1)
    )


def _drawn(edges: tuple[Tensor, Tensor], place: CircleLayout, max_edges: int) -> tuple[Tensor, Tensor]:
    """Returns the strongest pairs of the drawn images: first those between classes, each group by weight."""
    pairs, weight = undirected(*edges)
    there = torch.isin(pairs, torch.tensor(place.nodes)).all(dim=0) & (weight > 0)
    pairs, weight = pairs[:, there], weight[there]
    best = weight.argsort(descending=True, stable=True)[:max_edges].flip(0)
    pairs, weight = pairs[:, best], weight[best]
    label = {node: int(name) for node, name in zip(place.nodes, place.labels, strict=True)}
    same = torch.tensor([label[a] == label[b] for a, b in pairs.t().tolist()], dtype=torch.int64)
    order = same.argsort(stable=True)
    return pairs[:, order], weight[order]


def _curve(place: CircleLayout, i: int, j: int, outside: bool) -> Path:
    """Returns a quadratic curve between two images. It bends more if they are farther apart."""
    first, second = float(place.angles[i]), float(place.angles[j])
    apart = abs((first - second + math.pi) % (2 * math.pi) - math.pi)
    middle = second + ((first - second + math.pi) % (2 * math.pi) - math.pi) / 2
    half = place.side / 2
    if outside:
        rim = float(place.radii.max()) + half
        bend = 2 * (rim + min(0.09, 0.3 * apart)) - rim * math.cos(apart / 2)
        ends = (rim, rim)
    else:
        ends = (float(place.radii[i]) - half, float(place.radii[j]) - half)
        bend = min(ends) * (1 - min(0.95, 1.25 * math.sqrt(apart / math.pi)))
    points = [(ends[0], first), (bend, middle), (ends[1], second)]
    corners = [(radius * math.cos(angle), radius * math.sin(angle)) for radius, angle in points]
    return Path(corners, [Path.MOVETO, Path.CURVE3, Path.CURVE3])


def _draw_pictures(panel: Axes, pictures: Sequence[object], place: CircleLayout) -> None:
    colors = _class_color(place)
    half = place.side / 2
    for number, picture in enumerate(pictures):
        angle, radius = float(place.angles[number]), float(place.radii[number])
        x, y = radius * math.cos(angle), radius * math.sin(angle)
        frame = FancyBboxPatch(
            (x - half, y - half),
            place.side,
            place.side,
            boxstyle=f"round,pad=0,rounding_size={0.55 * half}",
            facecolor="none",
            edgecolor=colors[int(place.labels[number])],
            linewidth=1.3,
            zorder=4,
        )
        panel.add_patch(frame)
        shown = panel.imshow(
            np.asarray(picture),
            extent=(x - half, x + half, y - half, y + half),
            zorder=3,
            interpolation="antialiased",
        )
        shown.set_clip_path(frame)


def _draw_ring(
    panel: Axes,
    shares: Mapping[int, float],
    place: CircleLayout,
    names: Mapping[int, str] | Sequence[str] | None,
    inches: float,
) -> None:
    """Draws a gauge of the share of each class, and the name of the class beside it."""
    colors = _class_color(place)
    inner = float(place.radii.max()) + place.side / 2 + 0.12
    margin = inner + (0.1 if names is None else 0.06 + LINES * 2.6 * FONT_SIZE / 72 * inner / inches)
    for name, (first, last) in place.spans.items():
        begin, stop = math.degrees(last), math.degrees(first)
        ring = {"r": inner + 0.025, "width": 0.025, "linewidth": 0.0}
        filled = stop - (stop - begin) * shares[name]
        panel.add_patch(Wedge((0, 0), theta1=begin, theta2=stop, facecolor=FAINT, **ring))
        panel.add_patch(Wedge((0, 0), theta1=filled, theta2=stop, facecolor=colors[name], **ring))
        angle = (begin + stop) / 2
        x, y = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        points = (first - last) * inner * inches * 72 / (2 * margin)
        panel.text(
            (inner + 0.045) * x,
            (inner + 0.045) * y,
            ring_label(
                None if names is None else names[name], shares[name], int(points / (0.58 * FONT_SIZE))
            ),
            rotation=angle + 90 if y < 0 else angle - 90,
            rotation_mode="anchor",
            ha="center",
            va="top" if y < 0 else "bottom",
            fontsize=FONT_SIZE,
            linespacing=1.05,
            color=INK,
            parse_math=False,
            in_layout=False,
        )
    panel.set_xlim(-margin, margin)
    panel.set_ylim(-margin, margin)
    panel.set_aspect("equal")


def ring_label(name: str | None, share: float, letters: int) -> str:
    """Returns the name of a class and its share in short lines. The name may be cut, but not the share.

    Args:
        name: The name, if there is one.
        share: The share, from 0 to 1.
        letters: Number of letters that fit into a line.
    """
    percent = f"{100 * share:.0f} %"
    if name is None or letters < SHORTEST:
        return percent
    lines = textwrap.wrap(name.replace("_", " "), letters)
    if (len(lines) == LINES and len(lines[-1]) + 1 + len(percent) > letters) or len(lines) > LINES:
        lines = lines[: LINES - 1]
        lines[-1] = f"{lines[-1][: letters - 1]}…"
    if lines and len(lines[-1]) + 1 + len(percent) <= letters:
        lines[-1] += f" {percent}"
    else:
        lines.append(percent)
    return "\n".join(lines)


def _caption(
    panel: Axes,
    inner: str,
    outer: str | None,
    edges: tuple[Tensor, Tensor],
    labels: Tensor,
    place: CircleLayout,
    max_edges: int,
) -> None:
    """Writes the title and the legend of a panel."""
    kind, layer = _kind_and_layer(inner)
    title = "edges" if kind == "edges" else f"{kind} edges"
    panel.set_title(f"{title}, layer {int(layer) + 1}" if layer else title, color=INK)
    source, target = edges[0]
    apart = source != target
    same = labels[source] == labels[target]
    share = float(edges[1][apart & same].sum() / edges[1][apart].sum().clamp(min=1e-12))
    sizes = np.unique(labels.numpy(), return_counts=True)[1]
    chance = float((sizes * (sizes - 1)).sum() / max(len(labels) * (len(labels) - 1), 1))
    some = next(iter(_class_color(place).values()))
    handles = [
        Line2D([], [], color=some, linewidth=2.2, label=f"within a class: {100 * share:.0f} % of the weight"),
        Line2D(
            [], [], color=MUTED, linewidth=1, label=f"between classes (by chance {100 - 100 * chance:.0f} %)"
        ),
    ]
    if outer is not None:
        handles.append(Line2D([], [], color=some, linewidth=0.6, label=f"{SEMANTIC} edges, outside"))
    drawn = _drawn(edges, place, max_edges)[1].numel()
    all_pairs = undirected(*edges)[1].numel()
    left_out = len(sizes) - len(place.spans)
    notes = [f"{drawn} strongest of {all_pairs} pairs"] if drawn < all_pairs else []
    notes += [f"{left_out} of {left_out + len(place.spans)} classes left out"] if left_out else []
    legend = panel.legend(
        handles=handles,
        loc="upper center",
        bbox_to_anchor=(0.5, 0.0),
        ncols=len(handles),
        frameon=False,
        fontsize=8,
        labelcolor=INK,
        title="; ".join(notes) or None,
        title_fontsize=8,
    )
    legend.get_title().set_color(MUTED)


def _class_color(place: CircleLayout) -> dict[int, tuple[float, float, float]]:
    return dict(zip(place.spans, class_colors(len(place.spans)), strict=True))
