"""The base of all datasets: a table of images with labels and splits, and the way to an image."""

import hashlib
import os
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd
from PIL import Image

from pyg_bgformer.data.boxes import BOX, cut_box
from pyg_bgformer.data.datasets.verification import Coverage, SplitCount, Verification, count_lines
from pyg_bgformer.data.decoding import failures
from pyg_bgformer.data.images import ImageError, decode_rgb
from pyg_bgformer.errors import InputError

#: The splits that exist, in the order in which their classes are numbered.
SPLITS = ("train", "test", "query", "gallery")


class ImageDataset:
    """Images with class labels, split by class into train and test (or train, query and gallery).

    Args:
        name: Official name; goes into :attr:`manifest_hash`.
        records: One mapping for each image with the keys ``path`` (relative to ``root``, with ``/``),
            ``original_class``, ``split`` and, where there are such, ``super_class`` and ``box`` (to which the
            image is cut, see :data:`pyg_bgformer.data.boxes.BOX`). Rows keep this order.
        root: Folder of the images, or ``None`` when they come with a library.
        expected: Official counts by split; leave out where there are none.
        notes: What the reader of the folder noticed: one-line problems for :meth:`verify`.

    Attributes:
        versions (dict): Versions of programs that made the images, where they are not files.
        single_images (bool): Whether classes of one image are no fault, as the official training part has some.
        table (pandas.DataFrame): Columns ``path``, ``label`` (int64, 0..C-1 over all classes, train classes
            first, in the order of ``records``), ``original_class``, ``split``, perhaps ``super_class``, ``box``;
            the index is the *row* by which everything else refers to an image.
    """

    single_images = False

    def __init__(
        self,
        name: str,
        records: Iterable[Mapping[str, str]],
        *,
        root: Path | None = None,
        expected: Mapping[str, SplitCount] | None = None,
        notes: Iterable[str] = (),
    ) -> None:
        self.name = name
        self.root = root
        self.expected = dict(expected or {})
        self.notes = list(notes)
        self.versions: dict[str, str] = {}
        self.table = _table(records)
        self._paths: list[str] = self.table["path"].tolist()
        self._boxes: list[str] | None = self.table[BOX].tolist() if self.cropped else None

    def __len__(self) -> int:
        return len(self.table)

    def __repr__(self) -> str:
        counts = ", ".join(f"{split} {count.images}" for split, count in self.counts().items())
        return f"{type(self).__name__}({counts})"

    @property
    def where(self) -> str:
        """The folder of the images, or a word for where they come from."""
        return str(self.root) if self.root is not None else "bundled"

    @property
    def partial(self) -> bool:
        """Whether the counts differ from the official ones (never where there are none)."""
        return bool(self.expected) and self.counts() != self.expected

    @property
    def cropped(self) -> bool:
        """Whether images are cut to annotated boxes."""
        return BOX in self.table

    @property
    def manifest_hash(self) -> str:
        """SHA-256 over the name and the table: what is in the dataset, wherever its folder is."""
        digest = hashlib.sha256(f"{self.name}\n".encode())
        columns = sorted(self.table.columns)
        digest.update("\t".join(columns).encode() + b"\n")
        for values in self.table[columns].itertuples(index=False):
            # File systems differ in how they compose accents; the manifest does not.
            line = unicodedata.normalize("NFC", "\t".join(map(str, values))) + "\n"
            digest.update(line.encode(errors="surrogateescape"))
        return digest.hexdigest()

    def source_stamp(self) -> str:
        """SHA-256 over size and time of change of the files: differs when an image was replaced.

        Raises:
            ImageError: A file is not there any more.
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
        """The files that the images are read from."""
        return () if self.root is None else (os.path.join(self.root, path) for path in self._paths)

    def counts(self) -> dict[str, SplitCount]:
        """Number of classes and images of each split that the dataset has."""
        groups = self.table.groupby("split", sort=False)["label"]
        found = {str(split): SplitCount(labels.nunique(), len(labels)) for split, labels in groups}
        return {split: found[split] for split in SPLITS if split in found}

    def coverage(self) -> dict[str, Coverage]:
        """How many images the classes of each split have."""
        labels = self.table["label"].to_numpy()
        return {
            split: Coverage.of(np.unique(labels[self.rows(split)], return_counts=True)[1])
            for split in self.counts()
        }

    def rows(self, split: str) -> np.ndarray:
        """Rows of a split, ascending, int64 of shape ``(number of its images,)``.

        Raises:
            InputError: The dataset has no such split.
        """
        if split not in (known := self.counts()):
            raise InputError(f"{self.name} has no split '{split}'; it has: {', '.join(known)}")
        return np.flatnonzero((self.table["split"] == split).to_numpy())

    def file(self, row: int) -> str:
        """How the image of a row is called in messages."""
        return str(self.root / self._paths[row]) if self.root is not None else self._paths[row]

    def open(self, row: int) -> BinaryIO:
        """The encoded image of a row as a binary stream; where images are not files, override."""
        return open(self.file(row), "rb")

    def image(self, row: int) -> Image.Image:
        """The image of a row: 8-bit RGB, upright, transparency over white, perhaps cut to its box.

        Raises:
            ImageError: The file is missing, empty, damaged or no image, or its box is outside of it (the message
                names it).
        """
        where = self.file(row)
        try:
            stream = self.open(row)
        except OSError as error:
            raise ImageError(f"{where}: cannot be opened ({error.strerror or error})") from None
        with stream:
            image = decode_rgb(stream, where)
        return image if self._boxes is None else cut_box(image, self._boxes[row], where)

    def faults(self) -> list[str]:
        """One line for each thing for which nothing can be trained or tested; none in a sound dataset.

        They are: a split of fewer than two classes, a class of one image, a class both in train and in test,
        an image that is listed twice, a query whose class has no gallery image.
        """
        lines = [f"class '{name}' is both in train and in test" for name in self._shared_classes()]
        twice = self.table.loc[self.table["path"].duplicated(), "path"]
        lines += [f"the image '{path}' is listed twice; expected each image once" for path in twice]
        lines += [
            f"the query item '{name}' has no image in the gallery; add one, or remove its queries"
            for name in self._without_gallery()
        ]
        splits = self.counts()
        for split in ["train"] if "query" in splits else ["train", "test"]:
            lines += self._too_small(split, splits.get(split, SplitCount(0, 0)).classes)
        return lines

    def verify(self, decode: bool = True, workers: int | None = None) -> Verification:
        """Compare with the official dataset, prove the splits class-disjoint, decode every image.

        Args:
            decode: Whether to decode every image.
            workers: Processes that decode; 0 decodes in this one, ``None`` takes one for each CPU.
        """
        damaged = failures(self, workers) if decode else []
        return Verification(
            name=self.name,
            where=self.where,
            found=self.counts(),
            expected=self.expected,
            decoded=len(self) - len(damaged) if decode else None,
            coverage=self.coverage(),
            shared_classes=self._shared_classes(),
            problems=[*self._missing(), *self.notes, *self.faults(), *damaged],
        )

    def _missing(self) -> list[str]:
        """One line when the counts are not the official ones."""
        in_all = count_lines(self.counts(), self.expected)[0]
        return [f"not the official dataset; {in_all}"] if self.partial else []

    def _shared_classes(self) -> tuple[str, ...]:
        train = self.table["split"] == "train"
        classes = self.table["original_class"]
        return tuple(sorted(set(classes[train]) & set(classes[~train])))

    def _without_gallery(self) -> list[str]:
        classes, split = self.table["original_class"], self.table["split"]
        return sorted(set(classes[split == "query"]) - set(classes[split == "gallery"]))

    def _too_small(self, split: str, classes: int) -> list[str]:
        if classes < 2:
            return [f"{split} has {classes} of the at least 2 classes that are needed"]
        if self.single_images:
            return []
        sizes = self.table.loc[self.table["split"] == split, "original_class"].value_counts(sort=False)
        return [
            f"class '{name}' ({split}) has one image; add images, or remove the class"
            for name in sizes.index[sizes < 2]
        ]


def _table(records: Iterable[Mapping[str, str]]) -> pd.DataFrame:
    table = pd.DataFrame(list(records))
    if table.empty:
        table = pd.DataFrame({"path": [], "original_class": [], "split": []}, dtype=str)
    # query and gallery hold the same classes, so a class takes the number of the first split it is in
    order = table["split"].map(SPLITS.index).argsort(kind="stable")
    classes = pd.unique(table["original_class"].iloc[order])
    numbers = {name: number for number, name in enumerate(classes)}
    table.insert(1, "label", table["original_class"].map(numbers).astype("int64"))
    return table
