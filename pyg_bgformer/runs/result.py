"""The result of a finished run, which is in ``result.json``."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pyg_bgformer.data.dataset import Tested
from pyg_bgformer.errors import InputError
from pyg_bgformer.files import read_json
from pyg_bgformer.runs.folder import RunFolder
from pyg_bgformer.runs.provenance import Provenance
from pyg_bgformer.typed import checked

SCHEMA = 1
"""Version of the format of ``result.json``."""

BATCH_DEPENDENCE_LIMIT = 1e-4
"""Largest change of an embedding, relative to its norm, that counts as rounding when its batch changes."""

Scores = dict[str, dict[str, float]]
"""Scores (as fractions) and counts by name, for each kind of feature."""


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """The scores of a run and their provenance.

    Args:
        schema: See :data:`SCHEMA`.
        protocol: Name of the protocol, and how it chose the tested epoch.
        seed: The run's seed.
        epochs: Number of epochs of training.
        trained_epoch: The epoch whose scores are ``trained``.
        untrained: Scores before training.
        trained: Scores of the trained encoder.
        last: Scores after the last epoch, if the protocol chose the epoch; otherwise :obj:`None`.
        refined_features: Features in ``trained`` that depend on the other test images.
        batch_dependence: Largest change of an embedding when its batch changes, relative to its norm.
        tested: Whether unseen classes, seen classes or the training images were tested.
        train_seconds: Duration of training in seconds.
        provenance: Data, weights, software and hardware.
        config: The recipe.
    """

    schema: int = SCHEMA
    protocol: str
    seed: int
    epochs: int
    trained_epoch: int
    untrained: Scores
    trained: Scores
    last: Scores | None
    refined_features: list[str]
    batch_dependence: float
    tested: Tested = "unseen classes"
    train_seconds: float
    provenance: Provenance
    config: dict[str, Any]

    @property
    def batch_dependent(self) -> bool:
        """Whether embeddings change with their batch by more than rounding. Such scores must not be compared."""
        return not self.batch_dependence <= BATCH_DEPENDENCE_LIMIT  # also where it is not a number


def write_result(folder: RunFolder, result: RunResult) -> None:
    """Writes ``result.json``, which marks the run as finished.

    Args:
        folder: The run's folder.
        result: The run's result.

    Raises:
        RunError: If the file cannot be written.
    """
    folder.write_text(folder.result, json.dumps(asdict(result), indent=2))


def read_result(folder: RunFolder) -> RunResult:
    """Returns the content of ``result.json``.

    Args:
        folder: A finished run's folder.

    Raises:
        InputError: If there is no result, or it is damaged or has another format.
    """
    if not folder.result.exists():
        raise InputError(f"{folder} is not the folder of a finished run: it has no {folder.result.name}")
    content = read_json(folder.result, "result")
    found = content.get("schema") if isinstance(content, dict) else None
    if found != SCHEMA:
        raise InputError(
            f"result {folder.result} has schema {found!r}, expected {SCHEMA}; "
            "it is damaged, or another version of pyg_bgformer wrote it"
        )
    result: RunResult = checked(content, RunResult, f"result {folder.result}")
    return result


def read_scores(path: Path) -> Scores:
    """Returns the content of a file of scores, for example ``untrained.json``.

    Args:
        path: The file.

    Raises:
        InputError: If the file is missing or damaged.
    """
    scores: Scores = checked(read_json(path, "scores"), Scores, f"scores {path}")
    return scores
