import pytest
import torch

from pyg_bgformer.evaluation import ranking
from pyg_bgformer.evaluation.ranking import count_at_least, largest
from pyg_bgformer.evaluation.search import RUN


def block(rows: int, runs: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(runs)
    values = torch.randint(-9, 10, (rows, runs * RUN), generator=generator).float()
    return values, values.unflatten(1, (-1, RUN)).amax(dim=2)


@pytest.mark.parametrize("count", [1, 20, 1280])
def test_largest_equals_a_sort(count):
    values, maxima = block(5, 20)
    expected = values.sort(dim=1, descending=True).values[:, :count]
    assert torch.equal(largest(values, maxima, count), expected)


@pytest.mark.parametrize(("dense", "threshold"), [(0, 8), (0.25, -9), (0.25, 9), (1, 8), (1, torch.inf)])
def test_counting_looks_into_every_run_that_matters(monkeypatch, dense, threshold):
    monkeypatch.setattr(ranking, "DENSE", dense)
    values, maxima = block(6, 300)
    thresholds = torch.full((6,), float(threshold))
    counts = count_at_least(values, maxima, thresholds)
    assert counts.tolist() == [sum(v >= threshold for v in row) for row in values.tolist()]
