"""Writes the results of a study: all scores as CSV, tables in Markdown and LaTeX, and figures."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pandas as pd

from pyg_bgformer.errors import InputError
from pyg_bgformer.files import atomic_path
from pyg_bgformer.report.collect import collect
from pyg_bgformer.report.figures import draw_epochs, draw_study, draw_tuning
from pyg_bgformer.report.tables import comparison_latex, comparison_markdown, tuning_markdown
from pyg_bgformer.study.definition import Study
from pyg_bgformer.study.runs import StudyRun
from pyg_bgformer.study.space import Budget
from pyg_bgformer.study.tuning import Trial, setting, tuned


def gather(study: Study, runs: Sequence[StudyRun]) -> pd.DataFrame:
    """Returns a line for each finished run, feature and state of the encoder, in the order of the study's rows.

    Args:
        study: The study.
        runs: Finished runs of the study.

    Raises:
        InputError: If a result is damaged.
    """
    references = {row.name: row.reference for row in study.rows}
    ordered = [run for name in references for run in runs if run.row == name]
    found = collect([run.folder.path for run in ordered], [run.row for run in ordered])
    found.insert(list(found).index("row") + 1, "reference", found["row"].map(references))
    if study.budget is not None:
        budget = f"{study.budget.trials} trials x {study.budget.folds} folds"
        found.insert(list(found).index("seed") + 1, "tuning", budget)
    return found


def gather_epochs(study: Study, runs: Sequence[StudyRun]) -> pd.DataFrame:
    """Returns a line for each epoch of each run: its row, its seed, and the logged values.

    Args:
        study: The study.
        runs: Finished runs of the study.

    Raises:
        InputError: If the log of a run is missing or damaged.
    """
    histories = []
    for run in (run for row in study.rows for run in runs if run.row == row.name):
        try:
            history = pd.read_csv(run.folder.metrics)
        except (OSError, ValueError) as error:
            raise InputError(f"{run.folder.metrics} cannot be read: {error}") from error
        history.insert(0, "row", run.row)
        history.insert(1, "seed", run.config.seed)
        histories.append(history.drop(columns="seconds", errors="ignore"))
    return pd.concat(histories, ignore_index=True)


def write_results(study: Study, runs: Sequence[StudyRun]) -> list[Path]:
    """Writes the tables and figures of a study to its folder of results.

    The files are ``<study>.csv``, ``.md``, ``.tex`` and ``.png``, and ``<study>-epochs.csv`` and ``.png``.

    Args:
        study: The study.
        runs: All runs of the study, finished.

    Returns:
        The files.

    Raises:
        InputError: If a result or a log is damaged, or the folder cannot be written.
    """
    found = gather(study, runs)
    with whole_files(study.results, study.name, ("csv", "md", "tex", "png")) as (files, parts):
        found.to_csv(parts[0], index=False)
        parts[1].write_text(comparison_markdown(found, study.title) + "\n", encoding="utf-8")
        parts[2].write_text(comparison_latex(found, study.title) + "\n", encoding="utf-8")
        draw_study(found, study.title, parts[3])
    epochs = gather_epochs(study, runs)
    with whole_files(study.results, f"{study.name}-epochs", ("csv", "png")) as (more, parts):
        epochs.to_csv(parts[0], index=False)
        draw_epochs(
            epochs, "feature_scale", "feature scale: spread across the batch, 1 at the start", parts[1]
        )
    return files + more


def write_tuning(study: Study, budget: Budget, trials: Sequence[Trial]) -> list[Path]:
    """Writes ``<study>-tuning.csv``, ``.md`` and ``.png`` to the study's folder of results.

    Args:
        study: The study before tuning.
        budget: The budget of each row.
        trials: All trials.

    Returns:
        The files.

    Raises:
        InputError: If the folder cannot be written.
    """
    frame = pd.DataFrame([{**trial._asdict(), **trial.settings} for trial in trials]).convert_dtypes()
    frame = frame.drop(columns="settings").rename(columns={"number": "trial"})
    settings = [
        (row.name, key, values, setting(row.config, key), setting(tuned(row, trials).config, key))
        for row in study.rows
        for key, values in row.space.items()
    ]
    columns = ["row", "setting", "searched", "recipe", "best"]
    table = pd.DataFrame(settings, columns=columns, dtype=object)
    with whole_files(study.results, f"{study.name}-tuning", ("csv", "md", "png")) as (files, parts):
        frame.to_csv(parts[0], index=False)
        parts[1].write_text(tuning_markdown(study.title, str(budget), frame, table) + "\n", encoding="utf-8")
        draw_tuning(frame, budget.score, study.title, parts[2])
    return files


@contextmanager
def whole_files(folder: Path, name: str, endings: Sequence[str]) -> Iterator[tuple[list[Path], list[Path]]]:
    """Yields files and the paths to write them to. If the block raises an error, no file appears.

    Args:
        folder: The folder. It is made if it is missing.
        name: Name of the files without ending.
        endings: Endings of the files.

    Raises:
        InputError: If the folder cannot be written.
    """
    files = [folder / f"{name}.{ending}" for ending in endings]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            yield files, [stack.enter_context(atomic_path(file)) for file in files]
    except OSError as error:
        raise InputError(f"results {folder} cannot be written: {error.strerror}") from error
