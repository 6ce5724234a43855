"""The layers' definitions as plain loops in float64, and graphs to try them on.

Paths of a layer are compared in float64: in float32 their difference depends on the machine's instructions.
"""

import math

import torch
from torch import Tensor, nn

BACKENDS = ("message", "sparse", "dense")


def _random_edges(num_nodes: int, num_edges: int, seed: int) -> Tensor:
    """Distinct edges in random order."""
    pairs = torch.randperm(num_nodes**2, generator=torch.Generator().manual_seed(seed))[:num_edges]
    return torch.stack([pairs % num_nodes, pairs // num_nodes])


_SOME = _random_edges(9, 30, seed=1)
GRAPHS: dict[str, tuple[int, Tensor]] = {
    "unsorted": (9, _SOME),
    "sorted by target": (9, _SOME[:, _SOME[1].argsort(stable=True)]),
    "duplicated edges": (9, torch.cat([_SOME, _SOME[:, :12], _SOME[:, :5]], dim=1)),
    "isolated nodes": (14, _SOME + 2),
    "no edges": (4, torch.empty(2, 0, dtype=torch.long)),
    "one node": (1, torch.zeros(2, 1, dtype=torch.long)),
    "only self loops": (5, torch.arange(5).expand(2, -1)),
    "complete": (7, _random_edges(7, 49, seed=2)),
    "larger": (40, _random_edges(40, 300, seed=3)),
}


def features(num_nodes: int, channels: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(num_nodes, channels, generator=torch.Generator().manual_seed(seed)).to(dtype)


def gradients(layer: nn.Module, x: Tensor, *inputs: Tensor | None) -> list[Tensor]:
    """The output and the gradients of x and of all parameters, of a loss that weighs every output differently."""
    x = x.clone().requires_grad_()
    out = layer(x, *inputs)
    weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)
    grads = torch.autograd.grad((out * weights).sum(), [x, *layer.parameters()], allow_unused=True)
    return [out.detach(), *(torch.zeros(()) if grad is None else grad for grad in grads)]


def close(ours: object, theirs: object, tolerance: float = 1e-10) -> None:
    """Asserts that float64 results of two paths are equal to within rounding."""
    torch.testing.assert_close(ours, theirs, atol=tolerance, rtol=tolerance)


def linear(layer: nn.Linear, x: Tensor) -> Tensor:
    bias = 0.0 if layer.bias is None else layer.bias.double()
    return x.double() @ layer.weight.double().t() + bias


def edge_lists(edge_index: Tensor, num_nodes: int) -> list[list[int]]:
    """The sources of each node, as often as they occur."""
    sources: list[list[int]] = [[] for _ in range(num_nodes)]
    for source, target in edge_index.t().tolist():
        sources[target].append(source)
    return sources


@torch.no_grad()
def naive_attention(conv: nn.Module, x: Tensor, edge_index: Tensor | None = None) -> Tensor:
    """SSAConv: with edges along them, else along each head's k best scores."""
    num_nodes, channels = x.shape
    size = channels // conv.heads
    query, key, value = linear(conv.qkv, x).split(channels, dim=1)
    out = torch.zeros(num_nodes, channels, dtype=torch.float64)
    for head in range(conv.heads):
        part = slice(head * size, (head + 1) * size)
        for i in range(num_nodes):
            scores = [float(query[i, part] @ key[j, part]) / math.sqrt(size) for j in range(num_nodes)]
            if edge_index is None:
                best = sorted(range(num_nodes), key=lambda j: (-scores[j], j))
                sources = best if conv.k is None else best[: conv.k]
            else:
                sources = edge_lists(edge_index, num_nodes)[i]
            total = sum(math.exp(scores[j]) for j in sources)
            for j in sources:
                out[i, part] += math.exp(scores[j]) / total * value[j, part]
    return linear(conv.proj, out)


@torch.no_grad()
def naive_label_propagation(conv: nn.Module, x: Tensor, edge_index: Tensor) -> Tensor:
    """LabelConv."""
    num_nodes = len(x)
    adjacency = torch.zeros(num_nodes, num_nodes, dtype=torch.float64)
    for source, target in edge_index.t().tolist():
        adjacency[target, source] += 1
    for i in range(num_nodes):
        adjacency[i, i] = conv.self_weight
    mapped, out = linear(conv.lin, x), torch.zeros(x.shape, dtype=torch.float64)
    for i in range(num_nodes):
        for j in range(num_nodes):
            out[i] += adjacency[i, j] / math.sqrt(adjacency[i].sum() * adjacency[j].sum()) * mapped[j]
    return out


@torch.no_grad()
def naive_affinity(conv: nn.Module, x: Tensor, edge_index: Tensor | None = None) -> Tensor:
    """AffinityConv: with edges along them, else along the k most similar."""
    x, num_nodes = x.double(), len(x)
    out = torch.zeros_like(x)
    for i in range(num_nodes):
        scores = [float(x[i] @ x[j]) for j in range(num_nodes)]
        if edge_index is None:
            sources = sorted(range(num_nodes), key=lambda j: (-scores[j], j))[: conv.k]
        else:
            sources = edge_lists(edge_index, num_nodes)[i]
        low = min((scores[j] for j in sources), default=0.0)
        high = max((scores[j] for j in sources), default=0.0)
        for j in sources:
            out[i] += (1.0 if high == low else (scores[j] - low) / (high - low)) * x[j]
    return out


def naive_norm(norm: nn.Module, x: Tensor) -> Tensor:
    """LayerNorm, or GraphNorm over one graph."""
    x, weight, bias = x.double(), norm.weight.double(), norm.bias.double()
    if isinstance(norm, nn.LayerNorm):
        x = x - x.mean(dim=1, keepdim=True)
        return weight * x / (x.square().mean(dim=1, keepdim=True) + norm.eps).sqrt() + bias
    x = x - norm.mean_scale.double() * x.mean(dim=0)
    return weight * x / (x.square().mean(dim=0) + norm.eps).sqrt() + bias
