"""Image files to one file of vectors, in which nothing is half-written; interrupted work is continued."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pyg_bgformer.data.images import ImageError
from pyg_bgformer.deploy.embedding_model import EmbeddingModel
from pyg_bgformer.deploy.image_index import find_images
from pyg_bgformer.deploy.load_model import load_model
from pyg_bgformer.deploy.shards import Shards, embed_pending
from pyg_bgformer.deploy.vectors import check_format, stamp
from pyg_bgformer.errors import InputError


class Embedded(NamedTuple):
    """What :func:`embed_files` did.

    Attributes:
        out: The file of vectors.
        images: Number of images in it.
        reused: Number of those that an earlier, interrupted call had embedded.
        bad: Errors of the images that were left out, one line each.
    """

    out: Path
    images: int
    reused: int
    bad: list[ImageError]


def embed_files(
    model: EmbeddingModel | str | Path,
    images: Sequence[str | Path],
    out: str | Path,
    *,
    skip_bad: bool = False,
    batch_size: int = 64,
    device: str | None = None,
    workers: int | None = None,
    progress: Callable[[int, int], None] = lambda *_: None,
    engine: Literal["local", "ray"] = "local",
    ray_workers: int = 2,
) -> Embedded:
    """Embeds image files and writes their paths and vectors to one file.

    Vectors are first kept beside the file, in the folder ``.<name>.shards``. The same call after an interruption
    reuses them, except those of images that were replaced since. When all are there, the file is written at once.

    >>> embed_files("runs/folder-bgformer-seed0", ["photos"], "vectors.parquet")  # doctest: +SKIP

    Args:
        model: A model, or its name as :func:`~pyg_bgformer.deploy.load_model.load_model` takes it.
        images: Image files, and folders of images at any depth.
        out: A ``.parquet``, ``.npz`` or ``.csv`` file; one that exists is replaced. With ``ray``, a folder of that
            name with parquet files, which must not exist.
        skip_bad: Leave out images that cannot be read.
        batch_size: Images that the model sees at a time.
        device: Where to compute, for example ``"cuda"``.
        workers: Threads that read images; ``None``: one for each CPU.
        progress: Called with the number of images that are done and of all.
        engine: ``"ray"`` shares the work among the machines of a Ray cluster, which must all see the files.
        ray_workers: Number of processes of Ray that hold a model.

    Raises:
        InputError: If there is no such model or image, an image cannot be read, or the file cannot be written.
    """
    out = Path(out).expanduser()
    check_out(out, engine)
    bad: list[ImageError] = []
    paths = find_images(images, bad if skip_bad else None)
    loaded = model if isinstance(model, EmbeddingModel) else load_model(model)
    with Shards.opened(out, loaded.sha256, by_ray=engine == "ray") as shards:
        done = shards.embedded()
        pending = [path for path in paths if done.get(path) != stamp(path)]
        reused = len(paths) - len(pending)
        options: dict[str, Any] = {"batch_size": batch_size, "device": device, "workers": workers}

        def tell(finished: int) -> None:
            progress(reused + finished, len(paths))

        if engine == "ray":
            from pyg_bgformer.deploy.embed_ray import embed_by_ray

            embed_by_ray(loaded, pending, shards, bad if skip_bad else None, tell, ray_workers, options)
        else:
            embed_pending(loaded, pending, shards, bad if skip_bad else None, tell, options)
        if not shards.files():
            raise InputError(f"none of the {len(paths):,} images can be read: {bad[0]}")
        images_written = shards.publish(paths) if engine == "ray" else shards.merge(paths)
    return Embedded(out, images_written, reused, bad)


def check_out(out: Path, engine: str) -> None:
    """Refuses a place that vectors cannot be written to, before anything is embedded.

    Args:
        out: The file.
        engine: See :func:`embed_files`.

    Raises:
        InputError: If its ending is unknown, its folder is missing, or it is a folder.
    """
    check_format(out)
    if engine == "ray" and out.suffix != ".parquet":
        raise InputError(f"{out}: expected the ending .parquet with the engine ray")
    if engine == "ray" and out.exists():
        raise InputError(f"{out} exists already; choose another name")
    if out.is_dir():
        raise InputError(f"{out} cannot be written: it is a folder")
    if not out.parent.is_dir():
        raise InputError(f"{out} cannot be written: there is no folder {out.parent}")
