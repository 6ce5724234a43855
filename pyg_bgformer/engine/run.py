"""One run from recipe to result: test the untrained encoder, train, test once, report."""

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate, count
from pathlib import Path
from typing import Any, cast

import pandas as pd
import torch
import yaml
from lightning_fabric import Fabric
from torch.utils.tensorboard import SummaryWriter

from pyg_bgformer.config.schema import Config
from pyg_bgformer.data import ImageCache, ImageDataset, PlannedSampler
from pyg_bgformer.encoders import save_encoder
from pyg_bgformer.engine.best_epoch import TEST_SCORE, best_epoch, is_tested, keep_best
from pyg_bgformer.engine.evaluate import (
    Extracted,
    extract_all,
    leaks,
    measure_leakage,
    recall_at_1,
    refine,
    score,
)
from pyg_bgformer.engine.insight import collapsed
from pyg_bgformer.engine.interruption import Interrupted
from pyg_bgformer.engine.loop import fit
from pyg_bgformer.engine.optim import build_optimizer, build_schedule
from pyg_bgformer.engine.setup import (
    Batches,
    build_dataset,
    build_fabric,
    build_method,
    build_sampler,
    build_test_loaders,
    build_train_loader,
    new_run_folder,
    protocol_part,
    test_splits,
    training_part,
)
from pyg_bgformer.engine.state import CHECKPOINT, TrainState, load_checkpoint, save_checkpoint
from pyg_bgformer.errors import InputError, RunError
from pyg_bgformer.evaluation import EvaluationResult
from pyg_bgformer.files import atomic_path
from pyg_bgformer.report.progress import Display
from pyg_bgformer.report.table import result_table
from pyg_bgformer.runs.provenance import provenance

RECIPE, RESULT, UNTRAINED, METRICS, QUERIES, EVENTS = (
    "config.yaml",
    "result.json",
    "untrained.json",
    "metrics.csv",
    "queries.csv",
    "tensorboard",
)


def run(config: Config, display: Display, resume: Path | None = None) -> Path:
    """Carries out a run, or the rest of one, and prints its table.

    Args:
        config: The run.
        display: Progress and result.
        resume: Folder of an interrupted run whose recipe ``config`` is, or that holds this recipe alone.

    Returns:
        The run's folder: ``config.yaml`` (the whole recipe), ``checkpoint.pt``, ``metrics.csv`` (one row an
        epoch), ``tensorboard/``, ``result.json``, ``queries.csv`` (one row a test query), and
        ``encoder.safetensors`` with ``encoder.json`` to deploy.

    Raises:
        InputError: The recipe, the data, the weights or the checkpoint are not as they should be.
        RunError: Training diverged, or embeddings depend on their batch.
        Interrupted: Ctrl-C; the folder can be resumed.
    """
    if resume is not None and (resume / RESULT).exists():
        raise InputError(f"{resume} is finished: its result is in {RESULT}")
    dataset = build_dataset(config)
    marks = f"{' (partial)' if dataset.partial else ''}{' (cropped to boxes)' if dataset.cropped else ''}"
    display.line(f"data: {dataset.name}{marks}, {len(dataset.table)} images")
    fabric = build_fabric(config)
    torch.manual_seed(config.seed)
    part = protocol_part(config, dataset)
    seen = training_part(config, part)
    sampler = build_sampler(config, seen)
    for note in sampler.notes:
        display.line(note)
    method = build_method(config, num_classes=part.counts()["train"].classes)
    optimizer = build_optimizer(method, config.train)
    cache = open_cache(config, dataset, display)
    train_loader = build_train_loader(config, seen, method.encoder, sampler, cache)
    test_loaders = build_test_loaders(config, part, method.encoder, cache)

    folder = resume or new_run_folder(config, time.strftime("%Y%m%d-%H%M%S"))
    _, optimizer = fabric.setup(method, optimizer)
    state = TrainState(method, optimizer, build_schedule(optimizer, config.train))
    with interrupts_name(folder), nothing_half_written(folder, new=resume is None):
        if resume is None or _only_prepared(resume):
            _write_text(folder / RECIPE, yaml.safe_dump(config.as_dict(), sort_keys=False))
            save_checkpoint(fabric, state, folder, config.method.name)
        else:
            load_checkpoint(fabric, state, folder, config.method.name)
        display.line(f"run folder: {folder}")
        untrained = _untrained(config, fabric, state, test_loaders, folder, display)
        batches = cast(Batches, fabric.setup_dataloaders(train_loader))
        _train(fabric, state, batches, sampler, config, folder, display, test_loaders)
        result, trained = _test(config, fabric, state, dataset, test_loaders, untrained, display)
        _write_queries(folder / QUERIES, part, trained)
        save_encoder(method.encoder, folder, extra=_deployment(config, result))
        _write_text(folder / RESULT, json.dumps(result, indent=2))
    display.console.print(result_table(result))
    display.line(f"run folder: {folder}")
    if leaks(result["leakage"]):
        raise RunError(
            f"an image's embedding changes by {result['leakage']:.1e} of its norm with the batch it is in; "
            "such results depend on which images are tested together and must not be compared"
        )
    return folder


