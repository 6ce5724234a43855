"""An index of images together with its model, for the commands ``index``, ``search`` and ``serve``."""

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from pyg_bgformer.data.image_files import image_files, is_image
from pyg_bgformer.data.images import ImageError
from pyg_bgformer.deploy.embedding_model import EmbeddingModel
from pyg_bgformer.deploy.index import INDEX, MODEL, Hits, SearchIndex
from pyg_bgformer.deploy.inputs import Images
from pyg_bgformer.deploy.vectors import Vectors
from pyg_bgformer.errors import InputError
from pyg_bgformer.files import partial_path, remove_stale_partials
from pyg_bgformer.geometry import Sphere

ROWS = 2**14
"""Number of images that are embedded before their vectors are written."""

Progress = Callable[[int, int], None]
"""Called with the number of embedded images and the number of all images."""


def find_images(places: Sequence[str | Path], bad: list[ImageError] | None = None) -> list[str]:
    """Returns the absolute paths of images without repetition.

    Args:
        places: Image files and folders of images. Subfolders are included.
        bad: Entries of folders that cannot be read are left out, and their errors are appended to this list. With
            ``None``, the first error is raised.

    Raises:
        InputError: If a file or folder does not exist, a file is not an image, a folder has no image, or an entry
            cannot be read (see ``bad``).
    """
    found: dict[str, None] = {}
    for place in places:
        path = Path(os.path.abspath(Path(place).expanduser()))
        if path.is_dir():
            images = [str(path / image) for image in image_files(path, bad).images]
            if not images:
                raise InputError(f"{place}: found no images in this folder, expected at least 1")
        elif not path.exists():
            raise InputError(f"{place}: there is no such file or folder")
        elif is_image(str(path)):
            images = [str(path)]
        else:
            raise InputError(
                f"{place}: found a file whose name is not that of an image, expected a photo or a folder of photos"
            )
        found.update(dict.fromkeys(images))
    return with_unicode_names(list(found), bad)


def with_unicode_names(paths: Sequence[str], bad: list[ImageError] | None) -> list[str]:
    """Returns the paths that are valid UTF-8. Other paths can be neither written nor printed.

    Args:
        paths: The paths.
        bad: An error for each other path is appended to this list. With ``None``, the first error is raised.

    Raises:
        ImageError: If a path is not valid UTF-8 and ``bad`` is ``None``.
    """
    found = []
    for path in paths:
        if any("\ud800" <= sign <= "\udfff" for sign in path):
            error = ImageError(f"{path!a}: its name is not UTF-8; rename it")
            if bad is None:
                raise error
            bad.append(error)
        else:
            found.append(path)
    return found


