"""Gives a network that sees a part of a batch the random numbers that it would draw for the whole batch."""

from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode

from pyg_bgformer.encoders.backbone import Backbone
from pyg_bgformer.errors import InputError

aten = torch.ops.aten

FILLS = {aten.bernoulli_.float, aten.uniform_.default, aten.normal_.default, aten.exponential_.default}
"""Operators that fill a tensor with random numbers."""


class RowDraws(TorchDispatchMode):
    """A context in which dropout and drop path of some rows are those of the whole batch.

    Each operator draws for all rows of the batch and uses the draws of its own rows. The random numbers of an image
    therefore do not depend on how the batch is divided. Torch's generator ends in the state that it has after one
    pass over the whole batch.

    Args:
        first: The first row.
        rows: Number of rows.
        total: Number of rows of the whole batch.
    """

    def __init__(self, first: int, rows: int, total: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call,unused-ignore]
        self.first = first
        self.rows = rows
        self.total = total

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Runs an operator.

        Raises:
            InputError: If the operator draws random numbers in a way that cannot be repeated for a part.
        """
        if not draws(func, args, kwargs or {}):
            return func(*args, **(kwargs or {}))
        if func in FILLS:
            return args[0].copy_(self.own(func(self.whole(args[0]), *args[1:], **(kwargs or {}))))
        if func is aten.native_dropout.default:
            values, probability, train = args
            _, kept = func(torch.ones_like(self.whole(values)), probability, train)
            mask = self.own(kept)
            return values * mask / (1 - probability), mask
        raise InputError(
            f"the encoder draws random numbers with {func}, which cannot be repeated for a part of a batch"
        )

    def whole(self, part: Tensor) -> Tensor:
        """Returns an empty tensor like ``part``, but for all rows of the batch.

        A tensor may have several rows for each image, for example windows. If its rows are not those of images, the
        shape does not change.
        """
        if part.dim() == 0 or part.size(0) % self.rows:
            return torch.empty_like(part)
        shape = (part.size(0) // self.rows * self.total, *part.shape[1:])
        return torch.empty_strided(shape, part.stride(), dtype=part.dtype, device=part.device)

    def own(self, whole: Tensor) -> Tensor:
        """Returns the rows of ``whole`` that belong to this part."""
        if whole.dim() == 0 or whole.size(0) % self.total:
            return whole
        each = whole.size(0) // self.total
        return whole[self.first * each : (self.first + self.rows) * each]


def draws(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Returns whether a call of an operator takes random numbers."""
    if torch.Tag.nondeterministic_seeded not in func.tags:
        return False
    if func is aten.native_dropout.default:
        return bool(args[2] is not False and args[1] > 0)
    names = [argument.name for argument in func._schema.arguments]
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    # Attention has the tag even without dropout.
    return "dropout_p" not in names or bool(given.get("dropout_p", 0.0))


class _Noticed(Exception):
    """A network draws random numbers."""


class _Notice(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call,unused-ignore]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if draws(func, args, kwargs or {}):
            raise _Noticed
        return func(*args, **(kwargs or {}))


@torch.no_grad()
def draws_random_numbers(backbone: Backbone, image_size: int) -> bool:
    """Returns whether a backbone draws random numbers in training. It runs on the meta device, without data.

    Args:
        backbone: The backbone. Its submodules are in the modes in which they are trained.
        image_size: Side of the images in pixels.
    """
    state = {**dict(backbone.named_parameters()), **dict(backbone.named_buffers())}
    shapes = {name: tensor.to("meta") for name, tensor in state.items()}
    try:
        with _Notice():
            functional_call(backbone, shapes, (torch.zeros(2, 3, image_size, image_size, device="meta"),))
    except Exception:  # _Noticed; or the network does not run on the meta device, and may draw some
        return True
    return False
