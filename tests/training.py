"""A training as a new process would set it up."""

import torch

from pyg_bgformer.engine.loop import fit
from pyg_bgformer.engine.optim import build_optimizer, build_schedule
from pyg_bgformer.engine.setup import (
    build_dataset,
    build_fabric,
    build_method,
    build_sampler,
    build_train_loader,
)
from pyg_bgformer.engine.state import TrainState
from pyg_bgformer.runs.folder import RunFolder


class Training:
    """Everything :func:`fit` needs, made anew as a new process would."""

    def __init__(self, config, folder):
        self.config, self.folder = config, folder
        self.fabric = build_fabric(config)
        torch.manual_seed(config.seed)
        dataset = build_dataset(config)
        self.sampler = build_sampler(config, dataset)
        method = build_method(config, num_classes=dataset.counts()["train"].classes)
        loader = build_train_loader(config, dataset, method.encoder, self.sampler, None)
        self.loader = self.fabric.setup_dataloaders(loader)
        _, optimizer = self.fabric.setup(method, build_optimizer(method, config.train))
        self.state = TrainState(method, optimizer, build_schedule(optimizer, config.train))

    def fit(self, **callbacks):
        fit(
            self.fabric,
            self.state,
            self.loader,
            self.sampler,
            self.config,
            RunFolder(self.folder),
            **callbacks,
        )
        return self.state
