import os
import unicodedata
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from pyg_bgformer.data import load_dataset, read_dataset
from pyg_bgformer.data.splits import validation_part
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


@pytest.mark.parametrize(
    ("folders", "found"),
    [
        ({"train": "yz", "test": "ab"}, {"train": "yz", "test": "ab"}),
        ({"Train": "yz", "TEST": "ab"}, {"train": "yz", "test": "ab"}),
        ({"train": "yz", "Valid": "cd", "test": "ab"}, {"train": "yz", "val": "cd", "test": "ab"}),
        ({"train": "yz", "validation": "cd", "test": "ab"}, {"train": "yz", "val": "cd", "test": "ab"}),
        (
            {"train": "yz", "Query": "ab", "gallery": "ab"},
            {"train": "yz", "query": "ab", "gallery": "ab"},
        ),
    ],
)
def test_folders_of_splits(make_tree: Tree, folders: dict[str, str], found: dict[str, str]):
    root = make_tree({f"{folder}/{name}": 2 for folder, names in folders.items() for name in names})
    assert splits(root) == {split: list(names) for split, names in found.items()}
    dataset = load_dataset("folder", root)
    assert dataset.table["path"][0] == f"{next(iter(folders))}/y/0.png"
    assert dataset.table["label"].is_monotonic_increasing or "gallery" in found
    assert dataset.verify(workers=0).ok


def test_a_split_val_is_what_the_validation_protocol_tests_on(make_tree: Tree):
    names = ["train/a", "train/b", "val/c", "val/d", "test/e", "test/f"]
    dataset = load_dataset("folder", make_tree(dict.fromkeys(names, 2)))
    part = validation_part(dataset, folds=4, fold=0)
    classes = {split: set(part.table["original_class"][part.rows(split)]) for split in part.counts()}
    assert classes == {"train": {"a", "b"}, "test": {"c", "d"}}
    assert not part.expected
    with pytest.raises(InputError, match=r"protocol\.fold: found fold 1, but folder has a split val"):
        validation_part(dataset, folds=4, fold=1)


@pytest.mark.parametrize(("above", "split"), [("images", False), ("Data/images", True)])
def test_single_folders_around_the_classes_are_entered(make_tree: Tree, above: str, split: bool):
    names = ["train/a", "train/b", "test/c", "test/d"] if split else ["a", "b", "c", "d"]
    outer = make_tree({f"{above}/{name}": 2 for name in names})
    assert splits(outer) == {"train": ["a", "b"], "test": ["c", "d"]}
    inside = load_dataset("folder", outer / above)
    assert load_dataset("folder", outer).manifest_hash == inside.manifest_hash


def test_unicode_nested_and_upper_case_paths(make_tree: Tree, save_noise: Save):
    root = make_tree({"a b": 2, "Ångström": 2, "東京": 2, "🐦": 2})
    save_noise(root / "東京" / "昼 – été" / "ö.PNG")
    dataset = load_dataset("folder", str(root))
    assert "東京/昼 – été/ö.PNG" in set(dataset.table["path"])
    assert dataset.verify(workers=0).ok


def test_names_that_differ_in_unicode_normalisation_are_one_class(make_tree: Tree):
    forms = [unicodedata.normalize(form, "é") for form in ("NFC", "NFD")]
    dataset = load_dataset("folder", make_tree(dict.fromkeys(["a", "b", "c", *forms], 2)))
    assert dataset.counts()["test"].classes == 2
    assert dataset.table["original_class"].value_counts()["é"] == 4
    assert dataset.notes == [
        r"one class, although its folders' names have different Unicode forms: 'e\u0301', '\xe9'"
    ]
    assert dataset.verify(workers=0).ok


