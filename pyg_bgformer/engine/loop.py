"""The training loop. It works with every :class:`~pyg_bgformer.methods.Method`."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from pyg_bgformer.config.schema import TrainConfig
from pyg_bgformer.data.cuts import Cuts
from pyg_bgformer.engine.encoding import (
    IN_ONE_PIECE,
    EncodedBatch,
    Encoding,
    random_state,
    set_random_state,
)
from pyg_bgformer.engine.insight import feature_spread, graph_insight
from pyg_bgformer.engine.interruption import (
    StopRequest,
    is_worker_death,
    stop_on_signal,
    whole_steps,
    worker_death,
)
from pyg_bgformer.engine.loaders import Batch, Batches, Upload
from pyg_bgformer.engine.processes import Processes
from pyg_bgformer.engine.readings import NORM, Readings
from pyg_bgformer.engine.setup import Parts
from pyg_bgformer.engine.state import TrainState, save_checkpoint
from pyg_bgformer.errors import Interrupted, RunError
from pyg_bgformer.methods import Update
from pyg_bgformer.runs.folder import RunFolder

OnBatch = Callable[[int, int, float], None]
"""Called after each batch: number of finished epochs, number of finished batches in the next one, and the loss."""


def fit(
    parts: Parts,
    folder: RunFolder | None = None,
    *,
    on_batch: OnBatch = lambda *_: None,
    on_epoch: Callable[[dict[str, float]], None] = lambda _: None,
    on_idle: Callable[[list[str]], None] = lambda _: None,
) -> None:
    """Trains from the current state to the last epoch, and writes a checkpoint after each epoch.

    Args:
        parts: The run. Its state is changed in place.
        folder: The run's folder; :obj:`None` writes no checkpoints.
        on_batch: Called after each batch, see :data:`OnBatch`.
        on_epoch: Called after each epoch with its row of the history.
        on_idle: Called after the first batch of an epoch with the names of parameters that got no gradient.

    Raises:
        Interrupted: If a signal stops the run. The checkpoint has the state after the last whole step.
        RunError: If a loss term or the gradient is NaN or infinite, the method refuses a batch, or a worker process
            died.
    """
    state, train = parts.state, parts.config.train
    processes = parts.processes
    loader: Batches = parts.fabric.setup_dataloaders(  # type: ignore[assignment]
        parts.train_loader, use_distributed_sampler=False, move_to_device=False
    )
    processes.copy_first(state.method.state_dict().values())
    parts.sampler.start_at(state.epoch, state.batch, until=train.epochs)
    with stop_on_signal() as stop:
        batches = _batches(loader, parts.fabric.device, stop, processes)
        while state.epoch < train.epochs:
            set_random_state(processes.share(random_state(parts.fabric.device)), parts.fabric.device)
            state.method.encoder.freeze_backbone(state.epoch < train.warmup_epochs)
            started = time.perf_counter()
            finished = _train_epoch(parts, batches, stop, on_batch, on_idle)
            seconds = time.perf_counter() - started
            state.seconds += seconds
            with whole_steps():
                if finished:
                    _close_epoch(state, seconds)
                    on_epoch(state.history[-1])
                if folder is not None and processes.is_first:
                    save_checkpoint(parts.fabric, state, folder, parts.origin)
            if failures := [failure for failure in processes.collect(stop.failure) if failure is not None]:
                raise RunError(f"{failures[0]}; resume with: --resume {folder}")
            if processes.any(stop.asked) and state.epoch < train.epochs:
                raise Interrupted(f"after epoch {state.epoch}, batch {state.batch}")


def _train_epoch(
    parts: Parts,
    batches: Iterator[Batch],
    stop: StopRequest,
    on_batch: OnBatch,
    on_idle: Callable[[list[str]], None],
) -> bool:
    """Trains on the rest of an epoch. Returns whether the epoch is finished."""
    state, train = parts.state, parts.config.train
    state.method.train()
    first, total = state.batch, parts.sampler.batches_in(state.epoch)
    unread: deque[Readings] = deque()

    def read(leave: int) -> None:
        while len(unread) > leave:
            readings = unread.popleft()
            values = readings.values()
            for name, value in values.items():
                state.sums[name] = state.sums.get(name, 0.0) + value
            on_batch(state.epoch, readings.batch, values["loss"])

    for images, labels, _ in islice(batches, total - first):
        with whole_steps():
            try:
                readings, reached = train_batch(parts.fabric, state, train, images, labels, parts.encoding)
            except RunError:
                read(0)  # an earlier batch may be the reason
                raise
            if state.batch == first and (idle := _idle(state.method, reached)):
                on_idle(idle)
            state.batch += 1
            unread.append(readings)
            # A GPU gets the next batch before it has finished this one.
            read(1 if parts.fabric.device.type == "cuda" else 0)
        if parts.processes.any(stop.asked) and state.batch < total:
            break
    with whole_steps():
        read(0)
    return state.batch == total


def _batches(
    loader: Batches, device: torch.device, stop: StopRequest, processes: Processes
) -> Iterator[Batch]:
    """Yields the batches of all epochs, on the device.

    If a process that loads images dies, the batches end on all processes of the run, with a stop request.
    """
    upload = Upload(device)
    batches = iter(loader)
    while True:
        batch = None
        try:
            batch = next(batches, None)
        except RuntimeError as error:
            if not is_worker_death(error):
                raise
            if not stop.asked:  # after a stop signal, the death of a worker is not a failure
                stop.failure = worker_death(error)
            stop.asked = True
        if processes.any(batch is None) or batch is None:
            return
        yield upload(batch)


def train_batch(
    fabric: Fabric,
    state: TrainState,
    train: TrainConfig,
    images: Tensor | Cuts,
    labels: Tensor,
    encoding: Encoding = IN_ONE_PIECE,
) -> tuple[Readings, set[nn.Parameter]]:
    """Carries out the method's updates on one batch, one after another.

    Before training on the first batch of an epoch, its graph and the spread of its features are measured.

    Args:
        fabric: Device and precision.
        state: The training, changed in place.
        train: The recipe's section.
        images: ``(n, 3, S, S)``, cuts that become such images, or features ``(N, F)`` of a frozen backbone.
        labels: ``(n,)``, their classes.
        encoding: How the batch is encoded.

    Returns:
        The logged terms by name, and the parameters that got a gradient.

    Raises:
        RunError: If a loss term or the gradient is NaN or infinite, or the method refuses the batch.
    """
    readings = Readings(state.epoch, state.batch)
    reached: set[nn.Parameter] = set()
    with _as_run_error(readings):
        batch = encoding(fabric, state.method.encoder, images, labels)
        if state.batch == 0:
            observe(fabric, state, batch.features, batch.labels)
    updates = state.method.updates(batch.features, batch.labels)
    while (update := _next(fabric, readings, updates)) is not None:
        readings.add({"loss": update.loss, **update.terms}, logged={*update.terms})
        reached |= _step(fabric, state, train, update, batch, readings)
    return readings, reached


def observe(fabric: Fabric, state: TrainState, features: Tensor, labels: Tensor) -> None:
    """Writes the measurements of :mod:`pyg_bgformer.engine.insight` on a batch to ``state.insight``.

    Args:
        fabric: Device and precision.
        state: The training, changed in place.
        features: ``(N, F)``, backbone features.
        labels: ``(N,)``, their classes.
    """
    spread = feature_spread(features)
    if state.first_spread is None:
        state.first_spread = spread
    with fabric.autocast():
        state.insight = graph_insight(state.method, features, labels)
    state.insight["feature_scale"] = spread / max(state.first_spread, torch.finfo(torch.float32).tiny)


def _next(fabric: Fabric, readings: Readings, updates: Iterator[Update]) -> Update | None:
    with _as_run_error(readings), fabric.autocast():
        return next(updates, None)


@contextmanager
def _as_run_error(readings: Readings) -> Iterator[None]:
    """Adds the epoch and the batch to the error of a module that refuses its input, for example NaN features."""
    try:
        yield
    except ValueError as error:
        readings.values()  # a loss of this batch may be the reason
        raise RunError(f"{readings.place}: {error}") from error


def _step(
    fabric: Fabric,
    state: TrainState,
    train: TrainConfig,
    update: Update,
    batch: EncodedBatch,
    readings: Readings,
) -> set[nn.Parameter]:
    """Carries out an optimiser step for the update's groups. Returns the parameters that got a gradient."""
    moved = [
        parameter
        for group in state.optimizer.param_groups
        if update.groups is None or group["name"] in update.groups
        for parameter in group["params"]
        if parameter.requires_grad
    ]
    state.optimizer.zero_grad()
    # All other parameters have no gradient, so the optimiser does not change them and their moments.
    batch.backward(update.loss, moved)
    reached = {parameter for parameter in moved if parameter.grad is not None}
    if update.zero_filled:
        for parameter in moved:
            if parameter.grad is None and parameter in state.optimizer.state:
                parameter.grad = torch.zeros_like(parameter)
    _clip(fabric, state, train, readings)
    state.optimizer.step()
    return reached


def _idle(method: nn.Module, reached: set[nn.Parameter]) -> list[str]:
    return [name for name, p in method.named_parameters() if p.requires_grad and p not in reached]


def _clip(fabric: Fabric, state: TrainState, train: TrainConfig, readings: Readings) -> None:
    if train.clip_value is not None:
        fabric.clip_gradients(state.method, state.optimizer, clip_val=train.clip_value)
    if train.clip_norm is None:
        return
    norm = fabric.clip_gradients(
        state.method, state.optimizer, max_norm=train.clip_norm, error_if_nonfinite=False
    )
    # With fp16 an overflow is normal: the scaler skips the step and lowers its scale.
    if train.precision != "16-mixed" and norm is not None:
        readings.add({NORM: norm}, logged=set())


def _close_epoch(state: TrainState, seconds: float) -> None:
    means = {name: total / state.batch for name, total in state.sums.items()}
    rates = {f"lr_{g['name']}": float(g["lr"]) for g in state.optimizer.param_groups}
    state.method.close_epoch(means)
    state.schedule.step()
    state.epoch += 1
    state.batch = 0
    state.sums = {}
    state.history.append({"epoch": state.epoch, **means, **state.insight, **rates, "seconds": seconds})
    state.insight = {}
