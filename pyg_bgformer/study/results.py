"""What a study leaves: every score as CSV, tables in Markdown and LaTeX, a figure."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import pandas as pd

from pyg_bgformer.errors import InputError
from pyg_bgformer.files import atomic_path
from pyg_bgformer.report.figures import draw_study
from pyg_bgformer.report.study_table import study_latex, study_markdown
from pyg_bgformer.report.summary import collect
from pyg_bgformer.study.definition import Study
from pyg_bgformer.study.runs import StudyRun


def gather(study: Study, runs: Sequence[StudyRun]) -> pd.DataFrame:
    """One row for each finished run, feature and state of the encoder, in the order of the study's rows."""
    references = {row.name: row.reference for row in study.rows}
    ordered = [run for name in references for run in runs if run.row == name]
    found = collect([run.folder for run in ordered], [run.row for run in ordered])
    found.insert(list(found.columns).index("method") + 1, "reference", found["method"].map(references))
    return found


def write_results(study: Study, runs: Sequence[StudyRun]) -> list[Path]:
    """Writes ``<study>.csv``, ``.md``, ``.tex`` and ``.png`` into the study's folder of results.

    Raises:
        InputError: The folder cannot be written.
    """
    found = gather(study, runs)
    files = [study.results / f"{study.name}.{ending}" for ending in ("csv", "md", "tex", "png")]
    try:
        study.results.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:  # all of them, or none
            table, page, latex, figure = (stack.enter_context(atomic_path(file)) for file in files)
            found.to_csv(table, index=False)
            page.write_text(study_markdown(found, study.title) + "\n", encoding="utf-8")
            latex.write_text(study_latex(found, study.title) + "\n", encoding="utf-8")
            draw_study(found, study.title, figure)
    except OSError as error:
        raise InputError(f"results {study.results} cannot be written: {error.strerror}") from error
    return files
