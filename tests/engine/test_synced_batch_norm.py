import pytest
import torch
from torch import nn

from pyg_bgformer.config.schema import TrainConfig
from pyg_bgformer.engine.launch import build_fabric, processes_of
from pyg_bgformer.engine.synced_batch_norm import SyncedBatchNorm
from tests.groups import on_processes

CASES = {
    "2d": (lambda: nn.BatchNorm2d(4), (11, 4, 3, 2)),
    "1d": (lambda: nn.BatchNorm1d(4, affine=False), (11, 4)),
    "a mean over all steps": (lambda: nn.BatchNorm2d(4, momentum=None), (11, 4, 3, 2)),
    "evaluation mode": (lambda: nn.BatchNorm2d(4).eval(), (11, 4, 3, 2)),
}


def normalised(count):
    """What each process's part of a batch becomes, by case, after two passes."""
    fabric = build_fabric(TrainConfig(devices=count, device="cpu"))
    fabric.launch()
    processes = processes_of(fabric)
    found = {}
    for name, (build, shape) in CASES.items():
        generator = torch.Generator().manual_seed(0)
        norm = build().double()
        for parameter in norm.parameters():
            parameter.data = torch.rand(4, generator=generator, dtype=torch.float64)
        whole, slope = torch.randn(2, *shape, generator=generator, dtype=torch.float64)
        own = processes.part(len(whole))
        x = whole[own.start : own.stop].clone().requires_grad_()
        for _ in range(2):
            norm.zero_grad()
            x.grad = None
            if count > 1:
                with SyncedBatchNorm(processes):
                    out = norm(x)
            else:
                out = norm(x)
            (out * slope[own.start : own.stop]).sum().backward()
        gradients = [parameter.grad for parameter in norm.parameters()]
        processes.sum(gradients)
        rows = [processes.gather(out).numpy(), processes.gather(x.grad).numpy()]
        found[name] = [*rows, *(g.numpy() for g in gradients), *(b.numpy() for b in norm.buffers())]
    return found


@pytest.fixture(scope="module")
def both():
    return normalised(1), on_processes(3, normalised, 3)


@pytest.mark.parametrize("case", CASES)
def test_values_gradients_and_statistics_are_those_of_one_process_with_uneven_parts(both, case):
    alone, several = both
    for expected, *found in zip(alone[case], *(member[case] for member in several), strict=True):
        for values in found:
            assert values == pytest.approx(expected, abs=1e-12)
