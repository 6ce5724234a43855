"""BGFormer: its blocks against loops, in every form, and the whole against the original's numbers."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Batch, Data

from pyg_bgformer import BGFormer, BGFormerLayer, LabelConv, SSAConv, batch_graph
from pyg_bgformer.nn import AffinityConv
from tests.nn.oracles import (
    BACKENDS,
    features,
    gradients,
    linear,
    naive_affinity,
    naive_attention,
    naive_label_propagation,
    naive_norm,
)

DIM = 8
FORMS: list[dict] = [
    {},
    {"visual": "affinity"},
    {"semantic": "attention"},
    {"neighbours": "scores", "k": 3},
    {"neighbours": "scores", "k": 3, "visual": "affinity"},
    {"branches": "visual"},
    {"branches": "visual", "visual": "affinity"},
    {"branches": "visual", "neighbours": "scores", "k": 3},
    {"branches": "semantic"},
    {"branches": "semantic", "semantic": "attention"},
    {"branches": "full"},
]


def make(**options: object) -> BGFormerLayer:
    """A layer none of whose parameters is at a value that hides its use."""
    torch.manual_seed(0)
    layer = BGFormerLayer(DIM, heads=2, **options)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter += 0.1 * torch.randn(parameter.shape)
    return layer


def make_graph(num_nodes: int, seed: int = 0) -> Data:
    return batch_graph(features(num_nodes, DIM, seed), torch.arange(num_nodes) % 3, k=4)


def run(layer: nn.Module, data: Data) -> Tensor:
    return layer(data.x, data.get("visual_edge_index"), data.get("semantic_edge_index"), data.batch)


def naive_branch(layer: BGFormerLayer, conv: nn.Module, x: Tensor, edge_index: Tensor | None) -> Tensor:
    edges = edge_index if getattr(conv, "neighbours", "graph") == "graph" else None
    if isinstance(conv, SSAConv):
        return naive_attention(conv, x, edges)
    out = (
        naive_label_propagation(conv, x, edges)
        if isinstance(conv, LabelConv)
        else naive_affinity(conv, x, edges)
    )
    return linear(layer.proj, out)


@torch.no_grad()
def naive_layer(layer: BGFormerLayer, data: Data) -> Tensor:
    x = data.x.double()
    normed, lam = naive_norm(layer.norm1, x), layer.lam if layer.branches == "dual" else 1.0
    if layer.visual is not None:
        x = x + lam * naive_branch(layer, layer.visual, normed, data.get("visual_edge_index"))
    if layer.semantic is not None:
        share = 1 - lam if layer.visual is not None else 1.0
        x = x + share * naive_branch(layer, layer.semantic, normed, data.semantic_edge_index)
    hidden = nn.functional.gelu(linear(layer.mlp[0], naive_norm(layer.norm2, x)))
    return x + linear(layer.mlp[2], hidden)


@pytest.mark.parametrize("norm", ["graph", "layer"])
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_layer_equals_loops(form: dict, norm: str) -> None:
    layer, data = make(lam=0.3, norm=norm, **form), make_graph(11)
    torch.testing.assert_close(run(layer, data).double(), naive_layer(layer, data), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_backends_agree(form: dict) -> None:
    data = make_graph(11)
    inputs = (data.x, data.visual_edge_index, data.semantic_edge_index)
    by_message, sparse, dense = (gradients(make(backend=b, **form), *inputs) for b in BACKENDS)
    torch.testing.assert_close(sparse, by_message, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(dense, by_message, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("norm", ["graph", "layer"])
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_batch_of_graphs_equals_one_by_one(form: dict, norm: str, backend: str) -> None:
    graphs = [make_graph(num_nodes, seed=num_nodes) for num_nodes in (7, 1, 9)]
    layer = make(norm=norm, backend=backend, **form)
    together = run(layer, Batch.from_data_list(graphs))
    alone = torch.cat([run(layer, graph) for graph in graphs])
    torch.testing.assert_close(together, alone, atol=2e-6, rtol=0)


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_order_of_nodes_does_not_matter(form: dict) -> None:
    data, layer = make_graph(11), make(**form)
    order = torch.randperm(11, generator=torch.Generator().manual_seed(1))
    new = order.argsort()
    out = layer(data.x[order], new[data.visual_edge_index], new[data.semantic_edge_index])
    torch.testing.assert_close(out, run(layer, data)[order], atol=5e-6, rtol=0)


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_every_parameter_gets_a_gradient(form: dict) -> None:
    layer, data = make(**form), make_graph(11)
    (run(layer, data) * features(11, DIM, seed=5)).sum().backward()
    without = [name for name, value in layer.named_parameters() if value.grad is None or not value.grad.any()]
    assert not without


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_autocast_is_finite_and_near_float32(form: dict) -> None:
    layer, data = make(**form), make_graph(11)
    exact = run(layer, data)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = run(layer, data)
    cast.float().square().sum().backward()
    assert all(p.grad.isfinite().all() for p in layer.parameters())
    # Neighbours that another rounding chooses are as good: only given ones can be compared.
    if form.get("neighbours") != "scores":
        assert (cast.float() - exact).norm() < 0.03 * exact.norm()


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_edges_are_those_of_each_blocks_branches(form: dict) -> None:
    data = Batch.from_data_list([make_graph(7), make_graph(9, seed=1)])
    model = BGFormer(DIM, 2, heads=2, **form)
    inputs = (data.x, data.visual_edge_index, data.semantic_edge_index, data.batch)
    out, edges = model(*inputs, return_attention_weights=True)
    assert torch.equal(out, model(*inputs))
    normed, expected = model.layers[0].norm1(data.x, data.batch), {}
    if (visual := model.layers[0].visual) is not None:
        given = data.visual_edge_index if visual.neighbours == "graph" else None
        expected["layers.0.visual"] = visual(normed, given, data.batch, True)[1]
    if (semantic := model.layers[0].semantic) is not None:
        weighted = semantic(normed, data.semantic_edge_index, return_attention_weights=True)[1]
        expected["layers.0.semantic"] = weighted
    assert list(edges) == [*expected, *(name.replace("0", "1") for name in expected)]
    for name, (edge_index, weight) in expected.items():
        assert torch.equal(edges[name][0], edge_index)
        assert torch.equal(edges[name][1], weight)
        assert isinstance(model.get_submodule(name), nn.Module)
    for (source, target), weight in edges.values():
        assert not weight.requires_grad
        assert (data.batch[source] == data.batch[target]).all()


@pytest.mark.parametrize(("lam", "branch"), [(1.0, "visual"), (0.0, "semantic")])
def test_lam_at_its_ends_leaves_one_branch(lam: float, branch: str) -> None:
    data, dual = make_graph(11), make(lam=lam)
    single = make(branches=branch)
    single.load_state_dict(dual.state_dict(), strict=False)
    torch.testing.assert_close(run(dual, data), run(single, data), atol=1e-6, rtol=0)


def test_learned_lam_starts_at_lam_and_moves() -> None:
    data, fixed = make_graph(11), make(lam=0.3)
    learned = BGFormerLayer(DIM, heads=2, lam=0.3, learn_lam=True)
    assert learned.load_state_dict(fixed.state_dict(), strict=False).missing_keys == ["lam_logit"]
    torch.testing.assert_close(run(learned, data), run(fixed, data), atol=1e-6, rtol=0)

    weights = features(11, DIM, seed=5)
    (grad,) = torch.autograd.grad((run(learned, data) * weights).sum(), learned.lam_logit)
    less, more = (make(lam=lam) for lam in (0.299, 0.301))
    slope = ((run(more, data) - run(less, data)) * weights).sum() / 0.002
    torch.testing.assert_close(grad, slope * 0.3 * 0.7, atol=0, rtol=1e-2)


def test_drop_path_skips_whole_samples_in_training_only() -> None:
    data, layer = make_graph(60), make(drop_path=0.5)
    nn.init.zeros_(layer.mlp[2].weight)
    nn.init.zeros_(layer.mlp[2].bias)
    added = run(layer, data) - data.x
    expected = run(layer.eval(), data) - data.x
    skipped = (added == 0).all(dim=1)
    assert 10 < skipped.sum() < 50
    torch.testing.assert_close(added[~skipped], 2 * expected[~skipped])


def test_dropout_in_training_only() -> None:
    data, layer, without = make_graph(11), make(dropout=0.5), make()
    assert not torch.allclose(run(layer, data), run(without, data))
    assert torch.equal(run(layer.eval(), data), run(without, data))


def test_layers_follow_one_another() -> None:
    data, model = make_graph(11), BGFormer(DIM, num_layers=3, heads=2)
    x = data.x
    for layer in model.layers:
        x = layer(x, data.visual_edge_index, data.semantic_edge_index)
    assert len(model.layers) == 3
    assert torch.equal(run(model, data), x)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lam": 1.5}, "lam"),
        ({"lam": 1.0, "learn_lam": True}, "inside"),
        ({"branches": "both"}, "dual, visual"),
        ({"visual": "conv"}, "attention, affinity"),
        ({"semantic": "affinity"}, "propagation, attention"),
        ({"norm": "batch"}, "graph, layer"),
        ({"k": 3}, "neighbours='scores'"),
        ({"dropout": -0.1}, "dropout"),
        ({"drop_path": 1.0}, "drop_path"),
        ({"heads": 3}, "3 heads"),
        ({"backend": "fast"}, "'fast'"),
        ({"num_layers": 0}, "num_layers"),
    ],
)
def test_wrong_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BGFormer(DIM, **options)


@pytest.mark.parametrize("missing", ["visual_edge_index", "semantic_edge_index"])
def test_missing_edges_are_named(missing: str) -> None:
    data = make_graph(5)
    del data[missing]
    with pytest.raises(ValueError, match=missing):
        run(make(), data)


# ------------------------------------------------------------------------------------ the authors' checkpoints


def original_state(depth: int = 2, visual: str = "attention") -> dict[str, Tensor]:
    """Weights under the authors' names."""
    linears = {"sg.qkv": (DIM, DIM), "mlp.fc1": (3 * DIM, DIM), "mlp.fc2": (DIM, 3 * DIM)}
    if visual == "attention":
        linears |= {"vg.qkv": (3 * DIM, DIM), "vg.proj": (DIM, DIM), "sg.proj": (DIM, DIM)}
    elif visual == "affinity":
        linears |= {"proj": (DIM, DIM)}
    else:
        linears = {name: size for name, size in linears.items() if name != "sg.qkv"}
        linears |= {"attn.qkv": (3 * DIM, DIM), "attn.proj": (DIM, DIM)}
    sizes = {f"{name}.weight": size for name, size in linears.items()}
    sizes |= {f"{name}.bias": size[:1] for name, size in linears.items()}
    sizes |= {f"norm{n}.{part}": (DIM,) for n in (1, 2) for part in ("weight", "bias")}
    generator = torch.Generator().manual_seed(0)
    return {
        f"blocks.{i}.{name}": torch.randn(size, generator=generator)
        for i in range(depth)
        for name, size in sizes.items()
    }


