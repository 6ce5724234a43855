"""Short runs on digits, carried out to their end."""

from rich.console import Console

from pyg_bgformer.config.recipe import read_config
from pyg_bgformer.engine.run import run
from pyg_bgformer.report.progress import Display

RECIPE = (
    *("--sampler.classes", "5", "--sampler.samples", "4", "--sampler.batches_per_epoch", "3"),
    *("--encoder.embedding_dim", "16", "--train.epochs", "2", "--data.workers", "0"),
    *("--data.image_size", "16", "--data.resize", "16", "--data.cache", "null"),
)


def finished(folder, *arguments):
    """The folder of a short run on digits."""
    with (folder / "screen.txt").open("w") as screen:
        config = read_config([*RECIPE, "--runs", str(folder), *arguments])
        return run(config, Display(Console(file=screen)))
