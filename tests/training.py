"""A training as a new process would set it up."""

from contextlib import contextmanager
from dataclasses import replace

import torch

from pyg_bgformer.config.recipe import read_config
from pyg_bgformer.engine.loop import fit
from pyg_bgformer.engine.setup import build_dataset, build_parts
from pyg_bgformer.engine.state import load_checkpoint
from pyg_bgformer.runs.folder import RunFolder


def tiny_config(path):
    """A configuration of two short epochs on digits, with everything random switched on."""
    config = read_config(
        [
            *("--method.name", "bgformer", "--method.dropout", "0.1"),
            *("--sampler.classes", "5", "--sampler.samples", "4", "--sampler.batches_per_epoch", "3"),
            *("--encoder.embedding_dim", "16", "--train.epochs", "2", "--train.schedule", "cosine"),
            *("--data.image_size", "16", "--data.resize", "16", "--data.workers", "0"),
        ]
    )
    return replace(config, runs=str(path / "runs"), data=replace(config.data, cache=None))


class Silent:
    """A display that shows nothing."""

    def line(self, text):
        pass

    @contextmanager
    def bar(self, title, total):
        yield lambda done, note: None

    def result(self, result):
        pass


class Training:
    """Everything :func:`fit` needs, made anew as a new process would."""

    def __init__(self, config, path):
        self.config, self.folder = config, RunFolder(path)
        torch.manual_seed(config.seed)
        self.parts = build_parts(config, build_dataset(config.data), Silent())
        self.fabric, self.state = self.parts.fabric, self.parts.state

    def resume(self):
        load_checkpoint(self.fabric, self.state, self.folder, self.parts.origin)
        return self

    def fit(self, **callbacks):
        fit(self.parts, self.folder, **callbacks)
        return self.state
