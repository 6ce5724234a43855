"""The losses and miners of pytorch-metric-learning by name."""

import inspect
import re
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import torch
from pytorch_metric_learning import distances, losses, miners, reducers, regularizers
from torch import Tensor, nn

from pyg_bgformer.errors import InputError, did_you_mean, one_line
from pyg_bgformer.losses.registry import LOSSES
from pyg_bgformer.registry import REQUIRED, Option

COMPONENTS: dict[str, ModuleType] = {
    "distance": distances,
    "reducer": reducers,
    "embedding_regularizer": regularizers,
    "weight_regularizer": regularizers,
    "miner": miners,
    "loss": losses,
}
"""Options that are objects of the library. A recipe writes a name, or a mapping with ``name`` and more options."""

ALIASES: dict[str, tuple[str, dict[str, Any]]] = {
    "triplet": ("triplet_margin", {}),
    "info_nce": ("nt_xent", {}),
    # "ProxyNCA++" (arXiv 2004.01113, section 3.3) has a softmax over all proxies, as the library's class has, and
    # a temperature of 1/9.
    "proxy_nca_pp": ("proxy_nca", {"softmax_scale": 9}),
}
"""Names from the literature: for each the name of the library's class, and the options that it implies."""

UNUSABLE = {
    losses.GenericPairLoss: "it is a base class for writing losses",
    losses.ManifoldLoss: "it takes no labels",
    losses.MultipleLosses: "it is a container: use one loss",
    losses.SelfSupervisedLoss: "it takes two views of each image instead of labels",
    losses.VICRegLoss: "it takes two views of each image instead of labels",
}
"""Losses that cannot be computed from embeddings and labels alone, and why."""

ENDINGS = r"(Loss|Miner|Reducer|Regularizer)$"
BASES = re.compile(r"^Base|Mixin$|^BatchedDistance$|^MultipleReducers$|^EmbeddingsAlready")
SIZES = ("num_classes", "embedding_size", "descriptors_dim")
"""Arguments of the library's losses that the program supplies from the data and the encoder."""

FIXED = ("mat_based_loss", "collect_stats", "weight_init_func")
"""Arguments that a recipe cannot set: the library's subclasses set them, or they are for programs only."""


