import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pyg_bgformer.data import ImageDataset, ImageError, SplitCount
from pyg_bgformer.errors import InputError

Tree = Callable[[Mapping[str, int]], Path]


def record(path: str, name: str, split: str) -> dict[str, str]:
    return {"path": path, "original_class": name, "split": split}


def records(*rows: tuple[str, str, str]) -> list[dict[str, str]]:
    return [record(*row) for row in rows]


SMALL = records(
    ("z/0.png", "z", "test"),
    ("q/0.png", "q", "train"),
    ("y/0.png", "y", "test"),
    ("p/0.png", "p", "train"),
    ("q/1.png", "q", "train"),
    ("y/1.png", "y", "test"),
    ("p/1.png", "p", "train"),
    ("z/1.png", "z", "test"),
)


def test_labels_are_contiguous_train_classes_first_in_the_order_of_the_records():
    table = ImageDataset("small", SMALL).table
    assert table["label"].dtype == np.int64
    assert dict(zip(table["original_class"], table["label"], strict=True)) == {"q": 0, "p": 1, "z": 2, "y": 3}
    assert table["path"].tolist() == [row["path"] for row in SMALL]


def test_rows_of_a_split():
    dataset = ImageDataset("small", SMALL)
    assert dataset.rows("train").tolist() == [1, 3, 4, 6]
    assert dataset.rows("test").tolist() == [0, 2, 5, 7]
    with pytest.raises(InputError, match="no split 'query'; it has: train, test"):
        dataset.rows("query")


def test_query_and_gallery_share_their_classes():
    pairs = records(("a", "g", "gallery"), ("b", "g", "query"), ("c", "h", "query"), ("d", "h", "gallery"))
    dataset = ImageDataset("four", [row for row in [*SMALL, *pairs] if row["split"] != "test"])
    labels = dataset.table["label"].to_numpy()
    assert sorted(labels[dataset.rows("query")]) == sorted(labels[dataset.rows("gallery")]) == [2, 3]
    assert dataset.faults() == []


def test_another_table_gives_another_dataset_and_leaves_this_one(make_tree: Tree):
    dataset = ImageDataset("small", SMALL, root=make_tree(dict.fromkeys("pqyz", 2)))
    before = dataset.table.copy()
    fewer = dataset.with_table(dataset.table.iloc[[1, 6]].assign(split="test"), expected={})
    assert fewer.rows("test").tolist() == [0, 1]
    assert fewer.image(1).tobytes() == dataset.image(6).tobytes()
    assert dataset.table.equals(before)
    assert len(dataset) == 8


def test_a_file_may_have_another_name_than_its_path(make_tree: Tree):
    root = make_tree(dict.fromkeys("pqyz", 2))
    (root / "q" / "0.png").rename(root / "q" / "moved.PNG")
    dataset = ImageDataset("small", SMALL, root=root, files={"q/0.png": "q/moved.PNG", "p/0.png": "p/0.png"})
    assert dataset.manifest_hash == ImageDataset("small", SMALL).manifest_hash
    assert dataset.file(1) == str(root / "q" / "moved.PNG")
    assert dataset.verify(workers=0).ok
    assert len(dataset.source_stamp()) == 64


def test_manifest_hash_is_of_the_content_not_of_the_place(tmp_path: Path):
    first = ImageDataset("small", SMALL, root=tmp_path)
    assert ImageDataset("small", SMALL, root=Path("/elsewhere")).manifest_hash == first.manifest_hash
    # a result file that names this hash must mean the same dataset with every later version
    assert first.manifest_hash == "3cddbee3219233acb2e8d88f2e77997fc851754239e6b3e90e69d6eab56e0f17"
    assert ImageDataset("other", SMALL).manifest_hash != first.manifest_hash
    assert ImageDataset("small", SMALL[:-1]).manifest_hash != first.manifest_hash
    moved = [{**row, "split": "train"} if row["original_class"] == "y" else row for row in SMALL]
    assert ImageDataset("small", moved).manifest_hash != first.manifest_hash


def test_manifest_hash_does_not_depend_on_how_accents_are_composed():
    hashes = {
        ImageDataset("small", [*SMALL, record(path, "y", "test")]).manifest_hash
        for path in ("y/\N{LATIN SMALL LETTER E WITH ACUTE}.png", "y/e\N{COMBINING ACUTE ACCENT}.png")
    }
    assert len(hashes) == 1


