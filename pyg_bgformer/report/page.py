"""The page of a run: one HTML file with scores, charts, and pictures of what its encoder finds."""

from pathlib import Path
from typing import NamedTuple

import jinja2
import pandas as pd
import yaml
from matplotlib.figure import Figure

from pyg_bgformer.errors import InputError
from pyg_bgformer.files import atomic_path
from pyg_bgformer.report.colors import themed_svg
from pyg_bgformer.report.embedded_images import EmbeddedImages
from pyg_bgformer.report.embedding_map import MapMethod
from pyg_bgformer.report.graph_figure import plot_batch_graph
from pyg_bgformer.report.page_pictures import NEIGHBOURS, confused_sections, gallery_groups, map_section
from pyg_bgformer.report.page_scores import charts, provenance_rows, score_table, tiles
from pyg_bgformer.report.run_images import TrainedRun
from pyg_bgformer.report.tables import notes, verdict
from pyg_bgformer.runs.folder import RunFolder
from pyg_bgformer.runs.result import RunResult, read_result


class RunPictures(NamedTuple):
    """The pictures of a run's page.

    Attributes:
        images: The test images with their embeddings.
        graph: The batch graph of a training batch; :obj:`None` if the method has no graph.
    """

    images: EmbeddedImages
    graph: Figure | None = None


def write_run_page(
    folder: RunFolder,
    out: Path | None = None,
    *,
    pictures: RunPictures | None = None,
    missing: str = "They were left out.",
    map_method: MapMethod = "tsne",
) -> Path:
    """Writes the page of a finished run as one HTML file, which needs no other file and no network.

    .. code-block:: python

        folder = RunFolder.open("runs/digits-bgformer-seed0-...")
        write_run_page(folder, pictures=run_pictures(folder))

    Args:
        folder: The run's folder.
        out: The file. ``None`` takes ``report.html`` in the run's folder.
        pictures: The pictures from :func:`run_pictures`. Without them the page only has numbers and charts.
        missing: A sentence for the page that says why there are no pictures.
        map_method: Method of the map of the embeddings. ``"none"`` leaves the map out.

    Returns:
        The file.

    Raises:
        InputError: If the run is not finished, one of its files is damaged, or the page cannot be written.
    """
    out = folder.page if out is None else out
    result, history = read_result(folder), pd.read_csv(folder.metrics)
    page = run_page(result, history, folder.recipe, pictures=pictures, missing=missing, map_method=map_method)
    write_whole(out, page.encode())
    return out


def run_pictures(folder: RunFolder, graph: bool = True) -> RunPictures:
    """Returns the pictures of a finished run.

    Args:
        folder: The run's folder.
        graph: Whether to draw the batch graph.

    Raises:
        InputError: If the run is not finished, its dataset is missing or has changed, or a file is damaged.
    """
    run = TrainedRun(folder)
    return RunPictures(run.embedded_images(), batch_figure(run, 0) if graph else None)


def batch_figure(run: TrainedRun, number: int) -> Figure | None:
    """Returns a picture of a training batch and its graph, or :obj:`None` if the method has no graph.

    Args:
        run: A finished run.
        number: Number of the batch in the first epoch, from 0.

    Raises:
        InputError: If the epoch has no such batch, or the trained method cannot be loaded.
    """
    batch = run.training_batch(number)
    if not batch.edges:
        return None
    config = run.config
    title = f"{config.data.name}, {config.method.name}: batch {number} of the first epoch"
    return plot_batch_graph(
        batch.edges, batch.images, labels=batch.labels, class_names=run.class_names, title=title
    )


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all.

    Args:
        path: The file.
        content: Its bytes.

    Raises:
        InputError: If the file cannot be written.
    """
    try:
        with atomic_path(path) as partial:
            partial.write_bytes(content)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}") from error


def run_page(
    result: RunResult,
    history: pd.DataFrame,
    recipe_path: Path | str,
    *,
    pictures: RunPictures | None = None,
    missing: str = "They were left out.",
    map_method: MapMethod = "tsne",
) -> str:
    """Returns the page of a finished run as HTML, which needs no other file and no network.

    Args:
        result: The run's result.
        history: The content of ``metrics.csv``, one row for each epoch.
        recipe_path: Path of the recipe, which the page names.
        pictures: See :func:`write_run_page`.
        missing: See :func:`write_run_page`.
        map_method: See :func:`write_run_page`.
    """
    groups, pairs, map_parts, graph = None, None, None, None
    if pictures is not None:
        images, graph = pictures
        found = images.retrieve(NEIGHBOURS)
        groups = gallery_groups(images, found)
        pairs = confused_sections(images, found)
        if map_method != "none":
            map_parts = map_section(images, map_method, result.seed)
    sections = {
        "scores": "Scores",
        "curves": "Training",
        "gallery": groups and "Gallery",
        "confused": pairs is not None and "Confused classes",
        "embedding-map": map_parts and "Map",
        "graph": graph and "Batch graph",
        "recipe": "Recipe",
        "provenance": "Provenance",
    }
    return template("run.html").render(
        title=f"{result.config['data']['name']}, method {result.config['method']['name']}, seed {result.seed}",
        verdict=verdict(result),
        notes=notes(result),
        tiles=tiles(result),
        sections=[(key, name) for key, name in sections.items() if name],
        table=score_table(result),
        charts=[themed_svg(figure) for figure in charts(result, history)],
        missing=missing if pictures is None else None,
        groups=groups,
        pairs=pairs,
        map=map_parts,
        graph=None if graph is None else themed_svg(graph),
        columns=NEIGHBOURS,
        recipe_path=str(recipe_path),
        recipe=yaml.safe_dump(result.config, sort_keys=False),
        provenance=provenance_rows(result),
    )


def template(name: str) -> jinja2.Template:
    """Returns one of the templates of this package. It escapes every text that is not marked as safe.

    Args:
        name: File name of the template.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pyg_bgformer.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)
