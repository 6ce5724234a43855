from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from pyg_bgformer.data import load_dataset
from pyg_bgformer.errors import InputError

Tree = Callable[[Mapping[str, int]], Path]
Save = Callable[..., None]


def splits(root: Path) -> dict[str, list[str]]:
    table = load_dataset("folder", root).table
    return {split: sorted(set(rows["original_class"])) for split, rows in table.groupby("split")}


def test_first_half_of_the_sorted_classes_trains(make_tree: Tree):
    root = make_tree({"d": 2, "b": 2, "e": 2, "a": 2, "c": 2})
    assert splits(root) == {"train": ["a", "b"], "test": ["c", "d", "e"]}
    assert load_dataset("folder", root).table["label"].is_monotonic_increasing


def test_train_and_test_folders(make_tree: Tree):
    root = make_tree({"test/a": 2, "test/b": 3, "train/y": 2, "train/z": 2})
    assert splits(root) == {"train": ["y", "z"], "test": ["a", "b"]}
    dataset = load_dataset("folder", root)
    assert dataset.table["path"][0] == "train/y/0.png"
    assert dataset.image(0).size == (12, 10)


def test_unicode_nested_and_upper_case_paths(make_tree: Tree, save_noise: Save):
    root = make_tree({"a b": 2, "Ångström": 2, "東京": 2, "🐦": 2})
    save_noise(root / "東京" / "昼 – été" / "ö.PNG")
    dataset = load_dataset("folder", str(root))
    assert "東京/昼 – été/ö.PNG" in set(dataset.table["path"])
    assert dataset.verify(workers=0).ok


def test_sidecars_and_hidden_files_are_passed_over(make_tree: Tree):
    root = make_tree(dict.fromkeys("abcd", 2))
    before = load_dataset("folder", root).manifest_hash
    hidden = ["a/.DS_Store", "b/._0.png", "a/.hidden/0.png"]
    for sidecar in ["README.txt", "a/Thumbs.db", "__MACOSX/x/0.png", *hidden]:
        (root / sidecar).parent.mkdir(exist_ok=True, parents=True)
        (root / sidecar).write_bytes(b"\0")
    assert load_dataset("folder", root).manifest_hash == before


@pytest.mark.parametrize("name", ["photo.heic", "video.mp4", "noending"])
def test_a_file_that_is_neither_image_nor_sidecar_is_named(make_tree: Tree, name: str):
    root = make_tree(dict.fromkeys("abcd", 2))
    (root / "c" / name).write_bytes(b"\0")
    with pytest.raises(InputError, match=f"c/{name}: not an image file"):
        load_dataset("folder", root)


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ({}, "train has 0 of the at least 2 classes"),
        ({"a": 2, "b": 2, "c": 2}, "train has 1 of the at least 2 classes"),
        ({"a": 2, "b": 2, "c": 1, "d": 2}, r"class 'c' \(test\) has one image"),
        ({"train/a": 2, "train/b": 2, "test/b": 2, "test/c": 2}, "class 'b' is both in train and in test"),
        ({"train/a": 2, "train/b": 2, "test/c": 2, "test/d": 2, "val/e": 2}, "and also 'val'"),
    ],
)
def test_unusable_trees_are_refused(make_tree: Tree, sizes: dict[str, int], said: str):
    root = make_tree(sizes)
    root.mkdir(exist_ok=True)
    with pytest.raises(InputError, match=said) as caught:
        load_dataset("folder", root)
    assert str(root) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_class_named_train_alone_is_a_class(make_tree: Tree):
    root = make_tree({"bus": 2, "car": 2, "ship": 2, "train": 2})
    assert splits(root)["test"] == ["ship", "train"]


def test_images_outside_class_folders_and_empty_classes_are_refused(make_tree: Tree, save_noise: Save):
    root = make_tree(dict.fromkeys("abcd", 2))
    (root / "e").mkdir()
    with pytest.raises(InputError, match="e: a class folder without images"):
        load_dataset("folder", root)
    save_noise(root / "loose.png")
    with pytest.raises(InputError, match=r"loose\.png: an image outside"):
        load_dataset("folder", root)


def test_linked_class_folders(make_tree: Tree, tmp_path: Path):
    root = make_tree(dict.fromkeys("abcd", 2))
    (root / "d").rename(tmp_path / "elsewhere")
    (root / "d").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert splits(root)["test"] == ["c", "d"]
