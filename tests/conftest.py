"""What tests of several rooms share."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

from tests.digits import quarter_of_the_digits

# The same examples in every run, and no time limit for one: a busy machine must not fail a test.
settings.register_profile("suite", deadline=None, derandomize=True, database=None)
settings.load_profile("suite")


@pytest.fixture(scope="module")
def few_digits():
    """A quarter of the digits instead of all; their counts by split."""
    with quarter_of_the_digits() as counts:
        yield counts


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Folder of the datasets, ``$PYG_BGFORMER_DATA``."""
    folder = os.environ.get("PYG_BGFORMER_DATA")
    if not folder:
        pytest.skip("PYG_BGFORMER_DATA is not set: no folder of datasets")
    return Path(folder)


@pytest.fixture(scope="session")
def bgformer_parity(data_root: Path) -> Path:
    """File with inputs, outputs and gradients of the original BGFormer, beside the datasets."""
    file = data_root.parent / "parity" / "bgformer.pt"
    if not file.exists():
        pytest.skip(f"{file} does not exist: nothing to compare with")
    return file


@pytest.fixture(scope="session")
def gca_hng_parity(data_root: Path) -> Path:
    """File with inputs, outputs, gradients and whole steps of the original GCA-HNG, beside the datasets."""
    file = data_root.parent / "parity" / "gca_hng.pt"
    if not file.exists():
        pytest.skip(f"{file} does not exist: nothing to compare with")
    return file


@pytest.fixture(scope="session")
def intra_batch_parity(data_root: Path) -> Path:
    """File with inputs, outputs and gradients of the original Intra-Batch Connections, beside the datasets."""
    file = data_root.parent / "parity" / "intra_batch.pt"
    if not file.exists():
        pytest.skip(f"{file} does not exist: nothing to compare with")
    return file