class ImageIndex:
    """An index of images and the model that embeds queries.

    >>> index = ImageIndex("shop.index")                    # doctest: +SKIP
    >>> index.search(["owl.jpg", "wren.jpg"], k=5).names     # doctest: +SKIP

    The index has a copy of its model in its folder ``model/``. The names in the index are absolute paths of images.

    Args:
        folder: Folder of the index, from :meth:`create`.
        model: The model, or the folder or name of it, if the index has no copy. It must be the model that embedded
            the images.

    Attributes:
        vectors: The names and vectors, a :class:`SearchIndex`.
        model: The model.

    Raises:
        InputError: If there is no index, it is damaged, or it was made with another model.
    """

    def __init__(self, folder: str | Path, model: EmbeddingModel | str | Path | None = None) -> None:
        folder = Path(folder).expanduser()
        self.vectors = SearchIndex(folder)
        if model is None and not (folder / MODEL).is_dir():
            raise InputError(f"{folder} has no copy of its model; give the model with --model")
        place = folder / MODEL if model is None else model
        self.model = place if isinstance(place, EmbeddingModel) else EmbeddingModel.from_pretrained(place)
        expected, found = self.vectors.contents.model, self.model.sha256
        if found != expected:
            raise InputError(
                f"{folder} has vectors of the model {expected[:12]}, found the model {found[:12]}: "
                "vectors of two models cannot be compared; use the model of the index or make a new index"
            )
        self.vectors.similarity = (
            None if isinstance(self.model.geometry, Sphere) else self.model.geometry.similarity
        )

    @classmethod
    def create(
        cls,
        folder: str | Path,
        model: EmbeddingModel,
        images: Sequence[str] | Vectors,
        *,
        batch_size: int = 64,
        device: str | torch.device | None = None,
        bad: list[ImageError] | None = None,
        progress: Progress | None = None,
    ) -> "ImageIndex":
        """Embeds images, writes an index of them and returns it. Its folder appears when it is complete.

        Args:
            folder: Folder of the index. It must not exist.
            model: The model. The index gets a copy.
            images: Paths of images from :func:`find_images`, or embeddings of images by the same model.
            batch_size: Number of images that the model sees at a time, from 1.
            device: The device to compute on. ``None`` does not move the model.
            bad: Images that cannot be read are left out, and their errors are appended to this list. With ``None``,
                the first error is raised.
            progress: Called after each batch with the number of embedded images and the number of all images.

        Raises:
            InputError: If the folder exists or cannot be written, an image cannot be read, no image can be read, or
                embeddings are from another model.
        """
        folder = Path(folder).expanduser()
        if folder.exists():
            what = (
                "add to it with --add, or choose"
                if (folder / INDEX).is_file()
                else "it is not an index; choose"
            )
            raise InputError(f"{folder} exists already; {what} another name")
        unfinished = partial_path(folder)
        try:
            unfinished.mkdir(parents=True)
            remove_stale_partials(folder.parent)
            place = unfinished / folder.name
            SearchIndex.create(place, model.sha256, model.dim)
            model.save_pretrained(place / MODEL)
            made = cls(place, model)
            made.add(images, batch_size=batch_size, device=device, bad=bad, progress=progress)
            if not len(made):
                raise InputError(f"none of the images can be read: {bad[0] if bad else 'there are none'}")
            place.rename(folder)
        except OSError as error:
            raise InputError(f"index {folder} cannot be made: {error.strerror}") from error
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
        return cls(folder, model)

    def __len__(self) -> int:
        return len(self.vectors)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.vectors.folder}, {len(self):,} images, {self.model!r})"

    def missing(self, images: Sequence[str]) -> list[str]:
        """Returns the paths that the index does not have.

        Args:
            images: Paths from :func:`find_images`.
        """
        known = set(self.vectors.names)
        return [image for image in images if image not in known]

    def add(
        self,
        images: Sequence[str] | Vectors,
        *,
        batch_size: int = 64,
        device: str | torch.device | None = None,
        bad: list[ImageError] | None = None,
        progress: Progress | None = None,
    ) -> int:
        """Embeds and adds the images that the index does not have.

        Several processes may add images at the same time. If this call is interrupted, the images that it has
        written stay. The same call then adds the others.

        Args:
            images: Paths of images from :func:`find_images`, or embeddings of images by the same model.
            batch_size: Number of images that the model sees at a time, from 1.
            device: The device to compute on. ``None`` does not move the model.
            bad: Images that cannot be read are left out, and their errors are appended to this list. With ``None``,
                the first error is raised.
            progress: Called after each batch with the number of embedded images and the number of all images.

        Returns:
            The number of added images.

        Raises:
            InputError: If an image cannot be read, embeddings are from another model, or the index cannot be
                written.
        """
        added = 0
        if isinstance(images, Vectors):
            vectors = torch.from_numpy(images.vectors)
            for rows in torch.arange(len(images)).split(ROWS):
                names = [images.paths[row] for row in rows.tolist()]
                added += self.vectors.add(names, vectors[rows], images.model, only_new=True)
            return added
        new = self.missing(images)
        for first in range(0, len(new), ROWS):
            part, names, embedded = new[first : first + ROWS], [], []
            for positions, embeddings in self.model.embed_batches(
                part, batch_size=batch_size, device=device, bad=bad
            ):
                names += [part[position] for position in positions]
                embedded.append(embeddings)
                if progress is not None:
                    progress(first + positions[-1] + 1, len(new))
            if names:
                added += self.vectors.add(
                    names, torch.cat(embedded), self.vectors.contents.model, only_new=True
                )
        return added

    def search(self, images: Images, k: int = 8, *, exact: bool = False) -> Hits:
        """Returns the most similar images of the index for each query.

        Args:
            images: The queries, see :meth:`EmbeddingModel.embed`.
            k: Number of neighbours of each query, from 1 to the number of images in the index.
            exact: Compare with every image, even if there is an approximate index.

        Raises:
            InputError: If a query cannot be read, the index is empty, or ``k`` is out of range.
        """
        self.vectors.check_k(k)
        return self.vectors.search(self.model.embed(images), k, exact=exact)
