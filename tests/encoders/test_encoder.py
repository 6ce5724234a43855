"""Encoders by name: shapes, pooling, what is frozen and when."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pyg_bgformer.data import eval_transform, train_transform
from pyg_bgformer.encoders import (
    ENCODERS,
    Backbone,
    Encoder,
    EncoderSpec,
    build_encoder,
    encoder_options,
    global_pool,
)
from pyg_bgformer.errors import InputError

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALVES = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
NAMES: list[tuple[str, int, Any]] = [
    ("conv4", 64, HALVES),
    ("torchvision/resnet50", 2048, IMAGENET),
    ("torchvision/mobilenet_v2", 1280, IMAGENET),
    ("torchvision/googlenet", 1024, IMAGENET),
    ("timm/vit_small_patch16_224.augreg_in21k", 384, HALVES),
    ("timm/resnet50.tv_in1k", 2048, IMAGENET),
]


@pytest.fixture(scope="module")
def mobilenet() -> Encoder:
    return build_encoder("torchvision/mobilenet_v2", frozen_batchnorm=True)


def images(count: int = 2, size: int = 64) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("name", "feature_dim", "normalisation"), NAMES, ids=[n[0] for n in NAMES])
def test_encoders_without_weights(name: str, feature_dim: int, normalisation: Any) -> None:
    encoder = build_encoder(name, embedding_dim=32)
    assert encoder.training
    encoder.eval()
    with torch.no_grad():
        features, embeddings = encoder.features(images()), encoder(images())
        alone = encoder(images()[1:])
    assert features.shape == (2, feature_dim) == (2, encoder.feature_dim)
    assert embeddings.shape == (2, 32) == (2, encoder.embedding_dim)
    assert (encoder.mean, encoder.std) == normalisation
    assert (encoder.weights_tag, encoder.weights_hash) == ("random", None)
    torch.testing.assert_close(encoder.head(features), embeddings)
    torch.testing.assert_close(alone[0], embeddings[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("embedding_dim", [16, 100])
def test_head_is_orthogonal(embedding_dim: int) -> None:
    head = build_encoder("conv4", embedding_dim=embedding_dim).head
    gram = head.weight @ head.weight.T if embedding_dim <= 64 else head.weight.T @ head.weight
    torch.testing.assert_close(gram, torch.eye(len(gram)), rtol=0, atol=1e-5)
    assert head.bias.count_nonzero() == 0


def test_head_norm_comes_before_the_linear_map() -> None:
    encoder = build_encoder("conv4", embedding_dim=16, head_norm=True)
    assert [type(module) for module in encoder.head] == [nn.BatchNorm1d, nn.Linear]
    torch.testing.assert_close(
        encoder.head[1].weight @ encoder.head[1].weight.T, torch.eye(16), rtol=0, atol=1e-5
    )
    features = 3 + 2 * torch.randn(50, 64)
    whitened = (features - features.mean(dim=0)) / features.std(dim=0, correction=0)
    torch.testing.assert_close(
        encoder.head(features), whitened @ encoder.head[1].weight.T, rtol=1e-4, atol=1e-4
    )
    encoder.eval()
    torch.testing.assert_close(encoder.head(features)[:1], encoder.head(features[:1]))


def test_feature_norms_have_no_parameters_and_come_before_the_head() -> None:
    torch.manual_seed(0)
    encoders = {norm: build_encoder("conv4", feature_norm=norm) for norm in ("none", "layer", "l2", "batch")}
    plain = encoders["none"].features(images(8, 32))
    expected = {
        "none": plain,
        "layer": (plain - plain.mean(1, keepdim=True))
        / (plain.var(1, correction=0, keepdim=True) + 1e-5) ** 0.5,
        "l2": plain / plain.norm(dim=1, keepdim=True) * plain.size(1) ** 0.5,
        "batch": (plain - plain.mean(0)) / (plain.var(0, correction=0) + 1e-5) ** 0.5,
    }
    for norm, encoder in encoders.items():
        encoder.backbone.load_state_dict(encoders["none"].backbone.state_dict())
        features = encoder.features(images(8, 32))
        torch.testing.assert_close(features, expected[norm], rtol=1e-4, atol=1e-5)
        assert list(encoder.feature_norm.parameters()) == []
        assert (set(encoder.state_dict()) - set(encoders["none"].state_dict()) != set()) == (norm == "batch")


def test_batch_normalised_features_use_running_statistics_when_deployed() -> None:
    encoder = build_encoder("conv4", feature_norm="batch")
    for _ in range(100):
        trained = encoder.features(images(8, 32))
    encoder.eval()
    alone, together = encoder.features(images(8, 32)[:1]), encoder.features(images(8, 32))
    torch.testing.assert_close(alone, together[:1])
    assert (together - trained).abs().mean() < 0.2 * trained.abs().mean()


def test_pooling_against_plain_loops() -> None:
    feature_map = torch.randn(2, 3, 4, 5)
    for pooling in ("average", "max", "avgmax"):
        pooled = global_pool(feature_map, pooling)
        for i in range(2):
            for c in range(3):
                values = feature_map[i, c].flatten().tolist()
                average, largest = sum(values) / len(values), max(values)
                expected = {"average": average, "max": largest, "avgmax": average + largest}[pooling]
                assert pooled[i, c].item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    "name", ["conv4", "torchvision/mobilenet_v2", "timm/resnet18", "timm/mobilenetv3_small_050"]
)
def test_avgmax_pooling_is_average_plus_max(name: str) -> None:
    features = {}
    for pooling in ("average", "max", "avgmax"):
        torch.manual_seed(0)
        encoder = build_encoder(name, pooling=pooling).eval()
        if "mobilenetv3" in name:  # it has a layer after pooling: compare what that layer is given
            encoder.backbone.net.conv_head = nn.Identity()
            encoder.backbone.net.norm_head = nn.Identity()
            encoder.backbone.net.act2 = nn.Identity()
        with torch.no_grad():
            features[pooling] = encoder.features(images())
    assert not torch.equal(features["average"], features["max"])
    expected = features["average"] + features["max"]
    torch.testing.assert_close(
        features["avgmax"], expected, rtol=1e-5, atol=1e-6 * expected.abs().max().item()
    )


@pytest.mark.parametrize(
    ("name", "size", "sizes"),
    [
        ("conv4", 15, "the nearest it takes: 16 px"),
        ("timm/vit_tiny_patch16_224", 100, "the nearest it takes: 96 px and 112 px"),
        ("timm/mixer_s32_224", 128, "it takes 224 px"),
    ],
)
def test_image_sizes_are_tried(name: str, size: int, sizes: str) -> None:
    encoder = build_encoder(name)
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    encoder.check_image_size(224)
    with pytest.raises(InputError, match=f"{name} does not take images of {size} px; {sizes}$"):
        encoder.check_image_size(size)
    assert all(module.training for module in encoder.modules())
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size", "sizes"),
    [
        ("torchvision/inception_v3", 64, "the nearest it takes: 75 px"),
        ("torchvision/maxvit_t", 128, "it takes 224 px"),
        ("timm/beit_base_patch16_224", 128, "it takes 224 px"),
    ],
)
def test_image_sizes_of_large_networks_are_tried(name: str, size: int, sizes: str) -> None:
    with pytest.raises(InputError, match=f"{name} does not take images of {size} px; {sizes}$"):
        build_encoder(name).check_image_size(size)


def test_a_frozen_backbone_stays_frozen_when_a_size_is_tried() -> None:
    encoder = build_encoder("conv4", frozen_batchnorm=True)
    modes = [module.training for module in encoder.modules()]
    encoder.check_image_size(28)
    assert [module.training for module in encoder.modules()] == modes


def test_a_plugin_adds_an_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ENCODERS, "parts", dict(ENCODERS.parts))

    class Mean(Backbone):
        def forward(self, images: Tensor) -> Tensor:
            return self.net(images).mean(dim=(2, 3))

    @ENCODERS.register("mean")
    def mean(pooling: str) -> Backbone:
        backbone = Mean(nn.Conv2d(3, 8, 3), (0.1,) * 3, (0.2,) * 3)
        backbone.measure(16)
        return backbone

    encoder = build_encoder("mean", embedding_dim=4)
    assert encoder(images(size=16)).shape == (2, 4)
    assert encoder.mean == (0.1, 0.1, 0.1)
    assert encoder_options("mean")["embedding_dim"].default == 128


def test_options_are_those_of_the_signature() -> None:
    options = encoder_options("timm/resnet18")
    assert set(options) == set(EncoderSpec.__dataclass_fields__) - {"name"} | {"weights"}
    with pytest.raises(InputError, match="unknown encoder 'conv5'; choose one of: conv4"):
        encoder_options("conv5")


def test_vision_transformer_takes_other_image_sizes() -> None:
    encoder = build_encoder("timm/vit_tiny_patch16_224").eval()
    with torch.no_grad():
        assert encoder(images(size=96)).shape == (2, 128)
        tokens = encoder.backbone.net.forward_features(images(size=96))
        torch.testing.assert_close(encoder.features(images(size=96)), tokens[:, 0])


def test_frozen_batchnorm_stays_as_it_is(mobilenet: Encoder) -> None:
    norms = [m for m in mobilenet.modules() if isinstance(m, nn.BatchNorm2d)]
    mobilenet.eval().train()
    before = [norm.running_mean.clone() for norm in norms if norm.running_mean is not None]
    mobilenet(images()).sum().backward()
    after = [norm.running_mean for norm in norms if norm.running_mean is not None]
    assert mobilenet.training
    assert len(before) == len(norms) > 0
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert not any(p.requires_grad for norm in norms for p in norm.parameters())
    assert any(p.requires_grad for p in mobilenet.backbone.parameters())


def test_batchnorm_learns_unless_frozen() -> None:
    encoder = build_encoder("conv4")
    norm = next(m for m in encoder.modules() if isinstance(m, nn.BatchNorm2d))
    encoder(images())
    assert norm.running_mean is not None
    assert norm.running_mean.abs().sum() > 0


def test_warm_up_freezes_and_gives_back_what_was_trainable(mobilenet: Encoder) -> None:
    mobilenet.train()
    trainable = {name for name, p in mobilenet.named_parameters() if p.requires_grad}
    mobilenet.freeze_backbone(True)
    mobilenet.freeze_backbone(True)
    assert {n for n, p in mobilenet.named_parameters() if p.requires_grad} == {"head.weight", "head.bias"}
    assert not any(m.training for m in mobilenet.backbone.modules())
    mobilenet.train()
    assert not mobilenet.backbone.training
    assert mobilenet.head.training
    mobilenet.freeze_backbone(False)
    assert {n for n, p in mobilenet.named_parameters() if p.requires_grad} == trainable
    assert mobilenet.backbone.training


def test_frozen_patch_embedding() -> None:
    encoder = build_encoder("timm/vit_tiny_patch16_224", frozen_patch_embedding=True)
    frozen = {name for name, p in encoder.named_parameters() if not p.requires_grad}
    assert frozen == {"backbone.net.patch_embed.proj.weight", "backbone.net.patch_embed.proj.bias"}


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("conv5", {}, "unknown encoder 'conv5'; choose one of: conv4, torchvision/MODEL, timm/MODEL"),
        (
            "torchvision/resnet51",
            {},
            "torchvision has no classification model 'resnet51'; did you mean 'resnet50'?",
        ),
        ("timm/resnet51", {}, "timm has no model 'resnet51'; did you mean"),
        ("timm/resnet50.tv_in1", {}, "timm/resnet50 has no weights tag 'tv_in1'; did you mean 'tv_in1k'?"),
        ("timm/hf-hub:somebody/model", {}, "timm has no model 'hf-hub:somebody/model'"),
        ("conv4", {"pooling": "mean"}, "unknown pooling 'mean'"),
        ("conv4", {"feature_norm": "instance"}, "unknown feature_norm 'instance'"),
        ("conv4", {"embedding_dim": 0}, "embedding_dim must be 1 or more, found 0"),
        ("conv4", {"frozen_patch_embedding": True}, "'conv4' has no patch embedding"),
        ("timm/vit_tiny_patch16_224", {"frozen_batchnorm": True}, "has no BatchNorm"),
        ("timm/vit_tiny_patch16_224", {"pooling": "max"}, "pooling 'max' does not apply to timm/vit_tiny"),
    ],
)
def test_what_does_not_exist_is_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        build_encoder(name, **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_images_that_are_not_normalised_are_normalised_by_the_encoder() -> None:
    encoder = build_encoder("conv4", embedding_dim=4).eval()
    size, norm = 20, {"mean": encoder.mean, "std": encoder.std}
    photos = torch.randint(256, (4, 3, 30, 26), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for make in (partial(train_transform, size), partial(eval_transform, size, resize=22)):
        torch.manual_seed(1)
        floats = torch.stack([make(**norm)(photo) for photo in photos])
        torch.manual_seed(1)
        whole = torch.stack([make(**norm, normalised=False)(photo) for photo in photos])
        assert whole.dtype == torch.uint8
        torch.testing.assert_close(encoder.features(whole), encoder.features(floats))
    with pytest.raises(InputError, match="random_erasing"):
        train_transform(size, random_erasing=0.5, normalised=False, **norm)