def test_source_stamp_sees_a_replaced_image_but_not_another_place(make_tree: Tree, tmp_path: Path):
    root = make_tree(dict.fromkeys("pqyz", 2))
    before = ImageDataset("small", SMALL, root=root).source_stamp()
    shutil.copytree(root, tmp_path / "copy")
    assert ImageDataset("small", SMALL, root=tmp_path / "copy").source_stamp() == before
    Image.new("RGB", (50, 50)).save(root / "q" / "0.png")
    assert ImageDataset("small", SMALL, root=root).source_stamp() != before


def test_a_missing_file_is_named(make_tree: Tree):
    root = make_tree(dict.fromkeys("pqyz", 2))
    (root / "q" / "0.png").unlink()
    dataset = ImageDataset("small", SMALL, root=root)
    with pytest.raises(ImageError, match=r"q/0\.png: cannot be opened \(No such file"):
        dataset.image(1)
    with pytest.raises(ImageError, match=r"q/0\.png"):
        dataset.source_stamp()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ([row for row in SMALL if row["original_class"] != "q"], ["train has 1 of the at least 2 classes"]),
        ([row for row in SMALL if row["split"] == "train"], ["test has 0 of the at least 2 classes"]),
        ([], ["train has 0", "test has 0"]),
        ([row for row in SMALL if row["path"] != "y/1.png"], ["class 'y' (test) has one image"]),
        ([*SMALL, record("p/0.png", "p", "train")], ["'p/0.png' is listed twice"]),
        (
            [*SMALL, record("p/9.png", "p", "test")],
            ["class 'p' is both in train and in test", "'p' (test) has one"],
        ),
    ],
)
def test_faults(change: list[dict[str, str]], said: list[str]):
    faults = ImageDataset("small", change).faults()
    assert len(faults) == len(said)
    for line, part in zip(faults, said, strict=True):
        assert part in line


def test_a_query_needs_a_gallery_image_of_its_class():
    pairs = records(("a", "g", "gallery"), ("b", "g", "query"), ("c", "h", "query"))
    dataset = ImageDataset("three", [*(row for row in SMALL if row["split"] == "train"), *pairs])
    assert dataset.faults() == [
        "the query item 'h' has no image in the gallery; add one, or remove its queries"
    ]


@pytest.mark.parametrize("workers", [0, 2])
def test_verify_names_every_damaged_image(make_tree: Tree, workers: int):
    root = make_tree(dict.fromkeys("pqyz", 2))
    (root / "q" / "0.png").write_bytes(b"nothing")
    (root / "z" / "1.png").write_bytes((root / "z" / "1.png").read_bytes()[:-40])
    report = ImageDataset("small", SMALL, root=root).verify(workers=workers)
    assert not report.ok
    assert report.decoded == 6
    assert [problem.partition(": ")[0] for problem in report.problems] == [
        str(root / "q" / "0.png"),
        str(root / "z" / "1.png"),
    ]


def test_verify_of_a_sound_dataset(make_tree: Tree):
    expected = {"train": SplitCount(2, 4), "test": SplitCount(2, 4)}
    root = make_tree(dict.fromkeys("pqyz", 2))
    report = ImageDataset("small", SMALL, root=root, expected=expected).verify(workers=0)
    assert report.ok
    assert report.found == report.expected == expected
    assert report.problems == []


def test_coverage_is_by_split():
    extra = records(("y/2.png", "y", "test"), ("q/1.png", "q", "gallery"))
    coverage = ImageDataset("small", [*SMALL, *extra]).coverage()
    assert list(coverage) == ["train", "test", "gallery"]
    spans = [(split.smallest, split.median, split.largest) for split in coverage.values()]
    assert spans == [(2, 2, 2), (2, 2.5, 3), (1, 1, 1)]


def test_verify_counts_against_the_official_numbers():
    expected = {"train": SplitCount(2, 4), "test": SplitCount(3, 6)}
    dataset = ImageDataset("small", SMALL, expected=expected)
    report = dataset.verify(decode=False)
    assert dataset.partial
    assert not report.ok
    assert report.decoded is None
    assert report.problems == ["not the official dataset; in all: 4 of 5 classes, 8 of 10 images"]
