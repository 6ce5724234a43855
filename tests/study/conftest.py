import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from pyg_bgformer.report.progress import Display

RECIPES = Path(__file__).parents[2] / "experiments" / "recipes" / "digits"

QUICK = {
    "train.epochs": 1,
    "sampler.batches_per_epoch": 2,
    "evaluation.clustering": False,
}


@pytest.fixture
def content():
    """A study of two rows and two seeds on digits."""
    return {
        "title": "Does it help?",
        "recipes": str(RECIPES),
        "seeds": [0, 1],
        "common": dict(QUICK),
        "reference": "plain",
        "results": "results",
        "rows": [
            {"name": "plain", "recipe": "plain"},
            {"name": "with k=5", "recipe": "bgformer", "set": {"method.k": 5}},
        ],
    }


@pytest.fixture
def write(tmp_path):
    """Writes a study file."""

    def write_study(content):
        path = tmp_path / "mine.yaml"
        path.write_text(json.dumps(content), encoding="utf-8")  # which is YAML, too
        return path

    return write_study


class Recording(Display):
    """Keeps what it is told."""

    def __init__(self):
        super().__init__(Console(file=io.StringIO(), width=200))

    def text(self):
        return self.console.file.getvalue()


@pytest.fixture
def display():
    return Recording()
