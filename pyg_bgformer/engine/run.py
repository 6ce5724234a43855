"""One run from recipe to result: evaluate the untrained encoder, train, evaluate once."""

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from pyg_bgformer.config.schema import Config
from pyg_bgformer.engine.best_epoch import best_epoch
from pyg_bgformer.engine.epoch_log import EpochLog
from pyg_bgformer.engine.evaluate import (
    Extracted,
    extract_tested,
    measure_batch_dependence,
    score_tested,
)
from pyg_bgformer.engine.extension import check_extension, reopen
from pyg_bgformer.engine.interruption import (
    interrupted_by_signal,
    is_worker_death,
    worker_death,
)
from pyg_bgformer.engine.launch import build_fabric, processes_of
from pyg_bgformer.engine.loop import fit
from pyg_bgformer.engine.outputs import deployed, plain, write_queries
from pyg_bgformer.engine.processes import LostProcess, Processes, leave
from pyg_bgformer.engine.progress import Display, Silent
from pyg_bgformer.engine.setup import (
    Parts,
    build_dataset,
    build_parts,
    deterministic_algorithms,
    new_run_folder,
    own_random_numbers,
)
from pyg_bgformer.engine.state import load_checkpoint, save_checkpoint
from pyg_bgformer.engine.trained import batch_edges, keep_embeddings, keep_graph, training_images
from pyg_bgformer.engine.wandb_logger import wandb_library
from pyg_bgformer.errors import InputError, Interrupted, RunError
from pyg_bgformer.evaluation import EvaluationResult
from pyg_bgformer.files import remove_stale_partials
from pyg_bgformer.runs.folder import RunFolder
from pyg_bgformer.runs.provenance import provenance
from pyg_bgformer.runs.result import RunResult, Scores, read_scores, write_result


def run(
    config: Config, display: Display, resume: RunFolder | None = None, *, out: Path | None = None
) -> RunFolder:
    """Carries out a run, or the rest of one, and shows its result.

    Args:
        config: The run.
        display: Shows progress and result.
        resume: Folder of an interrupted run whose recipe ``config`` is, or that holds this recipe alone; or of a
            finished run whose recipe differs in ``train.epochs`` alone, which is extended to so many epochs.
        out: A new run's folder; by default one in ``config.runs`` that is named after the run.

    Returns:
        The run's folder.

    Raises:
        InputError: The recipe, the data, the weights or the checkpoint are not as they should be.
        RunError: Training diverged, a file cannot be written, or embeddings depend on their batch.
        Interrupted: A signal asked to stop; the folder can be resumed.
    """
    if resume is not None and resume.state == "finished":
        check_extension(resume, config.train.epochs)
    if config.report.wandb is not None:
        wandb_library()  # before anything is computed
    with interrupted_by_signal():
        fabric = build_fabric(config.train)
        fabric.launch()
        processes = processes_of(fabric)
        display = display if processes.is_first else Silent()
        with processes.ending_together(), own_random_numbers(config.seed):
            dataset = build_dataset(config.data)
            marks = (
                f"{' (partial)' if dataset.partial else ''}{' (cropped to boxes)' if dataset.cropped else ''}"
            )
            display.line(f"data: {dataset.name}{marks}, {len(dataset.table)} images")
            for note in dataset.notes:
                display.line(f"data: {note}")
            parts = build_parts(config, dataset, display, fabric)
            folder = run_folder(config, processes, resume, out)
            with owned(folder, processes, new=resume is None):
                set_out(parts, folder)
                display.line(f"run folder: {folder}")
                untrained = evaluate_untrained(parts, folder, display)
                train(parts, folder, display)
                tested = test_trained(parts, display)
                if not processes.is_first:
                    leave()
                result = write_outcome(parts, folder, untrained, tested)
    display.result(result)
    display.line(f"run folder: {folder}")
    if result.batch_dependent:
        raise RunError(
            f"an image's embedding changes by {result.batch_dependence:.1e} of its norm with the batch it is in; "
            "such results cannot be compared, because they depend on which images are tested together"
        )
    return folder


def run_folder(config: Config, processes: Processes, resume: RunFolder | None, out: Path | None) -> RunFolder:
    """Returns the run's folder, which the first process makes.

    Args:
        config: The run.
        processes: Those of the run.
        resume: The folder of a run that is resumed.
        out: A new run's folder; see :func:`run`.

    Raises:
        InputError: The folder cannot be made.
    """
    if processes.is_first and resume is None:
        resume = new_run_folder(config, time.strftime("%Y%m%d-%H%M%S"), out)
    return RunFolder(processes.share(str(resume)))


@contextmanager
def owned(folder: RunFolder, processes: Processes, new: bool) -> Iterator[None]:
    """Lets the first process alone write to a folder, and leaves it as it can be resumed.

    Args:
        folder: The run's folder.
        processes: Those of the run.
        new: Whether the run is not resumed.
    """
    with resumable(folder, processes):
        if not processes.is_first:
            yield
            return
        with folder.locked(), nothing_half_written(folder, new):
            remove_stale_partials(folder.path)
            yield


def set_out(parts: Parts, folder: RunFolder) -> None:
    """Begins a run with a first checkpoint, or sets the training to the checkpoint of a run that is resumed.

    Args:
        parts: The run.
        folder: Its folder.

    Raises:
        InputError: The checkpoint is missing or damaged.
    """
    if parts.processes.is_first and folder.state == "finished":
        reopen(folder, parts.config)
    if parts.processes.share(folder.state) != "pending":
        load_checkpoint(parts.fabric, parts.state, folder, parts.origin)
        if parts.state.epoch > parts.config.train.epochs:
            raise InputError(
                f"{folder.checkpoint} is after epoch {parts.state.epoch}, but train.epochs in the recipe beside it "
                f"is {parts.config.train.epochs}"
            )
    elif parts.processes.is_first:
        save_checkpoint(parts.fabric, parts.state, folder, parts.origin)


