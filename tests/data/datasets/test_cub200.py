from collections.abc import Callable
from pathlib import Path

import pytest

from pyg_bgformer.data import SplitCount, load_dataset, read_dataset
from pyg_bgformer.errors import InputError

Save = Callable[..., None]
CLASSES = {1: "001.Auk", 100: "100.Pelican", 101: "101.Pelican", 200: "200.Yellowthroat"}


@pytest.fixture
def root(tmp_path: Path, save_noise: Save) -> Path:
    """Four classes of two images in the official layout, the ids not in the order of the classes."""
    root = tmp_path / "CUB_200_2011"
    images = [(number, f"{name}/{image}.jpg") for image in range(2) for number, name in CLASSES.items()]
    for _, path in images:
        save_noise(root / "images" / path)
    lists = {
        "classes.txt": [f"{number} {name}" for number, name in CLASSES.items()],
        "images.txt": [f"{image} {path}" for image, (_, path) in enumerate(images, start=1)],
        "image_class_labels.txt": [f"{image} {number}" for image, (number, _) in enumerate(images, start=1)],
    }
    for name, lines in lists.items():
        (root / name).write_text("\n".join(lines) + "\n")
    return root


def test_class_ids_decide_the_split(root: Path):
    table = load_dataset("cub200", root, allow_partial=True).table
    found = table[["original_class", "label", "split"]].drop_duplicates().to_numpy().tolist()
    assert found == [
        ["001.Auk", 0, "train"],
        ["100.Pelican", 1, "train"],
        ["101.Pelican", 2, "test"],
        ["200.Yellowthroat", 3, "test"],
    ]
    assert table["path"][1] == "images/100.Pelican/0.jpg"


def test_the_folder_around_will_do(root: Path):
    inside = load_dataset("cub200", root, allow_partial=True)
    around = load_dataset("cub200", root.parent, allow_partial=True)
    assert around.manifest_hash == inside.manifest_hash
    assert around.image(3).size == (12, 10)


def test_lists_and_folders_as_people_have_them_are_the_same_dataset(root: Path):
    before = load_dataset("cub200", root, allow_partial=True).manifest_hash
    for name in ("images.txt", "image_class_labels.txt", "classes.txt"):
        file = root / name
        file.with_name(f"{file.stem} (1).txt").write_text(
            "\ufeff" + file.read_text().replace(" ", "\t") + "\n"
        )
        file.unlink()
    images = root / "images"
    for image in images.rglob("*0.jpg"):
        image.rename(image.with_suffix(".JPG"))
    images.rename(root / "moved")
    images.mkdir()
    (root / "moved").rename(images / "images")
    (images / "images" / "001.Auk" / "LICENSE").touch()
    root.rename(root.with_name("inside"))
    root.mkdir()
    root.with_name("inside").rename(root / root.name)
    dataset = load_dataset("cub200", root, allow_partial=True)
    assert dataset.manifest_hash == before
    assert dataset.verify(workers=0).decoded == 8
    assert dataset.notes == ["ignored: 001.Auk/LICENSE"]


def test_a_partial_copy_is_refused_with_the_counts(root: Path):
    with pytest.raises(InputError, match=r"4 of 200 classes, 8 of 11,788 images.*allow_partial") as caught:
        load_dataset("cub200", root)
    assert "\n" not in str(caught.value)
    assert load_dataset("cub200", root, allow_partial=True).partial


def test_missing_and_unlisted_images_are_named(root: Path, save_noise: Save):
    (root / "images" / "001.Auk" / "1.jpg").unlink()
    save_noise(root / "images" / "001.Auk" / "new.jpg")
    with pytest.raises(InputError, match=r"class '001\.Auk' \(train\) has one image"):
        load_dataset("cub200", root, allow_partial=True)
    report = read_dataset("cub200", root).verify(decode=False)
    assert "1 image of images.txt not in images/: 001.Auk/1.jpg" in report.problems
    assert "1 image of images/ not in images.txt: 001.Auk/new.jpg" in report.problems
    assert "images.txt lacks 11,780 official rows: 9-11788" in report.problems
    assert "classes that are missing: 2-99, 102-199" in report.problems


@pytest.mark.parametrize("name", ["images.txt", "image_class_labels.txt", "classes.txt"])
def test_a_list_that_is_missing_is_named(root: Path, name: str):
    (root / name).unlink()
    with pytest.raises(InputError, match=rf"{name}: no such file"):
        load_dataset("cub200", root, allow_partial=True)


