import pickle
import zipfile
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torchvision
from PIL import Image

from pyg_bgformer.data import ImageError, load_dataset, read_dataset
from pyg_bgformer.errors import InputError

SMALL = {
    "images_background_small1": ["Greek/character01", "Greek/character02", "Korean/character01"],
    "images_background_small2": ["Greek/character03", "Tagalog/character01", "Tagalog/character02"],
}
FULL = {"images_background": ["Greek/character01"], "images_evaluation": ["Tibetan/character01"]}


def draw(path: Path, seed: int = 0) -> None:
    """One-bit noise, as drawings are stored."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).random((9, 9)) < 0.5).save(path)


def unpacked(root: Path, parts: dict[str, list[str]]) -> Path:
    for part, characters in parts.items():
        for number, character in enumerate(characters):
            for drawing in range(2):
                draw(root / part / character / f"{drawing}.png", seed=2 * number + drawing)
    return root


def zipped(root: Path, parts: dict[str, list[str]]) -> Path:
    """The same content as archives, with what a file manager adds."""
    root.mkdir(parents=True, exist_ok=True)
    source = unpacked(root / "unpacked", parts)
    for part in parts:
        with zipfile.ZipFile(root / f"{part}.zip", "w") as archive:
            archive.mkdir(f"{part}/")
            archive.writestr(f"__MACOSX/{part}/._x.png", b"")
            archive.writestr(f"{part}/.DS_Store", b"")
            for file in sorted((source / part).rglob("*.png")):
                archive.write(file, file.relative_to(source))
    return root


def test_alphabets_of_train_are_left_out_of_test(tmp_path: Path):
    table = load_dataset("omniglot", zipped(tmp_path, SMALL), allow_partial=True).table
    classes = table[["original_class", "super_class", "split", "label"]].drop_duplicates()
    assert classes.to_numpy().tolist() == [
        ["Greek/character01", "Greek", "train", 0],
        ["Greek/character02", "Greek", "train", 1],
        ["Korean/character01", "Korean", "train", 2],
        ["Tagalog/character01", "Tagalog", "test", 3],
        ["Tagalog/character02", "Tagalog", "test", 4],
    ]
    assert len(table) == 10


def test_archives_and_folders_are_the_same_dataset(tmp_path: Path):
    inside = load_dataset("omniglot", zipped(tmp_path, SMALL), allow_partial=True)
    outside = load_dataset("omniglot", tmp_path / "unpacked", allow_partial=True)
    assert inside.manifest_hash == outside.manifest_hash
    for row in range(len(inside)):
        assert inside.image(row).tobytes() == outside.image(row).tobytes()
    assert len(list(inside.source_files())) == 2
    assert len(list(outside.source_files())) == 10


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_read_from_an_archive_that_was_open_already(tmp_path: Path, workers: int):
    dataset = load_dataset("omniglot", zipped(tmp_path, SMALL), allow_partial=True)
    assert dataset.verify(workers=workers).decoded == 10
    assert pickle.loads(pickle.dumps(dataset)).image(3).tobytes() == dataset.image(3).tobytes()


def test_a_damaged_drawing_in_an_archive_is_named(tmp_path: Path):
    archive = zipped(tmp_path, SMALL) / "images_background_small1.zip"
    content = bytearray(archive.read_bytes())
    place = content.index(b"Korean/character01/1.png") + 60
    content[place] ^= 255
    archive.write_bytes(content)
    dataset = load_dataset("omniglot", tmp_path, allow_partial=True)
    with pytest.raises(ImageError, match=r"small1\.zip: cannot read .*Korean/character01/1\.png"):
        dataset.image(5)
    assert dataset.verify(workers=0).decoded == 9


def test_nested_folders_are_entered_and_other_files_passed_over(tmp_path: Path):
    root = unpacked(tmp_path, SMALL)
    before = load_dataset("omniglot", root, allow_partial=True).manifest_hash
    part = root / "images_background_small1"
    part.rename(tmp_path / "inside")
    part.mkdir()
    (tmp_path / "inside").rename(part / part.name)
    (part / part.name / "Greek" / "LICENSE").touch()
    dataset = load_dataset("omniglot", root, allow_partial=True)
    assert dataset.manifest_hash == before
    assert dataset.verify(workers=0).decoded == 10
    assert dataset.notes == ["ignored: images_background_small1/Greek/LICENSE"]


def test_a_truncated_archive_is_named(tmp_path: Path):
    archive = zipped(tmp_path, SMALL) / "images_background_small2.zip"
    archive.write_bytes(archive.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"small2\.zip: not a whole zip archive"):
        load_dataset("omniglot", tmp_path)


def test_another_layout_is_named(tmp_path: Path):
    draw(unpacked(tmp_path, SMALL) / "images_background_small1" / "Greek" / "loose.png")
    with pytest.raises(InputError, match=r"Greek/loose\.png'; expected"):
        load_dataset("omniglot", tmp_path)


def test_a_missing_part_is_named(tmp_path: Path):
    (zipped(tmp_path, SMALL) / "images_background_small2.zip").unlink()
    with pytest.raises(InputError, match=r"neither images_background_small2\.zip nor"):
        load_dataset("omniglot", tmp_path)


def test_incomplete_parts_are_refused_with_the_counts(tmp_path: Path):
    with pytest.raises(InputError, match="5 of 242 classes, 10 of 4,840 images"):
        load_dataset("omniglot", zipped(tmp_path, SMALL))


def test_full_reads_what_torchvision_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked = []

    def download(root: Path, background: bool, download: bool) -> None:
        asked.append(background)
        zipped(Path(root) / "omniglot-py", FULL)

    monkeypatch.setattr(torchvision.datasets, "Omniglot", download)
    (tmp_path / "new").mkdir()
    dataset = read_dataset("omniglot", tmp_path / "new", variant="full")
    assert dataset.table["original_class"].tolist() == ["Greek/character01"] * 2 + ["Tibetan/character01"] * 2
    assert dataset.table["split"].tolist() == ["train"] * 2 + ["test"] * 2
    assert dataset.verify(workers=0).decoded == 4
    assert asked == [True]


def test_full_without_a_network_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def download(*_: object, **__: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr(torchvision.datasets, "Omniglot", download)
    with pytest.raises(
        InputError, match=r"images_background\.zip .* could not be downloaded .*no network"
    ) as caught:
        load_dataset("omniglot", tmp_path, variant="full")
    assert "\n" not in str(caught.value)


def test_the_official_archives(official_data: Path):
    if not (official_data / "omniglot").is_dir():
        pytest.skip(f"no {official_data / 'omniglot'}")
    dataset = load_dataset("omniglot", official_data / "omniglot")
    assert not dataset.partial
    assert dataset.table.groupby("split")["label"].nunique().to_dict() == {"train": 136, "test": 106}
    assert dataset.table["label"].value_counts().eq(20).all()
    assert dataset.image(0).size == (105, 105)
