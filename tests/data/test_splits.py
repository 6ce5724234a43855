import numpy as np
import pytest

from pyg_bgformer.data import load_dataset
from pyg_bgformer.data.dataset import ImageDataset
from pyg_bgformer.data.splits import validation_part
from pyg_bgformer.errors import InputError


def toy(train_classes=7, test_classes=3):
    return ImageDataset(
        "toy",
        [
            {
                "path": f"{c}/{i}",
                "original_class": f"c{c}",
                "split": "train" if c < train_classes else "test",
            }
            for c in range(train_classes + test_classes)
            for i in range(2 + c % 3)
        ],
    )


@pytest.mark.parametrize("folds", [2, 3])
def test_each_training_class_is_set_aside_in_one_fold_and_trained_on_in_the_others(folds):
    dataset = toy()
    seen = []
    for fold in range(folds):
        part = validation_part(dataset, folds, fold)
        classes = {
            split: set(part.table.loc[part.rows(split), "original_class"]) for split in ("train", "test")
        }
        assert not classes["train"] & classes["test"]
        assert classes["train"] | classes["test"] == {f"c{c}" for c in range(7)}
        seen += sorted(classes["test"])
    assert seen == [f"c{c}" for c in range(7)]


def test_no_image_of_the_official_test_is_in_a_split():
    dataset = toy()
    part = validation_part(dataset, 2, 0)
    used = np.concatenate([part.rows("train"), part.rows("test")])
    assert set(dataset.table.loc[used, "split"]) == {"train"}
    assert sorted(used) == dataset.rows("train").tolist()


@pytest.mark.parametrize("fold", [0, 1, 2])
def test_labels_of_the_training_part_count_from_zero_and_name_one_class_each(fold):
    part = validation_part(toy(), 3, fold)
    labels = part.table.loc[part.rows("train"), "label"]
    assert sorted(set(labels)) == list(range(labels.nunique()))
    assert part.table.groupby("label")["original_class"].nunique().eq(1).all()
    assert part.table.groupby("original_class")["label"].nunique().eq(1).all()


def test_rows_and_images_stay_what_they_are_and_the_dataset_itself_too():
    dataset = load_dataset("digits")
    before = dataset.table.copy()
    part = validation_part(dataset, 2, 1)
    assert dataset.table.equals(before)
    assert part.table["path"].equals(before["path"])
    row = int(part.rows("test")[0])
    assert part.image(row).tobytes() == dataset.image(row).tobytes()


@pytest.mark.parametrize(("folds", "fold"), [(1, 0), (2, 2), (3, -1)])
def test_a_fold_that_is_none_is_refused(folds, fold):
    with pytest.raises(InputError, match=rf"found fold {fold} of {folds}"):
        validation_part(toy(), folds, fold)


def test_folds_of_a_single_class_are_refused():
    with pytest.raises(InputError, match="7 training classes in 4 folds"):
        validation_part(toy(), 4, 0)
