"""Weights from a local file."""

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from timm.layers.pos_embed import resample_abs_pos_embed
from torch import Tensor, nn
from torchvision import models

from pyg_bgformer import EmbeddingModel
from pyg_bgformer.encoders import Encoder, build_encoder
from pyg_bgformer.encoders.weights import WRAPPERS, fit_tensors, tensors_hash, without_wrappers
from pyg_bgformer.errors import InputError


@pytest.fixture
def conv4_file(tmp_path: Path) -> Path:
    path = tmp_path / "conv4.safetensors"
    save_file(build_encoder("conv4").backbone.net.state_dict(), path)
    return path


def rewrite(path: Path, changes: dict[str, Tensor | None]) -> None:
    tensors = load_file(path) | changes
    save_file({key: value for key, value in tensors.items() if value is not None}, path)


def test_file_is_loaded_and_hashed(conv4_file: Path) -> None:
    encoder = build_encoder("conv4", weights=str(conv4_file))
    for key, value in load_file(conv4_file).items():
        assert torch.equal(encoder.backbone.net.state_dict()[key], value)
    assert encoder.weights_tag == "conv4.safetensors"
    assert encoder.weights_hash == hashlib.sha256(conv4_file.read_bytes()).hexdigest()
    assert encoder.notes == ()


def test_environment_variables_in_the_path(conv4_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_WEIGHTS", str(conv4_file.parent))
    assert build_encoder("conv4", weights="$MY_WEIGHTS/conv4.safetensors").weights_hash
    with pytest.raises(InputError, match="names an environment variable that is not set"):
        build_encoder("conv4", weights="$NOT_THERE_AT_ALL/conv4.safetensors")


def test_half_precision_is_cast(conv4_file: Path) -> None:
    original = load_file(conv4_file)["0.0.weight"]
    rewrite(conv4_file, {"0.0.weight": original.half()})
    loaded = build_encoder("conv4", weights=str(conv4_file)).backbone.net.state_dict()["0.0.weight"]
    assert loaded.dtype == torch.float32
    assert torch.equal(loaded, original.half().float())


def test_keys_that_do_not_fit_are_all_listed(conv4_file: Path) -> None:
    changes: dict[str, Any] = {
        "0.0.weight": None,
        "1.1.bias": torch.zeros(3),
        "classifier.0.weight": torch.zeros(2),
    }
    rewrite(conv4_file, changes | {"2.1.bias": torch.zeros(64, dtype=torch.int32)})
    with pytest.raises(InputError) as caught:
        build_encoder("conv4", weights=str(conv4_file))
    message = str(caught.value)
    assert "1 missing (0.0.weight)" in message
    assert "1 unexpected (classifier.0.weight)" in message
    assert "1 misshaped (1.1.bias (3,) for (64,))" in message
    assert "1 of another kind (2.1.bias torch.int32 for torch.float32)" in message
    assert "\n" not in message


def test_a_missing_counter_of_batches_is_defaulted(conv4_file: Path) -> None:
    counters = {key: None for key in load_file(conv4_file) if key.endswith("num_batches_tracked")}
    assert len(counters) == 4
    rewrite(conv4_file, counters)
    encoder = build_encoder("conv4", weights=str(conv4_file))
    assert encoder.backbone.net.state_dict()["0.1.num_batches_tracked"] == 0


@given(
    keys=st.sets(st.text("abm.", min_size=1, max_size=8), min_size=1, max_size=6),
    wrappers=st.lists(st.sampled_from(WRAPPERS), max_size=4),
)
def test_wrappers_come_off_in_any_order_and_number(keys: set[str], wrappers: list[str]) -> None:
    wrapped = {"".join(wrappers) + key: torch.zeros(1) for key in keys}
    assert without_wrappers(wrapped, keys).keys() == keys


@given(keys=st.sets(st.text("abm.", min_size=1, max_size=8), min_size=2, max_size=6))
def test_a_prefix_that_is_not_common_stays(keys: set[str]) -> None:
    first, *others = sorted(keys)
    wrapped = {f"module.{first}": torch.zeros(1)} | {f"w.{key}": torch.zeros(1) for key in others}
    assert without_wrappers(wrapped, keys).keys() == wrapped.keys()


def test_classifier_and_pretraining_keys_are_named_and_left_out(tmp_path: Path) -> None:
    path = tmp_path / "vit.safetensors"
    tensors = build_encoder("timm/vit_tiny_patch16_224").backbone.net.state_dict()
    others = {
        "head.weight": torch.zeros(5, 192),
        "mask_token": torch.zeros(1),
        "pre_logits.fc.bias": torch.zeros(3),
    }
    save_file({f"module.{key}": value for key, value in (tensors | others).items()}, path)
    encoder = build_encoder("timm/vit_tiny_patch16_224", weights=str(path))
    assert encoder.notes == (f"weights '{path}': left out head.weight, mask_token, pre_logits.fc.bias",)
    assert torch.equal(encoder.backbone.net.state_dict()["norm.weight"], tensors["norm.weight"])


def test_auxiliary_classifiers_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "googlenet.safetensors"
    save_file(models.googlenet(weights=None, init_weights=False).state_dict(), path)
    encoder = build_encoder("torchvision/googlenet", weights=str(path))
    assert "aux1.conv.conv.weight" in encoder.notes[0]
    assert not any("aux" in key or "net.fc" in key for key in encoder.state_dict())


@pytest.mark.parametrize("net", ["timm", "torchvision"])
def test_position_embeddings_of_another_size_are_resampled(net: str) -> None:
    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            if net == "timm":
                self.patch_embed = nn.Identity()
                self.patch_embed.grid_size = (4, 4)
                self.pos_embed = nn.Parameter(torch.zeros(1, 17, 6))
            else:
                self.image_size, self.patch_size = 64, 16
                self.encoder = nn.Module()
                self.encoder.pos_embedding = nn.Parameter(torch.zeros(1, 17, 6))

    small = Small()
    key = next(iter(small.state_dict()))
    given = torch.randn(1, 50, 6)
    notes = fit_tensors(small, {key: given}, source="file")
    assert notes == [f"weights 'file': resampled {key} from 50 to 17 positions"]
    expected = resample_abs_pos_embed(given, [4, 4], num_prefix_tokens=1)
    assert torch.equal(small.state_dict()[key], expected)
    for misfit in (torch.zeros(1, 51, 6), torch.zeros(1, 50, 7)):
        with pytest.raises(InputError, match="1 misshaped"):
            fit_tensors(small, {key: misfit}, source="file")


def test_timm_takes_a_file_in_its_own_layout_with_the_normalisation_of_the_tag(tmp_path: Path) -> None:
    path = tmp_path / "mobilenetv3.safetensors"
    net = build_encoder("timm/mobilenetv3_large_100").backbone.net
    save_file(net.state_dict(), path)
    assert build_encoder("timm/mobilenetv3_large_100", weights=str(path)).mean == (0.485, 0.456, 0.406)
    encoder = build_encoder("timm/mobilenetv3_large_100.miil_in21k_ft_in1k", weights=str(path))
    assert (encoder.mean, encoder.std) == ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    assert torch.equal(
        encoder.backbone.net.state_dict()["conv_stem.weight"], net.state_dict()["conv_stem.weight"]
    )


@pytest.mark.parametrize("content", [b"", b"not safetensors at all", None])
def test_unreadable_files(conv4_file: Path, content: bytes | None) -> None:
    conv4_file.write_bytes(conv4_file.read_bytes()[:-1000] if content is None else content)
    with pytest.raises(InputError, match="is not a safetensors file, or truncated") as caught:
        build_encoder("conv4", weights=str(conv4_file))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("ending", ["pth", "pt", "bin"])
def test_files_of_torch_save_are_read_when_they_hold_tensors_alone(tmp_path: Path, ending: str) -> None:
    net = build_encoder("conv4").backbone.net
    path = tmp_path / f"weights.{ending}"
    torch.save({f"module.{key}": value for key, value in net.state_dict().items()}, path)
    loaded = build_encoder("conv4", weights=str(path)).backbone.net.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in net.state_dict().items())


