"""The training loop; it knows a method's contract and no method."""

import time
from collections.abc import Callable
from pathlib import Path

import torch
from lightning_fabric import Fabric
from lightning_fabric.wrappers import _FabricModule
from torch import Tensor
from torch.utils.data import DataLoader

from pyg_bgformer.config import Config
from pyg_bgformer.data import PKSampler
from pyg_bgformer.engine.interruption import Interrupted, StopRequest, stop_on_signal
from pyg_bgformer.engine.state import TrainState, save_checkpoint
from pyg_bgformer.errors import RunError

Advance = Callable[[int, int, float], None]
"""Told after each batch: epochs finished, batches finished of the next one, and the loss."""


def fit(
    fabric: Fabric,
    model: _FabricModule,
    state: TrainState,
    loader: DataLoader,
    sampler: PKSampler,
    config: Config,
    folder: Path,
    *,
    on_batch: Advance = lambda epoch, batch, loss: None,
    on_epoch: Callable[[dict[str, float]], None] = lambda row: None,
) -> None:
    """Trains from where ``state`` stands to the last epoch, leaving a checkpoint in ``folder`` after each.

    Args:
        fabric: Device and precision.
        model: ``state.method`` as set up by ``fabric``.
        state: Changed in place.
        loader: Batches ``(images, labels, rows)`` in the order of ``sampler``.
        sampler: Told from which batch of which epoch to go on.
        config: The run.
        folder: Where checkpoints go.
        on_batch: Progress.
        on_epoch: Told what was logged of each epoch.

    Raises:
        Interrupted: A signal asked to stop; the checkpoint holds the state after the last whole step.
        RunError: A loss term or the gradient is not finite, or the method refuses a batch.
    """
    with stop_on_signal() as stop:
        while state.epoch < config.train.epochs:
            sampler.load_state_dict({"seed": sampler.seed, "epoch": state.epoch, "batch": state.batch})
            state.method.encoder.freeze_backbone(state.epoch < config.train.warmup_epochs)
            started = time.perf_counter()
            finished = _train_epoch(fabric, model, state, loader, config, stop, on_batch)
            seconds = time.perf_counter() - started
            state.seconds += seconds
            if finished:
                _close_epoch(state, seconds)
                on_epoch(state.history[-1])
            save_checkpoint(fabric, state, folder, config.method.name)
            if stop.asked and state.epoch < config.train.epochs:
                raise Interrupted(f"after epoch {state.epoch}, batch {state.batch}")


def _train_epoch(
    fabric: Fabric,
    model: _FabricModule,
    state: TrainState,
    loader: DataLoader,
    config: Config,
    stop: StopRequest,
    on_batch: Advance,
) -> bool:
    """Whether the epoch came to its end."""
    model.train()
    total = state.batch + len(loader)
    for images, labels, _ in loader:
        try:
            terms = model(images, labels)
        except ValueError as error:  # a module refuses its input: features that are not finite, say
            raise RunError(f"epoch {state.epoch + 1}, batch {state.batch + 1}: {error}") from error
        values = check_finite(terms, state)
        state.optimizer.zero_grad()
        fabric.backward(terms["loss"])
        _clip(fabric, model, state, config)
        state.optimizer.step()
        state.batch += 1
        for name, value in values.items():
            state.sums[name] = state.sums.get(name, 0.0) + value
        on_batch(state.epoch, state.batch, values["loss"])
        if stop.asked and state.batch < total:
            return False
    return True


def check_finite(terms: dict[str, Tensor], state: TrainState) -> dict[str, float]:
    """The terms as numbers.

    Raises:
        RunError: If one is not finite; says which, and when.
    """
    values = dict(zip(terms, torch.stack([t.detach().float() for t in terms.values()]).tolist(), strict=True))
    # The sum comes first in the dictionary, but a term by its own name says more.
    for name in sorted(values, key=lambda name: name == "loss"):
        if values[name] - values[name] != 0:
            raise RunError(
                f"loss term '{name}' is {values[name]} in epoch {state.epoch + 1}, batch {state.batch + 1}; "
                "a smaller train.lr or another precision may help"
            )
    return values


def _clip(fabric: Fabric, model: _FabricModule, state: TrainState, config: Config) -> None:
    if config.train.clip_norm is None:
        return
    norm = fabric.clip_gradients(
        model, state.optimizer, max_norm=config.train.clip_norm, error_if_nonfinite=False
    )
    # With fp16 an overflow is ordinary: the scaler skips that step and lowers its scale.
    if config.train.precision != "16-mixed" and norm is not None and not norm.isfinite():
        raise RunError(f"the gradient is not finite in epoch {state.epoch + 1}, batch {state.batch + 1}")


def _close_epoch(state: TrainState, seconds: float) -> None:
    means = {name: total / state.batch for name, total in state.sums.items()}
    rates = {f"lr_{g['name']}": float(g["lr"]) for g in state.optimizer.param_groups}
    state.schedule.step()
    state.epoch += 1
    state.batch = 0
    state.sums = {}
    state.history.append({"epoch": state.epoch, **means, **rates, "seconds": seconds})