@contextmanager
def resumable(folder: RunFolder, processes: Processes) -> Iterator[None]:
    """Lets a stop, wherever it comes from, say which run can be resumed.

    Args:
        folder: The run's folder.
        processes: Those of the run.

    Raises:
        Interrupted: A signal asked to stop.
        RunError: The run failed, and can be resumed once its cause is fixed.
    """
    try:
        yield
    except (KeyboardInterrupt, Interrupted) as error:
        raise Interrupted(str(folder)) from error
    except LostProcess as lost:
        reason = (processes.reason() or str(lost)).removesuffix(f"; resume with: --resume {folder}")
        raise RunError(f"{reason}; resume with: --resume {folder}") from lost
    except RuntimeError as error:
        if not is_worker_death(error):
            raise
        raise RunError(f"{worker_death(error)}; resume with: --resume {folder}") from error


@contextmanager
def nothing_half_written(folder: RunFolder, new: bool) -> Iterator[None]:
    """Removes a new run's folder if a mistake in what was given ends the run before training begins.

    Args:
        folder: The run's folder.
        new: Whether this process made it.
    """
    try:
        yield
    except InputError:
        if new and not folder.events.exists():
            shutil.rmtree(folder.path)
        raise


def evaluate_untrained(parts: Parts, folder: RunFolder, display: Display) -> Scores:
    """Returns the scores of the encoder before training, which the first process keeps for a run that is resumed.

    Args:
        parts: The run.
        folder: Its folder.
        display: Shows the progress.

    Raises:
        InputError: The file of a resumed run is missing or damaged.
    """
    if parts.processes.share(folder.untrained.exists()):
        return read_scores(folder.untrained)
    if parts.state.epoch or parts.state.batch:
        raise InputError(
            f"{folder.untrained} is missing, and the encoder has changed since then: start a new run"
        )
    extracted = extract_tested(parts, "testing the untrained encoder", display)
    if not parts.processes.is_first:
        return {}
    scores = plain(score_tested(parts, extracted, refined=False))
    folder.write_text(folder.untrained, json.dumps(scores, indent=2))
    return scores


def train(parts: Parts, folder: RunFolder, display: Display) -> None:
    """Trains to the last epoch.

    Args:
        parts: The run.
        folder: Its folder.
        display: Shows the progress.
    """
    with (
        deterministic_algorithms(parts.config.train.deterministic),
        EpochLog(parts, folder, display) as log,
        display.bar("training", log.begins[-1]) as update,
    ):
        fit(
            parts,
            folder,
            on_batch=lambda epoch, batch, loss: update(log.begins[epoch] + batch, f"loss {loss:.4f}"),
            on_epoch=log,
            on_idle=lambda names: display.line(
                f"not trained, because they get no gradient: {', '.join(names)}"
            ),
        )


class Tested(NamedTuple):
    """The test of a trained method.

    Attributes:
        extracted: Features of the test images.
        epoch: The epoch that the protocol chooses.
        scores: Of that epoch, by feature; empty on all processes but the first.
        last: Scores of the last epoch, where the protocol chooses one by the test images.
    """

    extracted: list[Extracted]
    epoch: int
    scores: dict[str, EvaluationResult]
    last: Scores | None


def test_trained(parts: Parts, display: Display) -> Tested:
    """Tests the method, and leaves it in the state of the epoch that the protocol chooses.

    Args:
        parts: The run, trained.
        display: Shows the progress.
    """
    state, is_first = parts.state, parts.processes.is_first
    extracted = extract_tested(parts, "testing the trained encoder", display)
    scores = score_tested(parts, extracted) if is_first else {}
    epoch, last = state.epoch, None
    if parts.config.protocol.name == "literature":
        epoch, last = best_epoch(state.history), plain(scores)
    if epoch != state.epoch:
        state.method.load_state_dict(state.best)
        extracted = extract_tested(parts, f"testing the encoder of epoch {epoch}", display)
        scores = score_tested(parts, extracted) if is_first else {}
    return Tested(extracted, epoch, scores, last)


def write_outcome(parts: Parts, folder: RunFolder, untrained: Scores, tested: Tested) -> RunResult:
    """Writes what a finished run leaves, and returns its result.

    Args:
        parts: The run, tested.
        folder: Its folder.
        untrained: Scores before training.
        tested: Scores after it.
    """
    config, state = parts.config, parts.state
    result = RunResult(
        protocol=str(config.protocol),
        seed=config.seed,
        epochs=state.epoch,
        trained_epoch=tested.epoch,
        untrained=untrained,
        trained=plain(tested.scores),
        last=tested.last,
        refined_features=[name for name in tested.scores if name not in untrained],
        batch_dependence=measure_batch_dependence(parts.fabric, parts.method, parts.test_loaders[0]),
        tested=parts.tested.tested,
        train_seconds=state.seconds,
        provenance=provenance(
            parts.dataset, state.method.encoder, parts.fabric.device, folder.plugin_hashes()
        ),
        config=folder.read_recipe(),
    )
    write_queries(folder, parts.tested, tested.scores)
    keep_embeddings(folder, tested.extracted)
    images, labels = training_images(config, parts.tested, parts.method.encoder, 0)
    keep_graph(folder, batch_edges(parts.method, images, labels))
    try:
        deployed(config, parts.method, result).save_pretrained(folder.path)
    except InputError as error:  # of what was given, nothing is wrong any more
        raise RunError(f"{error}; when that is mended, resume with: --resume {folder}") from error
    write_result(folder, result)
    if not config.train.keep_checkpoint:
        folder.checkpoint.unlink(missing_ok=True)
    return result
