"""Importing the package stays light."""

import subprocess
import sys

import pytest

import pyg_bgformer

HEAVY = {
    "sklearn",
    "timm",
    "pytorch_metric_learning",
    "torchvision",
    "lightning_fabric",
    "pandas",
    "PIL",
    "rich",
}


def loaded(program: str) -> set[str]:
    """The modules that a program loads, in a process of its own."""
    program = f"{program}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_the_package_alone_loads_no_library():
    modules = loaded("import pyg_bgformer\npyg_bgformer.__version__")
    assert "pyg_bgformer" in modules
    assert not modules & {"torch", "torch_geometric", "numpy", *HEAVY}


def test_the_layers_load_torch_and_torch_geometric_alone():
    before = loaded("import torch, torch_geometric")
    modules = loaded("import torch, torch_geometric\nfrom pyg_bgformer import BGFormer, batch_graph")
    assert {"pyg_bgformer.graph", "pyg_bgformer.nn.models.bgformer"} <= modules
    assert not {module.split(".")[0] for module in modules - before} & HEAVY


def test_the_help_of_a_run_does_not_load_what_only_a_run_needs():
    program = "from pyg_bgformer.cli.main import main\ntry: main(['run', '--help'])\nexcept SystemExit: pass"
    modules = loaded(program)
    assert "pyg_bgformer.config.recipe" in modules
    assert not modules & {
        *("lightning_fabric", "pytorch_metric_learning", "sklearn.decomposition"),
        *("pyg_bgformer.engine.run", "pyg_bgformer.report.page"),
    }


@pytest.mark.parametrize("name", pyg_bgformer.__all__)
def test_every_public_name_is_there(name: str):
    assert getattr(pyg_bgformer, name)
    assert name in dir(pyg_bgformer)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'BGFormr'"):
        pyg_bgformer.BGFormr  # noqa: B018
    with pytest.raises(ImportError, match="BGFormr"):
        from pyg_bgformer import BGFormr  # noqa: F401