@pytest.fixture(params=["attention", "affinity"])
def parity(request: pytest.FixtureRequest, bgformer_parity: Path) -> dict:
    """One of the original's cases."""
    return torch.load(bgformer_parity, weights_only=True)["cases"][request.param]


@pytest.mark.parametrize("backend", BACKENDS)
def test_equals_the_original(parity: dict, backend: str) -> None:
    model = BGFormer.from_original(
        parity["state_dict"], heads=parity["num_heads"], k=parity["K"], lam=parity["lam"], backend=backend
    )
    expected, x = parity["float32"], parity["x"][0].requires_grad_()
    semantic = batch_graph(x.detach(), parity["label"]).semantic_edge_index
    outs = [x]
    for layer in model.layers:
        outs.append(layer(outs[-1], semantic_edge_index=semantic))
    outs[-1].square().mean().backward()

    def close(ours: Tensor, theirs: Tensor) -> None:
        torch.testing.assert_close(ours, theirs.view_as(ours), atol=1e-5, rtol=1e-5)

    for ours, theirs in zip(outs[1:], expected["layers"], strict=True):
        close(ours, theirs)
    close(model(x, semantic_edge_index=semantic), expected["out"])
    close(x.grad, expected["grad_x"])
    # Gradients travel under the authors' names as weights do.
    theirs_by_our_name = BGFormer.from_original(
        expected["grads"], heads=parity["num_heads"], k=parity["K"]
    ).state_dict()
    ours_by_name = {name: parameter.grad for name, parameter in model.named_parameters()}
    assert ours_by_name.keys() == theirs_by_our_name.keys()
    for name, grad in ours_by_name.items():
        close(grad, theirs_by_our_name[name])


