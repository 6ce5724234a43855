import shutil

import pandas as pd
import pytest

from pyg_bgformer.runs.folder import RunFolder
from tests.digits import quarter_of_the_digits
from tests.report.finished import finished


@pytest.fixture(scope="module", autouse=True)
def few(few_digits):
    """Runs of this folder are of few digits."""


@pytest.fixture
def runs():
    """Runs of three rows with three seeds, as ``collect`` returns them."""
    recalls = {"plain": (0.50, 0.60, 0.55), "k=5_&": (0.61, 0.70, 0.66), "new": (0.40, 0.70, 0.10)}
    return pd.DataFrame(
        [
            {
                "dataset": "digits",
                "partial": row == "new",
                "cropped": False,
                "row": row,
                "reference": "plain",
                "seed": seed,
                "protocol": "final",
                "epochs": 3,
                "image_size": 28,
                "embedding_dim": 64,
                "weights": "random",
                "commit": "0123456789abcdef",
                "device": "cpu (x86_64)",
                "feature": feature,
                "encoder": encoder,
                "recall_at_1": recall if encoder == "trained" else 0.1,
                "map_at_r": recall / 2,
            }
            for row, values in recalls.items()
            for seed, recall in enumerate(values)
            for feature in ("backbone", "embedding")
            for encoder in ("untrained", "trained")
        ]
    )


@pytest.fixture(scope="session")
def bgformer_run(tmp_path_factory):
    """A finished run that no test changes."""
    path = tmp_path_factory.mktemp("bgformer")
    with quarter_of_the_digits():
        return finished(path, "--method.name", "bgformer", "--train.keep_checkpoint", "true")


@pytest.fixture(scope="session")
def plain_run(tmp_path_factory):
    """A finished run of a method without a graph, which no test changes."""
    with quarter_of_the_digits():
        return finished(tmp_path_factory.mktemp("plain"))


@pytest.fixture
def own_run(bgformer_run, tmp_path):
    """A copy of a finished run that a test may change."""
    return RunFolder(shutil.copytree(bgformer_run.path, tmp_path / "run"))
