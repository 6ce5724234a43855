import pytest
import torch
from torch import Tensor, nn

from pyg_bgformer.errors import InputError
from pyg_bgformer.evaluation import batch_dependence


@pytest.fixture
def images() -> Tensor:
    return torch.randn(7, 3, 4, 4, generator=torch.Generator().manual_seed(0))


def flat(images: Tensor) -> Tensor:
    return images.flatten(1)


def test_an_encoder_on_its_own_does_not_leak(images):
    encoder = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(32, 16)).eval()
    assert batch_dependence(encoder, images) < 1e-5


def test_batch_statistics_leak(images):
    assert batch_dependence(lambda batch: flat(batch) - flat(batch).mean(dim=0), images) > 0.1


def test_the_change_is_relative_to_the_norm():
    images = torch.tensor([[100.0], [1.0], [1.0]])
    change = batch_dependence(lambda batch: batch + 0.1 * (len(batch) == 1), images)
    assert change == pytest.approx(0.1, rel=1e-5)


def test_dependence_on_the_order_alone_is_seen():
    def first_in_front(batch: Tensor) -> Tensor:
        return batch + torch.arange(len(batch))[:, None] / 4 * (len(batch) == 4)

    assert batch_dependence(first_in_front, torch.ones(4, 1)) > 0.1


def test_dependence_on_the_batch_size_alone_is_seen():
    assert batch_dependence(lambda batch: batch + (len(batch) == 2), torch.ones(4, 1)) == 1


def test_a_changed_zero_embedding_is_infinite():
    assert batch_dependence(lambda batch: batch + (len(batch) == 1), torch.zeros(3, 2)) == float("inf")
    assert batch_dependence(lambda batch: batch, torch.zeros(3, 2)) == 0


def test_no_gradients_are_kept(images):
    weight = torch.ones(48, 2, requires_grad=True)
    seen = []
    batch_dependence(lambda batch: seen.append(flat(batch) @ weight) or seen[-1], images)
    assert not any(output.requires_grad for output in seen)


@pytest.mark.parametrize(
    ("embed", "count", "message"),
    [
        (flat, 1, "images: found 1"),
        (lambda batch: batch, 3, "embed: found an output"),
        (lambda batch: flat(batch).sum(dim=0, keepdim=True), 3, "embed: found an output"),
        (lambda batch: flat(batch) * torch.nan, 3, "embed: found NaN"),
    ],
)
def test_bad_input_is_one_clear_line(images, embed, count, message):
    with pytest.raises(InputError, match=message):
        batch_dependence(embed, images[:count])
