import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from pyg_bgformer.data import SplitCount, load_dataset, read_dataset
from pyg_bgformer.data.datasets import cars196
from pyg_bgformer.data.datasets.cars196_lists import read_class_names
from pyg_bgformer.data.image_files import FolderContent
from pyg_bgformer.errors import InputError

NAMES = [f"Acura {number} 2012" for number in range(1, 98)]
NAMES += ["Eagle Talon Hatchback 1998", "FIAT 500 Abarth 2012"]
NAMES += [f"Volvo {number} 2012" for number in range(100, 196)] + ["smart fortwo Convertible 2012"]
# Image, its class number; the official split has every class in both parts.
TRAIN = [("00001.jpg", 196), ("00002.jpg", 98), ("00003.jpg", 99), ("00004.jpg", 1)]
TEST = [("00001.jpg", 1), ("00002.jpg", 99), ("00003.jpg", 98), ("00004.jpg", 196)]
ROWS = [(f"cars_train/{path}", number) for path, number in TRAIN]
ROWS += [(f"cars_test/{path}", number) for path, number in TEST]

Save = Callable[..., None]


def save_annotations(file: Path, field: str, rows: list[tuple[str, int]], **more: object) -> None:
    kinds = [*((f"bbox_{side}", "O") for side in ("x1", "y1", "x2", "y2")), ("class", "O"), (field, "O")]
    values = np.empty((1, len(rows)), dtype=kinds)
    for index, (path, number) in enumerate(rows):
        values[0, index] = (2, 3, 6, 9, number, path)
    file.parent.mkdir(parents=True, exist_ok=True)
    savemat(file, {"annotations": values, **more})


def save_lists(root: Path, train: list[tuple[str, int]] = TRAIN, test: list[tuple[str, int]] = TEST) -> None:
    save_annotations(root / "devkit" / "cars_train_annos.mat", "fname", train)
    save_annotations(root / "cars_test_annos_withlabels.mat", "fname", test)
    savemat(root / "devkit" / "cars_meta.mat", {"class_names": np.array([NAMES], dtype=object)})


@pytest.fixture
def root(tmp_path: Path, save_noise: Save) -> Path:
    """Two lists and two folders."""
    for seed, (path, _) in enumerate(ROWS):
        save_noise(tmp_path / path, (12, 10), seed)
    save_lists(tmp_path)
    return tmp_path


def classes_of(root: Path) -> set[tuple[str, str, int]]:
    table = load_dataset("cars196", root, allow_partial=True).table
    counted = table.groupby(["original_class", "split"]).size()
    return {(name, split, count) for (name, split), count in counted.items()}


BOTH = {
    ("Acura 1 2012", "train", 2),
    ("Eagle Talon Hatchback 1998", "train", 2),
    ("FIAT 500 Abarth 2012", "test", 2),
    ("smart fortwo Convertible 2012", "test", 2),
}


def test_classes_decide_the_split_in_the_union_of_both_lists(root: Path):
    table = load_dataset("cars196", root, allow_partial=True).table
    assert table["path"].tolist() == [path for path, _ in ROWS]
    assert table["original_class"].tolist() == [NAMES[number - 1] for _, number in ROWS]
    assert classes_of(root) == BOTH


def test_one_folder_with_one_list(tmp_path: Path, save_noise: Save):
    rows = [(f"car_ims/{index:06}.jpg", number) for index, (_, number) in enumerate(ROWS, start=1)]
    for path, _ in rows:
        save_noise(tmp_path / path)
    names = np.array([NAMES], dtype=object)
    save_annotations(tmp_path / "cars_annos.mat", "relative_im_path", rows, class_names=names)
    assert classes_of(tmp_path) == BOTH
    problems = read_dataset("cars196", tmp_path).problems
    assert "cars_annos.mat lacks 16,177 official rows: 9-16185" in problems


@pytest.mark.parametrize(("parts", "space"), [(("",), "_"), (("train/", "test/"), " ")])
def test_class_folders(tmp_path: Path, save_noise: Save, parts: tuple[str, ...], space: str):
    for name, _, _ in BOTH:
        for part in parts:
            save_noise(tmp_path / f"{part}{name.replace(' ', space)}" / "1.jpg")
            save_noise(tmp_path / f"{part}{name.replace(' ', space)}" / "2.jpg")
    assert classes_of(tmp_path) == {(name, split, 2 * len(parts)) for name, split, _ in BOTH}


