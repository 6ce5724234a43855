import numpy as np
from sklearn.datasets import load_digits

from pyg_bgformer.data import load_dataset


def test_split_and_labels():
    dataset = load_dataset("digits")
    table = dataset.table
    assert (table["label"].astype(str) == table["original_class"]).all()
    assert set(table["label"][dataset.rows("train")]) == {0, 1, 2, 3, 4}
    assert set(table["label"][dataset.rows("test")]) == {5, 6, 7, 8, 9}
    assert not dataset.partial


def test_images_are_the_drawings_with_their_labels():
    bunch = load_digits()
    dataset = load_dataset("digits")
    for row in range(0, len(dataset), 97):
        image = np.asarray(dataset.image(row))
        number = int(dataset.table["path"][row].split("/")[1])
        assert dataset.table["label"][row] == bunch.target[number]
        assert image.dtype == np.uint8
        assert np.abs(image - bunch.images[number][..., None] * 255 / 16).max() <= 0.5


def test_verify():
    report = load_dataset("digits").verify(workers=0)
    assert report.ok
    assert report.decoded == 1797
