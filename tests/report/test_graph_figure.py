import io
import math

import pytest
import torch
from matplotlib.collections import PathCollection
from torch_geometric.data import Data

from pyg_bgformer import batch_graph
from pyg_bgformer.report.graph_figure import (
    circle_layout,
    class_shares,
    edge_sets,
    plot_batch_graph,
    ring_label,
    undirected,
)

LABELS = torch.tensor([0, 0, 1, 1, 2, 2])
IMAGES = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
EDGES = torch.tensor([[0, 1, 2, 5, 4, 3], [1, 0, 3, 0, 4, 2]])


def lines(panel):
    """Number of curves in each collection of a panel."""
    return [len(part.get_paths()) for part in panel.collections if isinstance(part, PathCollection)]


def test_both_directions_of_an_edge_are_one_pair():
    pairs, weight = undirected(EDGES, torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]))
    assert dict(zip(map(tuple, pairs.t().tolist()), weight.tolist(), strict=True)) == {
        (0, 1): 3.0,
        (2, 3): 9.0,
        (0, 5): 4.0,
    }


def test_shares_of_classes_by_plain_loops():
    generator = torch.Generator().manual_seed(1)
    edge_index = torch.randint(0, 6, (2, 40), generator=generator)
    weight = torch.rand(40, generator=generator)
    for name, share in class_shares(edge_index, weight, LABELS).items():
        same = other = 0.0
        for (source, target), value in zip(edge_index.t().tolist(), weight.tolist(), strict=True):
            if LABELS[target] == name and source != target:
                same += value * (LABELS[source] == name).item()
                other += value * (LABELS[source] != name).item()
        assert share == pytest.approx(same / (same + other))


def test_a_class_that_nothing_arrives_at_has_share_0():
    assert class_shares(EDGES, torch.ones(6), LABELS)[2] == 0.0


@pytest.mark.parametrize(("classes", "samples"), [(5, 10), (20, 5), (2, 1), (1, 7)])
def test_images_on_the_circle_do_not_cover_each_other(classes, samples):
    labels = torch.arange(classes).repeat(samples)
    place = circle_layout(labels, 1000)
    assert sorted(place.nodes) == list(range(classes * samples))
    assert place.labels.tolist() == sorted(labels.tolist())
    middles = torch.stack([place.radii * place.angles.cos(), place.radii * place.angles.sin()], dim=1)
    distance = torch.cdist(middles, middles).fill_diagonal_(torch.inf)
    assert distance.min() > place.side
    covered = sum(start - end for start, end in place.spans.values())
    assert covered < 2 * math.pi + 1e-5


def test_more_images_than_fit_leave_out_whole_classes():
    place = circle_layout(torch.arange(10).repeat_interleave(4), max_images=18)
    assert list(place.spans) == [0, 1, 2, 3]
    assert list(circle_layout(torch.zeros(30, dtype=torch.int64), max_images=18).spans) == [0]


def test_heads_are_averaged_and_missing_weights_are_one():
    sets = edge_sets(
        {"layers.0.visual": (EDGES, torch.tensor([[1.0, 3.0]] * 6)), "layers.0.semantic": (EDGES, None)}
    )
    assert sets["layers.0.visual"][1].tolist() == [2.0] * 6
    assert sets["layers.0.semantic"][1].tolist() == [1.0] * 6


def test_a_batch_graph_becomes_one_panel_with_semantic_edges_outside():
    x = torch.rand(6, 4, generator=torch.Generator().manual_seed(2))
    figure = plot_batch_graph(batch_graph(x, LABELS, k=3), IMAGES)
    (panel,) = figure.axes
    visual, semantic = lines(panel)
    assert visual >= 6
    assert semantic == 3
    assert panel.get_title() == "visual edges"
    assert len(panel.images) == 6


def test_each_layer_has_a_panel():
    weight = torch.rand(6, 2, generator=torch.Generator().manual_seed(3))
    kinds = ("visual", "semantic")
    edges = {f"layers.{layer}.{kind}": (EDGES, weight) for layer in (0, 1) for kind in kinds}
    figure = plot_batch_graph(edges, IMAGES, labels=LABELS, class_names=["a", "b", "<script>"])
    titles = [panel.get_title() for panel in figure.axes]
    assert titles == ["visual edges, layer 1", "visual edges, layer 2"]
    written = " ".join(text.get_text() for text in figure.axes[0].texts)
    assert "<script>" in written
    svg = io.StringIO()
    figure.savefig(svg, format="svg")
    assert "<script>" not in svg.getvalue()


def test_semantic_edges_alone_are_drawn_inside():
    figure = plot_batch_graph(Data(semantic_edge_index=EDGES, y=LABELS), IMAGES)
    assert figure.axes[0].get_title() == "semantic edges"


def test_only_the_strongest_edges_are_drawn_and_the_figure_says_so():
    weight = torch.tensor([1.0, 1.0, 1.0, 9.0, 1.0, 1.0])
    figure = plot_batch_graph(EDGES, IMAGES, weight, LABELS, max_edges=1)
    (panel,) = figure.axes
    assert lines(panel) == [1]
    assert "1 strongest of 3 pairs" in panel.get_legend().get_title().get_text()


def test_a_label_keeps_the_share_and_fits_its_lines():
    assert ring_label(None, 0.5, 20) == "50 %"
    assert ring_label("Blue_Jay", 0.5, 20) == "Blue Jay 50 %"
    assert ring_label("Blue_Jay", 0.5, 8) == "Blue Jay\n50 %"
    assert ring_label("Blue_Jay", 0.5, 4) == "50 %"
    for letters in range(6, 30):
        lines = ring_label("094.White_breasted_Nuthatch_of_the_woods", 1.0, letters).split("\n")
        assert len(lines) <= 3
        assert max(map(len, lines)) <= letters
        assert lines[-1].endswith("100 %")


def test_a_graph_without_edges_is_drawn():
    figure = plot_batch_graph(torch.empty(2, 0, dtype=torch.int64), IMAGES, labels=LABELS)
    assert lines(figure.axes[0]) == []


@pytest.mark.parametrize(
    ("graph", "weights", "labels", "message"),
    [
        (EDGES, None, LABELS[:5], "one label for each of 6 images"),
        (EDGES, torch.ones(5), LABELS, "do not fit 5 weights"),
        (EDGES + 1, None, LABELS, "outside the graph of 6 images"),
        ({}, None, LABELS, "expected edges of these names"),
        (
            {"visual": (EDGES, torch.ones(6))},
            {"attention": torch.ones(6)},
            LABELS,
            "expected edges of these names",
        ),
    ],
)
def test_numbers_that_do_not_fit_are_refused(graph, weights, labels, message):
    with pytest.raises(ValueError, match=message):
        plot_batch_graph(graph, IMAGES, weights, labels)
