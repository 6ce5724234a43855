"""The processes of one run: what they exchange, and how they end together."""

import os
import subprocess
import sys
import threading
import time
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
"""How long the other processes have to notice the death of a process by themselves."""

ORPHAN_SECONDS = 2
"""How long the second process waits to learn whether the process that it has lost is the first one."""

REASON = "pyg_bgformer/reason"
"""Key under which a process stores the reason for its end."""


class LostProcess(RuntimeError):
    """Another process of the run has ended."""


@dataclass(frozen=True)
class Processes:
    """The processes of a run, seen from one of them. All of them call the same methods in the same order.

    Args:
        rank: Number of this process, from 0. Only the first process writes files and prints.
        count: Number of processes.
        children: Processes that this process has started.
        parent: Identifier of the process that started this one, if that is the first process of the run.
    """

    rank: int = 0
    count: int = 1
    children: list["subprocess.Popen[bytes]"] = field(default_factory=list)
    parent: int | None = None

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes files and prints."""
        return self.rank == 0

    def part(self, total: int) -> range:
        """Returns which of ``total`` items belong to this process. The processes' shares differ by at most one."""
        return range(total * self.rank // self.count, total * (self.rank + 1) // self.count)

    def gather(self, own: Tensor) -> Tensor:
        """Returns the rows of all processes in the order of the processes, without gradient.

        Args:
            own: ``(n, ...)``, the rows of this process, on any device. n may differ between processes.

        Returns:
            ``(N, ...)``, N the sum of all n.
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
        """Returns the numbers that the processes give."""
        numbers = [torch.zeros(1, dtype=torch.int64) for _ in range(self.count)]
        with exchange():
            dist.all_gather(numbers, torch.tensor([own]))
        return [int(number) for number in numbers]

    def sum(self, tensors: Iterable[Tensor]) -> None:
        """Replaces each tensor in place by its sum over all processes."""
        self._flat(tensors, dist.all_reduce)

    def copy_first(self, tensors: Iterable[Tensor]) -> None:
        """Replaces each tensor in place by that of the first process."""
        self._flat(tensors, lambda flat: dist.broadcast(flat, 0))

    def _flat(self, tensors: Iterable[Tensor], act: Callable[[Tensor], Any]) -> None:
        """Exchanges many tensors as one flat tensor for each dtype."""
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
        """Returns whether the flag of any process is true."""
        if self.count == 1:
            return flag
        said = torch.tensor([flag], dtype=torch.uint8)
        with exchange():
            dist.all_reduce(said, dist.ReduceOp.MAX)
        return bool(said.item())

    def share(self, value: T) -> T:
        """Returns the value of the first process.

        Args:
            value: A plain value. The values of the other processes are ignored.
        """
        return self.collect(value if self.is_first else None)[0]  # type: ignore[return-value]

    def collect(self, value: T) -> list[T]:
        """Returns the plain values of all processes in their order."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        with exchange():
            dist.all_gather_object(values, value)
        return values

    @contextmanager
    def first_ahead(self) -> Iterator[None]:
        """Makes the others wait until the first process has finished the block, so that they find its files."""
        if not self.is_first:
            self.any(False)
        yield
        if self.is_first:
            self.any(False)

    @contextmanager
    def ending_together(self) -> Iterator[None]:
        """Ends all processes together. Only one of them says why the run ends."""
        over = threading.Event()
        if self.children or self.parent is not None:
            threading.Thread(target=self._watch, args=(over,), daemon=True).start()
        try:
            yield
        except (LostProcess, InputError, RunError, Interrupted, KeyboardInterrupt) as error:
            lost = isinstance(error, LostProcess) or isinstance(error.__cause__, LostProcess)
            if self.speaks(ORPHAN_SECONDS if lost else 0):
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

    def speaks(self, patience: float = 0) -> bool:
        """Returns whether this process reports the end: it is the first, or the second and the first has died.

        Args:
            patience: Seconds to wait for the death of the first process. Its connections close a little earlier.
        """
        if self.rank != 1 or self.parent is None:
            return self.is_first
        until = time.monotonic() + patience
        while not (orphan := os.getppid() != self.parent) and time.monotonic() < until:
            time.sleep(0.05)
        return orphan

    def leave_reason(self, line: str) -> None:
        """Stores the reason why this process ends, for the first process."""
        with suppress(Exception):  # the store ends with the first process
            dist.distributed_c10d._get_default_store().set(REASON, line)

    def reason(self) -> str | None:
        """Returns why another process has ended, if it could store the reason."""
        with suppress(Exception):
            store = dist.distributed_c10d._get_default_store()
            if self.is_first and store.check([REASON]):
                return str(store.get(REASON).decode())
        return None

    def _watch(self, over: threading.Event) -> None:
        """Ends this process some time after the death of another one, which an exchange on GPUs does not notice."""
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
    """Ends this process and the processes that load its images at once.

    At a normal exit, Python could wait for them forever, because they only end after this process.

    Args:
        code: The exit code.
    """
    os._exit(code)


@contextmanager
def exchange() -> Iterator[None]:
    """Turns an error of an exchange into :class:`LostProcess`.

    Raises:
        LostProcess: If another process has ended.
    """
    try:
        yield
    except RuntimeError as error:
        if is_worker_death(error):  # torch raises it at any place in the program
            raise
        # The text of a closed connection adds nothing.
        why = "" if "onnection" in str(error) else f" ({one_line(error)})"
        raise LostProcess(f"another process of this run died{why}") from error
