import pytest
from rich.console import Console

from pyg_bgformer.report.progress import Display
from tests.training import tiny_config


@pytest.fixture
def tiny(tmp_path):
    """A configuration of two short epochs on digits, with everything random switched on."""
    return tiny_config(tmp_path)


@pytest.fixture
def display(tmp_path):
    """Writes to ``screen.txt`` in the test's folder."""
    with (tmp_path / "screen.txt").open("w") as screen:
        yield Display(Console(file=screen, width=100))
