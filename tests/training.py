"""A training as a new process would set it up."""

from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import nn
from torchvision.ops import StochasticDepth

from benchmarks.measuring import compute_in
from pyg_bgformer.config.recipe import read_config
from pyg_bgformer.encoders.backbone import Backbone
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


class NoisyConv(Backbone):
    """A backbone with BatchNorm, dropout and drop path."""

    def __init__(self, pooling="average"):
        net = nn.ModuleDict(
            {
                # A bias before BatchNorm has no gradient but rounding, of which Adam makes whole steps.
                "stem": nn.Sequential(
                    nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()
                ),
                "block": nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.Dropout(0.2), nn.ReLU()),
            }
        )
        super().__init__(net, mean=(0.5,) * 3, std=(0.5,) * 3)
        self.drop_path = StochasticDepth(0.3, "row")
        self.feature_dim = 8

    def forward(self, images):
        x = self.net["stem"](images)
        x = x + self.drop_path(self.net["block"](x))
        return nn.functional.dropout(x.mean(dim=(2, 3)), 0.1, self.training)


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

    def double(self):
        """Continues in float64."""
        compute_in(self.parts, torch.float64)
        return self

    def fit(self, **callbacks):
        fit(self.parts, self.folder, **callbacks)
        return self.state
