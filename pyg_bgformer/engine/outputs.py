"""Outputs of a finished run besides its result: the values of each query, and the trained model."""

from dataclasses import asdict

from pyg_bgformer.config.schema import Config
from pyg_bgformer.data import ImageDataset
from pyg_bgformer.deploy.embedding_model import EmbeddingModel
from pyg_bgformer.engine.loaders import test_splits
from pyg_bgformer.evaluation import EvaluationResult
from pyg_bgformer.methods import Method
from pyg_bgformer.runs.folder import RunFolder
from pyg_bgformer.runs.result import RunResult, Scores

SHOWN = ("recall_at_", "map_at_r", "r_precision", "nmi", "ami", "ari", "pair_f1")
"""Scores that a saved model has: the beginnings of their names."""


def plain(results: dict[str, EvaluationResult]) -> Scores:
    """Returns scores as plain values.

    Args:
        results: Results by name of the feature.
    """
    return {name: result.as_dict() for name, result in results.items()}


def deployed(config: Config, method: Method, result: RunResult) -> EmbeddingModel:
    """Returns the trained model, with the facts about its training that its users need.

    Args:
        config: The run.
        method: The trained method.
        result: The run's result.
    """
    data = ("dataset", "dataset_manifest_sha256", "dataset_partial", "dataset_cropped")
    origin = asdict(result.provenance)
    # Scores on training images say nothing about other images, but readers would think so.
    scores = {} if result.tested == "training images" else result.trained["embedding"]
    return EmbeddingModel(
        method.encoder,
        method.geometry,
        image_size=config.data.image_size,
        resize=config.data.resize,
        training={
            "method": config.method.name,
            "loss": config.loss.name,
            **{key: origin[key] for key in data},
            "protocol": result.protocol,
            "tested": result.tested,
            "epochs": result.epochs,
            "trained_epoch": result.trained_epoch,
            "seed": result.seed,
        },
        scores={name: value for name, value in scores.items() if name.startswith(SHOWN)},
    )


def write_queries(folder: RunFolder, dataset: ImageDataset, trained: dict[str, EvaluationResult]) -> None:
    """Writes one row for each query: its class, and its scores for each feature.

    Args:
        folder: The run's folder.
        dataset: The dataset. Its test images, or its queries, are the queries.
        trained: Results by name of the feature.

    Raises:
        RunError: If the file cannot be written.
    """
    queries = dataset.rows(test_splits(dataset)[0])
    rows = dataset.table.loc[queries, ["path", "original_class"]].reset_index(drop=True)
    for feature, result in trained.items():
        rows[f"{feature}_first_rank"] = result.retrieval.first_rank
        rows[f"{feature}_average_precision_at_r"] = result.retrieval.average_precision
        rows[f"{feature}_r_precision"] = result.retrieval.precision_at_r
    with folder.writing(folder.queries) as partial:
        rows.to_csv(partial, index=False)
