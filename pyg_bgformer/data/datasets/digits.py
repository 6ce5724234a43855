"""The handwritten digits that come with scikit-learn: 1,797 drawings of 8 x 8 pixels.

Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning
Repository, 1998 (its test part); see :func:`sklearn.datasets.load_digits`.
"""

import numpy as np
from PIL import Image

from pyg_bgformer.data.dataset import ImageDataset
from pyg_bgformer.data.datasets.registry import DATASETS
from pyg_bgformer.data.verification import SplitCount

OFFICIAL = {"train": SplitCount(5, 901), "test": SplitCount(5, 896)}


class Digits(ImageDataset):
    """The digits 0-4 to train on (901 images) and 5-9 to test on (896 images). The dataset needs no files."""

    def __init__(self) -> None:
        from sklearn.datasets import load_digits  # slow to import

        bunch = load_digits()
        # The grey values go from 0 to 16.
        self._pixels = np.round(bunch.images * (255 / 16)).astype(np.uint8)
        records = [
            {
                "path": f"{digit}/{number:04d}",
                "original_class": str(digit),
                "split": "train" if digit < 5 else "test",
            }
            for number, digit in enumerate(bunch.target.tolist())
        ]
        super().__init__("digits", sorted(records, key=lambda record: record["path"]), expected=OFFICIAL)

    def image(self, row: int) -> Image.Image:
        """Returns the drawing of a row, RGB, 8 x 8 pixels, white ink on black."""
        number = int(self._paths[row].partition("/")[2])
        return Image.fromarray(self._pixels[number]).convert("RGB")


@DATASETS.register("digits")
def load() -> Digits:
    """Returns the digits dataset."""
    return Digits()
