import pytest
from PIL import Image

from pyg_bgformer.data.boxes import cut_box
from pyg_bgformer.data.images import ImageError

IMAGE = Image.effect_noise((12, 10), 100)


@pytest.mark.parametrize(
    ("box", "inside"),
    [("2 3 7 9", (2, 3, 7, 9)), ("-4 -1 5 5", (0, 0, 5, 5)), ("11 9 20 20", (11, 9, 12, 10))],
)
def test_what_is_in_the_box(box: str, inside: tuple[int, int, int, int]):
    assert cut_box(IMAGE, box, "x.jpg").tobytes() == IMAGE.crop(inside).tobytes()


@pytest.mark.parametrize("box", ["12 0 15 5", "0 -5 5 0", "5 5 5 9", "7 2 3 9"])
def test_an_empty_box_is_named(box: str):
    with pytest.raises(ImageError, match=rf"x\.jpg: its box \({box}\) holds nothing of its 12 x 10 pixels"):
        cut_box(IMAGE, box, "x.jpg")
