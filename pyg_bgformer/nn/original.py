"""Networks with weights from checkpoints of the authors' code."""

import re
from collections.abc import Mapping
from typing import Any, TypeVar

from torch import Tensor, nn

from pyg_bgformer.errors import InputError
from pyg_bgformer.nn.models.bgformer import BGFormer
from pyg_bgformer.nn.models.gca_hng import GCANetwork
from pyg_bgformer.nn.models.intra_batch import IntraBatchNetwork

Network = TypeVar("Network", bound=nn.Module)

BGFORMER_NAMES = {
    r"^blocks\.": "",
    r"^(\d+)\.(vg|attn)\.": r"\1.visual.",
    r"^(\d+)\.sg\.qkv\.": r"\1.semantic.lin.",
    r"^(\d+)\.sg\.proj\.": r"\1.proj.",
    r"^(\d+)\.mlp\.fc1\.": r"\1.mlp.0.",
    r"^(\d+)\.mlp\.fc2\.": r"\1.mlp.2.",
}
"""Patterns of the authors' parameter names and our replacements, where the names differ."""

INTRA_BATCH_NAMES = {
    r"^dim_red\.": "lin.",
    r"^gnn_model\.node_model\.layers\.": "layers.",
    r"\.att\.out\.": ".attention.proj.",
    r"\.att\.q_linear\.": ".attention.query.",
    r"\.att\.k_linear\.": ".attention.key.",
    r"\.att\.v_linear\.": ".attention.value.",
    r"\.linear1\.": ".mlp.0.",
    r"\.linear2\.": ".mlp.3.",
    r"^bottleneck\.0\.": "neck.",
    r"^fc\.0\.": "classifier.",
}
"""The same for Intra-Batch Connections."""

GCA_HNG_NAMES = {
    r"^dim_red\.": "lin.",
    r"^bottleneck1\.0\.": "edge_neck.",
    r"^bottleneck2\.0\.": "node_neck.",
    r"^fc\.0\.": "weigher.",
    r"^cls\.0\.": "classifier.",
    r"^gnn\.(?=\d)": "layers.",
    r"\.node_model\.layers\.0\.att\.q_linear\.": ".attention.query.",
    r"\.node_model\.layers\.0\.att\.k_linear\.": ".attention.key.",
    r"\.node_model\.layers\.0\.att\.v_linear\.": ".attention.value.",
    r"\.node_model\.layers\.0\.att\.out\.": ".attention.proj.",
    r"\.node_model\.layers\.0\.edge_to_node\.": ".edge_to_node.lin.",
    r"\.node_model\.layers\.0\.linear1\.": ".node_mlp.0.",
    r"\.node_model\.layers\.0\.linear2\.": ".node_mlp.2.",
    r"\.node_model\.layers\.0\.norm\.1\.": ".node_norm.1.",
    r"\.edge_model\.node_to_edge\.": ".edge_attention.lin_node.",
    r"\.edge_model\.att\.q_linear\.": ".edge_attention.lin_query.",
    r"\.edge_model\.att\.k_linear\.": ".edge_attention.lin_key.",
    r"\.edge_model\.att\.v_linear\.": ".edge_attention.lin_value.",
    r"\.edge_model\.norm\.1\.": ".edge_norm.1.",
    r"\.edge_model\.linear\.": ".edge_mlp.",
}
"""The same for GCA-HNG."""


def bgformer_from_original(
    state_dict: Mapping[str, Tensor], *, heads: int, k: int, lam: float = 0.5, **options: Any
) -> BGFormer:
    """Returns the BGFormer that a checkpoint of the authors' code describes, with its weights.

    The variant (attention, affinity, or visual only), the number of blocks and the sizes are read from the keys
    ``[blocks.]{i}.{norm1,norm2,mlp.fc1,mlp.fc2,vg.*,sg.*,proj,attn.*}``. Keys of the image encoder and its head are
    ignored. As in the authors' code, the network has LayerNorm and chooses neighbours by scores. Checkpoints do not
    contain ``heads``, ``k`` and ``lam``.

    Args:
        state_dict: The checkpoint.
        heads: Number of attention heads.
        k: Number of visual neighbours.
        lam: Weight of the visual branch, in [0, 1].
        **options: All other options of :class:`~pyg_bgformer.nn.BGFormerLayer`.

    Raises:
        InputError: If no block is found, or a block's keys or shapes are not those of one of the three variants.
    """
    blocks = {key: value for key, value in state_dict.items() if re.match(r"(blocks\.)?\d+\.", key)}
    tensors = rename(blocks, BGFORMER_NAMES)
    numbers = sorted({int(key.split(".")[0]) for key in tensors})
    if not numbers:
        raise InputError("no block found: expected keys such as 'blocks.0.norm1.weight'")
    if numbers != list(range(len(numbers))) or "0.norm1.weight" not in tensors:
        raise InputError(f"expected blocks numbered from 0, each with a norm1; found {numbers}")
    in_channels = tensors["0.norm1.weight"].numel()
    if "0.mlp.0.bias" in tensors:
        options["mlp_ratio"] = tensors["0.mlp.0.bias"].numel() / in_channels
    model = BGFormer(
        in_channels,
        len(numbers),
        heads,
        k=k,
        lam=lam,
        norm="layer",
        neighbours="scores",
        branches="dual" if "0.semantic.lin.weight" in tensors else "visual",
        visual="attention" if "0.visual.qkv.weight" in tensors else "affinity",
        **options,
    )
    return fill(model, {f"layers.{key}": value for key, value in tensors.items()}, "BGFormer")


