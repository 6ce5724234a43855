"""Speed and memory of one SSAConv, forward and backward in float32, compared with other layers.

    OMP_NUM_THREADS=2 python benchmarks/layers.py
    python benchmarks/layers.py --sizes 405,30,768,8 --repeats 9

The layers take turns, so that other work of the machine slows all of them alike. The table has the median and the
fastest of the repeats, with their ratios to the path that ``backend="auto"`` takes. The fastest one is the time on
an idle machine. Memory is the peak of the tensors that one forward and backward pass allocates, from the
profiler's record. It does not contain the work space of libraries. ``linear maps`` are the layer's two products
with its weights and nothing else. No attention can be faster than these.
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from measuring import MIB, Step, Time, interleaved_times, peak_memory, training_step, write_table
from torch import Tensor, nn
from torch_geometric.nn import TransformerConv

from pyg_bgformer import SSAConv, batch_graph
from pyg_bgformer.nn.ops import compress_edges, edge_dot, edge_softmax, edge_sum, heads_as_nodes


class Size(NamedTuple):
    """Number of nodes, neighbours of each node, channels and heads."""

    nodes: int
    k: int
    channels: int
    heads: int


DEFAULT_SIZES = [Size(100, 10, 512, 8), Size(405, 30, 768, 8), Size(1024, 30, 512, 8), Size(4096, 30, 512, 8)]


class FullAttention(nn.Module):
    """Full self-attention over all nodes, with the linear maps of SSAConv."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, D) -> (N, D)``."""
        query, key, value = self.qkv(x).view(1, len(x), 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        out = F.scaled_dot_product_attention(query, key, value)
        return self.proj(out.transpose(1, 2).reshape(x.shape))


class LinearMaps(nn.Module):
    """The linear maps of SSAConv alone."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, D) -> (N, D)``."""
        return self.proj(self.qkv(x).chunk(3, dim=1)[2])


def contestants(size: Size, device: torch.device | str = "cpu") -> dict[str, Step]:
    """Returns the training steps of all layers of one size, on the same features and edges."""
    x = torch.randn(size.nodes, size.channels, generator=torch.Generator().manual_seed(0))
    edges = batch_graph(x, k=size.k).visual_edge_index.to(device)
    x = x.to(device)
    layers = {
        f"SSAConv {name}": SSAConv(size.channels, size.heads, backend=name)
        for name in ("auto", "sparse", "dense", "message")
    }
    layers["TransformerConv"] = TransformerConv(size.channels, size.channels // size.heads, size.heads)
    steps = {name: training_step(layer.to(device), x, edges) for name, layer in layers.items()}
    steps["full attention"] = training_step(FullAttention(size.channels, size.heads).to(device), x)
    steps["linear maps"] = training_step(LinearMaps(size.channels).to(device), x)
    return steps


def parts(size: Size) -> dict[str, Step]:
    """What the sparse path does beside its linear maps, forward and backward."""
    x = torch.randn(size.nodes, size.channels, generator=torch.Generator().manual_seed(0))
    edge_index = batch_graph(x, k=size.k).visual_edge_index
    edges = compress_edges(edge_index, size.nodes, size.heads)
    layout = torch.randn(size.nodes, 3, size.heads, size.channels // size.heads).requires_grad_()
    q, k, v = (part.detach().requires_grad_() for part in heads_as_nodes(layout.permute(1, 2, 0, 3)))
    weight = torch.rand(edges.source.numel(), requires_grad=True)

    def copies() -> None:
        nodes = heads_as_nodes(layout.permute(1, 2, 0, 3))
        torch.autograd.grad(nodes, layout, nodes)
        nodes[0].view(size.heads, size.nodes, -1).transpose(0, 1).reshape(x.shape)
        x.view(size.nodes, size.heads, -1).transpose(0, 1).contiguous()

    return {
        "order of the edges": lambda: compress_edges(edge_index, size.nodes, size.heads),
        "copies, from nodes to heads and back": copies,
        "scores of the edges": lambda: torch.autograd.grad(edge_dot(q, k, edges), (q, k), weight),
        "softmax": lambda: torch.autograd.grad(edge_softmax(weight, edges), weight, weight),
        "sums over the edges": lambda: torch.autograd.grad(edge_sum(weight, v, edges), (weight, v), q),
    }


def compare(size: Size, repeats: int) -> tuple[dict[str, Time], dict[str, float]]:
    """Prints a row for each layer. Returns their times and those of the parts of SSAConv, and peaks in MiB."""
    steps = contestants(size)
    times = interleaved_times(steps | parts(size), repeats)
    peaks = {name: peak_memory(step) / MIB for name, step in steps.items()}
    ours, linear = times["SSAConv auto"], times["linear maps"]
    for name, peak in peaks.items():
        seconds = times[name]
        print(
            f"{size.nodes:>5} {size.k:>3} {size.channels:>4} {size.heads:>2}  {name:<16}"
            f"{seconds.median * 1e3:>9.1f} {seconds.median / ours.median:>8.2f}x"
            f"{seconds.fastest * 1e3:>9.1f} {seconds.fastest / ours.fastest:>8.2f}x{peak:>10.1f}",
            flush=True,
        )
    print(f"{'':18}relative to the linear maps (fastest):")
    for name in ["SSAConv auto", *(name for name in times if name not in peaks)]:
        median, fastest = times[name].median / linear.median, times[name].fastest / linear.fastest
        print(f"{'':18}{name:38}{median:6.3f} ({fastest:.3f})")
    return times, peaks


def layer_row(size: Size, times: dict[str, Time], peaks: dict[str, float]) -> dict[str, str]:
    """One row of the page's table."""
    ours, linear = times["SSAConv auto"].median, times["linear maps"].median
    row = {
        "nodes, k, channels, heads": ", ".join(map(str, size)),
        "SSAConv, ms": f"{1e3 * ours:.1f}",
        "times its linear maps": f"{ours / linear:.2f}",
        "MiB": f"{peaks['SSAConv auto']:.1f}",
    }
    for name in ("TransformerConv", "full attention"):
        row[f"{name}, times SSAConv"] = f"{times[name].median / ours:.2f}"
        row[f"{name}, MiB"] = f"{peaks[name]:.1f}"
    return row


def memory_series(k: int, channels: int, heads: int) -> None:
    """Prints the memory of the sparse path for several numbers of nodes and neighbours."""
    print("\nmemory of the sparse path (linear growth: a constant number of bytes per node and per edge)")
    print(f"{'N':>5} {'k':>4} {'N x k':>8} {'MiB':>8} {'KiB per node':>13}")
    for nodes, neighbours in [(n, k) for n in (512, 1024, 2048, 4096, 8192)] + [(2048, 2 * k), (2048, 4 * k)]:
        x = torch.randn(nodes, channels, generator=torch.Generator().manual_seed(0))
        edges = torch.randint(nodes, (nodes * neighbours,), generator=torch.Generator().manual_seed(1))
        receiver = torch.arange(nodes).repeat_interleave(neighbours)
        layer = SSAConv(channels, heads, backend="sparse")
        memory = peak_memory(training_step(layer, x, torch.stack([edges, receiver])))
        print(
            f"{nodes:>5} {neighbours:>4} {nodes * neighbours:>8} {memory / MIB:>8.1f} "
            f"{memory / 1024 / nodes:>13.2f}",
            flush=True,
        )


def parse_size(text: str) -> Size:
    """Returns the size that ``N,k,D,heads`` describes."""
    try:
        return Size(*(int(part) for part in text.split(",")))
    except (TypeError, ValueError):
        raise argparse.ArgumentTypeError(f"expected N,k,D,heads, found {text!r}") from None


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed and memory of SSAConv, as ratios.")
    parser.add_argument("--sizes", type=parse_size, nargs="+", default=DEFAULT_SIZES, metavar="N,k,D,heads")
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--csv", type=Path, help="file of the table; that of the parts is beside it")
    arguments = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {arguments.repeats} repeats")
    print(
        f"{'N':>5} {'k':>3} {'D':>4} {'H':>2}  {'layer':<16}"
        f"{'median ms':>9} {'of auto':>9}{'best ms':>9} {'of auto':>9}{'peak MiB':>10}"
    )
    measured = {size: compare(size, arguments.repeats) for size in arguments.sizes}
    write_table(arguments.csv, [layer_row(size, *found) for size, found in measured.items()])
    if arguments.csv:
        times = {", ".join(map(str, size)): found for size, (found, _) in measured.items()}
        rows = [
            {"part": name}
            | {
                case: f"{found[name].median / found['linear maps'].median:.3f}"
                for case, found in times.items()
            }
            for name in parts(arguments.sizes[0])
        ]
        write_table(arguments.csv.with_stem(f"{arguments.csv.stem}-parts"), rows)
    memory_series(k=30, channels=512, heads=8)


if __name__ == "__main__":
    main()
