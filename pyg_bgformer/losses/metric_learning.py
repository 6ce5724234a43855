"""The losses and miners of pytorch-metric-learning behind one adapter."""

from collections.abc import Mapping
from typing import Any

import torch
from pytorch_metric_learning import losses, miners
from torch import Tensor, nn

from pyg_bgformer.errors import InputError
from pyg_bgformer.losses.library import class_names, constructor_options, create, find_class, snake_name

# Arguments that the data and the encoder decide, under the names the library's losses give them.
_CLASSES = ("num_classes",)
_DIMENSION = ("embedding_size", "descriptors_dim")
# Losses that (embeddings, labels) alone cannot feed, and why.
_UNUSABLE = {
    losses.GenericPairLoss: "it is a base class for writing losses",
    losses.ManifoldLoss: "it takes no labels",
    losses.MultipleLosses: "it is a container: use one loss",
    losses.SelfSupervisedLoss: "it takes two views of each image instead of labels",
    losses.VICRegLoss: "it takes two views of each image instead of labels",
}


class MetricLearningLoss(nn.Module):
    """A loss of pytorch-metric-learning, with an optional miner, as ``(embeddings, labels) -> scalar``.

    It is computed in float32 outside of autocast. Its parameters are its proxies. Tensors that the library
    keeps as plain attributes become buffers, so that they follow the module to its device and into its
    state.

    Args:
        loss: the library's loss.
        miner: the library's miner, which picks pairs or triplets for the loss.

    Shapes:
        - **input:** embeddings (B, D) of any floating type, labels (B,) int64 in 0..num_classes-1.
        - **output:** scalar, float32.
    """

    def __init__(self, loss: nn.Module, miner: nn.Module | None = None) -> None:
        super().__init__()
        self.loss = loss
        self.miner = miner
        for module in self.modules():
            _promote_tensors(module)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """The loss of a batch; InputError where the loss or its miner refuses the batch."""
        with torch.autocast(embeddings.device.type, enabled=False):
            try:
                loss = self._compute(embeddings.float(), labels)
            except (AssertionError, ValueError) as error:
                message = " ".join(str(error).split())
                raise InputError(f"{type(self.loss).__name__} refuses the batch: {message}") from error
        for module in self.modules():
            _detach_buffers(module)
        return loss

    def _compute(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        if isinstance(self.loss, losses.SmoothAPLoss):
            _check_square(labels)
        if self.miner is None:
            return self.loss(embeddings, labels)
        return self.loss(embeddings, labels, self.miner(embeddings, labels))


class CrossBatchMemoryLoss(MetricLearningLoss):
    """A loss against a memory of earlier batches, from `"Cross-Batch Memory for Embedding Learning"
    <https://arxiv.org/abs/1912.06798>`_; where the memory stands is part of the module's state.

    Shapes:
        - **input:** embeddings (B, D), labels (B,); B at most the memory's size.
        - **output:** scalar, float32.
    """

    def get_extra_state(self) -> Tensor:
        """Where the memory stands: next place, and whether it has been filled once."""
        return torch.tensor([self.loss.queue_idx, self.loss.has_been_filled])

    def set_extra_state(self, state: Tensor) -> None:
        """Restore what :meth:`get_extra_state` gave."""
        place, filled = state.tolist()
        memory: Any = self.loss
        memory.queue_idx, memory.has_been_filled = int(place), bool(filled)


def metric_learning_loss(
    name: str,
    *,
    num_classes: int,
    embedding_dim: int,
    miner: str | None = None,
    miner_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> MetricLearningLoss:
    """A loss of pytorch-metric-learning by name.

    Args:
        name: its class name or the snake-case form: ``contrastive``, ``triplet``, ``multi_similarity``,
            ``proxy_anchor``, ``proxy_nca_pp`` (with the paper's temperature), ``normalised_softmax``,
            ``soft_triple``, ... (:func:`loss_names`).
        num_classes, embedding_dim: given to the losses that have proxies.
        miner: name of a miner: ``multi_similarity``, ``triplet_margin``, ``batch_hard``, ...
        miner_options: the miner's options.
        options: the loss's options (:func:`loss_options`). A ``distance``, ``reducer`` or regulariser, and
            the ``loss`` of ``cross_batch_memory``, is a name or a mapping with ``name`` and its options.

    Raises:
        InputError: an unknown name or option, an option that is missing, a value the library refuses, or a
            loss that needs more than embeddings and labels.
    """
    owner, implied = _usable_class(name)
    _check_sizes(num_classes, embedding_dim)
    mined = _miner(miner, miner_options)
    filled = _filled(owner, num_classes, embedding_dim, options)
    if owner is losses.CrossBatchMemory:
        # The memory has its own place for a miner: it picks among the batch and the memory.
        return CrossBatchMemoryLoss(
            create(owner, options, filled=filled | {"miner": mined}, what=f"loss '{name}'")
        )
    return MetricLearningLoss(create(owner, implied | options, filled=filled, what=f"loss '{name}'"), mined)


def loss_options(name: str) -> dict[str, Any]:
    """The options a recipe may set for a loss, with their defaults; ``miner`` and ``miner_options`` too.

    An option without a default has :data:`~pyg_bgformer.losses.library.REQUIRED` in its place.

    Raises:
        InputError: there is no such loss, or it needs more than embeddings and labels.
    """
    owner, implied = _usable_class(name)
    taken = constructor_options(owner)
    own = {key: default for key, default in taken.items() if key not in (*_CLASSES, *_DIMENSION)}
    return own | implied | {"miner": None, "miner_options": None}


def loss_names() -> list[str]:
    """The snake-case names of all the library's losses that embeddings and labels alone can feed."""
    unusable = {owner.__name__ for owner in _UNUSABLE}
    return sorted(snake_name(name) for name in class_names(losses) if name not in unusable)


def _usable_class(name: str) -> tuple[type[nn.Module], dict[str, Any]]:
    owner, implied = find_class(losses, name)
    if owner in _UNUSABLE:
        raise InputError(
            f"loss '{name}' cannot be trained on embeddings and labels alone: {_UNUSABLE[owner]}"
        )
    return owner, implied


def _miner(name: str | None, options: Mapping[str, Any] | None) -> nn.Module | None:
    if name is None:
        if options:
            raise InputError(f"miner_options {dict(options)} without a miner: name one, or leave them out")
        return None
    owner, _ = find_class(miners, name)
    return create(owner, options or {}, filled={}, what=f"miner '{name}'")


def _filled(
    owner: type[nn.Module], num_classes: int, embedding_dim: int, options: Mapping[str, Any]
) -> dict[str, Any]:
    given = dict.fromkeys(_CLASSES, num_classes) | dict.fromkeys(_DIMENSION, embedding_dim)
    filled: dict[str, Any] = {key: given[key] for key in constructor_options(owner) if key in given}
    if owner is losses.MarginLoss and not options.get("learn_beta", False):
        filled["num_classes"] = None  # one fixed beta needs no place for each class
    return filled


def _check_sizes(num_classes: int, embedding_dim: int) -> None:
    if num_classes < 1 or embedding_dim < 1:
        raise InputError(f"a loss needs classes and dimensions: got {num_classes} and {embedding_dim}")


def _check_square(labels: Tensor) -> None:
    """The library's SmoothAP cuts the batch into K groups of P images where it means P groups of K.

    That is the same for P = K alone; for any other batch its value belongs to no class structure at all.
    """
    _, counts = torch.unique_consecutive(labels, return_counts=True)
    if len(labels.unique()) != len(counts) or bool((counts != len(counts)).any()):
        raise ValueError("it needs as many images of each class as there are classes, class after class")


def _promote_tensors(module: nn.Module) -> None:
    for name, value in list(vars(module).items()):
        if isinstance(value, Tensor):
            delattr(module, name)
            module.register_buffer(name, value)


def _detach_buffers(module: nn.Module) -> None:
    """Statistics carried to the next step are numbers there, not a way back into this step's graph."""
    for name, value in module.named_buffers(recurse=False):
        if value.requires_grad:
            setattr(module, name, value.detach())