class MetricLearningLoss(nn.Module):
    """A loss of pytorch-metric-learning, with an optional miner, as ``(embeddings, labels) -> scalar``.

    It is computed in float32 outside autocast. Its parameters are its proxies. Tensors that the library stores as
    plain attributes become buffers, so that they move to the module's device and are part of its state.

    Args:
        loss: A loss of the library.
        miner: A miner of the library, which chooses pairs or triplets for the loss.

    Shapes:
        - **input:** embeddings :math:`(N, D)` of any floating-point type, labels :math:`(N)`
        - **output:** scalar, in float32

    Raises:
        InputError: In the forward pass, if the loss or the miner refuses the batch.
    """

    def __init__(self, loss: nn.Module, miner: nn.Module | None = None) -> None:
        super().__init__()
        self.loss = loss
        self.miner = miner
        for module in self.modules():
            for name, value in list(vars(module).items()):
                if isinstance(value, Tensor):
                    delattr(module, name)
                    module.register_buffer(name, value)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Returns the loss of a batch: embeddings ``(N, D)``, labels ``(N,)``."""
        try:
            with torch.autocast(embeddings.device.type, enabled=False):
                embeddings = embeddings.float()
                if isinstance(self.loss, losses.SmoothAPLoss):
                    _check_square(labels)
                picked = () if self.miner is None else (self.miner(embeddings, labels),)
                loss = self.loss(embeddings, labels, *picked)
        except (AssertionError, ValueError) as error:
            raise InputError(f"{type(self.loss).__name__} cannot use the batch: {one_line(error)}") from error
        # Statistics that are kept for the next step must not hold the autograd graph of this step.
        for module in self.modules():
            for name, value in module.named_buffers(recurse=False):
                setattr(module, name, value.detach())
        return loss


class CrossBatchMemoryLoss(MetricLearningLoss):
    """A loss against a memory of earlier batches, from the `"Cross-Batch Memory for Embedding Learning"
    <https://arxiv.org/abs/1912.06798>`_ paper.

    The next position in the memory is part of the module's state, so that a resumed run continues there.
    """

    def get_extra_state(self) -> Tensor:
        """Returns the next position in the memory, and whether the memory has been filled once."""
        return torch.tensor([self.loss.queue_idx, self.loss.has_been_filled])

    def set_extra_state(self, state: Tensor) -> None:
        """Restores what :meth:`get_extra_state` returned."""
        position, filled = state.tolist()
        memory: Any = self.loss
        memory.queue_idx, memory.has_been_filled = int(position), bool(filled)


def metric_learning_loss(
    name: str, options: Mapping[str, Any], *, num_classes: int, embedding_dim: int
) -> MetricLearningLoss:
    """Returns a loss of pytorch-metric-learning.

    Args:
        name: The name of a class in any spelling (``multi_similarity``, ``arcface``, ``ProxyAnchorLoss``), or one
            of :data:`ALIASES`.
        options: The loss's options as in :func:`metric_learning_options`.
        num_classes: Number of classes, for losses with proxies.
        embedding_dim: Size of the embeddings, for losses with proxies.

    Raises:
        InputError: If the name or an option is unknown, an option is missing, the library refuses a value, or the
            loss needs more than embeddings and labels.
    """
    for size, number in (("num_classes", num_classes), ("embedding_dim", embedding_dim)):
        if number < 1:
            raise InputError(f"a loss needs {size} of at least 1, found {number}")
    owner, implied = _find_loss(name)
    options = implied | dict(options)
    taken = _constructor_options(owner)
    sizes = dict(zip(SIZES, (num_classes, embedding_dim, embedding_dim), strict=True))
    given: dict[str, Any] = {key: size for key, size in sizes.items() if key in taken}
    if owner is losses.MarginLoss and not options.get("learn_beta", False):
        given["num_classes"] = None  # one fixed beta needs no place for each class
    if owner is losses.CrossBatchMemory:  # its own miner picks among the batch and the memory
        return CrossBatchMemoryLoss(_create(owner, options, given, f"loss '{name}'"))
    miner = _component("miner", options.pop("miner", None), f"loss '{name}'")
    return MetricLearningLoss(_create(owner, options, given, f"loss '{name}'"), miner)


def metric_learning_options(name: str) -> dict[str, Option]:
    """Returns the options that a recipe can set for a loss of pytorch-metric-learning, ``miner`` among them.

    Args:
        name: As in :func:`metric_learning_loss`.

    Raises:
        InputError: If there is no such loss, or it needs more than embeddings and labels.
    """
    owner, implied = _find_loss(name)
    defaults = {"miner": None} | _constructor_options(owner) | implied
    return {
        key: Option(_option_type(key, default), default)
        for key, default in defaults.items()
        if key not in SIZES
    }


def metric_learning_names() -> list[str]:
    """Returns the names of all losses of the library that can be computed from embeddings and labels alone."""
    return [name for name, owner in _classes(losses).items() if owner not in UNUSABLE]


def _find_loss(name: str) -> tuple[type[nn.Module], dict[str, Any]]:
    """Returns the class of a loss, and the options that its name implies."""
    class_name, implied = next((ALIASES[alias] for alias in ALIASES if _key(alias) == _key(name)), (name, {}))
    owner = _find("loss", class_name)
    if owner in UNUSABLE:
        raise InputError(f"loss '{name}' cannot be trained on embeddings and labels only: {UNUSABLE[owner]}")
    return owner, dict(implied)


def _find(kind: str, name: str) -> type[nn.Module]:
    """Returns a class of the library by its name in any spelling."""
    classes = _classes(COMPONENTS[kind])
    for known, owner in classes.items():
        if _key(known) == _key(name):
            return owner
    names = [*metric_learning_names(), *ALIASES, *LOSSES] if kind == "loss" else [*classes]
    raise InputError(f"unknown {kind} '{name}'; {did_you_mean(name, names)}")


def _classes(room: ModuleType) -> dict[str, type[nn.Module]]:
    """Returns the classes of one of the library's modules by the names that recipes use, without base classes."""
    found: dict[str, type[Any]] = {}
    for class_name, owner in inspect.getmembers(room, inspect.isclass):
        if not BASES.search(class_name):
            bare = re.sub(ENDINGS, "", class_name)
            found[re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z0-9])(?=[A-Z][a-z])", "_", bare).lower()] = owner
    return found


