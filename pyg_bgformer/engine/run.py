"""One run from recipe to result: tests the untrained encoder, trains, and tests the trained encoder."""

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
    """Carries out a run, or the rest of a run, and shows its result.

    Args:
        config: The run.
        display: Shows the progress and the result.
        resume: Folder of a pending, interrupted or finished run with the recipe ``config``. If it is finished,
            ``config`` must have more epochs, and the run is extended. ``None`` makes a new folder.
        out: Folder of a new run. ``None`` takes one in ``config.runs`` with a name from the recipe and the time.

    Returns:
        The run's folder.

    Raises:
        InputError: If the recipe, the data, the weights or the checkpoint are wrong.
        RunError: If training diverges, a file cannot be written, or embeddings depend on their batch.
        Interrupted: If a signal stops the run. It can be resumed.
    """
    if resume is not None and resume.state == "finished":
        check_extension(resume, config.train.epochs)
    if config.report.wandb is not None:
        wandb_library()  # finds a missing library before training
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
            f"an embedding changes by {result.batch_dependence:.1e} of its norm with its batch; such scores "
            "cannot be compared, because they depend on which images are tested together"
        )
    return folder


def run_folder(config: Config, processes: Processes, resume: RunFolder | None, out: Path | None) -> RunFolder:
    """Returns the run's folder. The first process makes it if the run is new.

    Args:
        config: The run.
        processes: The processes of the run.
        resume: See :func:`run`.
        out: See :func:`run`.

    Raises:
        InputError: If the folder cannot be made.
    """
    if processes.is_first and resume is None:
        resume = new_run_folder(config, time.strftime("%Y%m%d-%H%M%S"), out)
    return RunFolder(processes.share(str(resume)))


@contextmanager
def owned(folder: RunFolder, processes: Processes, new: bool) -> Iterator[None]:
    """Locks a run's folder for the first process of the run during the block.

    Args:
        folder: The run's folder.
        processes: The processes of the run.
        new: Whether this run is new, and not resumed.

    Raises:
        InputError: If another process is working on this run.
        Interrupted: If a signal stops the run.
        RunError: If the run fails and can be resumed.
    """
    with resumable(folder, processes):
        if not processes.is_first:
            yield
            return
        with folder.locked(), nothing_half_written(folder, new):
            remove_stale_partials(folder.path)
            yield


def set_out(parts: Parts, folder: RunFolder) -> None:
    """Writes the first checkpoint of a new run, or restores the training from the checkpoint of a resumed run.

    Args:
        parts: The run.
        folder: Its folder.

    Raises:
        InputError: If the checkpoint is missing, damaged, or does not fit the recipe.
        RunError: If the checkpoint cannot be written.
    """
    if parts.processes.is_first and folder.state == "finished":
        reopen(folder, parts.config)
    if parts.processes.share(folder.state) != "pending":
        load_checkpoint(parts.fabric, parts.state, folder, parts.origin)
        if parts.state.epoch > parts.config.train.epochs:
            raise InputError(
                f"{folder.checkpoint}: found epoch {parts.state.epoch}, expected at most "
                f"{parts.config.train.epochs}, which is train.epochs in the recipe beside it"
            )
    elif parts.processes.is_first:
        save_checkpoint(parts.fabric, parts.state, folder, parts.origin)


@contextmanager
def resumable(folder: RunFolder, processes: Processes) -> Iterator[None]:
    """Makes every stop of the block say which run can be resumed.

    Args:
        folder: The run's folder.
        processes: The processes of the run.

    Raises:
        Interrupted: If a signal stops the run.
        RunError: If a process of the run, or a process that loads images, has ended.
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
    """Removes a new run's folder if an :class:`InputError` ends the run before training.

    Args:
        folder: The run's folder.
        new: Whether this run is new, and not resumed.
    """
    try:
        yield
    except InputError:
        if new and not folder.events.exists():
            shutil.rmtree(folder.path)
        raise


def evaluate_untrained(parts: Parts, folder: RunFolder, display: Display) -> Scores:
    """Returns the scores of the encoder before training. The first process writes them to ``untrained.json``.

    Args:
        parts: The run.
        folder: Its folder. If it has ``untrained.json``, the scores are read.
        display: Shows the progress.

    Returns:
        The scores. They may be empty on processes other than the first one.

    Raises:
        InputError: If the run is resumed after the start of training, and the file is missing or damaged.
        RunError: If features are NaN or infinite, or the file cannot be written.
    """
    if parts.processes.share(folder.untrained.exists()):
        return read_scores(folder.untrained)
    if parts.state.epoch or parts.state.batch:
        raise InputError(
            f"{folder.untrained} is missing, and the untrained encoder is not there any more; start a new run"
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

    Raises:
        RunError: If training diverges, or a file cannot be written.
        Interrupted: If a signal stops the run.
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
                f"parameters without a gradient, which are not trained: {', '.join(names)}"
            ),
        )


class Tested(NamedTuple):
    """The test of a trained method.

    Attributes:
        extracted: Features of the test images.
        epoch: The epoch that the protocol has chosen.
        scores: Results of that epoch by name of the feature. Empty on processes other than the first one.
        last: Scores of the last epoch, if the protocol has chosen the epoch by its test scores.
    """

    extracted: list[Extracted]
    epoch: int
    scores: dict[str, EvaluationResult]
    last: Scores | None


def test_trained(parts: Parts, display: Display) -> Tested:
    """Tests the method, and leaves it in the state of the epoch that the protocol has chosen.

    Args:
        parts: The run after training.
        display: Shows the progress.

    Raises:
        RunError: If features are NaN or infinite.
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
    """Writes the files of a finished run, and returns its result.

    Args:
        parts: The run after training.
        folder: Its folder.
        untrained: Scores before training.
        tested: The test after training.

    Raises:
        RunError: If a file cannot be written.
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
    except InputError as error:  # the user's input is not the cause
        raise RunError(f"{error}; fix this and resume with: --resume {folder}") from error
    write_result(folder, result)
    if not config.train.keep_checkpoint:
        folder.checkpoint.unlink(missing_ok=True)
    return result