class RunsCode:
    """What a hostile pickle does: it names a function to call."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.marker),)


def test_files_of_torch_save_with_anything_else_are_refused_by_name(tmp_path: Path) -> None:
    path, marker = tmp_path / "weights.pth", tmp_path / "code was run"
    contents = [
        (
            {"state_dict": {"a": torch.zeros(1)}, "epoch": 3},
            "found dict under 'state_dict': save only the network's",
        ),
        ({"a": torch.zeros(1), "epoch": 3}, "found int under 'epoch'"),
        ([torch.zeros(1)], "must hold names and tensors, found list"),
        ({"a": RunsCode(marker)}, r"must hold only tensors, found 'posix\.mkdir'; nothing of it was run"),
        (nn.Linear(2, 2), r"must hold only tensors, found 'torch\.nn\.modules\.linear\.Linear'"),
    ]
    for content, message in contents:
        torch.save(content, path)
        with pytest.raises(InputError, match=message) as caught:
            build_encoder("conv4", weights=str(path))
        assert "\n" not in str(caught.value)
    assert not marker.exists()
    for damaged in (b"", b"no archive", path.read_bytes()[:200]):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"weights\.pth'") as caught:
            build_encoder("conv4", weights=str(path))
        assert "\n" not in str(caught.value)


def test_files_that_are_not_there_or_no_weights(tmp_path: Path) -> None:
    for missing in (tmp_path / "none.safetensors", tmp_path / "none.pth"):
        with pytest.raises(InputError, match=rf"{missing.name}' does not exist"):
            build_encoder("conv4", weights=str(missing))
    with pytest.raises(InputError, match=r"must end in \.safetensors, \.pth, \.pt, \.bin"):
        build_encoder("conv4", weights=str(tmp_path / "weights.onnx"))
    with pytest.raises(InputError, match=r"encoder\.safetensors' does not exist"):
        build_encoder("conv4", weights=str(tmp_path))


def test_hash_of_tensors_sees_names_types_shapes_and_values() -> None:
    base = {"a": torch.zeros(2, 3), "b": torch.ones(())}
    others = [
        {"a": torch.zeros(2, 3), "c": torch.ones(())},
        {"a": torch.zeros(3, 2), "b": torch.ones(())},
        {"a": torch.zeros(2, 3), "b": torch.ones((), dtype=torch.int32)},
        {"a": torch.zeros(2, 3), "b": torch.zeros(())},
    ]
    hashes = {tensors_hash(tensors) for tensors in [base, *others]}
    assert len(hashes) == 5
    assert tensors_hash(dict(reversed(base.items()))) == tensors_hash(base)


def test_mobilenet_weights_fit() -> None:
    data = os.environ.get("PYG_BGFORMER_DATA")
    path = Path(data or "") / ".." / "weights" / "mobilenet_v2_imagenet.safetensors"
    if not data or not path.is_file():
        pytest.skip(
            "PYG_BGFORMER_DATA is not set, or has no weights/mobilenet_v2_imagenet.safetensors beside it"
        )
    encoder = build_encoder(
        "torchvision/mobilenet_v2",
        weights="$PYG_BGFORMER_DATA/../weights/mobilenet_v2_imagenet.safetensors",
    )
    given = load_file(path)
    loaded = encoder.backbone.net.state_dict()
    assert {value.dtype for value in loaded.values()} == {torch.float32, torch.int64}
    assert all(torch.equal(value, given[key].to(value.dtype)) for key, value in loaded.items())
    with pytest.raises(InputError, match=r"\d+ missing .* and \d+ more.* unexpected"):
        build_encoder("torchvision/resnet50", weights=str(path))


def saved(folder: Path, name: str = "conv4", **options: Any) -> Encoder:
    """An encoder with other weights, mean and std than those of its name, saved to a folder."""
    encoder = build_encoder(name, **options)
    encoder.mean, encoder.std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    EmbeddingModel(encoder, image_size=28, resize=28).save_pretrained(folder)
    return encoder


def test_a_run_is_taken_with_its_head_and_its_mean(tmp_path: Path) -> None:
    earlier = saved(tmp_path, embedding_dim=8, feature_norm="batch", head_norm=True)
    for weights in (tmp_path, tmp_path / "encoder.safetensors"):
        encoder = build_encoder(
            "conv4", weights=str(weights), embedding_dim=8, feature_norm="batch", head_norm=True
        )
        assert all(
            torch.equal(value, encoder.state_dict()[key]) for key, value in earlier.state_dict().items()
        )
        assert (encoder.mean, encoder.std) == (earlier.mean, earlier.std)
        assert encoder.notes == ()
        assert encoder.weights_tag == f"{tmp_path.name}/encoder.safetensors"


def test_the_head_of_a_run_stays_behind_where_it_does_not_fit(tmp_path: Path) -> None:
    earlier = saved(tmp_path, embedding_dim=8)
    for options in ({"embedding_dim": 16}, {"embedding_dim": 8, "feature_norm": "layer"}):
        encoder = build_encoder("conv4", weights=str(tmp_path), **options)
        backbones = zip(encoder.backbone.parameters(), earlier.backbone.parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in backbones)
        assert "left out its head, which does not fit this encoder" in encoder.notes[0]


def test_a_run_of_another_network_or_a_damaged_one_is_refused(tmp_path: Path) -> None:
    saved(tmp_path)
    with pytest.raises(InputError, match="holds weights of conv4, expected those of timm/resnet18"):
        build_encoder("timm/resnet18", weights=str(tmp_path))
    path = tmp_path / "encoder.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="is damaged"):
        build_encoder("conv4", weights=str(path))


def test_a_saved_encoder_alone_is_taken_and_its_missing_mean_is_noted(tmp_path: Path) -> None:
    earlier = saved(tmp_path / "run", embedding_dim=8)
    alone = (tmp_path / "run" / "encoder.safetensors").rename(tmp_path / "mine.safetensors")
    encoder = build_encoder("conv4", weights=str(alone), embedding_dim=8)
    assert all(torch.equal(value, encoder.state_dict()[key]) for key, value in earlier.state_dict().items())
    assert encoder.notes == (
        f"weights '{alone}': without encoder.json beside it, mean and std are those of conv4",
    )
