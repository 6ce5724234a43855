import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from pyg_bgformer.report.thumbnails import as_image, data_uri, sprite, thumbnail


@pytest.mark.parametrize(
    "picture",
    [
        torch.full((3, 4, 6), 1.0),
        torch.full((3, 4, 6), 255, dtype=torch.uint8),
        torch.full((1, 4, 6), 1.0),
        np.full((4, 6, 3), 255, dtype=np.uint8),
        np.full((4, 6), 1.0),
        Image.new("L", (6, 4), 255),
    ],
)
def test_every_kind_of_picture_becomes_the_same_image(picture):
    image = as_image(picture)
    assert image.mode == "RGB"
    assert image.size == (6, 4)
    assert image.getpixel((5, 3)) == (255, 255, 255)


def test_what_is_no_picture_is_refused():
    with pytest.raises(ValueError, match=r"found shape \(2, 4, 6\)"):
        as_image(torch.zeros(2, 4, 6))


def test_a_thumbnail_is_the_middle_square():
    wide = Image.new("RGB", (300, 100), "red")
    wide.paste(Image.new("RGB", (140, 100), "blue"), (80, 0))
    assert (np.asarray(thumbnail(wide, 20)) == (0, 0, 255)).all()


def test_a_small_image_is_enlarged_in_blocks():
    tiny = Image.fromarray(np.array([[0, 255], [255, 0]], dtype=np.uint8))
    large = np.asarray(thumbnail(tiny, 8).convert("L"))
    assert set(np.unique(large)) == {0, 255}
    assert (large[:4, :4] == 0).all()


def test_a_data_uri_holds_the_image():
    uri = data_uri(Image.new("RGB", (5, 7), "red"))
    kind, _, content = uri.partition(",")
    assert kind == "data:image/webp;base64"
    assert Image.open(io.BytesIO(base64.b64decode(content))).size == (5, 7)


def test_a_sprite_goes_row_by_row():
    colors = ["red", "lime", "blue"]
    sheet = sprite([Image.new("RGB", (4, 4), color) for color in colors], columns=2)
    assert sheet.size == (8, 8)
    assert [sheet.getpixel(at) for at in ((0, 0), (4, 0), (0, 4))] == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
