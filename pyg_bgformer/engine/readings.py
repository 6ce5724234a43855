"""The scalars of a batch, read without letting a GPU wait."""

import torch
from torch import Tensor

from pyg_bgformer.errors import RunError

NORM = "norm of the gradient"


class Readings:
    """What the updates of one batch log.

    A GPU works behind the program: it still computes a batch while the program prepares the next one. Reading a
    number at once would end that. So scalars are sent back, and :meth:`values` is called one batch later.

    Args:
        epoch: Number of epochs finished.
        batch: Number of batches finished of the next epoch.

    Attributes:
        batch: The same number with this batch.
        place (str): Which batch it is, for messages.
    """

    def __init__(self, epoch: int, batch: int) -> None:
        self.batch = batch + 1
        self.place = f"epoch {epoch + 1}, batch {batch + 1}"
        self._sent: list[tuple[list[str], set[str], Tensor]] = []
        self._event: torch.cuda.Event | None = None

    def add(self, scalars: dict[str, Tensor], logged: set[str]) -> None:
        """Sends scalars of an update back from the device.

        Args:
            scalars: By name; all must be finite.
            logged: Names of those of them that :meth:`values` returns.
        """
        stacked = torch.stack([scalar.detach().float() for scalar in scalars.values()])
        # to the CPU's pinned memory, so that the copy need not be waited for
        self._sent.append(([*scalars], logged, stacked.to("cpu", non_blocking=stacked.is_cuda)))
        if stacked.is_cuda:
            self._event = torch.cuda.Event()
            self._event.record()

    def values(self) -> dict[str, float]:
        """Returns the logged scalars, after the device has computed them.

        Raises:
            RunError: If one is not finite; says which, and when.
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
    """Refuses numbers that are not finite.

    Args:
        numbers: Terms of the loss, and the norm of its gradient.
        place: When they were computed.

    Raises:
        RunError: If one is not finite; says which, and when.
    """
    # The sum comes first in the dictionary, but a term by its own name says more.
    for name in sorted(numbers, key=lambda name: name == "loss"):
        if numbers[name] - numbers[name] == 0:
            continue
        if name == NORM:
            raise RunError(f"the gradient is not finite in {place}")
        raise RunError(
            f"loss term '{name}' is {numbers[name]} in {place}; a smaller train.lr or another precision may help"
        )
