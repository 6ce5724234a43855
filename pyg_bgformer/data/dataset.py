"""The base of all datasets: a table of images with labels and splits, and how an image is read."""

import copy
import hashlib
import os
import unicodedata
from collections.abc import Iterable, Mapping
from itertools import combinations
from pathlib import Path
from typing import BinaryIO, Literal, Self

import numpy as np
import pandas as pd
from PIL import Image

from pyg_bgformer.data.decoding import failures
from pyg_bgformer.data.image_files import open_image, some
from pyg_bgformer.data.images import Box, ImageError, crop_to_box, decode_rgb
from pyg_bgformer.data.verification import Coverage, SplitCount, Verification, count_lines
from pyg_bgformer.errors import InputError

SPLITS = ("train", "val", "test", "query", "gallery")
"""The splits that exist, in the order in which their classes are numbered."""

UNUSED = "unused"
"""Split of images that are neither trained on nor tested. It is not in :data:`SPLITS`, so nothing loads it."""

Tested = Literal["unseen classes", "seen classes", "training images", "test classes"]
"""What is tested: classes that are not trained on, other images of trained classes, the training images themselves,
or a dataset without training images, whose classes the encoder may have seen."""


class ImageDataset:
    """Images with class labels in the splits train and test, or train, query and gallery, and perhaps val.

    Args:
        name: Official name. It is part of :attr:`manifest_hash`.
        records: A mapping for each image with the keys ``path`` (relative to ``root``, with ``/``),
            ``original_class``, ``split`` and optionally ``super_class`` and ``box`` (a
            :data:`~pyg_bgformer.data.images.Box` to which the image is cropped). Rows keep this order.
        root: Folder of the images, or ``None`` for images that come with a library.
        files: For a ``path`` whose file has another name: the file, relative to ``root``.
        expected: Official counts by split, if there are any.
        problems: What is wrong with the folder, one line each, for :meth:`verify`.
        notes: What else a user should know about the folder, one line each.

    Attributes:
        versions (dict): Versions of the programs that made the images, if the images are not files.
        single_images (bool): Whether classes of one image are allowed. Some official training parts have them.
        official (bool): Whether the dataset's authors fixed the splits. Then train and test share no class.
        table (pandas.DataFrame): Columns ``path``, ``label`` (int64, from 0 over all classes, those of train
            first), ``original_class``, ``split``, and perhaps ``super_class`` and ``box``. The index is the *row*
            by which everything else refers to an image.
    """

    single_images = False
    official = True

    def __init__(
        self,
        name: str,
        records: Iterable[Mapping[str, str | Box]],
        *,
        root: Path | None = None,
        files: Mapping[str, str] | None = None,
        expected: Mapping[str, SplitCount] | None = None,
        problems: Iterable[str] = (),
        notes: Iterable[str] = (),
    ) -> None:
        self.name = name
        self.root = root
        self.files = {path: file for path, file in (files or {}).items() if path != file}
        self.expected = dict(expected or {})
        self.problems = list(problems)
        self.notes = list(notes)
        self.versions: dict[str, str] = {}
        table = pd.DataFrame(list(records))
        if table.empty:
            table = pd.DataFrame({"path": [], "original_class": [], "split": []}, dtype=str)
        self._use(with_labels(table))

    def _use(self, table: pd.DataFrame) -> None:
        self.table = table
        # Lists: it is slow to read single cells of a table.
        self._paths: list[str] = [self.files.get(path, path) for path in table["path"]]
        self._boxes: list[Box] | None = table["box"].tolist() if self.cropped else None

    def with_table(self, table: pd.DataFrame, *, expected: Mapping[str, SplitCount] | None = None) -> Self:
        """Returns a copy of this dataset with another table: other labels, other splits or fewer images.

        Args:
            table: A table with the columns of :attr:`table`. Its rows are numbered from 0.
            expected: Official counts by split. ``None`` keeps those of this dataset.
        """
        other = copy.copy(self)
        other.expected = dict(self.expected if expected is None else expected)
        other._use(table.reset_index(drop=True))
        return other

    def without_small_classes(self, min_images: int) -> Self:
        """Returns this dataset without its small classes. A note names the classes that are left out.

        Args:
            min_images: Smallest number of images of a class, in all its splits together.
        """
        classes = self.table["original_class"]
        small = classes.map(classes.value_counts()) < min_images
        if not small.any():
            return self
        other = self.with_table(with_labels(self.table[~small].drop(columns="label")))
        names = sorted(set(classes[small]))
        other.notes = [
            *self.notes,
            f"left out, with fewer than {min_images} images: {len(names):,} classes ({some(names)})",
        ]
        return other

    def __len__(self) -> int:
        return len(self.table)

    def __repr__(self) -> str:
        counts = ", ".join(f"{split} {count.images}" for split, count in self.counts().items())
        return f"{type(self).__name__}({counts})"

    @property
    def where(self) -> str:
        """Returns the folder of the images, or ``bundled`` for images that come with a library."""
        return str(self.root) if self.root is not None else "bundled"

    @property
    def partial(self) -> bool:
        """Returns whether the counts differ from the official ones. Without official counts it is False."""
        return bool(self.expected) and self.counts() != self.expected

    @property
    def cropped(self) -> bool:
        """Returns whether images are cropped to annotated boxes."""
        return "box" in self.table

    @property
    def tested(self) -> Tested:
        """Returns what is tested. Only a user's own folder can be tested on anything but unseen classes."""
        split, classes = self.table["split"], self.table["original_class"]
        if self.official or (split == UNUSED).any():
            return "unseen classes"
        if (split == "test").all() and len(split):
            return "test classes"
        if not split.isin(["test", "query"]).any():
            return "training images"
        tested = set(classes[split.isin(["test", "query"])])
        return "seen classes" if tested <= set(classes[split == "train"]) else "unseen classes"

    @property
    def manifest_hash(self) -> str:
        """Returns the SHA-256 of the name and the table. It does not depend on where the folder is."""
        digest = hashlib.sha256(f"{self.name}\n".encode())
        columns = sorted(self.table.columns)
        digest.update("\t".join(columns).encode() + b"\n")
        for values in self.table[columns].itertuples(index=False):
            # File systems differ in the Unicode form of accents. The hash must not.
            line = unicodedata.normalize("NFC", "\t".join(map(str, values))) + "\n"
            digest.update(line.encode(errors="surrogateescape"))
        return digest.hexdigest()

    def source_stamp(self) -> str:
        """Returns the SHA-256 of the sizes and times of change of the files. It changes if an image is replaced.

        Raises:
            ImageError: If a file is missing.
        """
        digest = hashlib.sha256()
        for path in self.source_files():
            try:
                status = os.stat(path)
            except OSError as error:
                raise ImageError(f"{path}: cannot be opened ({error.strerror or error})") from None
            digest.update(f"{status.st_size} {status.st_mtime_ns}\n".encode())
        return digest.hexdigest()

    def source_files(self) -> Iterable[str | Path]:
        """Returns the files from which the images are read."""
        return () if self.root is None else (os.path.join(self.root, path) for path in self._paths)

    def counts(self) -> dict[str, SplitCount]:
        """Returns the numbers of classes and images of each split that the dataset has."""
        groups = self.table.groupby("split", sort=False)["label"]
        found = {str(split): SplitCount(labels.nunique(), len(labels)) for split, labels in groups}
        return {split: found[split] for split in SPLITS if split in found}

    def coverage(self) -> dict[str, Coverage]:
        """Returns for each split how many images its classes have."""
        labels = self.table["label"].to_numpy()
        return {
            split: Coverage.of(np.unique(labels[self.rows(split)], return_counts=True)[1])
            for split in self.counts()
        }

    def rows(self, split: str) -> np.ndarray:
        """Returns the rows of a split, ascending, int64 of shape ``(number of its images,)``.

        Args:
            split: One of :data:`SPLITS`.

        Raises:
            InputError: If the dataset has no such split.
        """
        if split not in (known := self.counts()):
            raise InputError(f"{self.name} has no split '{split}'; it has: {', '.join(known)}")
        return np.flatnonzero((self.table["split"] == split).to_numpy())

    def file(self, row: int) -> str:
        """Returns the name of the image of a row in messages."""
        return str(self.root / self._paths[row]) if self.root is not None else self._paths[row]

    def open(self, row: int) -> BinaryIO:
        """Returns the encoded image of a row as a binary stream. Datasets whose images are not files override this.

        Raises:
            OSError: If it cannot be opened.
            ImageError: If it is not a regular file.
        """
        return open_image(self.file(row))

    def image(self, row: int) -> Image.Image:
        """Returns the image of a row in 8-bit RGB, upright, with transparency laid over white, cropped to its box.

        Raises:
            ImageError: If the file is missing, empty, damaged or no image, or its box is outside the image. The
                message names the file.
        """
        where = self.file(row)
        try:
            stream = self.open(row)
        except OSError as error:
            raise ImageError(f"{where}: cannot be opened ({error.strerror or error})") from None
        with stream:
            image = decode_rgb(stream, where)
        return image if self._boxes is None else crop_to_box(image, self._boxes[row], where)

    def faults(self) -> list[str]:
        """Returns one line for each fault that prevents training or testing. A sound dataset has none.

        Faults are: a split of fewer than two classes; a class of one image; an image that is listed twice; a query
        whose class has no gallery image; a class in two of train, val and test. A user's folder may have all its
        tested classes in train too.
        """
        classes, split = self.table["original_class"], self.table["split"]
        lines = [
            f"class '{name}' is both in {first} and in {second}" for first, second, name in self._shared()
        ]
        twice = self.table.loc[self.table["path"].duplicated(), "path"]
        lines += [f"the image '{path}' is listed twice; expected each image once" for path in twice]
        lines += [
            f"the query item '{name}' has no image in the gallery; add one, or remove its queries"
            for name in sorted(set(classes[split == "query"]) - set(classes[split == "gallery"]))
        ]
        counts = self.counts()
        needed = ["train"] if "query" in counts else ["train", "test"]
        needed = {"training images": ["train"], "test classes": ["test"]}.get(self.tested, needed)
        for part in [*needed, "val"] if "val" in counts else needed:
            sizes = classes[split == part].value_counts(sort=False)
            if len(sizes) < 2:
                lines.append(f"{part} has {len(sizes)} of the at least 2 classes that are needed")
            elif not self.single_images:
                lines += [
                    f"class '{name}' ({part}) has one image; add images, remove the class, or set data.min_images"
                    for name in sizes.index[sizes < 2]
                ]
        return lines

    def verify(self, decode: bool = True, workers: int | None = None) -> Verification:
        """Returns a report: differences from the official dataset, shared classes, and images that do not decode.

        Args:
            decode: Whether to decode every image.
            workers: Number of processes that decode. 0 decodes in this process, ``None`` takes one for each CPU.
        """
        damaged = failures(self, workers) if decode else []
        return Verification(
            name=self.name,
            where=self.where,
            found=self.counts(),
            expected=self.expected,
            decoded=len(self) - len(damaged) if decode else None,
            coverage=self.coverage(),
            shared_classes=tuple(name for *_, name in self._shared(allowed=True)),
            problems=[*self.differences(), *self.problems, *self.faults(), *damaged],
            notes=self.notes,
        )

    def differences(self) -> list[str]:
        """Returns a line if the counts are not the official ones."""
        in_all = count_lines(self.counts(), self.expected)[0]
        return [f"not the official dataset; {in_all}"] if self.partial else []

    def _shared(self, allowed: bool = False) -> list[tuple[str, str, str]]:
        """Returns ``(part, other part, class)`` for each class in two of train, val and test.

        Args:
            allowed: Include what is no fault: the classes of a folder whose tested classes are all trained on.
        """
        seen = not allowed and self.tested == "seen classes"
        parts = self.table["split"].replace({"query": "test", "gallery": "test"})
        classes = {part: set(names) for part, names in self.table["original_class"].groupby(parts)}
        return [
            (first, second, name)
            for first, second in combinations(("train", "val", "test"), 2)
            if not (seen and (first, second) == ("train", "test"))
            for name in sorted(classes.get(first, set()) & classes.get(second, set()))
        ]


def with_labels(table: pd.DataFrame) -> pd.DataFrame:
    """Returns a copy of a table with the column ``label``: its classes numbered from 0, those of train first."""
    # Query and gallery have the same classes. A class is numbered in the first split that has it.
    order = table["split"].map(SPLITS.index).argsort(kind="stable")
    classes = pd.unique(table["original_class"].iloc[order])
    numbers = {name: number for number, name in enumerate(classes)}
    table = table.copy()
    table.insert(1, "label", table["original_class"].map(numbers).astype("int64"))
    return table