def test_each_branch_equals_the_original(parity: dict) -> None:
    model = BGFormer.from_original(parity["state_dict"], heads=parity["num_heads"], k=parity["K"])
    layer, x = model.layers[0], parity["x"][0]
    normed = layer.norm1(x)
    visual = layer.visual(normed)
    semantic = layer.semantic(normed, batch_graph(x, parity["label"]).semantic_edge_index)
    if isinstance(
        layer.visual, SSAConv
    ):  # recorded behind its output map; with affinity, before the shared one
        semantic = layer.proj(semantic)
    torch.testing.assert_close(visual, parity["float32"]["vg0"][0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(semantic, parity["float32"]["sg0"][0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("visual", "kind"), [("attention", SSAConv), ("affinity", AffinityConv), ("only", SSAConv)]
)
def test_original_variants_are_told_apart(visual: str, kind: type) -> None:
    model = BGFormer.from_original(original_state(3, visual), heads=2, k=4, lam=0.3)
    assert len(model.layers) == 3
    for layer in model.layers:
        assert isinstance(layer.visual, kind)
        assert (layer.semantic is None) == (visual == "only")
        assert isinstance(layer.norm1, nn.LayerNorm)
        assert layer.visual.k == 4
    data = make_graph(11)
    del data.visual_edge_index
    expected = naive_layer(model.layers[0], data)
    torch.testing.assert_close(run(model.layers[0], data).double(), expected, atol=1e-3, rtol=1e-4)


def test_weights_of_the_visual_only_form_arrive() -> None:
    state = original_state(1, "only")
    layer = BGFormer.from_original(state, heads=2, k=4).layers[0]
    assert torch.equal(layer.visual.qkv.weight, state["blocks.0.attn.qkv.weight"])
    assert torch.equal(layer.visual.proj.bias, state["blocks.0.attn.proj.bias"])
    assert torch.equal(layer.mlp[2].weight, state["blocks.0.mlp.fc2.weight"])


def test_encoder_and_head_of_a_checkpoint_are_left_alone() -> None:
    state = original_state()
    others = {
        "head.0.weight": torch.ones(2, DIM),
        "body.blocks.0.norm1.weight": torch.ones(5),
        "body.x": torch.ones(1),
    }
    with_prefix = BGFormer.from_original(state | others, heads=2, k=4)
    bare = {key.removeprefix("blocks."): value for key, value in state.items()}
    expected = BGFormer.from_original(bare, heads=2, k=4).state_dict()
    assert with_prefix.state_dict().keys() == expected.keys()
    assert all(torch.equal(value, expected[key]) for key, value in with_prefix.state_dict().items())


def without(state: dict[str, Tensor], *endings: str) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if not key.endswith(endings)}


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({}, "no block"),
        ({"head.0.weight": torch.ones(2)}, "no block"),
        (without(original_state(), "sg.qkv.bias"), r"semantic\.lin\.bias"),
        (original_state() | {"blocks.1.vg.extra": torch.ones(1)}, r"visual\.extra"),
        (original_state() | {"blocks.3.norm1.weight": torch.ones(DIM)}, r"\[0, 1, 3\]"),
        (without(original_state(), "norm1.weight"), "norm1"),
        (
            original_state() | {"blocks.1.mlp.fc1.weight": torch.ones(5, DIM)},
            r"wrong shape of mlp\.0\.weight",
        ),
        (
            original_state(1) | {f"blocks.1.{k[9:]}": v for k, v in original_state(1, "only").items()},
            "missing",
        ),
    ],
)
def test_misfitting_checkpoints_are_refused(state: dict[str, Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BGFormer.from_original(state, heads=2, k=4)
