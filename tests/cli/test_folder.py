"""A user's own folder of images, from the command line."""

import numpy as np
import pytest
from PIL import Image

from pyg_bgformer.cli.main import main

SMALL = [
    "--data.image_size",
    "16",
    "--data.resize",
    "16",
    "--data.workers",
    "0",
    "--encoder.embedding_dim",
    "8",
]
SHORT = [
    "--train.epochs",
    "1",
    "--sampler.classes",
    "2",
    "--sampler.samples",
    "3",
    "--evaluation.recall_at",
    "[1]",
]


def picture(seed, mode="RGB"):
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 20, 4), dtype=np.uint8)
    if mode == "I;16":
        return Image.fromarray(pixels[..., 0].astype(np.uint16) * 256)
    return Image.fromarray(pixels[..., :3]).convert(mode)


@pytest.fixture
def folder(tmp_path):
    """Four classes of four images."""
    root = tmp_path / "images"
    for i, name in enumerate(["ant", "bee", "cat", "dog"]):
        (root / name).mkdir(parents=True)
        for k in range(4):
            picture(10 * i + k).save(root / name / f"{k}.png")
    return root


def run_on(folder, *arguments):
    places = ["--data.root", str(folder), "--data.cache", str(folder.parent / "cache")]
    out = ["--runs", str(folder.parent / "runs")]
    return main(["run", "--data.name", "folder", *places, *out, *SMALL, *SHORT, *arguments])


def test_images_of_every_kind_just_work(folder):
    picture(1, "L").save(folder / "ant" / "grey.png")
    picture(2, "P").save(folder / "ant" / "palette.gif")
    picture(3, "CMYK").save(folder / "bee" / "cmyk.jpg")
    picture(4, "I;16").save(folder / "bee" / "sixteen.png")
    picture(5, "RGBA").save(folder / "cat" / "alpha.png")
    picture(6, "1").save(folder / "cat" / "bits.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(7).save(folder / "dog" / "turned.jpg", exif=exif)
    picture(8).save(folder / "dog" / "Überfall 日本.png")
    assert run_on(folder) == 0


@pytest.mark.parametrize("kind", ["corrupt", "empty", "text"])
@pytest.mark.parametrize("split", ["ant", "dog"])
def test_a_file_that_is_no_image_is_named(folder, capsys, kind, split):
    whole = (folder / "ant" / "0.png").read_bytes()
    content = {"corrupt": whole[: len(whole) // 2], "empty": b"", "text": b"not an image"}[kind]
    (folder / split / "bad.png").write_bytes(content)
    assert run_on(folder) == 2
    line = capsys.readouterr().err.strip()
    assert "\n" not in line
    assert f"{split}/bad.png" in line
    assert not (folder.parent / "runs").exists()


def test_a_class_of_one_image_is_named(folder, capsys):
    for k in range(1, 4):
        (folder / "bee" / f"{k}.png").unlink()
    assert run_on(folder) == 2
    assert "bee" in capsys.readouterr().err


def test_fewer_than_two_classes_are_refused(folder, capsys, tmp_path):
    for name in ("bee", "cat", "dog"):
        for file in (folder / name).iterdir():
            file.unlink()
        (folder / name).rmdir()
    assert run_on(folder) == 2
    assert "class" in capsys.readouterr().err


def test_a_batch_has_as_many_classes_as_there_are(folder, capsys):
    assert run_on(folder, "--sampler.classes", "3") == 0
    assert "sampler.classes is 3, but the training images have 2 classes" in capsys.readouterr().out


def test_bad_images_are_named_without_a_cache_too(folder, capsys):
    (folder / "ant" / "bad.png").write_bytes(b"")
    assert run_on(folder, "--data.cache", "null", "--data.workers", "1") == 2
    line = capsys.readouterr().err.strip()
    assert "ant/bad.png" in line
    assert "\n" not in line
