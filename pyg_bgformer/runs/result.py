"""The result of a finished run: what is in ``result.json``."""

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
"""Number of the format of ``result.json``; another number is another format."""

BATCH_DEPENDENCE_LIMIT = 1e-4
"""Largest change of an embedding, relative to its norm, that rounding may cause when its batch changes."""

Scores = dict[str, dict[str, float]]
"""Scores as fractions, and counts, by feature and by name."""


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What a run found, and where that comes from.

    Args:
        schema: See :data:`SCHEMA`.
        protocol: How the tested epoch was chosen.
        seed: The run's seed.
        epochs: Epochs of training.
        trained_epoch: The epoch that ``trained`` is of.
        untrained: Scores before training.
        trained: Scores of the trained encoder.
        last: Scores after the last epoch, where the protocol chose the epoch.
        refined_features: Features among ``trained`` that depend on the other test images.
        batch_dependence: Largest change of an embedding by its batch, relative to its norm.
        tested: What the scores are of: unseen classes, seen classes, or the training images themselves.
        train_seconds: Time spent in training.
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
        """Whether embeddings change with their batch by more than rounding. Then scores must not be compared."""
        return not self.batch_dependence <= BATCH_DEPENDENCE_LIMIT  # also where it is not a number


def write_result(folder: RunFolder, result: RunResult) -> None:
    """Writes ``result.json``; from then on the run is finished.

    Args:
        folder: The run's folder.
        result: Its result.
    """
    folder.write_text(folder.result, json.dumps(asdict(result), indent=2))


def read_result(folder: RunFolder) -> RunResult:
    """Reads ``result.json``.

    Args:
        folder: A finished run's folder.

    Raises:
        InputError: There is no result, or it is damaged or of another format.
    """
    if not folder.result.exists():
        raise InputError(f"{folder} has no {folder.result.name}: it is not the folder of a finished run")
    content = read_json(folder.result, "result")
    found = content.get("schema") if isinstance(content, dict) else None
    if found != SCHEMA:
        raise InputError(
            f"result {folder.result} has schema {found!r}, expected {SCHEMA}: it is damaged or of another version"
        )
    result: RunResult = checked(content, RunResult, f"result {folder.result}")
    return result


def read_scores(path: Path) -> Scores:
    """Reads a file of scores, for example ``untrained.json``.

    Args:
        path: The file.

    Raises:
        InputError: The file is missing or damaged.
    """
    scores: Scores = checked(read_json(path, "scores"), Scores, f"scores {path}")
    return scores
