"""Time and memory of training steps that take turns, so that other work slows all of them alike."""

import csv
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

if TYPE_CHECKING:
    from pyg_bgformer.engine.setup import Parts

Step = Callable[[], object]
MIB = 2**20


class Time(NamedTuple):
    """Median and smallest time of the repeats, in seconds."""

    median: float
    fastest: float


def training_step(
    layer: nn.Module, *inputs: Any, loss: Callable[[Any], Tensor] = lambda out: out.sum()
) -> Step:
    """Returns a forward and backward pass that computes the gradients of the first input and of all parameters."""

    def step() -> None:
        x, *others = inputs
        x = x.requires_grad_()
        loss(layer(x, *others)).backward()
        x.grad = None
        layer.zero_grad(set_to_none=True)

    return step


def interleaved_times(steps: dict[str, Step], repeats: int) -> dict[str, Time]:
    """Returns the time of each step. The first round is not measured."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for repeat in range(repeats + 1):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if repeat:
                times[name].append(time.perf_counter() - start)
    return {name: Time(median(values), min(values)) for name, values in times.items()}


def peak_memory(step: Step) -> int:
    """Returns the peak of the memory that a step allocates, in bytes, without the memory allocated before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        step()
    events = record.profiler.kineto_results.events()
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    held = peak = 0
    for _, change in changes:
        held += change
        peak = max(peak, held)
    return peak


def write_table(path: Path | None, rows: Sequence[Mapping[str, object]]) -> None:
    """Writes rows as a CSV file if there is a path. ``page.py`` puts them into a page as they are."""
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def compute_in(parts: "Parts", dtype: torch.dtype) -> None:
    """Makes a run compute in another type: its weights, and the images that it trains on."""
    parts.method.to(dtype)
    samples = parts.train_loader.dataset
    transform = samples.transform

    def in_dtype(image: object) -> Tensor:
        pixels = transform(image)
        return pixels.to(dtype) / (255 if pixels.dtype == torch.uint8 else 1)

    samples.transform = in_dtype


class Quiet:
    """A display that shows nothing."""

    def line(self, text: str) -> None:
        """Shows nothing."""

    @contextmanager
    def bar(self, title: str, total: int) -> Iterator[Callable[[int, str], None]]:  # noqa: ARG002
        """Shows nothing."""
        yield lambda done, note: None  # noqa: ARG005

    def result(self, result: object) -> None:
        """Shows nothing."""
