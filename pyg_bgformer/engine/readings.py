"""Reads the scalars of a batch without making a GPU wait."""

import torch
from torch import Tensor

from pyg_bgformer.errors import RunError

NORM = "norm of the gradient"
"""Name of the norm of the gradient among the scalars of an update."""


class Readings:
    """The logged scalars of the updates of one batch.

    A GPU runs behind the program: it computes a batch while the program prepares the next one. Reading a number at
    once would make the program wait. Therefore scalars are copied to the CPU, and read one batch later.

    Args:
        epoch: Number of finished epochs.
        batch: Number of finished batches in the current epoch.

    Attributes:
        batch: Number of finished batches after this one.
        place (str): Epoch and batch, for messages.
    """

    def __init__(self, epoch: int, batch: int) -> None:
        self.batch = batch + 1
        self.place = f"epoch {epoch + 1}, batch {batch + 1}"
        self._sent: list[tuple[list[str], set[str], Tensor]] = []
        self._event: torch.cuda.Event | None = None

    def add(self, scalars: dict[str, Tensor], logged: set[str]) -> None:
        """Starts to copy scalars of an update from the device.

        Args:
            scalars: Scalars by name. All must be finite.
            logged: Names of the scalars that :meth:`values` returns.
        """
        stacked = torch.stack([scalar.detach().float() for scalar in scalars.values()])
        # The copy goes to pinned memory of the CPU, so the program need not wait for it.
        self._sent.append(([*scalars], logged, stacked.to("cpu", non_blocking=stacked.is_cuda)))
        if stacked.is_cuda:
            self._event = torch.cuda.Event()
            self._event.record()

    def values(self) -> dict[str, float]:
        """Waits until the device has computed the scalars, and returns the logged ones.

        Raises:
            RunError: If a scalar is NaN or infinite. It names the scalar, the epoch and the batch.
        """
        if self._event is not None:
            self._event.synchronize()
        values: dict[str, float] = {}
        for names, logged, sent in self._sent:
            numbers = dict(zip(names, sent.tolist(), strict=True))
            check_finite(numbers, self.place)
            values |= {name: numbers[name] for name in names if name in logged}
        return values


def check_finite(numbers: dict[str, float], place: str) -> None:
    """Raises an error unless all numbers are finite.

    Args:
        numbers: Terms of the loss, and the norm of its gradient.
        place: Epoch and batch, for the message.

    Raises:
        RunError: If a number is NaN or infinite. It names the number, the epoch and the batch.
    """
    # The whole loss is checked last, because the name of a term says more.
    for name in sorted(numbers, key=lambda name: name == "loss"):
        if numbers[name] - numbers[name] == 0:
            continue
        if name == NORM:
            raise RunError(f"the gradient is not finite in {place}")
        raise RunError(
            f"loss term '{name}' is {numbers[name]} in {place}; a smaller train.lr or another precision may help"
        )
