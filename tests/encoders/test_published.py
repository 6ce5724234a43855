"""Weights under a tag, with and without a network."""

import os
import time
from pathlib import Path

import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import load_file, save_file
from torchvision import models

from pyg_bgformer.encoders import build_encoder, published
from pyg_bgformer.encoders.weights import tensors_hash
from pyg_bgformer.errors import InputError


@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        (
            "torchvision/resnet18",
            "IMAGENET_V1",
            "has no weights 'IMAGENET_V1'; did you mean 'IMAGENET1K_V1'?",
        ),
        ("timm/resnet18", "tv_in1", "has no weights 'tv_in1'; did you mean 'tv_in1k'?"),
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
def nothing_cached(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def not_cached(*_: object, local_files_only: bool = False, **__: object) -> None:
        assert local_files_only, "a host that does not answer must not be asked again"
        raise LocalEntryNotFoundError("not cached")

    def no_network(*_: object, **__: object) -> None:
        raise OSError("no route\nto host")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    monkeypatch.setattr(published, "hf_hub_download", not_cached)
    monkeypatch.setattr(published, "get_hf_file_metadata", no_network)


@pytest.mark.usefixtures("nothing_cached")
@pytest.mark.parametrize(
    ("name", "weights", "full"),
    [
        ("torchvision/resnet18", "DEFAULT", "torchvision/resnet18 IMAGENET1K_V1"),
        ("timm/resnet18.tv_in1k", "pretrained", "timm/resnet18.tv_in1k"),
        ("timm/resnet18", "tv_in1k", "timm/resnet18.tv_in1k"),
    ],
)
def test_uncached_tags_without_network_are_one_clear_line(name: str, weights: str, full: str) -> None:
    message = (
        rf"{full} are not cached and cannot be downloaded .no route to host.: download https://\S+ where"
    )
    with pytest.raises(InputError, match=message) as caught:
        build_encoder(name, weights=weights)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["torchvision/resnet18", "timm/resnet18"])
def test_offline_is_what_the_hub_says(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    started = time.perf_counter()
    with pytest.raises(InputError, match=r"cannot be downloaded \(.*HF_HUB_OFFLINE.*\)"):
        build_encoder(name, weights="pretrained" if "timm" in name else "DEFAULT")
    assert time.perf_counter() - started < 20  # the hub's retries would take 24 seconds


@pytest.mark.usefixtures("nothing_cached")
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


def test_cached_timm_tag_needs_no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file(models.resnet18(weights=None).state_dict(), path)
    monkeypatch.setattr(published, "hf_hub_download", lambda *_, local_files_only: str(path))
    encoder = build_encoder("timm/resnet18.tv_in1k", weights="pretrained", pooling="avgmax")
    assert torch.equal(encoder.backbone.net.state_dict()["conv1.weight"], load_file(path)["conv1.weight"])
    assert encoder.weights_tag == "tv_in1k"
    assert encoder.weights_hash
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"weights timm/resnet18\.tv_in1k cannot be loaded"):
        build_encoder("timm/resnet18.tv_in1k", weights="pretrained")
