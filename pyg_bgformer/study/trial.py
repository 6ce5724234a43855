"""One trial of a tuning: trains and scores on folds of the training classes, without a run folder."""

from dataclasses import replace

from rich.console import Console

from pyg_bgformer.config.schema import Config
from pyg_bgformer.data import ImageDataset
from pyg_bgformer.engine.evaluate import Extracted, extract_all, score
from pyg_bgformer.engine.launch import build_fabric
from pyg_bgformer.engine.loop import fit
from pyg_bgformer.engine.setup import build_dataset, build_parts, own_random_numbers
from pyg_bgformer.errors import InputError
from pyg_bgformer.evaluation.clustering import ClusteringResult
from pyg_bgformer.report.progress import Display
from pyg_bgformer.study.space import Budget


def fold_config(config: Config, budget: Budget, fold: int) -> Config:
    """Returns the configuration that trains and scores on one fold."""
    name = budget.score.partition("/")[2]
    return replace(
        config,
        protocol=replace(config.protocol, name="validation", folds=budget.folds, fold=fold),
        evaluation=replace(config.evaluation, clustering=name in ClusteringResult.__dataclass_fields__),
        seed=budget.seed,
    )


def fold_scores(config: Config, budget: Budget) -> list[float]:
    """Trains once for each fold, and returns the scores of the classes of that fold.

    Args:
        config: The configuration to try.
        budget: Its score, folds and seed are used.

    Raises:
        InputError: If there is no such score, or the configuration is wrong.
        RunError: If a training diverges.
    """
    feature, name = budget.score.split("/")
    dataset = build_dataset(config.data)
    scores = []
    for fold in range(budget.folds):
        results = train_and_score(fold_config(config, budget, fold), dataset, feature)
        if name not in results:
            known = ", ".join(results)
            raise InputError(f"tune.score: there is no score '{name}' of '{feature}'; there are {known}")
        scores.append(results[name])
    return scores


def train_and_score(config: Config, dataset: ImageDataset, feature: str) -> dict[str, float]:
    """Trains in one process and returns the scores of one feature. No file is written.

    Raises:
        InputError: If the configuration is wrong, or the method has no such feature.
        RunError: If the training diverges.
    """
    with own_random_numbers(config.seed):
        alone = build_fabric(config.train, alone=True)
        parts = build_parts(config, dataset, Display(Console(quiet=True)), alone)
        fit(parts)
        extracted = extract_all(parts.fabric, parts.method, parts.test_loaders)
    if feature not in extracted[0].features:
        known = ", ".join(extracted[0].features)
        raise InputError(
            f"tune.score: method {config.method.name} has no feature '{feature}'; it has {known}"
        )
    chosen = [Extracted({feature: split.features[feature]}, split.labels) for split in extracted]
    return score(chosen, parts.method.geometry, config.evaluation, config.seed)[feature].as_dict()