def open_cache(config: Config, dataset: ImageDataset, display: Display) -> ImageCache | None:
    """The decoded images, made at first use."""
    if config.data.cache is None:
        return None
    with display.bar("decoding images", len(dataset.table)) as update:
        return ImageCache.open_or_build(
            dataset,
            config.data.cache_size,
            Path(config.data.cache).expanduser(),
            workers=config.data.workers,
            progress=lambda done, total: update(done, ""),
        )


def _only_prepared(folder: Path) -> bool:
    """Whether nothing of the run is in the folder yet, beside its recipe."""
    return not any((folder / name).exists() for name in (CHECKPOINT, UNTRAINED, METRICS))


@contextmanager
def interrupts_name(folder: Path) -> Iterator[None]:
    """Lets a stop, wherever it came, say which run can be resumed."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise Interrupted(str(folder)) from error
    except Interrupted as error:
        raise Interrupted(str(folder)) from error


@contextmanager
def nothing_half_written(folder: Path, new: bool) -> Iterator[None]:
    """Removes a new run's folder where a mistake in what was given ends the run before training begins."""
    try:
        yield
    except InputError:
        if new and not (folder / EVENTS).exists():
            shutil.rmtree(folder)
        raise


def _untrained(
    config: Config, fabric: Fabric, state: TrainState, loaders: list[Batches], folder: Path, display: Display
) -> dict[str, Any]:
    """Scores of the encoder before training; kept for a run that is resumed after it."""
    path = folder / UNTRAINED
    if path.exists():
        return json.loads(path.read_text(encoding="utf-8"))
    if state.epoch or state.batch:
        raise InputError(f"{path} is missing, and its encoder has been trained since: start the run anew")
    extracted = _extract(fabric, state, loaders, "testing the untrained encoder", display)
    scores = _plain(score(config, state.method, extracted))
    _write_text(path, json.dumps(scores, indent=2))
    return scores


def _train(
    fabric: Fabric,
    state: TrainState,
    loader: Batches,
    sampler: PlannedSampler,
    config: Config,
    folder: Path,
    display: Display,
    test_loaders: list[Batches],
) -> None:
    writer = SummaryWriter(str(folder / EVENTS), purge_step=state.epoch + 1)
    epochs = config.train.epochs
    begins = list(accumulate((sampler.batches_in(epoch) for epoch in range(epochs)), initial=0))

    def on_epoch(row: dict[str, float]) -> None:
        tested = ""
        if is_tested(config, int(row["epoch"])):
            extracted = extract_all(fabric, state.method, test_loaders)
            row[TEST_SCORE] = recall_at_1(config, state.method, extracted)
            keep_best(state)
            tested = f", test Recall@1 {100 * row[TEST_SCORE]:.1f}"
        for name, value in row.items():
            writer.add_scalar(f"train/{name}", value, int(row["epoch"]))
        with atomic_path(folder / METRICS) as path:
            pd.DataFrame(state.history).to_csv(path, index=False)
        batches = sampler.batches_in(int(row["epoch"]) - 1)
        images = batches * sampler.batch_size
        display.line(
            f"epoch {row['epoch']:.0f}/{epochs}: loss {row['loss']:.4f}, "
            f"{images / row['seconds']:.0f} images/s{tested}"
        )
        if collapsed(state.history):
            display.line(
                f"warning: the features' spread fell to {100 * row['feature_scale']:.0f} % of its start; "
                "see feature_scale in metrics.csv"
            )

    with writer, display.bar("training", begins[-1]) as update:
        fit(
            fabric,
            state,
            loader,
            sampler,
            config,
            folder,
            on_batch=lambda epoch, batch, loss: update(begins[epoch] + batch, f"loss {loss:.4f}"),
            on_epoch=on_epoch,
            on_idle=lambda names: display.line(f"without a gradient, and so not trained: {', '.join(names)}"),
        )


