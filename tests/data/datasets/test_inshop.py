import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pyg_bgformer.data import SplitCount, load_dataset, read_dataset
from pyg_bgformer.data.datasets import inshop
from pyg_bgformer.data.image_files import FolderContent
from pyg_bgformer.errors import InputError

IMAGES = {
    "img/WOMEN/Dresses/id_1/01_1_front.jpg": ("id_1", "train"),
    "img/WOMEN/Dresses/id_1/01_2_side.jpg": ("id_1", "train"),
    "img/MEN/Denim/id_2/01_1_front.jpg": ("id_2", "train"),
    "img/MEN/Denim/id_3/01_1_front.jpg": ("id_3", "query"),
    "img/MEN/Denim/id_3/02_1_front.jpg": ("id_3", "gallery"),
    "img/MEN/Denim/id_4/01_1_front.jpg": ("id_4", "gallery"),
    "img/MEN/Denim/id_4/02_1_front.jpg": ("id_4", "query"),
}


def write_list(file: Path, images: dict[str, tuple[str, str]], announced: int | None = None) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    rows = [f"{path:<80}{item} {split}" for path, (item, split) in images.items()]
    count = len(rows) if announced is None else announced
    file.write_text("\n".join([str(count), "image_name item_id evaluation_status", *rows]) + "\n")


@pytest.fixture
def root(tmp_path: Path, save_noise: Callable[..., None]) -> Path:
    """As the owners distribute it."""
    for path in IMAGES:
        save_noise(tmp_path / "Img" / path, (12, 10))
        save_noise(tmp_path / "Img" / path.replace("img/", "img_highres/"), (40, 30))
    write_list(tmp_path / "Eval" / "list_eval_partition.txt", IMAGES)
    return tmp_path


def test_everything_in_one_folder_is_the_same_dataset(root: Path):
    before = read_dataset("inshop", root)
    pixels = before.image(6).tobytes()
    for inside in [*(root / "Img").iterdir(), *(root / "Eval").iterdir()]:
        inside.rename(root / inside.name)
    after = read_dataset("inshop", root)
    assert after.manifest_hash == before.manifest_hash
    assert after.image(6).tobytes() == pixels


@pytest.mark.parametrize(
    ("variant", "size"), [(None, (12, 10)), ("img", (12, 10)), ("img_highres", (40, 30))]
)
def test_both_trees(root: Path, variant: str | None, size: tuple[int, int]):
    dataset = load_dataset("inshop", root, variant=variant, allow_partial=True)
    assert dataset.table["split"].tolist() == [split for _, split in IMAGES.values()]
    assert dataset.table["label"].tolist() == [0, 0, 1, 2, 2, 3, 3]
    assert dataset.image(6).size == size


def test_the_trees_are_different_data_wherever_they_are(root: Path):
    hashes = {
        tree: read_dataset("inshop", root, variant=tree).manifest_hash for tree in ("img", "img_highres")
    }
    assert len(set(hashes.values())) == 2


def test_marked_lists_nested_trees_and_files_in_another_case(root: Path):
    before = read_dataset("inshop", root).manifest_hash
    file = next(root.rglob("list_eval_partition.txt"))
    file.write_text("\ufeff" + file.read_text().replace(" train", "\ttrain") + "\n\n")
    for image in [*root.rglob("img/MEN/**/*.jpg")]:
        image.rename(image.with_suffix(".JPG"))
    tree = next(root.rglob("img"))
    tree.rename(root / "moved")
    tree.mkdir()
    (root / "moved").rename(tree / "img")
    dataset = read_dataset("inshop", root)
    assert dataset.manifest_hash == before
    assert dataset.verify(workers=0).decoded == 7


def test_a_query_item_without_gallery_is_refused(root: Path):
    file = next(root.rglob("list_eval_partition.txt"))
    write_list(file, {path: row for path, row in IMAGES.items() if row != ("id_3", "gallery")})
    with pytest.raises(InputError, match="the query item 'id_3' has no image in the gallery"):
        load_dataset("inshop", root, allow_partial=True)


def test_an_item_of_train_must_not_be_searched_for(root: Path):
    file = next(root.rglob("list_eval_partition.txt"))
    write_list(file, {path: ("id_1", split) for path, (_, split) in IMAGES.items()})
    with pytest.raises(InputError, match="class 'id_1' is both in train and in test"):
        load_dataset("inshop", root, allow_partial=True)


def test_absent_and_unlisted_images_and_missing_rows_are_named(root: Path):
    file = next(root.rglob("list_eval_partition.txt"))
    moved = next(root.rglob("img/MEN/Denim/id_3/02_1_front.jpg"))
    moved.rename(moved.with_name("new.jpg"))
    write_list(file, IMAGES, announced=9)
    problems = read_dataset("inshop", root).verify(decode=False).problems
    assert "list_eval_partition.txt announces 9 images and has 7 rows" in problems
    assert "1 image of list_eval_partition.txt not in img/: img/MEN/Denim/id_3/02_1_front.jpg" in problems
    assert "1 image of img/ not in list_eval_partition.txt: img/MEN/Denim/id_3/new.jpg" in problems
    assert "the query item 'id_3' has no image in the gallery; add one, or remove its queries" in problems


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1: found ''; expected the number of images"),
        ("²\n", "line 1: found '²'; expected the number of images"),
        ("1\n", "line 2: found 'the end of the file'"),
        ("1\nimage_name item_id evaluation_status\nimg/a.jpg id_1\n", "line 3: found 'img/a.jpg id_1'"),
        ("1\nimage_name item_id evaluation_status\nimg/a.jpg id_1 val\n", "with status 'val'"),
        ("1\nimage_name item_id evaluation_status\n/img/a.jpg id_1 train\n", "found '/img/a.jpg'"),
    ],
)
def test_a_damaged_list_is_named(root: Path, text: str, said: str):
    next(root.rglob("list_eval_partition.txt")).write_text(text)
    with pytest.raises(InputError, match=said):
        read_dataset("inshop", root)


def test_wrong_folders(tmp_path: Path):
    with pytest.raises(InputError, match=r"list_eval_partition\.txt: no such file"):
        load_dataset("inshop", tmp_path)
    write_list(tmp_path / "list_eval_partition.txt", IMAGES)
    with pytest.raises(InputError, match=r"found neither img nor img\.zip, there or in Img/"):
        load_dataset("inshop", tmp_path)


def test_the_official_list_gives_the_official_counts(
    list_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    shutil.copy(list_files / "list_eval_partition.txt", tmp_path)
    (tmp_path / "img").mkdir()
    lines = (tmp_path / "list_eval_partition.txt").read_text().splitlines()[2:]
    files = [line.split()[0].removeprefix("img/") for line in lines]  # 52,712: too many to make here
    monkeypatch.setattr(inshop, "image_files", lambda _: FolderContent(files, []))
    report = load_dataset("inshop", tmp_path).verify(decode=False)
    assert report.ok, report
    assert report.found == {
        "train": SplitCount(3_997, 25_882),
        "query": SplitCount(3_985, 14_218),
        "gallery": SplitCount(3_985, 12_612),
    }