def intra_batch_from_original(
    state_dict: Mapping[str, Tensor], *, heads: int, **options: Any
) -> IntraBatchNetwork:
    """Returns the network of Intra-Batch Connections in a checkpoint of the authors' code, with its weights.

    Sizes, the number of layers and ``cat`` are read from the keys ``dim_red.*``,
    ``gnn_model.node_model.layers.{l}.*``, ``bottleneck.0.*`` and ``fc.0.*``. Checkpoints do not contain ``heads``.

    Args:
        state_dict: The checkpoint.
        heads: Number of attention heads.
        **options: All other options of :class:`~pyg_bgformer.nn.IntraBatchLayer`.

    Raises:
        InputError: If keys or shapes are not those of such a network.
    """
    tensors = rename(state_dict, INTRA_BATCH_NAMES)
    if "lin.weight" not in tensors or "classifier.weight" not in tensors:
        raise InputError(
            "not a network of Intra-Batch: expected keys such as 'dim_red.weight', 'fc.0.weight'"
        )
    in_channels, (num_classes, width) = tensors["lin.weight"].size(1), tensors["classifier.weight"].shape
    model = IntraBatchNetwork(
        in_channels, num_classes, _count_layers(tensors), heads, cat=width != in_channels, **options
    )
    return fill(model, tensors, "Intra-Batch")


def gca_from_original(state_dict: Mapping[str, Tensor], *, heads: int, **options: Any) -> GCANetwork:
    """Returns the graph network of GCA-HNG that a checkpoint of the authors' code describes, with its weights.

    Keys may have the prefix ``gnn.`` of the full model. Keys of its other parts are ignored, and so is
    ``update_node``, which the authors' code never uses. Checkpoints do not contain ``heads``.

    Args:
        state_dict: The checkpoint, of the network alone or of the full model.
        heads: Number of attention heads.
        **options: ``dropout`` and ``backend`` of :class:`~pyg_bgformer.nn.GCANetwork`.

    Raises:
        InputError: If keys or shapes are not those of the network.
    """
    prefix = "gnn." if "gnn.dim_red.weight" in state_dict else ""
    network = {
        key.removeprefix(prefix): value
        for key, value in state_dict.items()
        if key.startswith(prefix) and ".update_node." not in key
    }
    tensors = rename(network, GCA_HNG_NAMES)
    if "lin.weight" not in tensors or "classifier.weight" not in tensors:
        raise InputError("not a network of GCA-HNG: expected keys such as 'dim_red.weight', 'cls.0.weight'")
    in_channels, num_classes = tensors["lin.weight"].size(0), tensors["classifier.weight"].size(0)
    model = GCANetwork(in_channels, num_classes, _count_layers(tensors), heads, **options)
    return fill(model, tensors, "GCA-HNG")


def rename(tensors: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    """Returns the tensors under new names.

    Args:
        tensors: Tensors by name.
        names: Patterns and their replacements, which are applied to every name one after another.
    """
    renamed = {}
    for key, value in tensors.items():
        for pattern, replacement in names.items():
            key = re.sub(pattern, replacement, key)
        renamed[key] = value
    return renamed


def fill(model: Network, tensors: Mapping[str, Tensor], method: str) -> Network:
    """Returns the model itself, with these weights.

    Args:
        model: The model.
        tensors: All tensors of its state, by our names.
        method: Name of the method in messages.

    Raises:
        InputError: If names are missing or unexpected, or shapes differ.
    """
    expected = model.state_dict()
    wrong = sorted(tensors.keys() ^ expected.keys())
    if wrong:
        raise InputError(f"not a network of {method}: missing or unexpected {', '.join(wrong)}")
    misshaped = [key for key, value in tensors.items() if value.shape != expected[key].shape]
    if misshaped:
        raise InputError(f"not a network of {method}: wrong shape of {', '.join(misshaped)}")
    model.load_state_dict(dict(tensors))
    return model


def _count_layers(tensors: Mapping[str, Tensor]) -> int:
    return len({key.split(".")[1] for key in tensors if key.startswith("layers.")})