def test_files_that_are_no_images_are_passed_over_and_named(make_tree: Tree):
    root = make_tree(dict.fromkeys("abcd", 2))
    before = load_dataset("folder", root).manifest_hash
    hidden = ["a/.DS_Store", "b/._0.png", "a/.hidden/0.png", "__MACOSX/x/0.png"]
    for stray in ["README.md", "a/Icon\r", "a/LICENSE", "a/x.jpg~", "a/Thumbs.db", "a/film.mp4", *hidden]:
        (root / stray).parent.mkdir(exist_ok=True, parents=True)
        (root / stray).write_bytes(b"\0")
    dataset = load_dataset("folder", root)
    assert dataset.manifest_hash == before
    report = dataset.verify(workers=0)
    assert report.ok
    assert str(report).splitlines()[-1] == (
        r"  note: ignored: README.md, __MACOSX, a/.DS_Store, a/.hidden/, a/Icon\r, a/LICENSE, a/Thumbs.db, "
        "a/film.mp4, a/x.jpg~, b/._0.png"
    )


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ({}, "train has 0 of the at least 2 classes"),
        ({"a": 2, "b": 2, "c": 2}, "train has 1 of the at least 2 classes"),
        ({"a": 2, "b": 2, "c": 1, "d": 2}, r"class 'c' \(test\) has one image"),
        ({"train/a": 2, "train/b": 2, "test/b": 2, "test/c": 2}, "class 'b' is both in train and in test"),
        ({"train/a": 2, "train/b": 2, "query/a": 1, "query/c": 1, "gallery/c": 1}, "class 'a' is both in"),
        ({"train/a": 2, "val/a": 2, "test/c": 2}, "class 'a' is both in train and in val"),
        (
            {"train/a": 2, "test/c": 2, "cats/e": 2},
            "folders test, train and also cats; expected train and test",
        ),
        ({"train/a": 2, "val/b": 2}, "found the folders train, val; expected train and test, train, val and"),
        ({"train/a": 2, "val/b": 2, "query/b": 2, "gallery/b": 2}, "found the folders gallery, query, train"),
        ({"train/a": 2, "train/b": 2}, "found the folders train; expected train and test"),
        ({"train/a": 2, "Train/b": 2, "test/b": 2}, "found the folders Train, test, train; expected"),
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


def test_small_classes_are_left_out_on_request(make_tree: Tree):
    root = make_tree({"a": 3, "b": 1, "c": 2, "d": 4, "e": 1, "f": 2})
    dataset = load_dataset("folder", root, min_images=2)
    assert dataset.notes == ["left out, with fewer than 2 images: 2 classes (b, e)"]
    assert dataset.table["label"].unique().tolist() == [0, 1, 2, 3]
    assert len(dataset.table) == len(dataset) == 11
    for row, path in enumerate(dataset.table["path"]):
        assert dataset.file(row) == str(root / path)
    with pytest.raises(InputError, match="train has 1 of"):
        load_dataset("folder", root, min_images=3)


def test_the_first_half_of_the_classes_that_are_left_trains(make_tree: Tree):
    dataset = load_dataset(
        "folder", make_tree({"a": 2, "b": 2, "c": 2, "d": 2, "e": 1, "f": 1}), min_images=2
    )
    assert {split: count.classes for split, count in dataset.counts().items()} == {"train": 2, "test": 2}
    assert dataset.table["label"].is_monotonic_increasing


@pytest.mark.parametrize("where", ["", "a/"])
def test_linked_folders_are_read(make_tree: Tree, tmp_path: Path, where: str):
    root = make_tree(dict.fromkeys(["a", "b", "c", f"{where}d"], 2))
    (root / where / "d").rename(tmp_path / "elsewhere")
    (root / where / "d").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    if not where:
        assert splits(root)["test"] == ["c", "d"]
    assert len(read_dataset("folder", root)) == 8


def test_a_link_to_the_folder_of_all_classes_brings_no_other_class_in(make_tree: Tree):
    root = make_tree(dict.fromkeys("abcd", 2))
    (root / "b" / "up").symlink_to("..", target_is_directory=True)
    dataset = read_dataset("folder", root)
    assert dataset.table["original_class"].tolist() == sorted("abcd" * 2)
    assert "b/up/ (a link to a folder above" in dataset.notes[0]


@pytest.mark.parametrize("link", ["a/again", "again", "a/x"])
def test_a_link_that_leads_back_ends(make_tree: Tree, link: str):
    root = make_tree(dict.fromkeys("abcd", 2))
    os.symlink(root / "a" if link != "a/x" else root / "a" / "x", root / link)
    dataset = read_dataset("folder", root)
    assert len(dataset) == (10 if link == "again" else 8)


