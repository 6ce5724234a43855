"""One run from recipe to result: test the untrained encoder, train, test once, report."""

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from itertools import accumulate, count
from pathlib import Path
from typing import cast

import pandas as pd
import torch
from lightning_fabric import Fabric
from torch.utils.tensorboard import SummaryWriter

from pyg_bgformer.config.schema import Config
from pyg_bgformer.data import ImageCache, ImageDataset, PlannedSampler
from pyg_bgformer.deploy.embedding_model import EmbeddingModel
from pyg_bgformer.engine.best_epoch import TEST_SCORE, best_epoch, is_tested, keep_best
from pyg_bgformer.engine.evaluate import (
    Extracted,
    extract_all,
    measure_batch_dependence,
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
from pyg_bgformer.engine.state import TrainState, load_checkpoint, save_checkpoint
from pyg_bgformer.engine.trained import keep_embeddings
from pyg_bgformer.errors import InputError, RunError
from pyg_bgformer.evaluation import EvaluationResult
from pyg_bgformer.methods import Method
from pyg_bgformer.report.progress import Display
from pyg_bgformer.report.tables import result_table
from pyg_bgformer.runs.folder import RunFolder
from pyg_bgformer.runs.provenance import provenance
from pyg_bgformer.runs.result import RunResult, Scores, read_scores, write_result

SHOWN = ("recall_at_", "map_at_r", "r_precision", "nmi", "ami", "ari", "pair_f1")
"""Scores that a deployed model carries, or what their names begin with."""


def run(config: Config, display: Display, resume: RunFolder | None = None) -> RunFolder:
    """Carries out a run, or the rest of one, and prints its table.

    Args:
        config: The run.
        display: Progress and result.
        resume: Folder of an interrupted run whose recipe ``config`` is, or that holds this recipe alone.

    Returns:
        The run's folder: ``config.yaml`` (the whole recipe), ``checkpoint.pt``, ``metrics.csv`` (one row an
        epoch), ``tensorboard/``, ``result.json``, ``queries.csv`` (one row a test query),
        ``embeddings.safetensors`` (of the test images, where they are at most 20,000), and
        ``encoder.safetensors``, ``encoder.json`` and ``README.md``, the model to deploy.

    Raises:
        InputError: The recipe, the data, the weights or the checkpoint are not as they should be.
        RunError: Training diverged, or embeddings depend on their batch.
        Interrupted: Ctrl-C; the folder can be resumed.
    """
    if resume is not None and resume.state == "finished":
        raise InputError(f"{resume} is finished: its result is in {resume.result.name}")
    dataset = build_dataset(config)
    marks = f"{' (partial)' if dataset.partial else ''}{' (cropped to boxes)' if dataset.cropped else ''}"
    display.line(f"data: {dataset.name}{marks}, {len(dataset.table)} images")
    for note in dataset.notes:
        display.line(f"data: {note}")
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
    with folder.locked(), interrupts_name(folder), nothing_half_written(folder, new=resume is None):
        if folder.state == "pending":
            save_checkpoint(fabric, state, folder, config.method.name)
        else:
            load_checkpoint(fabric, state, folder, config.method.name)
        display.line(f"run folder: {folder}")
        untrained = _untrained(config, fabric, state, test_loaders, folder, display)
        batches = cast(Batches, fabric.setup_dataloaders(train_loader))
        _train(fabric, state, batches, sampler, config, folder, display, test_loaders)
        result, trained, extracted = _test(
            config, fabric, state, dataset, test_loaders, untrained, folder, display
        )
        _write_queries(folder, part, trained)
        keep_embeddings(folder, extracted)
        _deployed(config, method, result).save_pretrained(folder.path)
        write_result(folder, result)
    display.console.print(result_table(result))
    display.line(f"run folder: {folder}")
    if result.batch_dependent:
        raise RunError(
            f"an image's embedding changes by {result.batch_dependence:.1e} of its norm with the batch it is in; "
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


@contextmanager
def interrupts_name(folder: RunFolder) -> Iterator[None]:
    """Lets a stop, wherever it came, say which run can be resumed."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise Interrupted(str(folder)) from error
    except Interrupted as error:
        raise Interrupted(str(folder)) from error


@contextmanager
def nothing_half_written(folder: RunFolder, new: bool) -> Iterator[None]:
    """Removes a new run's folder where a mistake in what was given ends the run before training begins."""
    try:
        yield
    except InputError:
        if new and not folder.events.exists():
            shutil.rmtree(folder.path)
        raise


def _untrained(
    config: Config,
    fabric: Fabric,
    state: TrainState,
    loaders: list[Batches],
    folder: RunFolder,
    display: Display,
) -> Scores:
    """Scores of the encoder before training; kept for a run that is resumed after it."""
    if folder.untrained.exists():
        return read_scores(folder.untrained)
    if state.epoch or state.batch:
        raise InputError(
            f"{folder.untrained} is missing, and the encoder has been trained since: start a new run"
        )
    extracted = _extract(fabric, state, loaders, "testing the untrained encoder", display)
    scores = _plain(score(config, state.method, extracted))
    folder.write_text(folder.untrained, json.dumps(scores, indent=2))
    return scores


def _train(
    fabric: Fabric,
    state: TrainState,
    loader: Batches,
    sampler: PlannedSampler,
    config: Config,
    folder: RunFolder,
    display: Display,
    test_loaders: list[Batches],
) -> None:
    writer = SummaryWriter(str(folder.events), purge_step=state.epoch + 1)
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
        with folder.writing(folder.metrics) as path:
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
    untrained: Scores,
    folder: RunFolder,
    display: Display,
) -> tuple[RunResult, dict[str, EvaluationResult], list[Extracted]]:
    extracted = _extract(fabric, state, loaders, "testing the trained encoder", display)
    trained = _scores(config, fabric, state, extracted)
    epoch, last = state.epoch, None
    if config.protocol.name == "literature":
        epoch, last = best_epoch(state.history), _plain(trained)
    if epoch != state.epoch:
        state.method.load_state_dict(state.best)
        extracted = _extract(fabric, state, loaders, f"testing the encoder of epoch {epoch}", display)
        trained = _scores(config, fabric, state, extracted)
    result = RunResult(
        protocol=str(config.protocol),
        seed=config.seed,
        epochs=state.epoch,
        trained_epoch=epoch,
        untrained=untrained,
        trained=_plain(trained),
        last=last,
        refined_features=[name for name in trained if name not in untrained],
        batch_dependence=measure_batch_dependence(fabric, state.method, loaders[0]),
        train_seconds=state.seconds,
        provenance=provenance(dataset, state.method.encoder, fabric.device, folder.plugin_hashes()),
        config=folder.read_recipe(),
    )
    return result, trained, extracted


def _extract(
    fabric: Fabric, state: TrainState, loaders: list[Batches], title: str, display: Display
) -> list[Extracted]:
    done = count(1)
    with display.bar(title, sum(map(len, loaders))) as update:
        return extract_all(fabric, state.method, loaders, lambda: update(next(done), ""))


def _scores(
    config: Config, fabric: Fabric, state: TrainState, extracted: list[Extracted]
) -> dict[str, EvaluationResult]:
    """Of the method as it is, features that the test images refine in each other included."""
    return score(config, state.method, extracted, refine(fabric, state.method, extracted))


def _plain(results: dict[str, EvaluationResult]) -> Scores:
    return {name: result.as_dict() for name, result in results.items()}


def _deployed(config: Config, method: Method, result: RunResult) -> EmbeddingModel:
    """Returns the model to deploy, with what its users should know of its training."""
    data = ("dataset", "dataset_manifest_sha256", "dataset_partial", "dataset_cropped")
    origin = asdict(result.provenance)
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
            "epochs": result.epochs,
            "trained_epoch": result.trained_epoch,
            "seed": result.seed,
        },
        scores={name: value for name, value in result.trained["embedding"].items() if name.startswith(SHOWN)},
    )


def _write_queries(folder: RunFolder, dataset: ImageDataset, trained: dict[str, EvaluationResult]) -> None:
    """One row a query: its class, and for each feature its first positive's rank and its precisions."""
    queries = dataset.rows(test_splits(dataset)[0])
    rows = dataset.table.loc[queries, ["path", "original_class"]].reset_index(drop=True)
    for feature, result in trained.items():
        rows[f"{feature}_first_rank"] = result.retrieval.first_rank
        rows[f"{feature}_average_precision_at_r"] = result.retrieval.average_precision
        rows[f"{feature}_r_precision"] = result.retrieval.precision_at_r
    with folder.writing(folder.queries) as partial:
        rows.to_csv(partial, index=False)
