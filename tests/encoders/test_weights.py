"""Weights from files and tags."""

import hashlib
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torchvision import models

from pyg_bgformer.encoders import build_encoder, published
from pyg_bgformer.encoders.weights import tensors_hash
from pyg_bgformer.errors import InputError


@pytest.fixture
def conv4_file(tmp_path: Path) -> Path:
    path = tmp_path / "conv4.safetensors"
    save_file(build_encoder("conv4").backbone.net.state_dict(), path)
    return path


def rewrite(path: Path, **changes: Tensor | None) -> None:
    tensors = load_file(path) | {key.replace("__", "."): value for key, value in changes.items()}
    save_file({key: value for key, value in tensors.items() if value is not None}, path)


def test_file_is_loaded_and_hashed(conv4_file: Path) -> None:
    encoder = build_encoder("conv4", weights=str(conv4_file))
    for key, value in load_file(conv4_file).items():
        assert torch.equal(encoder.backbone.net.state_dict()[key], value)
    assert encoder.weights_tag == "conv4.safetensors"
    assert encoder.weights_hash == hashlib.sha256(conv4_file.read_bytes()).hexdigest()


def test_environment_variables_in_the_path(conv4_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_WEIGHTS", str(conv4_file.parent))
    assert build_encoder("conv4", weights="$MY_WEIGHTS/conv4.safetensors").weights_hash
    with pytest.raises(InputError, match="names an environment variable that is not set"):
        build_encoder("conv4", weights="$NOT_THERE_AT_ALL/conv4.safetensors")


def test_half_precision_is_cast(conv4_file: Path) -> None:
    original = load_file(conv4_file)["0.0.weight"]
    rewrite(conv4_file, **{"0.0.weight": original.half()})
    loaded = build_encoder("conv4", weights=str(conv4_file)).backbone.net.state_dict()["0.0.weight"]
    assert loaded.dtype == torch.float32
    assert torch.equal(loaded, original.half().float())


def test_keys_that_do_not_fit_are_all_listed(conv4_file: Path) -> None:
    rewrite(
        conv4_file, **{"0.0.weight": None, "1.1.bias": torch.zeros(3), "classifier.0.weight": torch.zeros(2)}
    )
    with pytest.raises(InputError) as caught:
        build_encoder("conv4", weights=str(conv4_file))
    message = str(caught.value)
    assert "1 missing (0.0.weight)" in message
    assert "1 unexpected (classifier.0.weight)" in message
    assert "1 misshaped (1.1.bias (3,) for (64,))" in message
    assert "\n" not in message


def test_classifier_and_auxiliary_keys_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "googlenet.safetensors"
    save_file(models.googlenet(weights=None, init_weights=False).state_dict(), path)
    assert any(key.startswith("aux1.") for key in load_file(path))
    encoder = build_encoder("torchvision/googlenet", weights=str(path))
    assert not any("aux" in key or "net.fc" in key for key in encoder.state_dict())


def test_timm_takes_a_file_in_its_own_layout(tmp_path: Path) -> None:
    path = tmp_path / "resnet18.safetensors"
    save_file(models.resnet18(weights=None).state_dict(), path)  # timm's ResNet has torchvision's layout
    encoder = build_encoder("timm/resnet18", weights=str(path))
    assert torch.equal(encoder.backbone.net.state_dict()["conv1.weight"], load_file(path)["conv1.weight"])


@pytest.mark.parametrize("content", [b"", b"not safetensors at all", None])
def test_unreadable_files(conv4_file: Path, content: bytes | None) -> None:
    conv4_file.write_bytes(conv4_file.read_bytes()[:-1000] if content is None else content)
    with pytest.raises(InputError, match="is no safetensors file, or truncated") as caught:
        build_encoder("conv4", weights=str(conv4_file))
    assert "\n" not in str(caught.value)


def test_missing_files_and_pickles_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.safetensors' does not exist"):
        build_encoder("conv4", weights=str(tmp_path / "none.safetensors"))
    with pytest.raises(InputError, match="pickled weights are not opened"):
        build_encoder("conv4", weights="weights.pth")


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


@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        (
            "torchvision/resnet18",
            "IMAGENET_V1",
            "has no weights 'IMAGENET_V1': did you mean 'IMAGENET1K_V1'?",
        ),
        ("timm/resnet18", "tv_in1", "has no weights 'tv_in1': did you mean 'tv_in1k'?"),
        (
            "timm/resnet18.tv_in1k",
            "a1_in1k",
            "weights 'a1_in1k' contradict the tag in 'timm/resnet18.tv_in1k'",
        ),
        ("conv4", "IMAGENET1K_V1", "'conv4' has no published weights 'IMAGENET1K_V1'"),
    ],
)
def test_tags_that_do_not_exist(name: str, weights: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        build_encoder(name, weights=weights)
    assert message in str(caught.value)


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(published, "try_to_load_from_cache", lambda *_: None)


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(
    ("name", "weights", "full"),
    [
        ("torchvision/resnet18", "DEFAULT", "torchvision/resnet18 IMAGENET1K_V1"),
        ("timm/resnet18.tv_in1k", "pretrained", "timm/resnet18.tv_in1k"),
        ("timm/resnet18", "tv_in1k", "timm/resnet18.tv_in1k"),
    ],
)
def test_uncached_tags_without_network_are_one_clear_line(name: str, weights: str, full: str) -> None:
    with pytest.raises(InputError, match=f"weights {full} are not cached and .* cannot be reached") as caught:
        build_encoder(name, weights=weights)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("no_network")
def test_cached_torchvision_tag_needs_no_network(tmp_path: Path) -> None:
    """The weights of another run stand in for the published ones: what is tested is the way to them."""
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    net = models.densenet121(weights=None)
    tensors = {key.replace(".norm1.", ".norm.1."): value for key, value in net.state_dict().items()}
    torch.save(tensors, folder / os.path.basename(models.DenseNet121_Weights.IMAGENET1K_V1.url))
    encoder = build_encoder("torchvision/densenet121", weights="IMAGENET1K_V1")
    assert torch.equal(
        encoder.backbone.net.state_dict()["features.conv0.weight"], tensors["features.conv0.weight"]
    )
    assert encoder.weights_tag == "IMAGENET1K_V1"
    assert encoder.weights_hash == tensors_hash(encoder.backbone.net.state_dict())


def test_cached_timm_tag_needs_no_network(
    conv4_file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, no_network: None
) -> None:
    path = tmp_path / "model.safetensors"
    save_file(models.resnet18(weights=None).state_dict(), path)
    monkeypatch.setattr(published, "try_to_load_from_cache", lambda *_: str(path))
    encoder = build_encoder("timm/resnet18.tv_in1k", weights="pretrained", pooling="avgmax")
    assert torch.equal(encoder.backbone.net.state_dict()["conv1.weight"], load_file(path)["conv1.weight"])
    assert encoder.weights_tag == "tv_in1k"
    assert encoder.weights_hash


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
    with pytest.raises(InputError, match=r"318 missing .* and 306 more.* unexpected"):
        build_encoder("torchvision/resnet50", weights=str(path))
