"""What a study leaves: every score as CSV, tables in Markdown and LaTeX, a figure."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import cast

import pandas as pd

from pyg_bgformer.errors import InputError
from pyg_bgformer.files import atomic_path
from pyg_bgformer.report.figures import draw_study
from pyg_bgformer.report.study_table import study_latex, study_markdown
from pyg_bgformer.report.summary import collect
from pyg_bgformer.report.tuning import draw_tuning, tuning_markdown
from pyg_bgformer.study.definition import Study
from pyg_bgformer.study.runs import StudyRun
from pyg_bgformer.study.space import Budget
from pyg_bgformer.study.tuning import Trial, setting, tuned


def gather(study: Study, runs: Sequence[StudyRun]) -> pd.DataFrame:
    """One row for each finished run, feature and state of the encoder, in the order of the study's rows."""
    references = {row.name: row.reference for row in study.rows}
    ordered = [run for name in references for run in runs if run.row == name]
    found = collect([run.folder for run in ordered], [run.row for run in ordered])
    found.insert(list(found.columns).index("method") + 1, "reference", found["method"].map(references))
    if study.budget is not None:
        found.insert(
            list(found.columns).index("seed") + 1,
            "tuning",
            f"{study.budget.trials} trials x {study.budget.folds} folds",
        )
    return found


def write_tuning(study: Study, trials: Sequence[Trial]) -> list[Path]:
    """Writes ``<study>-tuning.csv``, ``.md`` and ``.png`` into the study's folder of results.

    Raises:
        InputError: The folder cannot be written.
    """
    budget = cast(Budget, study.budget)
    frame = pd.DataFrame([{**trial._asdict(), **trial.settings} for trial in trials]).convert_dtypes()
    frame = frame.drop(columns="settings").rename(columns={"number": "trial"})
    settings = pd.DataFrame(
        [
            {
                "row": row.name,
                "setting": key,
                "searched": str(values),
                "recipe": setting(row.config, key),
                "best": setting(tuned(row, trials).config, key),
            }
            for row in study.rows
            for key, values in row.space.items()
        ],
        dtype=object,
    )
    with whole_files(study.results, f"{study.name}-tuning", ("csv", "md", "png")) as (files, parts):
        frame.to_csv(parts[0], index=False)
        text = tuning_markdown(study.title, str(budget), frame, settings)
        parts[1].write_text(text + "\n", encoding="utf-8")
        draw_tuning(study.title, budget.score, frame, parts[2])
    return files


def write_results(study: Study, runs: Sequence[StudyRun]) -> list[Path]:
    """Writes ``<study>.csv``, ``.md``, ``.tex`` and ``.png`` into the study's folder of results.

    Raises:
        InputError: The folder cannot be written.
    """
    found = gather(study, runs)
    with whole_files(study.results, study.name, ("csv", "md", "tex", "png")) as (files, parts):
        found.to_csv(parts[0], index=False)
        parts[1].write_text(study_markdown(found, study.title) + "\n", encoding="utf-8")
        parts[2].write_text(study_latex(found, study.title) + "\n", encoding="utf-8")
        draw_study(found, study.title, parts[3])
    return files


@contextmanager
def whole_files(folder: Path, name: str, endings: Sequence[str]) -> Iterator[tuple[list[Path], list[Path]]]:
    """Yields files and the places to write them to. Either all of them appear, or none.

    Raises:
        InputError: The folder cannot be written.
    """
    files = [folder / f"{name}.{ending}" for ending in endings]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            yield files, [stack.enter_context(atomic_path(file)) for file in files]
    except OSError as error:
        raise InputError(f"results {folder} cannot be written: {error.strerror}") from error