@pytest.mark.parametrize(
    ("name", "line", "said"),
    [
        ("images.txt", "nonsense", "images.txt, line 9: found 'nonsense'"),
        ("images.txt", "8 001.Auk/0.jpg", "images.txt, line 9"),
        ("images.txt", "9 001.Auk/9.jpg", "image 9 .* has class ''"),
        ("classes.txt", "seven 007.Auklet", "classes.txt, line 5"),
        ("images.txt", "² 001.Auk/9.jpg", "images.txt, line 9: found '² 001.Auk/9.jpg'"),
    ],
)
def test_a_damaged_list_is_named(root: Path, name: str, line: str, said: str):
    with open(root / name, "a") as file:
        file.write(line + "\n")
    with pytest.raises(InputError, match=said):
        load_dataset("cub200", root, allow_partial=True)


def test_a_class_without_its_number_is_named(root: Path):
    (root / "classes.txt").write_text("1 Auk\n100 100.Pelican\n101 101.Pelican\n200 200.Yellowthroat\n")
    with pytest.raises(InputError, match=r"classes\.txt: class 1 is 'Auk'; expected '001\.<name>'"):
        read_dataset("cub200", root)


def test_rows_that_no_image_uses_are_named(root: Path):
    for name, line in (("image_class_labels.txt", "11789 1"), ("classes.txt", "201 201.New")):
        with open(root / name, "a") as file:
            file.write(line + "\n")
    problems = read_dataset("cub200", root).verify(decode=False).problems
    assert "image_class_labels.txt has 1 row beyond the official ones: 11789" in problems
    assert "classes.txt has 1 row beyond the official ones: 201" in problems


def test_images_are_cut_to_their_boxes(root: Path):
    boxes = ["1 2.5 3.0 4.0 5.5", *(f"{image} 0.0 0.0 20.0 6.0" for image in range(2, 9))]
    (root / "bounding_boxes.txt").write_text("\n".join(boxes))
    whole = load_dataset("cub200", root, allow_partial=True)
    cropped = load_dataset("cub200", root, allow_partial=True, crop_to_box=True)
    assert (whole.cropped, cropped.cropped) == (False, True)
    assert cropped.image(0).tobytes() == whole.image(0).crop((2, 3, 7, 9)).tobytes()
    assert cropped.image(1).size == (12, 6)  # a box beyond the image ends with it
    # so that neither results nor cached images of the two are taken for each other
    assert cropped.manifest_hash != whole.manifest_hash


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("1 2.5 3.0 4.0", "image 1 has '2.5 3.0 4.0'; expected four numbers"),
        ("9 0.0 0.0 4.0 5.0", "image 1 has ''"),
        ("1 two 3.0 4.0 5.0", "image 1 has 'two 3.0 4.0 5.0'"),
    ],
)
def test_a_damaged_list_of_boxes_is_named(root: Path, line: str, said: str):
    (root / "bounding_boxes.txt").write_text(line)
    with pytest.raises(InputError, match=rf"bounding_boxes.txt: {said}"):
        load_dataset("cub200", root, allow_partial=True, crop_to_box=True)


def test_boxes_that_are_not_there(root: Path):
    with pytest.raises(InputError, match=r"bounding_boxes\.txt: no such file"):
        load_dataset("cub200", root, allow_partial=True, crop_to_box=True)


def test_no_images_at_all(root: Path):
    (root / "images").rename(root / "pictures")
    with pytest.raises(InputError, match="0 of 200 classes, 0 of 11,788 images"):
        load_dataset("cub200", root)


def test_the_copy_at_hand(official_data: Path):
    root = official_data / "CUB_200_2011"
    if not root.is_dir():
        pytest.skip(f"no {root}")
    dataset = load_dataset("cub200", root, allow_partial=True)
    classes = dataset.table["original_class"].str[:3].astype(int)
    assert ((classes <= 100) == (dataset.table["split"] == "train")).all()
    report = dataset.verify(decode=False)
    assert report.expected == {"train": SplitCount(100, 5864), "test": SplitCount(100, 5924)}
    assert report.shared_classes == ()
    if report.found == {"train": SplitCount(58, 3428), "test": SplitCount(42, 2474)}:
        assert not report.ok
        assert "100 of 200 classes, 5,902 of 11,788 images" in str(report)
