"""torchvision backbones against torchvision's own forward."""

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from pyg_bgformer.encoders.torchvision_backbone import torchvision_backbone
from pyg_bgformer.encoders.weights import fit_tensors
from pyg_bgformer.errors import InputError

# The smallest member of every family whose classifier starts after global average pooling.
FAMILIES = [
    "convnext_tiny",
    "densenet121",
    "efficientnet_b0",
    "googlenet",
    "inception_v3",
    "maxvit_t",
    "mnasnet0_5",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "regnet_y_400mf",
    "resnet50",
    "shufflenet_v2_x0_5",
    "swin_t",
    "vit_b_32",
]
FIXED_SIZE = {"maxvit_t": 224, "vit_b_32": 224, "inception_v3": 96}


def classifier_input(net: nn.Module, images: Tensor) -> Tensor:
    """What the first linear layer of torchvision's own classifier sees."""
    seen: list[Tensor] = []
    head = next(getattr(net, name) for name in ("fc", "classifier", "head", "heads") if hasattr(net, name))
    linear = next(part for part in head.modules() if isinstance(part, nn.Linear))
    linear.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    net(images)
    return seen[0]


@pytest.fixture
def quick_init(monkeypatch: pytest.MonkeyPatch) -> None:
    """Large networks spend seconds on drawing from a truncated normal distribution; any other does here."""
    monkeypatch.setattr(nn.init, "trunc_normal_", lambda tensor, *_, **__: nn.init.normal_(tensor, std=0.02))


@pytest.mark.usefixtures("quick_init")
@pytest.mark.parametrize("name", FAMILIES)
def test_average_pooling_gives_what_the_classifier_sees(name: str) -> None:
    torch.manual_seed(0)
    options = (
        {"init_weights": False, "transform_input": True} if name in ("googlenet", "inception_v3") else {}
    )
    net = models.get_model(name, weights=None, **options).eval()
    backbone = torchvision_backbone(name).eval()
    fit_tensors(backbone.net, net.state_dict(), source=name, ignored=backbone.head_prefixes)
    images = torch.randn(2, 3, *[FIXED_SIZE.get(name, 64)] * 2)
    with torch.no_grad():
        features, expected = backbone(images), classifier_input(net, images)
    assert features.shape == (2, backbone.feature_dim)
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())


@pytest.mark.parametrize(("name", "channels"), [("alexnet", 256), ("squeezenet1_1", 512)])
def test_networks_with_a_hidden_classifier_are_cut_before_it(name: str, channels: int) -> None:
    backbone = torchvision_backbone(name, "max").eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = backbone.net.features(images).flatten(2).max(dim=2).values
        torch.testing.assert_close(backbone(images), expected)
    assert backbone.feature_dim == channels


def test_every_torchvision_model_has_a_known_layout() -> None:
    """A family that torchvision adds later must be looked at before it is offered."""
    known = {"alexnet", "convnext", "densenet", "efficientnet", "googlenet", "inception", "maxvit", "mnasnet"}
    known |= {
        "mobilenet",
        "regnet",
        "resnet",
        "resnext",
        "shufflenet",
        "squeezenet",
        "swin",
        "vgg",
        "vit",
        "wide",
    }
    names = models.list_models(module=models)
    assert [name for name in names if not name.startswith(tuple(known))] == []


def test_training_output_has_no_auxiliary_classifiers() -> None:
    features = torchvision_backbone("googlenet").train()(torch.randn(2, 3, 64, 64))
    assert features.shape == (2, 1024)


def test_class_token_networks_refuse_what_does_not_apply() -> None:
    with pytest.raises(InputError, match="pooling 'max' does not apply to torchvision/vit_b_32"):
        torchvision_backbone("vit_b_32", "max")
    with pytest.raises(InputError, match="needs images of 224 px, found 64 x 64"):
        torchvision_backbone("vit_b_32")(torch.zeros(1, 3, 64, 64))


def test_unknown_model_is_named_with_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'resnet50'"):
        torchvision_backbone("rsnet50")
