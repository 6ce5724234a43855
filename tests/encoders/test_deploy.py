"""An encoder as two files."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from pyg_bgformer.encoders import Encoder, build_encoder, encoder_info, load_encoder, save_encoder
from pyg_bgformer.errors import InputError


@pytest.fixture
def encoder() -> Encoder:
    torch.manual_seed(3)
    encoder = build_encoder("conv4", pooling="avgmax", embedding_dim=16, frozen_batchnorm=True)
    encoder(torch.randn(4, 3, 32, 32))
    return encoder


@pytest.mark.parametrize("name", ["conv4", "torchvision/googlenet", "timm/vit_tiny_patch16_224.augreg_in21k"])
def test_a_stranger_gets_the_same_embeddings(name: str, tmp_path: Path) -> None:
    trained = build_encoder(name, embedding_dim=8)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        trained(images)  # moves BatchNorm's statistics
        save_encoder(trained, tmp_path / "run", {"image_size": 64})
        loaded = load_encoder(tmp_path / "run")
        assert torch.equal(loaded(images), trained.eval()(images))
    assert not loaded.training
    assert (loaded.mean, loaded.std, loaded.spec) == (trained.mean, trained.std, trained.spec)


def test_description_is_kept(encoder: Encoder, tmp_path: Path) -> None:
    encoder.weights_tag, encoder.weights_hash = "some_tag", "abc"
    save_encoder(encoder, tmp_path, {"dataset": "digits", "seed": 1})
    info = encoder_info(tmp_path)
    assert info["extra"] == {"dataset": "digits", "seed": 1}
    assert info["spec"]["name"] == "conv4"
    assert info["mean"] == [0.5, 0.5, 0.5]
    loaded = load_encoder(tmp_path)
    assert (loaded.weights_tag, loaded.weights_hash) == ("some_tag", "abc")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["encoder.json", "encoder.safetensors"]


def test_loading_leaves_the_generator_alone(encoder: Encoder, tmp_path: Path) -> None:
    save_encoder(encoder, tmp_path)
    before = torch.get_rng_state()
    load_encoder(tmp_path)
    assert torch.equal(torch.get_rng_state(), before)


def test_saving_does_not_change_the_encoder(encoder: Encoder, tmp_path: Path) -> None:
    encoder.freeze_backbone(True)
    save_encoder(encoder, tmp_path)
    assert encoder.training
    assert encoder.backbone_frozen
    assert not load_encoder(tmp_path).backbone_frozen


@pytest.mark.parametrize(
    "options", [{"head_norm": True}, {"feature_norm": "batch"}, {"feature_norm": "layer"}], ids=str
)
def test_normalised_features_load_again(tmp_path: Path, options: dict[str, Any]) -> None:
    encoder = build_encoder("conv4", embedding_dim=16, **options)
    encoder(torch.rand(4, 3, 16, 16))  # moves the statistics
    save_encoder(encoder, tmp_path)
    images = torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(load_encoder(tmp_path)(images), encoder.eval()(images))


@pytest.mark.parametrize("name", ["encoder.safetensors", "encoder.json"])
@pytest.mark.parametrize("length", [0, 0.5])
def test_truncated_files_are_refused(encoder: Encoder, tmp_path: Path, name: str, length: float) -> None:
    save_encoder(encoder, tmp_path)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: int(len(content) * length)])
    with pytest.raises(InputError, match=name) as caught:
        load_encoder(tmp_path)
    assert "\n" not in str(caught.value)


def test_files_of_two_encoders_are_refused(encoder: Encoder, tmp_path: Path) -> None:
    save_encoder(encoder, tmp_path / "one")
    save_encoder(build_encoder("conv4", embedding_dim=16), tmp_path / "two")
    (tmp_path / "one" / "encoder.safetensors").replace(tmp_path / "two" / "encoder.safetensors")
    with pytest.raises(InputError, match=r"is not the file that encoder\.json beside it was written with"):
        load_encoder(tmp_path / "two")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "another"}, "does not describe an encoder"),
        ({"spec": {"name": "conv4"}}, "spec must have exactly the keys"),
        ({"spec": None}, "spec must have exactly the keys"),
        ({"sha256": ...}, "lacks sha256"),
    ],
)
def test_foreign_descriptions_are_refused(
    encoder: Encoder, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    save_encoder(encoder, tmp_path)
    changed = encoder_info(tmp_path) | change
    kept = {key: value for key, value in changed.items() if value is not ...}
    (tmp_path / "encoder.json").write_text(json.dumps(kept))
    with pytest.raises(InputError, match=message):
        load_encoder(tmp_path)


def test_another_architecture_is_refused(encoder: Encoder, tmp_path: Path) -> None:
    save_encoder(encoder, tmp_path)
    info = encoder_info(tmp_path)
    info["spec"]["embedding_dim"] = 17
    (tmp_path / "encoder.json").write_text(json.dumps(info))
    with pytest.raises(InputError, match=r"2 misshaped \(head\.bias \(16,\) for \(17,\)"):
        load_encoder(tmp_path)


def test_no_encoder_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no encoder in .* it needs encoder\.json and encoder\.safetensors"):
        load_encoder(tmp_path)


def test_what_cannot_be_written(encoder: Encoder, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="plain JSON values"):
        save_encoder(encoder, tmp_path, {"tensor": torch.zeros(1)})
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="encoder cannot be written to"):
        save_encoder(encoder, tmp_path / "file" / "folder")
