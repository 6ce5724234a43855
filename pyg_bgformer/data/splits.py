"""Part of the training classes set aside to choose settings on, so that the test is looked at once."""

import numpy as np

from pyg_bgformer.data.dataset import ImageDataset
from pyg_bgformer.errors import InputError

UNUSED = "unused"
"""Split of the images that neither train nor validate; none of a dataset's own, so that nothing loads it."""


def validation_part(dataset: ImageDataset, folds: int, fold: int) -> ImageDataset:
    """Returns the dataset with some of the training classes to test on, and the others to train.

    Folds are blocks of consecutive classes, as train and test are in the benchmarks, where neighbours may be
    alike. A dataset with a split ``val`` of its own has this one fold. The official test images are in no split of
    the result. Rows stay what they are in ``dataset``.

    Args:
        dataset: With its official splits.
        folds: Number of blocks, at least 2.
        fold: Which of them is set aside, from 0.

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
        order = list(range(labels.max() + 1))  # those of train come first already
    else:
        classes = int(labels[train].max()) + 1
        first, last = fold * classes // folds, (fold + 1) * classes // folds
        if min(last - first, classes - (last - first)) < 2:
            raise InputError(
                f"protocol.folds: {classes} training classes in {folds} folds leave a part with fewer than 2; "
                "use fewer folds"
            )
        held_out = train & (labels >= first) & (labels < last)
        # Labels of the classes that are trained on must be 0, 1, 2, ...: the fold's classes move behind them.
        order = [*range(first), *range(last, classes), *range(first, last), *range(classes, labels.max() + 1)]
    table = dataset.table.assign(
        split=np.select([held_out, train], ["test", "train"], UNUSED), label=np.argsort(order)[labels]
    )
    return dataset.with_table(table, expected={})
