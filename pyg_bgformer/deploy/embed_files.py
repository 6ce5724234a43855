"""Embeds image files and writes one file of vectors. Interrupted work can be resumed."""

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
    """The outcome of :func:`embed_files`.

    Attributes:
        out: The file of vectors.
        images: Number of images in it.
        reused: Number of these images that an interrupted earlier call had embedded.
        bad: One error for each image that was left out.
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
    """Embeds image files, and writes their paths and vectors to one file.

    Until all images are embedded, the vectors are in the folder ``.<name>.shards`` beside the file. After an
    interruption, the same call reuses them. Images that have changed since are embedded again.

    >>> embed_files("runs/folder-bgformer-seed0", ["photos"], "vectors.parquet")  # doctest: +SKIP

    Args:
        model: A model, or a name for :func:`~pyg_bgformer.deploy.load_model.load_model`.
        images: Image files and folders of images. Subfolders are included.
        out: A ``.parquet``, ``.npz`` or ``.csv`` file. An existing file is replaced. With the engine ``"ray"``,
            this becomes a folder of parquet files. Its name ends in ``.parquet``. It must not exist.
        skip_bad: Leave out images that cannot be read.
        batch_size: Number of images that the model sees at a time, from 1.
        device: The device to compute on, for example ``"cuda"``. ``None`` does not move the model.
        workers: Number of threads that read images. 0 uses no threads, ``None`` one for each CPU.
        progress: Called with the number of images that are done and the number of all images.
        engine: ``"ray"`` uses the machines of a Ray cluster. All of them must see the files.
        ray_workers: Number of Ray processes. Each has a copy of the model.

    Raises:
        InputError: If there is no such model or image, an image cannot be read, the file cannot be written, or
            another process writes it.
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
    """Raises an error if vectors cannot be written to a file. This is checked before images are embedded.

    Args:
        out: The file.
        engine: See :func:`embed_files`.

    Raises:
        InputError: If its ending is unknown, a library for it is missing, its folder is missing, or it is a folder.
            With ``"ray"``, also if it exists or does not end in ``.parquet``.
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