def _key(name: str) -> str:
    """Returns a name to compare by: lower case, American spelling, without underscores and ending."""
    name = re.sub(r"[^a-z0-9]", "", name.lower().replace("++", "pp").replace("normalised", "normalized"))
    return re.sub(ENDINGS.lower(), "", name)


def _constructor_options(owner: type) -> dict[str, Any]:
    """Returns the keyword arguments that a class takes, with their defaults or :data:`REQUIRED`.

    The library's constructors pass ``**kwargs`` on to those of their base classes. These are therefore read too, up
    to the first one without ``**kwargs``.
    """
    options: dict[str, Any] = {}
    for base in owner.__mro__[: owner.__mro__.index(nn.Module)]:
        if "__init__" in vars(base):
            parameters = list(inspect.signature(vars(base)["__init__"]).parameters.values())[1:]
            named = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
            options = {p.name: p.default for p in named if p.name not in FIXED} | options
            if not any(p.kind is p.VAR_KEYWORD for p in parameters):
                break
    return options


def _option_type(key: str, default: Any) -> Any:
    """Returns the type of an option. The library has no annotations: only the default tells the type."""
    if key in COMPONENTS:
        return str | dict[str, Any] if default is REQUIRED else str | dict[str, Any] | None
    if isinstance(default, bool):
        return bool
    if isinstance(default, str):
        return int | float | str  # some options take a number or a word such as "all"
    return int | float if isinstance(default, int | float) else Any


def _create(
    owner: type[nn.Module], options: Mapping[str, Any], given: Mapping[str, Any], what: str
) -> nn.Module:
    """Returns an object of the library, made from the options of a recipe and from ``given`` arguments."""
    known = {key: default for key, default in _constructor_options(owner).items() if key not in given}
    for key, value in options.items():
        if key not in known:
            raise InputError(
                f"{what} has no option '{key}': {did_you_mean(key, known) if known else 'it has none'}"
            )
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if isinstance(known[key], bool) and not isinstance(value, bool):
            raise InputError(f"{what}: option '{key}' must be true or false, found {value!r}")
        if isinstance(known[key], int | float) and not isinstance(known[key], bool) and not number:
            raise InputError(f"{what}: option '{key}' must be a number, found {value!r}")
    missing = [key for key, default in known.items() if default is REQUIRED and key not in options]
    if missing:
        raise InputError(f"{what} needs {', '.join(missing)}: give them as options")
    made = {key: _component(key, value, what) for key, value in options.items()}
    try:
        return owner(**given, **made)
    except (
        Exception
    ) as error:  # the library's constructors raise many kinds of errors, all about their arguments
        raise InputError(f"{what} does not accept its options: {one_line(error)}") from error


def _component(key: str, value: Any, what: str) -> Any:
    """Returns the object of the library that an option names. Other values are returned unchanged."""
    if key not in COMPONENTS or not isinstance(value, str | Mapping):
        return value
    options = {"name": value} if isinstance(value, str) else dict(value)
    name = options.pop("name", None)
    if not isinstance(name, str):
        raise InputError(f"{what}: option '{key}' must be a name, or a mapping with a name; found {value}")
    return _create(_find(key, name), options, {}, f"{key} '{name}' of {what}")


def _check_square(labels: Tensor) -> None:
    """Raises an error unless a batch has as many classes as images of each class, class after class.

    The library's SmoothAP cuts the batch into K groups of P images, where P groups of K are meant. Only for K = P
    these groups are the classes.
    """
    _, counts = torch.unique_consecutive(labels, return_counts=True)
    if len(labels.unique()) != len(counts) or bool((counts != len(counts)).any()):
        raise ValueError("it needs as many images of each class as there are classes, class after class")
