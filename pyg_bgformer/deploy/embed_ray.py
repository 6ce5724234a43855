"""Embedding on the machines of a cluster with Ray Data."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from pyg_bgformer.data.images import ImageError
from pyg_bgformer.deploy.embedding_model import EmbeddingModel
from pyg_bgformer.deploy.shards import Shards, embed_pending
from pyg_bgformer.errors import InputError, one_line

RAY_SHARD = 1024
"""Number of images in a shard. A process embeds one shard at a time."""


def embed_by_ray(
    model: EmbeddingModel,
    paths: Sequence[str],
    shards: Shards,
    bad: list[ImageError] | None,
    tell: Callable[[int], None],
    workers: int,
    options: dict[str, Any],
) -> None:
    """Embeds images with ``ray.data.Dataset.map_batches``. Each process writes its own shards.

    Ray uses a running cluster if the environment names one. Otherwise it starts on this machine.

    Args:
        model: The model. A copy is written beside the shards. All machines must see that folder.
        paths: The images, on a file system that all machines see.
        shards: The files of vectors.
        bad: Images that cannot be read are left out, and their errors are appended to this list. With ``None``, the
            first error is raised.
        tell: Called with the number of images that are done.
        workers: Number of processes. Each has a copy of the model.
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
    """Embeds shards in a process of Ray. It loads the model once.

    Args:
        out: The final folder of all vectors.
        model: SHA-256 of the model.
        skip_bad: Leave out images that cannot be read.
        options: See :func:`embed_by_ray`.
    """

    def __init__(self, out: str, model: str, skip_bad: bool, options: dict[str, Any]) -> None:
        self.shards = Shards(Path(out), model, by_ray=True)
        self.model = EmbeddingModel.from_pretrained(self.shards.folder / "model")
        self.skip_bad = skip_bad
        self.options = options

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        """Writes the shard of each row of a batch.

        Args:
            batch: ``name`` and ``paths`` of each shard.

        Returns:
            For each shard ``images``, its number of images; ``bad``, the errors of images that were left out; and
            ``error``, the error that stopped it, or an empty text.
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
        """Embeds the images of a shard and writes it. Returns the error, or an empty text.

        Args:
            name: Name of the shard.
            paths: The images.
            bad: Images that cannot be read are left out, and their errors are appended to this list. With ``None``,
                the first error is returned.
        """
        try:
            embed_pending(self.model, paths, self.shards, bad, lambda _: None, self.options, name)
        except InputError as error:
            return one_line(error)
        return ""
