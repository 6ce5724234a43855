import os
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch

from pyg_bgformer.data import ImageCache, ImageDataset, ImageError, load_dataset
from pyg_bgformer.data.images import to_tensor
from pyg_bgformer.errors import InputError

Tree = Callable[[Mapping[str, int]], Path]
Save = Callable[..., None]


@pytest.fixture
def dataset(make_tree: Tree, save_noise: Save) -> ImageDataset:
    root = make_tree({"a": 3, "b": 2, "c": 2, "d": 2})
    save_noise(root / "a" / "wide.png", (60, 30))
    save_noise(root / "a" / "tall.png", (33, 99))
    return load_dataset("folder", root)


def built(dataset: ImageDataset, folder: Path, size: int = 20, workers: int = 0) -> tuple[ImageCache, list]:
    progress: list[tuple[int, int]] = []
    cache = ImageCache.open_or_build(
        dataset, size, folder, workers=workers, progress=lambda *step: progress.append(step)
    )
    return cache, progress


@pytest.mark.parametrize("workers", [0, 2])
def test_images_are_the_files_made_smaller_but_never_larger(
    dataset: ImageDataset, tmp_path: Path, workers: int
):
    cache, progress = built(dataset, tmp_path, workers=workers)
    assert len(cache) == len(dataset)
    assert progress == [(done, len(dataset)) for done in range(1, len(dataset) + 1)]
    for row, path in enumerate(dataset.table["path"]):
        image = to_tensor(dataset.image(row))
        if path.endswith("wide.png"):
            assert cache[row].shape == (3, 20, 40)
        elif path.endswith("tall.png"):
            assert cache[row].shape == (3, 60, 20)
        else:
            assert torch.equal(cache[row], image)
        assert abs(cache[row].double().mean() - image.double().mean()) < 2


def test_a_whole_cache_is_opened_not_made_again(dataset: ImageDataset, tmp_path: Path):
    first, _ = built(dataset, tmp_path)
    again, progress = built(dataset, tmp_path)
    assert progress == []
    assert again.path == first.path
    assert [file.suffix for file in tmp_path.iterdir() if file.is_file()] == [".cache"]


def test_a_copy_in_another_process_reads_the_same_file(dataset: ImageDataset, tmp_path: Path):
    cache, _ = built(dataset, tmp_path)
    sent = pickle.dumps(cache)
    assert len(sent) < 1000
    assert torch.equal(pickle.loads(sent)[3], cache[3])


def test_what_is_read_is_a_copy(dataset: ImageDataset, tmp_path: Path):
    cache, _ = built(dataset, tmp_path)
    kept = cache[0].clone()
    cache[0].zero_()
    assert torch.equal(cache[0], kept)


@pytest.mark.parametrize("last", [False, True])
def test_one_wrong_pixel_is_noticed_when_it_is_read(dataset: ImageDataset, tmp_path: Path, last: bool):
    cache, _ = built(dataset, tmp_path)
    rows = range(len(cache))
    place = sum(cache[row].numel() for row in rows) - 1 if last else 0
    damaged, path = rows[-1] if last else 0, cache.path
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    del cache
    path.write_bytes(content)
    cache, _ = built(dataset, tmp_path)
    for row in set(rows) - {damaged}:
        assert cache[row].numel() > 0
    with pytest.raises(ImageError, match=rf"image {damaged} of this cache is damaged; delete it"):
        cache[damaged]


@pytest.mark.parametrize("position", ["index", "tail", "magic"])
def test_one_wrong_byte_of_the_index_is_noticed_and_mended(
    dataset: ImageDataset, tmp_path: Path, position: str
):
    cache, _ = built(dataset, tmp_path)
    pixels = sum(cache[row].numel() for row in range(len(cache)))
    content = bytearray(cache.path.read_bytes())
    end = len(content)
    places = {"index": pixels, "tail": end - 1, "magic": end - 84}
    content[places[position]] ^= 0x80  # in the tail, no UTF-8 any more
    whole = [cache[row] for row in range(len(cache))]
    path = cache.path
    del cache
    path.write_bytes(content)
    mended, progress = built(dataset, tmp_path)
    assert len(progress) == len(dataset)
    assert all(torch.equal(mended[row], image) for row, image in enumerate(whole))


@pytest.mark.parametrize("left", [0, 50, -1])
def test_a_cut_off_file_is_refused_by_itself_and_mended(dataset: ImageDataset, tmp_path: Path, left: int):
    path = built(dataset, tmp_path)[0].path
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(InputError, match=r"\.cache"):
        ImageCache(path)
    assert len(built(dataset, tmp_path)[1]) == len(dataset)


def test_another_size_and_a_changed_image_make_another_cache(
    dataset: ImageDataset, tmp_path: Path, save_noise: Save
):
    first, _ = built(dataset, tmp_path)
    assert built(dataset, tmp_path, size=10)[0].path != first.path
    assert dataset.root is not None
    save_noise(dataset.root / "a" / "wide.png", (60, 30), seed=9)
    os.utime(dataset.root / "a" / "wide.png", (1, 1))
    changed, progress = built(dataset, tmp_path)
    assert len(progress) == len(dataset)
    row = dataset.table["path"].tolist().index("a/wide.png")
    assert not torch.equal(changed[row], first[row])


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_image_is_named_and_nothing_is_left(dataset: ImageDataset, tmp_path: Path, workers: int):
    assert dataset.root is not None
    (dataset.root / "b" / "1.png").write_bytes(b"")
    folder = tmp_path / "cache"
    with pytest.raises(ImageError, match=r"b/1\.png: the file is empty"):
        built(dataset, folder, workers=workers)
    assert list(folder.iterdir()) == []


def test_what_a_killed_process_left_is_removed(dataset: ImageDataset, tmp_path: Path, dead_partial):
    dead_partial(tmp_path / "big.cache").write_bytes(bytes(1000))
    path = built(dataset, tmp_path)[0].path
    assert [file for file in tmp_path.iterdir() if file.is_file()] == [path]


def test_a_folder_that_cannot_be_made_is_named(dataset: ImageDataset, tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        built(dataset, tmp_path / "file" / "cache")


@pytest.mark.parametrize("workers", [0, 1])
def test_making_a_cache_draws_no_global_random_numbers(dataset: ImageDataset, tmp_path: Path, workers: int):
    before = torch.random.get_rng_state()
    built(dataset, tmp_path, workers=workers)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_size_below_one_is_refused(dataset: ImageDataset, tmp_path: Path):
    with pytest.raises(InputError, match="size"):
        built(dataset, tmp_path, size=0)
