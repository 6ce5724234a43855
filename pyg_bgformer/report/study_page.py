"""The page of a study: its table, its figure, and the neighbours of the same queries in every row."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pyg_bgformer.errors import InputError
from pyg_bgformer.report.collect import collect
from pyg_bgformer.report.colors import themed_svg
from pyg_bgformer.report.embedded_images import EmbeddedImages
from pyg_bgformer.report.figures import study_figure
from pyg_bgformer.report.gallery import choose_queries
from pyg_bgformer.report.page import template, write_whole
from pyg_bgformer.report.page_pictures import NEIGHBOURS, hits, picture_uri
from pyg_bgformer.report.run_images import TrainedRun
from pyg_bgformer.report.statement import statement
from pyg_bgformer.report.tables import against, comparison, legend
from pyg_bgformer.runs.folder import RunFolder

WORST, RANDOM, BEST = 4, 3, 2
"""Numbers of queries of each kind."""


def write_study_page(
    folder: Path, out: Path | None = None, *, reference: str | None = None, pictures: bool = True
) -> Path:
    """Writes the page of a study as one HTML file, which needs no other file and no network.

    Args:
        folder: The folder with the runs of the study.
        out: The file. ``None`` takes ``report.html`` in that folder.
        reference: The row that the others are compared with. ``None`` takes ``plain`` if there is such a row, and
            otherwise the first row.
        pictures: Whether to show queries and their neighbours.

    Returns:
        The file.

    Raises:
        InputError: If the folder has no finished run, there is no such row, or the page cannot be written.
    """
    runs = row_runs(folder)
    finished = {
        row: done for row, given in runs.items() if (done := [r for r in given if r.state == "finished"])
    }
    if not finished:
        raise InputError(f"{folder} is neither a run nor a study: it has no folder of a finished run")
    if reference is None:
        reference = "plain" if "plain" in finished else next(iter(finished))
    rows = [row for row, done in finished.items() for _ in done]
    scores = against(collect([run.path for done in finished.values() for run in done], rows), reference)
    every, ended = (sum(map(len, some.values())) for some in (runs, finished))
    missing, lines, seed = "They were left out.", [], None
    if pictures:
        try:
            images, seed = same_seed_images(finished, reference)
            lines = asked_of_all(images, reference)
        except InputError as error:
            missing = str(error)
    page = study_page(
        scores,
        folder.resolve().name,
        unfinished=f"{every - ended} of {every} runs are not finished. They are left out."
        if ended < every
        else None,
        queries=lines,
        seed=seed,
        missing=missing,
    )
    out = folder / "report.html" if out is None else out
    write_whole(out, page.encode())
    return out


def row_runs(folder: Path) -> dict[str, list[RunFolder]]:
    """Returns the runs in a folder by row. The row is the part of a run's name before ``-seed``.

    Args:
        folder: The folder with the runs.
    """
    runs: dict[str, list[RunFolder]] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        name = re.fullmatch(r"(.+)-seed(\d+).*", path.name)
        if name and RunFolder(path).recipe.is_file():
            runs.setdefault(name[1], []).append(RunFolder(path))
    return runs


def study_page(
    scores: pd.DataFrame,
    title: str,
    *,
    unfinished: str | None = None,
    queries: Sequence[Mapping[str, Any]] = (),
    seed: int | None = None,
    missing: str = "They were left out.",
) -> str:
    """Returns the page of a study as HTML.

    Args:
        scores: Runs from :func:`~pyg_bgformer.report.tables.against`.
        title: Name of the study.
        unfinished: A sentence about the runs that are left out.
        queries: Queries from :func:`asked_of_all`.
        seed: Seed of the runs whose embeddings retrieve the neighbours.
        missing: A sentence that says why there are no queries.
    """
    table = comparison(scores)
    sections = {"scores": "Scores", "figure": "Figure", "gallery": "Gallery" if queries else None}
    return template("study.html").render(
        title=title,
        statement=statement(scores),
        unfinished=unfinished,
        sections=[(key, name) for key, name in sections.items() if name],
        legend=legend(scores),
        table={
            "head": list(table.columns),
            "body": [
                [
                    cell(str(text), str(name).endswith(" difference"))
                    for name, text in zip(table, row, strict=True)
                ]
                for row in table.itertuples(index=False, name=None)
            ],
        },
        figure=themed_svg(study_figure(scores)),
        reference=scores["reference"].iloc[0],
        queries=queries,
        seed=seed,
        missing=None if queries else missing,
        columns=NEIGHBOURS,
    )


def cell(text: str, is_difference: bool) -> dict[str, str | bool]:
    """Returns a cell of a Markdown table for the template: its text, whether it is bold, and the p-value apart.

    Args:
        text: The cell, for example ``**-2.3 ± 2.0** (p = 0.040)``.
        is_difference: Whether it is a difference; other cells stay as they are.
    """
    value, _, p = text.replace("**", "").partition(" (") if is_difference else (text, "", "")
    return {"text": value, "bold": is_difference and text.startswith("**"), "p": p.removesuffix(")")}


def same_seed_images(
    runs: Mapping[str, Sequence[RunFolder]], reference: str
) -> tuple[dict[str, EmbeddedImages], int]:
    """Returns the test images of one run of each row, and the seed of these runs.

    The seed is the smallest one of the reference. Rows without a run of that seed, or with other test images, are
    left out.

    Args:
        runs: Finished runs by row.
        reference: The row that decides the seed and the test images.

    Raises:
        InputError: If the dataset is missing or has changed, or a file is damaged.
    """
    seed = min(int(run.read_recipe()["seed"]) for run in runs[reference])
    images = {}
    for row in [reference, *(row for row in runs if row != reference)]:
        for run in runs[row]:
            if run.read_recipe()["seed"] == seed:
                images[row] = TrainedRun(run).embedded_images()
                break
    first = images[reference].rows
    return {row: some for row, some in images.items() if np.array_equal(some.rows, first)}, seed


def asked_of_all(images: Mapping[str, EmbeddedImages], reference: str) -> list[dict[str, Any]]:
    """Returns queries and their neighbours in every row, for the template.

    Args:
        images: The same test images by row, with the embeddings of the row.
        reference: The row whose scores choose the queries.
    """
    found = {row: some.retrieve(NEIGHBOURS) for row, some in images.items()}
    chosen, scores = images[reference], found[reference].scores
    choice = choose_queries(
        scores.average_precision, scores.first_rank, chosen.labels, worst=WORST, random=RANDOM, best=BEST
    )
    return [
        {
            "picture": picture_uri(chosen.query_picture(query)),
            "name": chosen.class_names[int(chosen.labels[query])],
            "kind": kind,
            "lines": [
                {
                    "row": row,
                    "precision": f"{found[row].scores.average_precision[query]:.2f}",
                    "hits": hits(some, found[row], query),
                }
                for row, some in images.items()
            ],
        }
        for kind, queries in choice._asdict().items()
        for query in queries
    ]
