import os
import socket
from pathlib import Path

import pytest

from pyg_bgformer.data import ImageDataset
from pyg_bgformer.data.image_files import ignored_files, image_files, some
from pyg_bgformer.data.images import ImageError


def make(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_images_are_told_by_their_ending_in_any_case(tmp_path: Path):
    images = ["a.JPG", "b.jpeg", "c/d.PNG", "c/e/f.webp", "g.tif"]
    others = [".a.jpg", "LICENSE", "a.txt", "b.jpg~", "c/Thumbs.db"]
    make(tmp_path, *images, *others, ".git/a.jpg", "c/@eaDir/x.jpg")
    content = image_files(tmp_path)
    assert content.images == sorted(images)
    assert content.others == sorted([*others, ".git/", "c/@eaDir/"])


def test_a_folder_that_is_not_there_has_no_images(tmp_path: Path):
    assert image_files(tmp_path / "nowhere") == ([], [])


@pytest.mark.parametrize("name", ["a.heic", "b/c.AVIF", "d.svg"])
def test_images_of_other_kinds_are_refused_by_name(tmp_path: Path, name: str):
    with pytest.raises(ImageError, match=rf"{name}: \.\w+ images are not read; convert it"):
        image_files(make(tmp_path, "x.png", name))


def test_linked_folders_are_followed_once(tmp_path: Path):
    make(tmp_path, "in/a.png", "in/b/c.png", "out/d.png", "out/e/f.png")
    os.symlink(tmp_path / "out", tmp_path / "in" / "first")
    os.symlink(tmp_path / "out" / "e", tmp_path / "in" / "second")
    os.symlink(tmp_path / "in", tmp_path / "in" / "b" / "up")
    os.symlink(tmp_path / "in" / "a.png", tmp_path / "in" / "g.png")
    content = image_files(tmp_path / "in")
    files = {os.path.realpath(tmp_path / "in" / path) for path in content.images}
    assert files == {str(tmp_path / name) for name in ("in/a.png", "in/b/c.png", "out/d.png", "out/e/f.png")}
    assert len(content.images) == 5
    assert "b/up/ (a link to a folder above, or to one that is read already)" in content.others


@pytest.mark.parametrize("kind", ["pipe", "socket", "broken link", "looping link"])
def test_what_is_no_regular_file_is_refused_without_being_opened(tmp_path: Path, kind: str):
    path = tmp_path / "x.png"
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "socket":
            with socket.socket(socket.AF_UNIX) as server:
                server.bind(os.path.relpath(path))
        case "broken link":
            path.symlink_to("nowhere.png")
        case "looping link":
            path.symlink_to(path)
    with pytest.raises(ImageError, match=r"x\.png: not a regular file"):
        image_files(tmp_path)
    if "link" not in kind:
        record = {"path": "x.png", "original_class": "x", "split": "train"}
        with pytest.raises(ImageError, match=r"x\.png: not a regular file but a pipe or a device"):
            ImageDataset("x", [record], root=tmp_path).image(0)


def test_a_line_names_the_first_and_counts_the_rest():
    assert some([f"{n:02}" for n in range(13)]) == "00, 01, 02, 03, 04, 05, 06, 07, 08, 09 and 3 more"
    assert list(ignored_files(["b\n", "a é"])) == ["ignored: a é, b\\n"]
    assert list(ignored_files([])) == []
