import pytest
from rich.console import Console

from pyg_bgformer.engine.train_folder import train_folder
from pyg_bgformer.report.progress import Display
from tests.photos import QUICK, write_photos
from tests.training import tiny_config


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """A folder of photos of six classes; tests leave it as it is."""
    return write_photos(tmp_path_factory.mktemp("photos") / "photos", "abcdef")


@pytest.fixture(scope="session")
def trained(photos):
    """The folder of a run on the photos; tests leave it as it is."""
    return train_folder(photos, method="plain", settings=QUICK, out=photos.parent / "run")


@pytest.fixture
def tiny(tmp_path):
    """A configuration of two short epochs on digits, with everything random switched on."""
    return tiny_config(tmp_path)


@pytest.fixture
def display(tmp_path):
    """Writes to ``screen.txt`` in the test's folder."""
    with (tmp_path / "screen.txt").open("w") as screen:
        yield Display(Console(file=screen, width=100))


@pytest.fixture(params=["torchrun", "srun"])
def outside(request, monkeypatch):
    """The environment of one of four processes on two machines."""
    if request.param == "torchrun":
        values = {"TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2", "LOCAL_RANK": "0"}
    else:
        values = {"SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_NUM_NODES": "2", "SLURM_NTASKS": "4"}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return request.param
