"""Reports each epoch: prints a line, and writes metrics.csv, TensorBoard and, if wanted, Weights & Biases."""

from contextlib import suppress
from itertools import accumulate
from types import TracebackType
from typing import Self

import pandas as pd
from torch.utils.tensorboard import SummaryWriter

from pyg_bgformer.engine.best_epoch import TEST_SCORE, is_tested, keep_best
from pyg_bgformer.engine.evaluate import recall_at_1
from pyg_bgformer.engine.insight import collapsed
from pyg_bgformer.engine.progress import Display
from pyg_bgformer.engine.setup import Parts
from pyg_bgformer.engine.wandb_logger import WandbLogger
from pyg_bgformer.runs.folder import RunFolder


class EpochLog:
    """A log that is called with the row of each finished epoch. As a context, it closes TensorBoard's file.

    If the protocol chooses an epoch by its test score, the log tests the epoch and keeps the best one. All
    processes test, and the first one writes.

    Args:
        parts: The run.
        folder: The run's folder.
        display: Shows the lines.

    Attributes:
        begins (list[int]): The number of batches before each epoch, and in the end the number of all batches.

    Raises:
        RunError: If TensorBoard's file cannot be written.
        InputError: If Weights & Biases does not start.
    """

    def __init__(self, parts: Parts, folder: RunFolder, display: Display) -> None:
        self.parts = parts
        self.folder = folder
        self.display = display
        batches = (parts.sampler.batches_in(epoch) for epoch in range(parts.config.train.epochs))
        self.begins = list(accumulate(batches, initial=0))
        self.writer: SummaryWriter | None = None
        self.wandb: WandbLogger | None = None
        with folder.errors(folder.events):
            if not parts.processes.is_first:
                return
            self.writer = SummaryWriter(str(folder.events), purge_step=parts.state.epoch + 1)
            self.writer.flush()  # otherwise its thread writes the first events later, and prints its errors
        if parts.config.report.wandb is not None:
            self.wandb = WandbLogger(parts.config.report.wandb, folder)
            self.wandb.log_hyperparams(parts.config.as_dict())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # An error that ended the run is more important than an error of this file.
        with self.folder.errors(self.folder.events) if error is None else suppress(OSError):
            if self.writer is not None:
                self.writer.close()
        if self.wandb is not None:
            self.wandb.finalize("success" if error is None else "failed")

    def __call__(self, row: dict[str, float]) -> None:
        """Writes and shows the row of an epoch. Tests before, if the protocol wants it.

        Args:
            row: The last row of the history. The test score is added to it.

        Raises:
            RunError: If a file cannot be written, or features are NaN or infinite.
        """
        config, state = self.parts.config, self.parts.state
        epoch, epochs = int(row["epoch"]), config.train.epochs
        images = self.parts.sampler.batches_in(epoch - 1) * self.parts.sampler.batch_size
        line = f"epoch {epoch}/{epochs}: loss {row['loss']:.4f}, {images / row['seconds']:.0f} images/s"
        if is_tested(config.protocol, epoch, epochs):
            row[TEST_SCORE] = recall_at_1(self.parts)
            keep_best(state)
            line += f", test Recall@1 {100 * row[TEST_SCORE]:.1f}"
        if self.writer is None:
            return
        # The CSV file is first: its errors are raised here. TensorBoard's thread would print a stack trace.
        with self.folder.writing(self.folder.metrics) as path:
            pd.DataFrame(state.history).to_csv(path, index=False)
        with self.folder.errors(self.folder.events):
            for name, value in row.items():
                self.writer.add_scalar(f"train/{name}", value, epoch)
            self.writer.flush()  # raises the thread's error here
        if self.wandb is not None:
            self.wandb.log_metrics({f"train/{name}": value for name, value in row.items()}, epoch)
        self.display.line(line)
        if collapsed(state.history):
            self.display.line(
                f"warning: the spread of the features fell to {100 * row['feature_scale']:.0f} % of its start; "
                f"see feature_scale in {self.folder.metrics.name}"
            )
