from dataclasses import replace

import pytest
from rich.console import Console

from pyg_bgformer.config.recipe import read_config
from pyg_bgformer.report.progress import Display


@pytest.fixture
def tiny(tmp_path):
    """A configuration of two short epochs on digits, with everything random switched on."""
    config = read_config(
        [
            *("--method.name", "bgformer", "--method.dropout", "0.1"),
            *("--sampler.classes", "5", "--sampler.samples", "4", "--sampler.batches_per_epoch", "3"),
            *("--encoder.embedding_dim", "16", "--train.epochs", "2", "--train.schedule", "cosine"),
            *("--data.image_size", "16", "--data.resize", "16", "--data.workers", "0"),
        ]
    )
    return replace(config, runs=str(tmp_path / "runs"), data=replace(config.data, cache=None))


@pytest.fixture
def display(tmp_path):
    """Writes to ``screen.txt`` in the test's folder."""
    with (tmp_path / "screen.txt").open("w") as screen:
        yield Display(Console(file=screen, width=100))