def test_the_devkit_may_keep_its_archives_name(root: Path):
    (root / "devkit").rename(root / "car_devkit")
    assert classes_of(root) == BOTH


@pytest.mark.parametrize(
    ("train", "test", "said"),
    [
        (TRAIN[1:], TEST, "cars_train_annos.mat lacks 8,141 official rows: 1, 5-8144"),
        (
            TRAIN,
            [*TEST, ("08042.jpg", 1)],
            "withlabels.mat has 1 row beyond the official ones: 8042",
        ),
        (
            TRAIN,
            [*TEST, ("00005.jpg", 1)],
            "1 image of .*withlabels.mat not in cars_test/: cars_test/00005.jpg",
        ),
        (TRAIN, [*TEST, TEST[0]], "cars_test_annos_withlabels.mat has 1 row more than once: 1"),
        (TRAIN, [*TEST, TEST[0]], "'cars_test/00001.jpg' is listed twice"),
        (TRAIN, TEST[1:], "1 image of cars_test/ not in cars_test_annos_withlabels.mat: cars_test/00001.jpg"),
    ],
)
def test_verify_names_every_difference_of_the_lists(
    root: Path, train: list[tuple[str, int]], test: list[tuple[str, int]], said: str
):
    save_lists(root, train, test)
    with pytest.raises(AssertionError, match=said):
        raise AssertionError("\n".join(read_dataset("cars196", root).verify(decode=False).problems))


def test_images_are_cut_to_their_boxes(root: Path):
    """Edges of 2, 3, 6, 9 are counted from 1, the last ones included."""
    whole = load_dataset("cars196", root, allow_partial=True)
    cropped = load_dataset("cars196", root, allow_partial=True, crop_to_box=True)
    assert cropped.image(5).tobytes() == whole.image(5).crop((1, 2, 6, 9)).tobytes()
    assert cropped.manifest_hash != whole.manifest_hash


def test_class_folders_have_no_boxes(tmp_path: Path, save_noise: Save):
    save_noise(tmp_path / "Acura 1 2012" / "1.jpg")
    with pytest.raises(InputError, match="leave crop_to_box out"):
        load_dataset("cars196", tmp_path, crop_to_box=True)


def test_an_absent_folder_makes_the_copy_partial(root: Path):
    shutil.rmtree(root / "cars_test")
    with pytest.raises(InputError, match=r"4 of 16,185 images.*complete it"):
        load_dataset("cars196", root)
    assert "4 images of cars_test_annos_withlabels.mat not in cars_test/" in str(
        read_dataset("cars196", root).verify(decode=False)
    )


def test_a_class_that_does_not_exist(root: Path):
    save_lists(root, train=[("00001.jpg", 197)])
    with pytest.raises(InputError, match=r"annotation 1: found image '00001\.jpg' of class 197; .* 1 to 196"):
        read_dataset("cars196", root)


@pytest.mark.parametrize("images", [True, False])
def test_a_part_without_its_list_makes_the_copy_partial(root: Path, images: bool):
    (root / "cars_test_annos_withlabels.mat").unlink()
    if not images:
        shutil.rmtree(root / "cars_test")
    with pytest.raises(InputError, match="4 of 16,185 images"):
        load_dataset("cars196", root)
    said = "no cars_test_annos_withlabels.mat: the images of cars_test/ are left out"
    assert any(problem.startswith(said) for problem in read_dataset("cars196", root).problems)
    (root / "devkit" / "cars_train_annos.mat").unlink()
    with pytest.raises(InputError, match=r"no cars_train_annos\.mat and no cars_test_annos_withlabels\.mat"):
        read_dataset("cars196", root)


def test_the_copy_of_kaggle(root: Path):
    before = load_dataset("cars196", root, allow_partial=True)
    for part in ("cars_train", "cars_test"):
        (root / part).rename(root / "moved")
        (root / part).mkdir()
        (root / "moved").rename(root / part / part)
    (root / "car_devkit").mkdir()
    (root / "devkit").rename(root / "car_devkit" / "devkit")
    (root / "cars_test_annos_withlabels.mat").rename(root / "cars_test_annos_withlabels (1).mat")
    (root / "cars_train" / "cars_train" / "LICENSE").touch()
    dataset = load_dataset("cars196", root, allow_partial=True)
    assert dataset.manifest_hash == before.manifest_hash
    assert dataset.verify(workers=0).decoded == 8
    assert dataset.notes == ["ignored: cars_train/LICENSE"]


