from pathlib import Path
from typing import Any, Literal

import pytest

from pyg_bgformer.data import DATASETS, ImageDataset, dataset_options, load_dataset, read_dataset
from pyg_bgformer.errors import InputError


def test_the_datasets_there_are():
    assert set(DATASETS) == {"digits", "glyphs", "omniglot", "cub200", "cars196", "sop", "inshop", "folder"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"name": "cub20"}, "unknown dataset 'cub20'; did you mean 'cub200'"),
        ({"name": "digits", "root": "x"}, "reads no files"),
        ({"name": "digits", "variant": "small"}, "has no variant 'small'; it has none"),
        ({"name": "omniglot", "variant": "smal"}, "did you mean 'small'"),
        ({"name": "digits", "crop_to_box": True}, "digits has no boxes to crop to; cars196, cub200 have"),
        ({"name": "folder"}, "needs root"),
        ({"name": "folder", "root": "not/there"}, "not/there, which is not a folder"),
    ],
)
def test_wrong_requests_are_one_clear_line(arguments: dict[str, Any], said: str):
    with pytest.raises(InputError, match=said) as caught:
        load_dataset(**arguments)
    assert "\n" not in str(caught.value)


def test_the_folder_is_found_where_the_environment_says_then_in_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYG_BGFORMER_DATA", raising=False)
    with pytest.raises(InputError, match=r"looked for data/CUB_200_2011 \(PYG_BGFORMER_DATA is not set\)"):
        load_dataset("cub200")
    monkeypatch.setenv("PYG_BGFORMER_DATA", str(tmp_path / "all"))
    with pytest.raises(InputError, match=r"all/CUB_200_2011 and data/CUB_200_2011;"):
        load_dataset("cub200")
    (tmp_path / "data" / "CUB_200_2011").mkdir(parents=True)
    with pytest.raises(InputError, match=r"^data/CUB_200_2011.*images\.txt: no such file"):
        load_dataset("cub200")
    (tmp_path / "all" / "CUB_200_2011").mkdir(parents=True)
    with pytest.raises(InputError, match=r"all/CUB_200_2011.*images\.txt: no such file"):
        load_dataset("cub200")


def test_a_file_of_the_user_s_own_can_add_a_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(DATASETS, "parts", dict(DATASETS.parts))

    @DATASETS.register("mine")
    def load(root: Path, *, variant: Literal["small", "large"] = "small") -> ImageDataset:
        names = [("train", "a"), ("train", "b"), ("test", "c"), ("test", "d")]
        records = [
            {"path": f"{variant}/{name}{image}", "original_class": name, "split": split}
            for split, name in names
            for image in range(2)
        ]
        return ImageDataset("mine", records, root=root)

    assert dataset_options("mine")["variant"].default == "small"
    assert load_dataset("mine", tmp_path, variant="large").file(0) == str(tmp_path / "large" / "a0")
    with pytest.raises(InputError, match="mine has no variant 'big'; choose one of: large, small"):
        load_dataset("mine", tmp_path, variant="big")
    with pytest.raises(InputError, match="mine needs root"):
        load_dataset("mine")
    with pytest.raises(InputError, match="mine has no boxes"):
        load_dataset("mine", tmp_path, crop_to_box=True)


def test_options_are_those_of_the_function():
    assert list(dataset_options("cub200")) == ["crop_to_box"]
    assert list(dataset_options("omniglot")) == ["variant"]
    assert dataset_options("glyphs") == {}


def test_reading_does_not_refuse_what_loading_does(tmp_path: Path):
    with pytest.raises(InputError, match="train has 0 of the at least 2 classes"):
        load_dataset("folder", tmp_path)
    assert read_dataset("folder", tmp_path).verify(workers=0).problems
