import io
import struct
import subprocess
import traceback
import zlib
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from pyg_bgformer.data import images
from pyg_bgformer.data.images import Box, ImageError, crop_to_box, decode_rgb, to_tensor


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def decode(content: bytes) -> np.ndarray:
    image = decode_rgb(io.BytesIO(content), "some/file")
    assert image.mode == "RGB"
    return np.asarray(image)


def rgb16_png(pixels: np.ndarray) -> bytes:
    """A PNG of 16 bits a channel, which Pillow reads but does not write."""
    height, width, _ = pixels.shape

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def test_rgb_is_unchanged():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    assert np.array_equal(decode(encoded(Image.fromarray(pixels))), pixels)


def test_grey_has_three_equal_channels_in_every_format():
    pixels = np.tile(np.array([[0, 255, 255, 0]], dtype=np.uint8), (4, 1))
    for kind in set(images.IMAGE_FORMATS) - {"JPEG"}:
        options = {"lossless": True} if kind == "WEBP" else {}
        content = encoded(Image.fromarray(pixels), kind, **options)
        assert np.array_equal(decode(content), np.stack([pixels] * 3, axis=-1)), kind


def test_one_bit():
    image = Image.new("1", (2, 1))
    image.putpixel((1, 0), 1)
    assert decode(encoded(image)).tolist() == [[[0, 0, 0], [255, 255, 255]]]


def test_palette():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    assert decode(encoded(image)).tolist() == [[[10, 20, 30], [40, 50, 60]]]


def test_palette_with_a_transparent_colour_is_laid_over_white():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    assert decode(encoded(image, transparency=1)).tolist() == [[[10, 20, 30], [255, 255, 255]]]


def test_cmyk():
    red = encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=100)
    assert np.abs(decode(red).astype(int) - [255, 0, 0]).max() <= 3


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_not_cut_off(kind: str):
    values = np.array([[0, 257, 0x8080, 65535]], dtype=np.uint16)
    assert decode(encoded(Image.fromarray(values), kind))[0, :, 0].tolist() == [0, 1, 128, 255]


def test_16_bit_grey_of_a_netpbm_file():
    content = b"P5 3 1 65535\n" + np.array([0, 0x8080, 65535], dtype=">u2").tobytes()
    assert decode(content)[0, :, 0].tolist() == [0, 128, 255]


def test_16_bit_rgb():
    values = np.array([[[0, 0x8080, 65535], [257, 514, 771]]], dtype=np.uint16)
    assert decode(rgb16_png(values)).tolist() == [[[0, 128, 255], [1, 2, 3]]]


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_laid_over_white(mode: str):
    clear = (0, 0) if mode == "LA" else (0, 0, 0, 0)
    half = (0, 128) if mode == "LA" else (0, 0, 0, 128)
    image = Image.new(mode, (2, 1), clear)
    image.putpixel((1, 0), half)
    assert decode(encoded(image)).tolist() == [[[255] * 3, [127] * 3]]