@pytest.mark.parametrize(
    ("tested", "says"),
    [
        ({"test/a": 2, "test/b": 2}, "seen classes"),
        ({"query/a": 1, "gallery/a": 1, "gallery/b": 1}, "seen classes"),
        ({"test/c": 2, "test/d": 2}, "unseen classes"),
        ({"query/c": 1, "gallery/c": 1}, "unseen classes"),
    ],
)
def test_a_layout_may_test_the_trained_classes_and_says_so(
    make_tree: Tree, tested: dict[str, int], says: str
):
    dataset = load_dataset("folder", make_tree({"train/a": 2, "train/b": 2, **tested}))
    assert dataset.tested == says
    report = dataset.verify(workers=0)
    assert report.ok
    assert report.shared_classes[:1] == (("a",) if says == "seen classes" else ())


def test_a_share_of_the_classes_is_held_out(make_tree: Tree):
    root = make_tree(dict.fromkeys("abcdefghij", 2))
    dataset = load_dataset("folder", root, holdout=0.25, holdout_seed=1)
    classes = {split: set(dataset.table["original_class"][dataset.rows(split)]) for split in dataset.counts()}
    assert (len(classes["train"]), len(classes["test"])) == (7, 3)
    assert not classes["train"] & classes["test"]
    assert dataset.tested == "unseen classes"
    assert dataset.notes[0] == f"held out: 3 of 10 classes ({', '.join(sorted(classes['test']))})"
    assert dataset.notes[1].startswith("scores of 3 classes are rough")
    trained = dataset.table[dataset.table["split"] == "train"]
    assert sorted(trained["label"].unique()) == list(range(7))
    again, other = (load_dataset("folder", root, holdout=0.25, holdout_seed=seed) for seed in (1, 2))
    assert again.manifest_hash == dataset.manifest_hash != other.manifest_hash


def test_a_new_class_leaves_the_order_of_the_draw_as_it_was(make_tree: Tree):
    names = "abcdefghijklmnop"
    drawn = []
    for added in ("", "q"):
        root = make_tree(dict.fromkeys(names + added, 2))
        table = load_dataset("folder", root, holdout=0.5).table
        drawn.append(set(table["original_class"][table["split"] == "test"]))
    assert len(drawn[0] - drawn[1]) <= 1


def test_nothing_is_held_out_on_request(make_tree: Tree):
    dataset = load_dataset("folder", make_tree(dict.fromkeys("ab", 2)), holdout=0)
    assert list(dataset.counts()) == ["train"]
    assert dataset.tested == "training images"
    assert dataset.notes == ["no class is held out"]


def test_all_classes_are_tested_on_request(make_tree: Tree):
    dataset = load_dataset("folder", make_tree(dict.fromkeys("abc", 2)), holdout=1)
    assert list(dataset.counts()) == ["test"]
    assert dataset.tested == "test classes"
    assert sorted(dataset.table["label"].unique()) == [0, 1, 2]


def test_small_classes_are_left_out_before_classes_are_held_out(make_tree: Tree):
    dataset = load_dataset(
        "folder", make_tree({"a": 2, "b": 1, "c": 2, "d": 2, "e": 2}), holdout=0.2, min_images=2
    )
    assert {split: count.classes for split, count in dataset.counts().items()} == {"train": 2, "test": 2}


def test_folders_of_splits_are_kept_and_noted(make_tree: Tree):
    names = ["train/a", "train/b", "test/c", "test/d"]
    dataset = load_dataset("folder", make_tree(dict.fromkeys(names, 2)), holdout=0.2)
    assert set(dataset.table["original_class"][dataset.rows("test")]) == {"c", "d"}
    assert dataset.notes == ["split by its folders train, test; no class is held out"]


@pytest.mark.parametrize(
    ("classes", "share", "said"),
    [
        ("a", 0.2, "train has 1 of the at least 2 classes"),
        ("abc", 0.2, "holding out 2 of 3 classes leaves fewer"),
        ("abcd", 0.9, "holding out 4 of 4 classes leaves fewer than 2 to train on; .*--holdout none"),
    ],
)
def test_too_few_classes_to_hold_out_are_one_line(make_tree: Tree, classes: str, share: float, said: str):
    with pytest.raises(InputError, match=said):
        load_dataset("folder", make_tree(dict.fromkeys(classes, 2)), holdout=share)


def test_official_splits_are_not_drawn_anew():
    with pytest.raises(InputError, match="digits has splits of its own; leave holdout out"):
        load_dataset("digits", holdout=0.2)
