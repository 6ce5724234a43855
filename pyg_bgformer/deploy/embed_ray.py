"""Embedding by Ray Data: the machines of a cluster share the images."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from pyg_bgformer.data.images import ImageError
from pyg_bgformer.deploy.embedding_model import EmbeddingModel
from pyg_bgformer.deploy.shards import Shards, embed_pending
from pyg_bgformer.errors import InputError, one_line

RAY_SHARD = 1024
"""Images of a shard, which one process embeds at a time."""


def embed_by_ray(
    model: EmbeddingModel,
    paths: Sequence[str],
    shards: Shards,
    bad: list[ImageError] | None,
    tell: Callable[[int], None],
    workers: int,
    options: dict[str, Any],
) -> None:
    """Embeds images by ``ray.data.Dataset.map_batches``; each process writes its shards itself.

    A running cluster is used where the environment names one, else Ray starts on this machine.

    Args:
        model: A copy is written beside the shards, where all machines must see it.
        paths: The images, on a file system that all machines see.
        shards: Where vectors go.
        bad: Receives the errors of images that cannot be read; ``None``: the first one is raised.
        tell: Called with the number of images that are done.
        workers: Number of processes that hold a model.
        options: ``batch_size``, ``device`` and ``workers`` of :meth:`EmbeddingModel.embed_batches`.

    Raises:
        InputError: If Ray is not installed, an image cannot be read, or a shard cannot be written.
    """
    try:
        import ray
    except ImportError as error:
        raise InputError("the engine ray needs Ray Data: pip install 'pyg-bgformer[ray]'") from error
    if not paths:
        return
    model.save_pretrained(shards.folder / "model")
    ray.data.DataContext.get_current().enable_progress_bars = False
    items = [
        {"name": f"{number:06d}-{uuid4().hex[:8]}", "paths": list(paths[first : first + RAY_SHARD])}
        for number, first in enumerate(range(0, len(paths), RAY_SHARD))
    ]
    work = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
        ShardEmbedder,
        fn_constructor_args=(str(shards.out.absolute()), shards.model, bad is not None, options),
        batch_size=1,
        concurrency=workers,
        num_gpus=1 if (options["device"] or "").startswith("cuda") else 0,
    )
    done = 0
    for row in work.iter_rows():
        if row["error"]:
            raise InputError(row["error"])
        if bad is not None:
            bad += [ImageError(line) for line in row["bad"]]
        done += int(row["images"])
        tell(done)


class ShardEmbedder:
    """Embeds shards in a process of Ray; it loads the model once.

    Args:
        out: Where all vectors go.
        model: Hash of the model.
        skip_bad: Leave out images that cannot be read.
        options: See :func:`embed_by_ray`.
    """

    def __init__(self, out: str, model: str, skip_bad: bool, options: dict[str, Any]) -> None:
        self.shards = Shards(Path(out), model, by_ray=True)
        self.model = EmbeddingModel.from_pretrained(self.shards.folder / "model")
        self.skip_bad = skip_bad
        self.options = options

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        """Writes the shard of each row and returns how many images each had, and what went wrong.

        Args:
            batch: ``name`` and ``paths`` of each shard.
        """
        results: dict[str, list[Any]] = {"images": [], "bad": [], "error": []}
        for name, paths in zip(batch["name"], batch["paths"], strict=True):
            bad: list[ImageError] | None = [] if self.skip_bad else None
            error = self.embed_shard(str(name), [str(path) for path in paths], bad)
            results["images"].append(len(paths))
            results["bad"].append([str(line) for line in bad or []])
            results["error"].append(error)
        return results

    def embed_shard(self, name: str, paths: list[str], bad: list[ImageError] | None) -> str:
        """Embeds the images of a shard and writes it; returns what went wrong, nothing if all went well.

        Args:
            name: Of the shard.
            paths: The images.
            bad: Receives the errors of images that cannot be read; ``None``: the first one is returned.
        """
        try:
            embed_pending(self.model, paths, self.shards, bad, lambda _: None, self.options, name)
        except InputError as error:
            return one_line(error)
        return ""
