"""What is in a dataset's folder, against what its authors published."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

SAMPLES_PER_CLASS = (2, 4, 5, 8, 16)
"""Images per class that samplers ask for, from pairs to the many of small datasets."""


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
        median: Half of the classes have at most, half at least as many.
        largest: Images of the largest class.
        below: By K, how many classes have fewer than K images: a batch with K of each class repeats some of theirs.
    """

    smallest: int
    median: float
    largest: int
    below: Mapping[int, int]

    @classmethod
    def of(cls, sizes: np.ndarray) -> "Coverage":
        """Returns the coverage of classes of these sizes, shape ``(classes,)``."""
        below = {k: int((sizes < k).sum()) for k in SAMPLES_PER_CLASS}
        return cls(int(sizes.min()), float(np.median(sizes)), int(sizes.max()), below)

    def __str__(self) -> str:
        span = f"{self.smallest:,} to {self.largest:,} images per class, median {self.median:,g}"
        few = [f"{classes:,} (K = {k})" for k, classes in self.below.items() if classes]
        return f"{span}; classes with fewer than K images: {', '.join(few) or f'none up to K = {max(self.below)}'}"


@dataclass(frozen=True)
class Verification:
    """The outcome of :meth:`ImageDataset.verify`; ``str()`` is a readable report.

    Attributes:
        name: The dataset's name.
        where: Its folder, or a word for where its images come from.
        found: Classes and images found, by split.
        expected: The official numbers by split; empty if there are none.
        decoded: How many images decoded to RGB; ``None`` where this was not asked for.
        coverage: Images per class, by split.
        shared_classes: Classes that are both in train and in another split. A sound dataset has none, except a
            user's folder that tests its trained classes.
        problems: One line for each thing that is wrong.
        notes: One line for each thing that a user should know and is not wrong.
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
        """Returns whether nothing is wrong: complete, class-disjoint and, where asked for, all images decode."""
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
    """Returns what is found against what is expected, first in all and then by split, a line each.

    >>> count_lines({"train": SplitCount(2, 10)}, {"train": SplitCount(3, 1500)})
    ['in all: 2 of 3 classes, 10 of 1,500 images', 'train: 2 of 3 classes, 10 of 1,500 images']
    """
    splits = list(dict.fromkeys([*expected, *found]))
    rows = [("in all", total(found), total(expected) if expected else None)]
    rows += [(split, found.get(split, SplitCount(0, 0)), expected.get(split)) for split in splits]
    return [f"{split}: {_of(have, want)}" for split, have, want in rows]


def total(counts: Mapping[str, SplitCount]) -> SplitCount:
    """Returns the sum over splits; classes of query and gallery are the same ones and count once."""
    classes = [count.classes for split, count in counts.items() if split != "gallery"]
    return SplitCount(sum(classes), sum(count.images for count in counts.values()))


def _of(have: SplitCount, want: SplitCount | None) -> str:
    if want is None:
        return f"{have.classes:,} classes, {have.images:,} images"
    return f"{have.classes:,} of {want.classes:,} classes, {have.images:,} of {want.images:,} images"
