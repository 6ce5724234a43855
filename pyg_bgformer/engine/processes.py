"""The processes that carry out one run together: what they exchange, and how they end together."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from pyg_bgformer.engine.interruption import is_worker_death
from pyg_bgformer.errors import InputError, Interrupted, RunError, one_line

T = TypeVar("T")

GRACE_SECONDS = 10
"""After the death of a process, the others have so long to notice it by themselves."""

REASON = "pyg_bgformer/reason"
"""Key under which a process leaves the reason of its end."""


class LostProcess(RuntimeError):
    """Another process of the run has ended."""


@dataclass(frozen=True)
class Processes:
    """The processes of a run, seen from one of them. Each method is called by all of them, in the same order.

    Args:
        rank: Number of this process, from 0. The first one writes all files, and it alone speaks.
        count: Number of processes.
        children: Processes that this one has started.
        parent: The process that started this one, where that is the first process of the run.
    """

    rank: int = 0
    count: int = 1
    children: list["subprocess.Popen[bytes]"] = field(default_factory=list)
    parent: int | None = None

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    def part(self, total: int) -> range:
        """Returns which of ``total`` items are this process's: neighbours, to within one as many as any other's."""
        return range(total * self.rank // self.count, total * (self.rank + 1) // self.count)

    def gather(self, own: Tensor) -> Tensor:
        """Returns the rows of all processes, one process after another, without gradient.

        Args:
            own: ``(n, ...)``, on any device. Processes may have different numbers of rows.
        """
        if self.count == 1:
            return own.detach()
        sizes = self.sizes(len(own))
        padded = own.new_zeros((max(sizes), *own.shape[1:]))
        padded[: len(own)] = own.detach()
        parts = [torch.empty_like(padded) for _ in sizes]
        with exchange():
            dist.all_gather(parts, padded)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    def sizes(self, own: int) -> list[int]:
        """Returns a number of each process."""
        numbers = [torch.zeros(1, dtype=torch.int64) for _ in range(self.count)]
        with exchange():
            dist.all_gather(numbers, torch.tensor([own]))
        return [int(number) for number in numbers]

    def sum(self, tensors: Iterable[Tensor]) -> None:
        """Replaces each tensor by its sum over all processes."""
        self._flat(tensors, dist.all_reduce)

    def copy_first(self, tensors: Iterable[Tensor]) -> None:
        """Replaces each tensor by that of the first process."""
        self._flat(tensors, lambda flat: dist.broadcast(flat, 0))

    def _flat(self, tensors: Iterable[Tensor], act: Callable[[Tensor], Any]) -> None:
        """Exchanges many tensors as one for each type of numbers."""
        by_type: dict[torch.dtype, list[Tensor]] = {}
        for tensor in tensors if self.count > 1 else ():
            by_type.setdefault(tensor.dtype, []).append(tensor)
        for group in by_type.values():
            flat = torch.cat([tensor.detach().flatten() for tensor in group])
            with exchange():
                act(flat)
            for tensor, part in zip(group, flat.split([tensor.numel() for tensor in group]), strict=True):
                tensor.detach().copy_(part.view_as(tensor))

    def any(self, flag: bool) -> bool:
        """Returns whether any process says so."""
        if self.count == 1:
            return flag
        said = torch.tensor([flag], dtype=torch.uint8)
        with exchange():
            dist.all_reduce(said, dist.ReduceOp.MAX)
        return bool(said.item())

    def share(self, value: T) -> T:
        """Returns the value of the first process, which must be plain.

        Args:
            value: The others may give anything.
        """
        return self.collect(value if self.is_first else None)[0]  # type: ignore[return-value]

    def collect(self, value: T) -> list[T]:
        """Returns the values of all processes, which must be plain."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        with exchange():
            dist.all_gather_object(values, value)
        return values

    @contextmanager
    def first_ahead(self) -> Iterator[None]:
        """Lets the first process finish the block before the others begin it: they find files that it made."""
        if not self.is_first:
            self.any(False)
        yield
        if self.is_first:
            self.any(False)

    @contextmanager
    def ending_together(self) -> Iterator[None]:
        """Lets one process alone say why a run ends, and lets none stay behind."""
        over = threading.Event()
        if self.children or self.parent is not None:
            threading.Thread(target=self._watch, args=(over,), daemon=True).start()
        try:
            yield
        except (LostProcess, InputError, RunError, Interrupted, KeyboardInterrupt) as error:
            if self.speaks():
                if isinstance(error, LostProcess):
                    raise RunError(self.reason() or str(error)) from error
                raise
            self.leave_reason(one_line(error) if str(error) else "interrupted")
            leave(130 if isinstance(error, Interrupted | KeyboardInterrupt) else 1)
        finally:
            over.set()
            if dist.is_initialized():
                dist.destroy_process_group()
            for child in self.children:
                with suppress(subprocess.TimeoutExpired):
                    child.wait(GRACE_SECONDS)
                child.kill()

    def speaks(self) -> bool:
        """Returns whether this process tells of another one's death: the first one that is left."""
        orphan = self.parent is not None and os.getppid() != self.parent
        return self.is_first or (orphan and self.rank == 1)

    def leave_reason(self, line: str) -> None:
        """Tells the first process why this one ends."""
        with suppress(Exception):  # the first process may be gone, and with it the place of the reason
            dist.distributed_c10d._get_default_store().set(REASON, line)

    def reason(self) -> str | None:
        """Returns why another process has ended, where that process could still say it."""
        with suppress(Exception):
            store = dist.distributed_c10d._get_default_store()
            if self.is_first and store.check([REASON]):
                return str(store.get(REASON).decode())
        return None

    def _watch(self, over: threading.Event) -> None:
        """Ends this process some time after another's death, which an exchange on GPUs does not notice."""
        while not over.wait(1.0):
            died = [child.pid for child in self.children if child.poll()]
            if died or (self.parent is not None and os.getppid() != self.parent):
                break
        if over.wait(GRACE_SECONDS):
            return
        if self.speaks():
            print(
                f"error: {self.reason() or 'another process of this run died'}", file=sys.stderr, flush=True
            )
        for child in self.children:
            child.kill()
        leave(1)


ALONE = Processes()


def leave(code: int = 0) -> NoReturn:
    """Ends this process at once, and with it those that load its images.

    At an ordinary end Python may wait for these, and they only end when this process has ended.

    Args:
        code: The exit code.
    """
    os._exit(code)


@contextmanager
def exchange() -> Iterator[None]:
    """Turns the error of an exchange into :class:`LostProcess`."""
    try:
        yield
    except RuntimeError as error:
        if is_worker_death(error):  # of this process's own; torch raises it wherever the program is
            raise
        # A closed connection says nothing else.
        why = "" if "onnection" in str(error) else f" ({one_line(error)})"
        raise LostProcess(f"another process of this run died{why}") from error
