"""Splits by class: classes that are set aside to choose settings, or to score an encoder."""

import hashlib
import math

import numpy as np

from pyg_bgformer.data.dataset import UNUSED, ImageDataset, with_labels
from pyg_bgformer.data.image_files import some
from pyg_bgformer.errors import InputError

FEW = 5
"""Number of classes below which scores depend much on which classes they are."""


def validation_part(dataset: ImageDataset, folds: int, fold: int) -> ImageDataset:
    """Returns the dataset with one fold of the training classes to test on, and the others to train on.

    Folds are blocks of consecutive classes, because train and test of the benchmarks are such blocks too, and
    neighbouring classes may be similar. A dataset with a split ``val`` has this split as its only fold. The
    official test images are in no split of the result. Rows keep their numbers.

    Args:
        dataset: A dataset with its official splits.
        folds: Number of folds, at least 2.
        fold: Number of the fold that is set aside, from 0.

    Raises:
        InputError: If ``folds`` or ``fold`` is out of range, or a part would have fewer than two classes.
    """
    if folds < 2 or not 0 <= fold < folds:
        raise InputError(f"protocol.fold: found fold {fold} of {folds}, expected 0 to {max(folds, 2) - 1}")
    split, labels = dataset.table["split"].to_numpy(), dataset.table["label"].to_numpy()
    train, held_out = split == "train", split == "val"
    if held_out.any():
        if fold:
            raise InputError(
                f"protocol.fold: found fold {fold}, but {dataset.name} has a split val of its own, which is the "
                "only fold; use protocol.fold: 0, or move its classes into train"
            )
        order = list(range(labels.max() + 1))  # the training classes come first already
    else:
        classes = int(labels[train].max()) + 1
        first, last = fold * classes // folds, (fold + 1) * classes // folds
        if min(last - first, classes - (last - first)) < 2:
            raise InputError(
                f"protocol.folds: {classes} training classes in {folds} folds leave a part with fewer than 2; "
                "use fewer folds"
            )
        held_out = train & (labels >= first) & (labels < last)
        # Labels of the training classes must be 0, 1, 2, ..., so the classes of the fold move behind them.
        order = [*range(first), *range(last, classes), *range(first, last), *range(classes, labels.max() + 1)]
    table = dataset.table.assign(
        split=np.select([held_out, train], ["test", "train"], UNUSED), label=np.argsort(order)[labels]
    )
    return dataset.with_table(table, expected={})


def hold_out(dataset: ImageDataset, share: float, seed: int) -> ImageDataset:
    """Returns a dataset that tests a random share of its classes and trains on the others.

    A hash of the seed and the name puts the classes in order, and the first ones are held out. A class that is
    added later does not change the order of the others.

    Args:
        dataset: A dataset, of which all images are used.
        share: Share of the classes that is held out, rounded up to at least 2 classes. 0 holds nothing out, 1 holds
            all classes out. A single class is not held out.
        seed: Decides which classes these are.

    Raises:
        InputError: If fewer than 2, but not 0, classes would be left to train on.
    """
    names = dataset.table["original_class"]
    order = sorted(set(names), key=lambda name: hashlib.sha256(f"{seed}\n{name}".encode()).digest())
    count = max(math.ceil(share * len(order)), 2) if share and len(order) > 1 else 0
    if count and share < 1 and len(order) - count < 2:
        raise InputError(
            f"{dataset.where}: holding out {count} of {len(order)} classes leaves fewer than 2 to train on; add "
            "classes, hold out less, or train on all: data.holdout: 0 (of the command train: --holdout none)"
        )
    held_out = sorted(order[:count])
    split = np.where(names.isin(held_out), "test", "train")
    other = dataset.with_table(with_labels(dataset.table.assign(split=split).drop(columns="label")))
    line = (
        f"held out: {count} of {len(order)} classes ({some(held_out)})" if count else "no class is held out"
    )
    rough = [f"scores of {count} classes are rough: hold out a larger share, or add classes"]
    other.notes = [*dataset.notes, line, *(rough if 0 < count < FEW else [])]
    return other
