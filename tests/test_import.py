"""Importing the package stays light."""

import subprocess
import sys

import pytest

HEAVY = [
    "sklearn",
    "timm",
    "pytorch_metric_learning",
    "torchvision",
    "lightning_fabric",
    "pandas",
    "PIL",
    "rich",
]
PROGRAM = """
import sys, torch, torch_geometric
before = set(sys.modules)
import pyg_bgformer
print(*sorted(set(sys.modules) - before))
"""


@pytest.fixture(scope="module")
def added() -> set[str]:
    """Modules that the package imports beyond those of torch and torch_geometric, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("heavy", HEAVY)
def test_heavy_libraries_are_left_out(heavy: str, added: set[str]) -> None:
    assert not {module for module in added if module.split(".")[0] == heavy}


def test_the_layers_are_there(added: set[str]) -> None:
    assert {"pyg_bgformer.graph", "pyg_bgformer.nn.models.bgformer"} <= added
