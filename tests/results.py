"""Results of runs that never ran."""

from dataclasses import replace

from pyg_bgformer.runs.folder import RunFolder
from pyg_bgformer.runs.provenance import Provenance
from pyg_bgformer.runs.result import RunResult, write_result

CONFIG = {
    "data": {"name": "digits", "image_size": 16},
    "encoder": {"name": "conv4", "embedding_dim": 8},
    "loss": {"name": "triplet"},
    "method": {"name": "plain"},
    "train": {"lr": 0.1, "epochs": 3},
}

ORIGIN = Provenance(
    dataset="digits",
    dataset_manifest_sha256="abc",
    dataset_partial=False,
    dataset_cropped=False,
    weights="random",
    weights_sha256=None,
    python="3.12",
    packages={"torch": "2.9.0", "timm": "1.0"},
    git_commit="0123",
    device="cpu",
    threads=1,
)


def a_result(recall=0.5, *, config=CONFIG, origin=None, **changes):
    """A result with this Recall@1 of the embedding; other values can be changed by name."""
    scores = {"recall_at_1": recall, "map_at_r": recall / 2}
    values = {
        "protocol": "final",
        "seed": 0,
        "epochs": 3,
        "trained_epoch": 3,
        "untrained": {"embedding": {**scores, "recall_at_1": 0.1}},
        "trained": {"embedding": scores},
        "last": None,
        "refined_features": [],
        "batch_dependence": 0.0,
        "train_seconds": 1.0,
        "provenance": replace(ORIGIN, **(origin or {})),
        "config": config,
    }
    return RunResult(**{**values, **changes})


def write_run(path, result):
    """The folder of a run that has this result."""
    folder = RunFolder.create(path, result.config)
    write_result(folder, result)
    return folder
