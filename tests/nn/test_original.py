"""Networks with the authors' weights: outputs and gradients equal the original's; other checkpoints are refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyg_bgformer import BGFormer, SSAConv, batch_graph
from pyg_bgformer.errors import InputError
from pyg_bgformer.graph import intra_batch_graph
from pyg_bgformer.nn import AffinityConv, GCANetwork, IntraBatchNetwork
from pyg_bgformer.nn.models.gca_hng import correlations
from pyg_bgformer.nn.original import (
    BGFORMER_NAMES,
    GCA_HNG_NAMES,
    INTRA_BATCH_NAMES,
    bgformer_from_original,
    gca_from_original,
    intra_batch_from_original,
    rename,
)
from tests.nn.oracles import BACKENDS

DIM = 8
EXACT = {"atol": 1e-5, "rtol": 1e-5}
QUIET = {"attention_dropout": 0.0, "dropout": 0.0, "mlp_dropout": 0.0}
PAIR_BACKENDS = ("message", "dense")

# ------------------------------------------------------------------------------------------------- BGFormer


@pytest.fixture(params=["attention", "affinity"])
def bgformer(request: pytest.FixtureRequest, bgformer_parity: Path) -> dict[str, Any]:
    return torch.load(bgformer_parity, weights_only=True)["cases"][request.param]


def read_bgformer(case: dict[str, Any], **options: Any) -> BGFormer:
    return bgformer_from_original(
        case["state_dict"], heads=case["num_heads"], k=case["K"], lam=case["lam"], **options
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_bgformer_equals_the_original(bgformer: dict[str, Any], backend: str) -> None:
    model = read_bgformer(bgformer, backend=backend)
    expected, x = bgformer["float32"], bgformer["x"][0].requires_grad_()
    semantic = batch_graph(x.detach(), bgformer["label"]).semantic_edge_index
    outs = [x]
    for layer in model.layers:
        outs.append(layer(outs[-1], semantic_edge_index=semantic))
    outs[-1].square().mean().backward()

    def close(ours: Tensor, theirs: Tensor) -> None:
        torch.testing.assert_close(ours, theirs.view_as(ours), **EXACT)

    for ours, theirs in zip(outs[1:], expected["layers"], strict=True):
        close(ours, theirs)
    close(model(x, semantic_edge_index=semantic), expected["out"])
    close(x.grad, expected["grad_x"])
    grads = {f"layers.{key}": grad for key, grad in rename(expected["grads"], BGFORMER_NAMES).items()}
    assert grads.keys() == dict(model.named_parameters()).keys()
    for name, parameter in model.named_parameters():
        close(parameter.grad, grads[name])


def test_each_branch_of_bgformer_equals_the_original(bgformer: dict[str, Any]) -> None:
    layer, x = read_bgformer(bgformer).layers[0], bgformer["x"][0]
    normed = layer.norm1(x)
    visual = layer.visual(normed)
    semantic = layer.semantic(normed, batch_graph(x, bgformer["label"]).semantic_edge_index)
    if isinstance(
        layer.visual, SSAConv
    ):  # recorded behind its output map; with affinity, before the shared one
        semantic = layer.proj(semantic)
    torch.testing.assert_close(visual, bgformer["float32"]["vg0"][0], **EXACT)
    torch.testing.assert_close(semantic, bgformer["float32"]["sg0"][0], **EXACT)


def bgformer_state(depth: int = 2, visual: str = "attention") -> dict[str, Tensor]:
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


@pytest.mark.parametrize(
    ("visual", "kind"), [("attention", SSAConv), ("affinity", AffinityConv), ("only", SSAConv)]
)
def test_the_variants_of_bgformer_are_told_apart(visual: str, kind: type) -> None:
    state = bgformer_state(3, visual)
    model = bgformer_from_original(state, heads=2, k=4, lam=0.3)
    assert len(model.layers) == 3
    for i, layer in enumerate(model.layers):
        assert isinstance(layer.visual, kind)
        assert (layer.semantic is None) == (visual == "only")
        assert isinstance(layer.norm1, nn.LayerNorm)
        assert layer.visual.k == 4
        assert torch.equal(layer.mlp[2].weight, state[f"blocks.{i}.mlp.fc2.weight"])
        if visual == "only":
            assert torch.equal(layer.visual.qkv.weight, state[f"blocks.{i}.attn.qkv.weight"])


def test_the_encoder_and_head_of_a_checkpoint_are_ignored() -> None:
    state = bgformer_state()
    others = {
        "head.0.weight": torch.ones(2, DIM),
        "body.blocks.0.norm1.weight": torch.ones(5),
        "body.x": torch.ones(1),
    }
    bare = {key.removeprefix("blocks."): value for key, value in state.items()}
    expected = bgformer_from_original(bare, heads=2, k=4).state_dict()
    read = bgformer_from_original(state | others, heads=2, k=4).state_dict()
    assert read.keys() == expected.keys()
    assert all(torch.equal(value, expected[key]) for key, value in read.items())


def without(state: dict[str, Tensor], *endings: str) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if not key.endswith(endings)}


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"head.0.weight": torch.ones(2)}, "no block"),
        (without(bgformer_state(), "1.sg.qkv.bias"), r"semantic\.lin\.bias"),
        (bgformer_state() | {"blocks.1.vg.extra": torch.ones(1)}, r"visual\.extra"),
        (bgformer_state() | {"blocks.3.norm1.weight": torch.ones(DIM)}, r"\[0, 1, 3\]"),
        (without(bgformer_state(), "norm1.weight"), "norm1"),
        (
            bgformer_state() | {"blocks.1.mlp.fc1.weight": torch.ones(5, DIM)},
            r"wrong shape of .*mlp\.0\.weight",
        ),
        (
            bgformer_state(1) | {f"blocks.1.{k[9:]}": v for k, v in bgformer_state(1, "only").items()},
            "missing",
        ),
    ],
)
def test_checkpoints_that_are_not_bgformers_are_refused(state: dict[str, Tensor], message: str) -> None:
    with pytest.raises(InputError, match=message):
        bgformer_from_original(state, heads=2, k=4)


# -------------------------------------------------------------------------------------------------- GCA-HNG


@pytest.fixture(scope="session")
def gca(gca_hng_parity: Path) -> dict[str, Any]:
    return torch.load(gca_hng_parity, weights_only=True)["cases"]["K2_L1_h2"]


def read_gca(case: dict[str, Any], backend: str) -> GCANetwork:
    return gca_from_original(case["gnn_state"], heads=case["heads"], dropout=0.0, backend=backend)


@pytest.mark.parametrize("backend", PAIR_BACKENDS)
def test_gca_in_evaluation_equals_the_original(gca: dict[str, Any], backend: str) -> None:
    network, seen = read_gca(gca, backend).eval(), {}
    network.layers[0].attention.register_forward_hook(lambda _m, _i, out: seen.update(attention=out))
    network.layers[0].register_forward_hook(lambda _m, _i, out: seen.update(layer=out))
    logits, weights = network(gca["z"], gca["label"])
    expected = gca["eval"]
    torch.testing.assert_close(correlations(gca["z"]).flatten(0, 1), gca["edge_attr"], **EXACT)
    torch.testing.assert_close(seen["attention"], expected["att"][0], **EXACT)
    torch.testing.assert_close(seen["layer"][0], expected["layers"][0][0], **EXACT)
    torch.testing.assert_close(seen["layer"][1].flatten(0, 1), expected["layers"][0][1], **EXACT)
    torch.testing.assert_close(logits, expected["node_pred"], **EXACT)
    torch.testing.assert_close(weights.flatten(0, 1), expected["edge_para"], **EXACT)


@pytest.mark.parametrize("backend", PAIR_BACKENDS)
def test_gca_in_training_equals_the_original(gca: dict[str, Any], backend: str) -> None:
    # In float64, so that the distance is the original's rounding alone, on every machine.
    network, z = read_gca(gca, backend).double(), gca["z"].double().requires_grad_()
    logits, weights = network(z, gca["label"])
    (logits.square().mean() + weights.square().mean()).backward()
    expected = gca["train"]
    torch.testing.assert_close(logits.float(), expected["node_pred"], **EXACT)
    torch.testing.assert_close(weights.flatten(0, 1).float(), expected["edge_para"], **EXACT)
    grads = rename({k: g for k, g in expected["grads"].items() if ".update_node." not in k}, GCA_HNG_NAMES)
    reached = {name for name, p in network.named_parameters() if p.grad is not None}
    assert reached == {name for name, grad in grads.items() if grad is not None}
    pairs = [
        (z.grad, expected["grad_z"]),
        *((network.get_parameter(n).grad, grads[n]) for n in sorted(reached)),
    ]
    ours, theirs = (torch.cat([grad.flatten() for grad in side]) for side in zip(*pairs, strict=True))
    assert (ours - theirs).norm() < 1e-5 * theirs.norm()
    for found, grad in pairs:
        # The smallest are differences in which the original's float32 keeps four digits (ours in float64 is as far
        # from it); that of a key's bias is zero but for rounding.
        torch.testing.assert_close(
            found.float(), grad, atol=max(1e-4 * grad.abs().max().item(), 1e-10), rtol=0
        )
    for name, buffer in rename(expected["buffers_after"], GCA_HNG_NAMES).items():
        torch.testing.assert_close(network.get_buffer(name).to(buffer.dtype), buffer, atol=1e-6, rtol=1e-5)


def test_gcas_full_model_and_its_network_are_both_read(gca: dict[str, Any]) -> None:
    full = {f"gnn.{key}": value for key, value in gca["gnn_state"].items()}
    full |= {"softmax_classifier.weight": torch.zeros(11, 32), "feature_extractor.fc.1.bias": torch.zeros(32)}
    alone = read_gca(gca, "auto").state_dict()
    read = gca_from_original(full, heads=2).state_dict()
    assert read.keys() == alone.keys()
    assert all(torch.equal(read[key], alone[key]) for key in read)


def test_checkpoints_that_are_not_gcas_are_refused(gca: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="dim_red"):
        gca_from_original({"conv1.weight": torch.zeros(3)}, heads=2)
    broken = without(gca["gnn_state"], "gnn.0.edge_model.linear.3.weight")
    with pytest.raises(InputError, match=r"layers\.0\.edge_mlp\.3\.weight"):
        gca_from_original(broken, heads=2)


# ---------------------------------------------------------------------------------------------- Intra-Batch


@pytest.fixture
def intra_batch(intra_batch_parity: Path) -> dict[str, Any]:
    return torch.load(intra_batch_parity, weights_only=True)


def read_intra_batch(case: dict[str, Any], backend: str, **options: Any) -> IntraBatchNetwork:
    heads = case["params"]["gnn"]["num_heads"]
    return intra_batch_from_original(case["state_dict"], heads=heads, backend=backend, **options)


@pytest.mark.parametrize("with_edges", [True, False])
@pytest.mark.parametrize("backend", PAIR_BACKENDS)
@pytest.mark.parametrize("name", ["cub", "cars_train"])
def test_intra_batch_in_evaluation_equals_the_original(
    intra_batch: dict, name: str, backend: str, with_edges: bool
) -> None:
    case, x = intra_batch["cases"][name], intra_batch["x"]
    expected, edges = case["eval"], case["edge_index"].t() if with_edges else None
    model = read_intra_batch(case, backend).eval()
    out = model(x, edges)
    torch.testing.assert_close([out.logits], expected["norm"]["logits"], **EXACT)
    torch.testing.assert_close([out.features], expected["norm"]["feats"], **EXACT)
    torch.testing.assert_close([F.normalize(out.features, dim=1)], expected["plain"]["feats"], **EXACT)
    torch.testing.assert_close([model.neck(out.features)], expected["neck"]["feats"], **EXACT)
    torch.testing.assert_close(out.hidden, expected["layers"], **EXACT)
    torch.testing.assert_close(model.layers[0].attention(model.lin(x), edges), expected["att0"], **EXACT)


@pytest.mark.parametrize("backend", PAIR_BACKENDS)
@pytest.mark.parametrize("name", ["cub", "cars_train"])
def test_a_training_step_of_intra_batch_equals_the_original(
    intra_batch: dict, name: str, backend: str
) -> None:
    case, y = intra_batch["cases"][name], intra_batch["y"]
    expected, x = case["train"], intra_batch["x"].clone().requires_grad_()
    model = read_intra_batch(case, backend, **QUIET).train()
    out = model(x)
    torch.testing.assert_close([out.logits], expected["logits"], **EXACT)
    torch.testing.assert_close([F.normalize(out.features, dim=1)], expected["feats"], **EXACT)
    loss = F.cross_entropy(out.logits / expected["temperature"], y, label_smoothing=0.1)
    torch.testing.assert_close([loss], expected["loss"], **EXACT)
    loss.backward()
    torch.testing.assert_close(x.grad, expected["grad_x"], **EXACT)
    ours = {name: parameter.grad for name, parameter in model.named_parameters()}
    grads = rename(expected["grads"], INTRA_BATCH_NAMES)
    assert ours.keys() == grads.keys()
    for key, grad in grads.items():
        if grad is None:
            assert ours[key] is None
        else:
            torch.testing.assert_close(ours[key], grad, **EXACT)
    for key, value in rename(expected["buffers_after"], INTRA_BATCH_NAMES).items():
        torch.testing.assert_close(model.get_buffer(key), value, **EXACT)


@pytest.mark.parametrize("name", ["cub", "cars_train"])
def test_the_graph_of_intra_batch_equals_the_original(intra_batch: dict, name: str) -> None:
    edge_index, edge_weight = intra_batch_graph(intra_batch["x"])
    assert torch.equal(edge_index, intra_batch["cases"][name]["edge_index"].t())
    torch.testing.assert_close(edge_weight, intra_batch["cases"][name]["edge_attr"], **EXACT)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda s: s.pop("fc.0.weight"), r"fc\.0\.weight"),
        (lambda s: s.pop("gnn_model.node_model.layers.0.linear1.bias"), "unexpected layers.0.mlp.0.bias"),
        (lambda s: s.update({"backbone.conv1": torch.ones(1)}), "unexpected backbone.conv1"),
        (lambda s: s.update({"dim_red.bias": torch.ones(3)}), "wrong shape of lin.bias"),
    ],
)
def test_checkpoints_that_are_not_intra_batchs_are_refused(
    intra_batch: dict, spoil: Any, message: str
) -> None:
    state = dict(intra_batch["cases"]["cub"]["state_dict"])
    intra_batch_from_original(state, heads=2)
    spoil(state)
    with pytest.raises(InputError, match=message):
        intra_batch_from_original(state, heads=2)
