import torch
from torch import nn

from pyg_bgformer.encoders.conv4 import Conv4


def test_same_as_the_published_blocks_with_relu_before_the_pooling():
    torch.manual_seed(0)
    conv4 = Conv4()
    published = nn.Sequential(
        *[nn.Sequential(block[0], block[1], nn.ReLU(), nn.MaxPool2d(2)) for block in conv4.net]
    )
    images = torch.randn(6, 3, 28, 28)
    features = conv4(images)
    expected = published(images).flatten(1)
    assert torch.equal(features, expected)
    parameters = list(conv4.parameters())
    gradients = torch.autograd.grad(features.square().sum(), parameters)
    assert all(map(torch.equal, gradients, torch.autograd.grad(expected.square().sum(), parameters)))
