"""Reports that compare the folder of a dataset with what its authors published."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

SAMPLES_PER_CLASS = (2, 4, 5, 8, 16)
"""Numbers of images per class for which a report counts the classes with fewer images."""


@dataclass(frozen=True)
class SplitCount:
    """Number of classes and images in one split."""

    classes: int
    images: int


@dataclass(frozen=True)
class Coverage:
    """How many images the classes of a split have.

    Attributes:
        smallest: Images of the smallest class.
        median: Median of the images per class.
        largest: Images of the largest class.
        below: For each K, the number of classes with fewer than K images. Batches with K images of each class
            repeat images of these classes.
    """

    smallest: int
    median: float
    largest: int
    below: Mapping[int, int]

    @classmethod
    def of(cls, sizes: np.ndarray) -> "Coverage":
        """Returns the coverage of classes of the given sizes, shape ``(classes,)``."""
        below = {k: int((sizes < k).sum()) for k in SAMPLES_PER_CLASS}
        return cls(int(sizes.min()), float(np.median(sizes)), int(sizes.max()), below)

    def __str__(self) -> str:
        span = f"{self.smallest:,} to {self.largest:,} images per class, median {self.median:,g}"
        few = [f"{classes:,} (K = {k})" for k, classes in self.below.items() if classes]
        return f"{span}; classes with fewer than K images: {', '.join(few) or f'none up to K = {max(self.below)}'}"


@dataclass(frozen=True)
class Verification:
    """The result of :meth:`ImageDataset.verify`. ``str()`` makes a readable report of it.

    Attributes:
        name: The dataset's name.
        where: Its folder, or ``bundled``.
        found: Numbers of classes and images, by split.
        expected: The official numbers by split; empty if there are none.
        decoded: Number of images that decoded to RGB, or ``None`` if they were not decoded.
        coverage: Images per class, by split.
        shared_classes: Classes in two of train, val and test. A sound dataset has none, except a user's folder that
            tests its trained classes.
        problems: One line for each thing that is wrong.
        notes: One line for each other thing that a user should know.
    """

    name: str
    where: str
    found: Mapping[str, SplitCount]
    expected: Mapping[str, SplitCount]
    decoded: int | None
    coverage: Mapping[str, Coverage] = field(default_factory=dict)
    shared_classes: tuple[str, ...] = ()
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Returns whether there are no problems."""
        return not self.problems

    def __str__(self) -> str:
        lines = [f"{self.name} ({self.where}): {'complete' if self.ok else 'NOT as expected'}"]
        lines += [f"  {line}" for line in count_lines(self.found, self.expected)]
        lines += [f"  {split}: {coverage}" for split, coverage in self.coverage.items()]
        shared = ", ".join(self.shared_classes[:5])
        lines.append(f"  train and test share {f'classes: {shared}' if shared else 'no class'}")
        if self.decoded is not None:
            images = total(self.found).images
            every = "every" if self.decoded == images else "NOT every"
            lines.append(f"  {every} image decodes to RGB ({self.decoded:,} of {images:,})")
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(lines + [f"  problem: {problem}" for problem in self.problems])


def count_lines(found: Mapping[str, SplitCount], expected: Mapping[str, SplitCount]) -> list[str]:
    """Returns a line for the numbers in all, and one for each split: what was found, of what was expected.

    >>> count_lines({"train": SplitCount(2, 10)}, {"train": SplitCount(3, 1500)})
    ['in all: 2 of 3 classes, 10 of 1,500 images', 'train: 2 of 3 classes, 10 of 1,500 images']
    """
    splits = list(dict.fromkeys([*expected, *found]))
    rows = [("in all", total(found), total(expected) if expected else None)]
    rows += [(split, found.get(split, SplitCount(0, 0)), expected.get(split)) for split in splits]
    return [f"{split}: {_of(have, want)}" for split, have, want in rows]


def total(counts: Mapping[str, SplitCount]) -> SplitCount:
    """Returns the sum over splits. Query and gallery have the same classes, which count once."""
    classes = [count.classes for split, count in counts.items() if split != "gallery"]
    return SplitCount(sum(classes), sum(count.images for count in counts.values()))


def _of(have: SplitCount, want: SplitCount | None) -> str:
    if want is None:
        return f"{have.classes:,} classes, {have.images:,} images"
    return f"{have.classes:,} of {want.classes:,} classes, {have.images:,} of {want.images:,} images"
