import shutil
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest

from pyg_bgformer.data import SplitCount, load_dataset, read_dataset
from pyg_bgformer.data.datasets import sop
from pyg_bgformer.data.image_files import FolderContent
from pyg_bgformer.errors import InputError

HEADING = "image_id class_id super_class_id path"
ROWS = {
    "Ebay_train.txt": [
        "1 1 1 bicycle_final/1_0.JPG",
        "2 1 1 bicycle_final/1_1.JPG",
        "3 2 12 toaster_final/2_0.JPG",
        "4 2 12 toaster_final/2_1.JPG",
    ],
    "Ebay_test.txt": [
        "59552 3 1 bicycle_final/3_0.JPG",
        "59553 3 1 bicycle_final/3_1.JPG",
        "59554 4 12 toaster_final/4_0.JPG",
        "59555 4 12 toaster_final/4_1.JPG",
    ],
}


def write_list(root: Path, name: str, rows: list[str]) -> None:
    (root / name).write_text("\n".join([HEADING, *rows]) + "\n")


@pytest.fixture
def root(tmp_path: Path, save_noise: Callable[..., None]) -> Path:
    root = tmp_path / "Stanford_Online_Products"
    for name, rows in ROWS.items():
        for row in rows:
            save_noise((root / row.split()[3]).with_suffix(".png"), (9, 8))
            (root / row.split()[3]).with_suffix(".png").rename(root / row.split()[3])
        write_list(root, name, rows)
    (root / "bicycle_final.txt").write_text("beside the official lists\n")
    return root


def test_lists_decide_splits_classes_and_super_classes(root: Path):
    dataset = load_dataset("sop", root, allow_partial=True)
    found = dataset.table[["original_class", "label", "split", "super_class"]].drop_duplicates()
    assert found.to_numpy().tolist() == [
        ["1", 0, "train", "bicycle"],
        ["2", 1, "train", "toaster"],
        ["3", 2, "test", "bicycle"],
        ["4", 3, "test", "toaster"],
    ]
    assert dataset.image(7).size == (9, 8)
    assert load_dataset("sop", root.parent, allow_partial=True).manifest_hash == dataset.manifest_hash


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("Ebay_train.txt", lambda rows: rows[1:], "Ebay_train.txt lacks 59,548 official rows: 1, 5-59551"),
        ("Ebay_test.txt", lambda rows: [*rows, rows[0]], "Ebay_test.txt has 1 row more than once: 59552"),
        ("Ebay_test.txt", lambda rows: [*rows, rows[0]], "'bicycle_final/3_0.JPG' is listed twice"),
        (
            "Ebay_test.txt",
            lambda rows: [*rows, "120054 4 12 toaster_final/4_2.JPG"],
            "Ebay_test.txt has 1 row beyond the official ones: 120054",
        ),
        (
            "Ebay_test.txt",
            lambda rows: [*rows, "59556 4 12 toaster_final/4_2.JPG"],
            "1 image of the lists not in .*Stanford_Online_Products: toaster_final/4_2.JPG",
        ),
        ("Ebay_train.txt", lambda rows: rows[:3], "1 image of .* not in the lists: toaster_final/2_1.JPG"),
        (
            "Ebay_test.txt",
            lambda rows: [*rows, "59556 2 12 toaster_final/2_1.JPG"],
            "class '2' is both in train and in test",
        ),
    ],
)
def test_verify_names_every_difference_of_the_lists(
    root: Path, name: str, change: Callable[[list[str]], list[str]], said: str
):
    write_list(root, name, change(ROWS[name]))
    report = read_dataset("sop", root).verify(decode=False)
    with pytest.raises(AssertionError, match=said):
        raise AssertionError("\n".join(report.problems))
    with pytest.raises(InputError) as caught:
        load_dataset("sop", root)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            "1 1 bicycle_final/1.JPG",
            "Ebay_train.txt, line 2: found '1 1 bicycle_final/1.JPG'; expected values",
        ),
        ("one 1 1 bicycle_final/1.JPG", "line 2: found 'one 1 1 .*expected three numbers"),
        ("² 1 1 bicycle_final/1.JPG", "line 2: found '² 1 1 .*expected three numbers"),
        ("1 1 bicycle bicycle_final/1.JPG", "line 2: found '1 1 bicycle .*expected three numbers"),
        ("1 1 1 ../1.JPG/x", "line 2: .*expected three numbers and <kind>/<image>"),
    ],
)
def test_a_damaged_row_is_named(root: Path, line: str, said: str):
    write_list(root, "Ebay_train.txt", [line])
    with pytest.raises(InputError, match=said):
        read_dataset("sop", root)


def test_files_in_another_case_with_a_marked_and_tabbed_list_are_the_same_dataset(root: Path):
    before = load_dataset("sop", root, allow_partial=True).manifest_hash
    for image in root.rglob("*.JPG"):
        image.rename(image.with_suffix(".jpg"))
    for name, rows in ROWS.items():
        text = "\n".join([HEADING, *rows]).replace(" ", "\t")
        (root / name).write_text(f"\ufeff{text}\n\n")
    dataset = load_dataset("sop", root, allow_partial=True)
    assert dataset.manifest_hash == before
    assert dataset.verify(workers=0).decoded == 8
    assert len(dataset.source_stamp()) == 64


def test_a_folder_inside_a_folder_of_its_name_is_entered(root: Path, tmp_path: Path):
    before = load_dataset("sop", root, allow_partial=True).manifest_hash
    (tmp_path / "outer" / root.name).mkdir(parents=True)
    root.rename(tmp_path / "outer" / root.name / root.name)
    for given in (tmp_path / "outer", tmp_path / "outer" / root.name):
        assert load_dataset("sop", given, allow_partial=True).manifest_hash == before


def test_images_in_a_folder_that_no_list_knows_are_named(root: Path, save_noise: Callable[..., None]):
    save_noise(root / "boat_final" / "9_0.png")
    problems = read_dataset("sop", root).verify(decode=False).problems
    assert f"1 image of {root} not in the lists: boat_final/9_0.png" in problems


def test_a_list_that_is_missing_is_named(root: Path):
    (root / "Ebay_test.txt").unlink()
    with pytest.raises(InputError, match=r"Ebay_test\.txt: no such file"):
        load_dataset("sop", root)


def test_the_official_lists_give_the_official_counts(
    list_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    files: dict[str, list[str]] = defaultdict(list)  # 120,053 of them: too many to make here
    for name in ROWS:
        shutil.copy(list_files / name, tmp_path)
        for line in (tmp_path / name).read_text().splitlines()[1:]:
            folder, _, image = line.split()[3].partition("/")
            files[folder].append(image)
    for folder in files:
        (tmp_path / folder).mkdir()
    monkeypatch.setattr(sop, "image_files", lambda folder: FolderContent(files[folder.name], []))
    dataset = load_dataset("sop", tmp_path)
    report = dataset.verify(decode=False)
    assert report.ok, report
    assert report.found == {"train": SplitCount(11_318, 59_551), "test": SplitCount(11_316, 60_502)}
    assert dataset.table["super_class"].nunique() == 12
