"""``pyg-bgformer show``: writes a page about a run or a study."""

from collections.abc import Sequence
from pathlib import Path

from pyg_bgformer.config.arguments import Parser
from pyg_bgformer.errors import InputError
from pyg_bgformer.report.embedding_map import MapMethod
from pyg_bgformer.report.page import run_pictures, write_run_page
from pyg_bgformer.report.study_page import write_study_page
from pyg_bgformer.runs.folder import RunFolder
from pyg_bgformer.runs.result import read_result

EPILOG = """examples:
  pyg-bgformer show runs/digits-bgformer-seed0-...     writes report.html to that folder
  pyg-bgformer show runs/cub200-... --out page.html --map umap
  pyg-bgformer show runs/contest-glyphs                a study: all its rows side by side"""


def main(arguments: Sequence[str]) -> int:
    """Writes the page of a finished run, or of the finished runs of a study. Returns the exit code."""
    parser = Parser(
        "show",
        "Writes a page as one HTML file, which needs no network. It has scores, charts, what queries find, which\n"
        "classes are confused, a map of the embeddings and the batch graph. Pictures need the run's dataset.",
        EPILOG,
    )
    parser.add_argument(
        "run", type=Path, metavar="RUN", help="folder of a finished run, or of a study's runs"
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="the page (default: report.html in the folder)"
    )
    parser.add_argument("--no-pictures", action="store_true", help="numbers and charts only")
    parser.add_argument("--no-graph", action="store_true", help="leave out the batch graph")
    parser.add_argument(
        "--map",
        choices=["tsne", "umap", "none"],
        default="tsne",
        help="map of the embeddings (default: tsne)",
    )
    parser.add_argument(
        "--reference", metavar="ROW", help="for a study: the row that the others are compared with"
    )
    given = parser.parse_args(arguments)
    if RunFolder(given.run).recipe.is_file():
        page = show_run(RunFolder(given.run), given.out, not given.no_pictures, not given.no_graph, given.map)
    else:
        page = write_study_page(
            given.run, given.out, reference=given.reference, pictures=not given.no_pictures
        )
    print(f"{page} ({page.stat().st_size / 1e6:.1f} MB)")
    return 0


def show_run(folder: RunFolder, out: Path | None, pictures: bool, graph: bool, map_method: MapMethod) -> Path:
    """Writes the page of a run. If its dataset is missing, the page has no pictures and says why.

    Raises:
        InputError: If the run is not finished, a file is damaged, or the page cannot be written.
    """
    if folder.state != "finished":
        raise InputError(f"{folder} is not finished; resume it with: pyg-bgformer run --resume {folder}")
    read_result(folder)  # a damaged result is an error, and not a reason to leave out the pictures
    if not pictures:
        return write_run_page(folder, out, map_method=map_method)
    try:
        shown = run_pictures(folder, graph)
    except InputError as error:
        print(f"the page has no pictures: {error}")
        return write_run_page(folder, out, missing=str(error), map_method=map_method)
    return write_run_page(folder, out, pictures=shown, map_method=map_method)
