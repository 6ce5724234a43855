"""torch.compile without a graph break and torch.export give what eager execution gives."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pyg_bgformer import BGFormer, LabelConv, SSAConv, batch_graph
from pyg_bgformer.errors import InputError
from pyg_bgformer.nn import (
    AffinityConv,
    BatchFormerNetwork,
    DyBGRLayer,
    DynamicGraphConv,
    GCALayer,
    IntraBatchLayer,
)
from pyg_bgformer.nn.models.gca_hng import correlations
from tests.nn.oracles import close, features

DIM = 8
LABELS = torch.arange(10) % 3
BATCH = torch.tensor([0] * 4 + [1] * 6)
X = features(10, DIM)
GRAPH = batch_graph(X, LABELS, k=4)
VISUAL, SEMANTIC = GRAPH.visual_edge_index, GRAPH.semantic_edge_index
BETWEEN = (LABELS[:, None] != LABELS[None, :]).nonzero().t()
QUIET = {"attention_dropout": 0.0, "dropout": 0.0, "mlp_dropout": 0.0}


def blocks(backend: str) -> dict[str, tuple[nn.Module, tuple[Any, ...]]]:
    """Each block with inputs."""
    torch.manual_seed(0)
    found: dict[str, tuple[nn.Module, tuple[Any, ...]]] = {
        "SSAConv by scores": (SSAConv(DIM, 2, neighbours="scores", k=3, backend=backend), (X,)),
        "AffinityConv": (AffinityConv(backend=backend), (X, VISUAL)),
        "AffinityConv by scores": (AffinityConv("scores", 3, backend), (X,)),
        "BGFormer": (BGFormer(DIM, 1, 2, backend=backend), (X, VISUAL, SEMANTIC)),
        "BGFormer on a batch": (BGFormer(DIM, 1, 2, backend=backend), (X, VISUAL, SEMANTIC, BATCH)),
        "DyBGRLayer": (DyBGRLayer(DIM, 3, backend=backend), (X, SEMANTIC)),
    }
    if backend != "sparse":
        found["IntraBatchLayer"] = (IntraBatchLayer(DIM, 2, backend=backend, **QUIET), (X,))
        found["GCALayer"] = (GCALayer(DIM, 2, 0.0, backend), (X, correlations(X), BETWEEN))
    if backend == "auto":
        found["BatchFormerNetwork"] = (BatchFormerNetwork(DIM, 2, 0.0), (X,))
    return {name: (block.double(), inputs) for name, (block, inputs) in found.items()}


DENSE = [(name, "auto") for name in blocks("auto")]
BY_MESSAGES = [(name, "message") for name in blocks("message")]


@pytest.fixture(autouse=True)
def nothing_compiled() -> None:
    torch._dynamo.reset()


@pytest.mark.parametrize(
    ("name", "backend"), DENSE + [pytest.param(*case, marks=pytest.mark.slow) for case in BY_MESSAGES]
)
def test_blocks_compile_without_a_graph_break(name: str, backend: str) -> None:
    block, inputs = blocks(backend)[name]
    close(torch.compile(block, backend="eager", fullgraph=True)(*inputs), block(*inputs), 1e-9)


def test_a_compiled_block_trains_like_an_eager_one() -> None:
    block, inputs = blocks("auto")["BGFormer"]
    parameters = [p for p in block.parameters() if p.requires_grad]
    compiled = torch.compile(block, backend="aot_eager", fullgraph=True)
    grads = [torch.autograd.grad(out(*inputs).square().mean(), parameters) for out in (compiled, block)]
    for ours, eager in zip(*grads, strict=True):
        close(ours, eager, 1e-9)


@pytest.mark.parametrize(("name", "backend"), DENSE + BY_MESSAGES)
def test_blocks_export(name: str, backend: str) -> None:
    block, inputs = blocks(backend)[name]
    close(torch.export.export(block.eval(), inputs).module()(*inputs), block(*inputs), 1e-9)


def test_dense_is_what_auto_compiles_also_for_large_graphs() -> None:
    x = features(200, DIM, dtype=torch.float32)
    edge_index = batch_graph(x, k=3).visual_edge_index
    conv = SSAConv(DIM, 2)
    torch.testing.assert_close(
        torch.compile(conv, backend="eager", fullgraph=True)(x, edge_index), conv(x, edge_index)
    )


@pytest.mark.parametrize(
    ("conv", "inputs", "message"),
    [
        (
            SSAConv(DIM, 2, backend="sparse"),
            (X, VISUAL),
            "backend='sparse' cannot be compiled or exported; use 'auto'",
        ),
        (LabelConv(DIM, backend="sparse"), (X, SEMANTIC), "backend='sparse' cannot"),
        (AffinityConv(backend="sparse"), (X, VISUAL), "backend='sparse' cannot"),
        (DynamicGraphConv(3, backend="sparse"), (X, SEMANTIC), "backend='sparse' cannot"),
        (
            DynamicGraphConv(3),
            (X, SEMANTIC, BATCH),
            "a batch of graphs cannot be compiled or exported; give it one graph",
        ),
    ],
)
def test_other_paths_are_refused_or_left_as_they_are(
    conv: nn.Module, inputs: tuple[Tensor, ...], message: str
) -> None:
    conv = conv.double()
    with pytest.raises(InputError, match=message):
        torch.export.export(conv, inputs)
    with pytest.raises(torch._dynamo.exc.Unsupported, match=message):
        torch.compile(conv, backend="eager", fullgraph=True)(*inputs)
    torch._dynamo.reset()
    close(torch.compile(conv, backend="eager")(*inputs), conv(*inputs), 1e-9)
