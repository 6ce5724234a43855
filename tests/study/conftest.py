import io
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from pyg_bgformer.report.progress import Display

RECIPES = Path(__file__).parents[2] / "experiments" / "recipes" / "digits"

QUICK = {
    "train.epochs": 1,
    "sampler.batches_per_epoch": 2,
    "evaluation.clustering": False,
}


class NoAliases(yaml.SafeDumper):
    """Writes a list that occurs twice as two lists."""

    def ignore_aliases(self, data):
        return True


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
        path.write_text(yaml.dump(content, Dumper=NoAliases, sort_keys=False), encoding="utf-8")
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