def _test(
    config: Config,
    fabric: Fabric,
    state: TrainState,
    dataset: ImageDataset,
    loaders: list[Batches],
    untrained: dict[str, Any],
    display: Display,
) -> tuple[dict[str, Any], dict[str, EvaluationResult]]:
    trained = _scores(config, fabric, state, loaders, "testing the trained encoder", display)
    epoch, last = state.epoch, None
    if config.protocol.name == "literature":
        epoch, last = best_epoch(state.history), _plain(trained)
    if epoch != state.epoch:
        state.method.load_state_dict(state.best)
        trained = _scores(config, fabric, state, loaders, f"testing the encoder of epoch {epoch}", display)
    result = {
        "protocol": str(config.protocol),
        "seed": config.seed,
        "epochs": state.epoch,
        "untrained": untrained,
        "trained_epoch": epoch,
        "trained": _plain(trained),
        "last": last,
        "refined_features": [name for name in trained if name not in untrained],
        "leakage": measure_leakage(fabric, state.method, loaders[0]),
        "train_seconds": state.seconds,
        **provenance(dataset, state.method.encoder, fabric.device),
        "config": config.as_dict(),
    }
    return result, trained


def _extract(
    fabric: Fabric, state: TrainState, loaders: list[Batches], title: str, display: Display
) -> list[Extracted]:
    done = count(1)
    with display.bar(title, sum(map(len, loaders))) as update:
        return extract_all(fabric, state.method, loaders, lambda: update(next(done), ""))


def _scores(
    config: Config, fabric: Fabric, state: TrainState, loaders: list[Batches], title: str, display: Display
) -> dict[str, EvaluationResult]:
    """Of the method as it is, features that the test images refine in each other included."""
    extracted = _extract(fabric, state, loaders, title, display)
    return score(config, state.method, extracted, refine(fabric, state.method, extracted))


def _plain(results: dict[str, EvaluationResult]) -> dict[str, Any]:
    return {name: result.as_dict() for name, result in results.items()}


def _deployment(config: Config, result: dict[str, Any]) -> dict[str, Any]:
    """What a user of the encoder needs to know beside what the encoder itself says."""
    data = ("dataset", "dataset_manifest_sha256", "dataset_partial", "dataset_cropped")
    keys = (*data, "seed", "protocol", "epochs", "trained_epoch")
    return {
        "image_size": config.data.image_size,
        "resize": config.data.resize,
        "geometry": config.as_dict()["geometry"],
        "method": config.method.name,
        **{key: result[key] for key in keys},
    }


def _write_text(path: Path, text: str) -> None:
    with atomic_path(path) as partial:
        partial.write_text(text + "\n", encoding="utf-8")


def _write_queries(path: Path, dataset: ImageDataset, trained: dict[str, EvaluationResult]) -> None:
    """One row a query: its class, and for each feature its first positive's rank and its precisions."""
    queries = dataset.rows(test_splits(dataset)[0])
    rows = dataset.table.loc[queries, ["path", "original_class"]].reset_index(drop=True)
    for feature, result in trained.items():
        rows[f"{feature}_first_rank"] = result.retrieval.first_rank
        rows[f"{feature}_average_precision_at_r"] = result.retrieval.average_precision
        rows[f"{feature}_r_precision"] = result.retrieval.precision_at_r
    with atomic_path(path) as partial:
        rows.to_csv(partial, index=False)
