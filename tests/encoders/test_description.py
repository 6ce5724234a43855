"""A saved model's two files."""

import json
import random
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pyg_bgformer.encoders.description import (
    ModelDescription,
    read_description,
    read_saved_tensors,
    write_model,
)
from pyg_bgformer.encoders.encoder import EncoderSpec
from pyg_bgformer.errors import InputError

FACTS: dict[str, Any] = {
    "encoder": EncoderSpec("conv4", embedding_dim=16),
    "mean": [0.1, 0.2, 0.3],
    "std": [0.5, 0.5, 0.5],
    "image_size": 28,
    "resize": 32,
    "geometry": {"name": "sphere"},
    "weights_tag": "random",
    "weights_hash": None,
    "training": {"dataset": "digits", "epochs": 3},
    "scores": {"recall_at_1": 0.5, "nmi": None},
    "license": "mit",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_model(tmp_path, {"a": torch.arange(40.0).view(5, 8), "b": torch.ones(())}, FACTS)
    return tmp_path


def test_what_is_written_is_read(folder: Path) -> None:
    description = read_description(folder)
    assert asdict(description) == asdict(ModelDescription(**FACTS, sha256=description.sha256))
    assert description.schema == 1
    tensors = read_saved_tensors(folder, description)
    assert torch.equal(tensors["a"], torch.arange(40.0).view(5, 8))
    assert sorted(path.name for path in folder.iterdir()) == ["encoder.json", "encoder.safetensors"]


def test_every_flipped_bit_of_the_tensors_is_noticed(folder: Path) -> None:
    path = folder / "encoder.safetensors"
    content = path.read_bytes()
    description = read_description(folder)
    chance = random.Random(0)
    for position in range(len(content)):
        flipped = bytearray(content)
        flipped[position] ^= 1 << chance.randrange(8)
        path.write_bytes(flipped)
        with pytest.raises(InputError, match=r"is damaged, or not the file that encoder\.json"):
            read_saved_tensors(folder, description)


@pytest.mark.parametrize("name", ["encoder.safetensors", "encoder.json"])
def test_truncated_and_missing_files_are_one_line(folder: Path, name: str) -> None:
    path = folder / name
    content = path.read_bytes()
    for length in (0, len(content) // 2):
        path.write_bytes(content[:length])
        with pytest.raises(InputError, match=name) as caught:
            read_saved_tensors(folder, read_description(folder))
        assert "\n" not in str(caught.value)
    path.unlink()
    with pytest.raises(InputError, match=rf"no model in '{folder}': {name} is missing"):
        read_saved_tensors(folder, read_description(folder))


CHANGES: list[tuple[dict[str, Any], str]] = [
    ({"schema": 2}, "has schema 2, expected 1"),
    ({"schema": True}, "has schema True, expected 1"),
    ({"schema": ...}, "has schema None, expected 1"),
    ({"sha256": ...}, "sha256 is missing"),
    ({"code": "import os"}, "code is unknown"),
    ({"encoder": None}, "encoder: expected"),
    (
        {"encoder": {"name": "conv4", "pooling": "sum"}},
        "expected 'average' or 'max' or 'avgmax', found 'sum'",
    ),
    ({"encoder": {"name": 4}}, "encoder, name: expected text, found a whole number"),
    ({"mean": [0.5, 0.5]}, "must have three numbers"),
    ({"mean": [0.5, "0.5", 0.5]}, "expected a number, found text"),
    ({"mean": [10**400, 0.5, 0.5]}, "mean must be at least"),
    ({"std": [0.5, 0.0, 0.5]}, "std must be above 0"),
    ({"std": [float("nan"), 0.5, 0.5]}, "std must be above 0"),
    ({"image_size": 0}, "image_size must be at least 1"),
    ({"image_size": 10**9, "resize": 10**9}, "image_size must be at least 1 and at most 16384"),
    ({"image_size": 28.5}, "expected a whole number"),
    ({"resize": 27}, "resize must be at least 28"),
    ({"scores": {"recall_at_1": [1]}}, "scores, recall_at_1"),
    ({"training": []}, "training: expected a mapping"),
]


@pytest.mark.parametrize(("change", "message"), CHANGES, ids=str)
def test_foreign_and_hostile_descriptions_are_one_line(
    folder: Path, change: dict[str, Any], message: str
) -> None:
    path = folder / "encoder.json"
    changed = json.loads(path.read_text()) | change
    path.write_text(json.dumps({key: value for key, value in changed.items() if value is not ...}))
    with pytest.raises(InputError, match=message) as caught:
        read_description(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content", ["[" * 100_000, "[1]", '"text"', "null", '{"schema": ' + "1" * 5000 + "}", "\x00"]
)
def test_no_description_at_all(folder: Path, content: str) -> None:
    (folder / "encoder.json").write_text(content)
    with pytest.raises(InputError, match=r"encoder\.json") as caught:
        read_description(folder)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(key=st.sampled_from([*FACTS, "sha256", "schema"]), value=JSON)
def test_any_value_in_any_place_is_read_or_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, key: str, value: object
) -> None:
    folder = tmp_path_factory.mktemp("model")
    facts = FACTS | {"encoder": asdict(FACTS["encoder"]), "sha256": "0" * 64, "schema": 1}
    (folder / "encoder.json").write_text(json.dumps(facts | {key: value}))
    try:
        outcome = repr(read_description(folder))
    except InputError as error:
        outcome = str(error)
    assert "\n" not in outcome


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    for broken in ({"training": {"tensor": torch.zeros(1)}}, {"training": {"loss": float("nan")}}):
        with pytest.raises(InputError, match="must be plain values"):
            write_model(tmp_path, {"a": torch.zeros(1)}, FACTS | broken)
    assert list(tmp_path.iterdir()) == []