def test_class_folders_of_kaggle(tmp_path: Path, save_noise: Save):
    for name, _, _ in BOTH:
        for part in ("train", "test"):
            save_noise(tmp_path / "car_data" / "car_data" / part / name / "1.jpg")
    assert classes_of(tmp_path) == BOTH


def test_a_list_without_classes_is_no_list(root: Path):
    file = root / "cars_test_annos_withlabels.mat"
    shutil.copy(root / "devkit" / "cars_meta.mat", file)
    with pytest.raises(InputError, match="has no variable 'annotations'"):
        read_dataset("cars196", root)
    savemat(file, {"annotations": np.zeros((1, 2), dtype=[("fname", "O"), ("bbox_x1", "O")])})
    with pytest.raises(InputError, match="no field 'bbox_x2'"):
        read_dataset("cars196", root)


def test_a_list_that_was_cut_off_or_damaged(root: Path):
    """Compressed as the official files are; without their checksums, many of these crash scipy."""
    file = root / "devkit" / "cars_train_annos.mat"
    savemat(file, {"annotations": loadmat(file)["annotations"]}, do_compression=True)
    content = file.read_bytes()
    places = np.random.default_rng(0).integers(124, len(content), 20)
    flipped = [content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :] for place in places]
    for wrong in [*flipped, b"", content[:200], content[:-9]]:
        file.write_bytes(wrong)
        with pytest.raises(InputError, match=r"cars_train_annos\.mat: not a whole MATLAB file") as caught:
            read_dataset("cars196", root)
        assert "\n" not in str(caught.value)


def test_a_box_that_is_no_numbers(root: Path):
    file = root / "devkit" / "cars_train_annos.mat"
    annotations = loadmat(file)["annotations"]
    annotations[0, 2]["bbox_y1"] = "top"
    savemat(file, {"annotations": annotations})
    with pytest.raises(
        InputError, match=r"annotation 3: found the box \(2, 'top', 6, 9\); expected four whole"
    ):
        read_dataset("cars196", root)


def test_class_names_that_are_no_names(root: Path):
    savemat(root / "devkit" / "cars_meta.mat", {"class_names": np.arange(196)})
    with pytest.raises(InputError, match=r"cars_meta\.mat: its class_names are not a list of names"):
        read_dataset("cars196", root)


@pytest.mark.parametrize("folder", ["12", "train/12", None])
def test_no_layout_of_cars(tmp_path: Path, save_noise: Save, folder: str | None):
    if folder:
        save_noise(tmp_path / folder / "1.jpg")
    with pytest.raises(InputError, match=f"found {folder or 'nothing'}; expected cars_train/"):
        load_dataset("cars196", tmp_path)


def test_the_official_lists_give_the_official_counts(
    list_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in ("cars_meta.mat", "cars_train_annos.mat", "cars_test_annos_withlabels.mat"):
        shutil.copy(list_files / name, tmp_path)
    images = {"cars_train": 8_144, "cars_test": 8_041}
    for folder in images:
        (tmp_path / folder).mkdir()
    monkeypatch.setattr(
        cars196,
        "image_files",
        lambda folder: FolderContent(
            [f"{number:05}.jpg" for number in range(1, images[folder.name] + 1)], []
        ),
    )
    report = load_dataset("cars196", tmp_path).verify(decode=False)
    assert report.ok, report
    assert report.found == {"train": SplitCount(98, 8_054), "test": SplitCount(98, 8_131)}


def test_class_folders_are_split_as_the_official_numbers_are(
    list_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    names = [name.replace("/", "-") for name in read_class_names(list_files / "cars_meta.mat")]
    for name in names:
        (tmp_path / name).mkdir()
    monkeypatch.setattr(cars196, "image_files", lambda _: FolderContent(["1.jpg"], []))
    table = read_dataset("cars196", tmp_path).table
    assert set(table["original_class"][table["split"] == "train"]) == set(names[:98])
    assert set(table["original_class"][table["split"] == "test"]) == set(names[98:])