def test_exif_rotation_is_applied():
    image = Image.new("RGB", (16, 8), "black")
    image.paste("white", (0, 0, 8, 8))
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by a quarter clockwise: left becomes top
    pixels = decode(encoded(image, "JPEG", exif=exif, quality=100))
    assert pixels.shape == (16, 8, 3)
    assert pixels[:7].min() > 240
    assert pixels[9:].max() < 15


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"<html>not found</html>", "not an image"),
        (b"\xff\xd8\xff\xe0", "not an image"),
        (encoded(Image.effect_noise((64, 64), 50))[:900], "damaged"),
        (encoded(Image.effect_noise((64, 64), 50), "JPEG")[:900], "damaged"),
        (encoded(Image.new("F", (2, 2), 0.5), "TIFF"), "unsupported pixels of mode F with values 0.5 to 0.5"),
        (encoded(Image.new("I", (2, 2), 70000), "TIFF"), "unsupported pixels of mode I with values 70000"),
    ],
)
def test_what_is_no_image_is_named_in_one_line(content: bytes, said: str):
    with pytest.raises(ImageError, match=said) as caught:
        decode(content)
    assert str(caught.value).startswith("some/file: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["EPS", "TGA", "PSD"])
def test_other_formats_are_refused_and_start_no_program(kind: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(subprocess, "Popen", None)  # Pillow calls Ghostscript for EPS
    image = Image.new("RGB", (16, 16), "red")
    content = b"8BPS\0\1" + bytes(100) if kind == "PSD" else encoded(image, kind)
    with pytest.raises(ImageError, match=r"not an image, .* expected BMP, GIF, JPEG, PNG, PPM, TIFF, WEBP"):
        decode(content)


def test_a_phone_s_jpeg_of_several_pictures_is_a_jpeg():
    pictures = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    content = encoded(pictures[0], "MPO", save_all=True, append_images=pictures[1:])
    assert np.abs(decode(content).astype(int) - [255, 0, 0]).max() <= 3


def png_of_size(side: int) -> bytes:
    """The beginning of a PNG that claims to have ``side`` times ``side`` pixels of one bit."""
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    data = b"IDAT" + zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", len(data) - 4) + data + bytes(4)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("side", "said"),
    [
        (10_900, "damaged image"),
        (13_000, "13000 x 13000 pixels, expected at most 120,000,000"),
        (2**20, "120,000,000 pixels; make it smaller"),
    ],
)
def test_an_image_that_claims_too_many_pixels_is_not_decoded(side: int, said: str):
    with pytest.raises(ImageError, match=said):
        decode(png_of_size(side))


def test_the_largest_image_is_decoded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(images, "MAX_PIXELS", 12)
    assert decode(encoded(Image.new("RGB", (4, 3)))).shape == (3, 4, 3)
    with pytest.raises(ImageError, match="4 x 4 pixels, expected at most 12"):
        decode(encoded(Image.new("RGB", (4, 4))))


NOISE = Image.effect_noise((12, 10), 100)


@pytest.mark.parametrize(
    ("box", "inside"),
    [((2, 3, 7, 9), (2, 3, 7, 9)), ((-4, -1, 5, 5), (0, 0, 5, 5)), ((11, 9, 20, 20), (11, 9, 12, 10))],
)
def test_what_is_in_the_box(box: Box, inside: Box):
    assert crop_to_box(NOISE, box, "x.jpg").tobytes() == NOISE.crop(inside).tobytes()


@pytest.mark.parametrize("box", [(12, 0, 15, 5), (7, 2, 3, 9)])
def test_an_empty_box_is_named(box: Box):
    said = rf"x\.jpg: its box \({', '.join(map(str, box))}\) holds nothing of its 12 x 10 pixels"
    with pytest.raises(ImageError, match=said):
        crop_to_box(NOISE, box, "x.jpg")


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, about damaged TIFF tags
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"])
def test_any_damage_is_an_image_error_or_decodes(kind: str):
    content = encoded(Image.effect_noise((24, 24), 80).convert("RGB"), kind)
    rng = np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(content[: rng.integers(1, len(content) + 1)])
        for position in rng.integers(0, len(damaged), 4):
            damaged[position] = rng.integers(256)
        with suppress(ImageError):
            decode(bytes(damaged))


def test_tensor_is_channels_first_of_the_same_pixels():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    tensor = to_tensor(Image.fromarray(pixels))
    assert tensor.shape == (3, 5, 7)
    assert np.array_equal(tensor.numpy(), pixels.transpose(2, 0, 1))


class _Damaged(Dataset[int]):
    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        raise ImageError("a/b.jpg: damaged")


@pytest.mark.parametrize("workers", [0, 1])
def test_error_of_a_worker_process_is_the_same_one_line(workers: int):
    batches = iter(DataLoader(_Damaged(), num_workers=workers))
    with pytest.raises(ImageError) as caught:
        next(batches)
    assert str(caught.value) == "a/b.jpg: damaged"
    # the traceback holds the loader in a cycle; collected as garbage, it waits five seconds for its worker
    traceback.clear_frames(caught.tb)
