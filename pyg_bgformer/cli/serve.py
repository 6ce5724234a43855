"""``pyg-bgformer serve``: serves an index over HTTP, with a web page."""

from collections.abc import Sequence

from pyg_bgformer.config.arguments import Parser
from pyg_bgformer.deploy.image_index import ImageIndex
from pyg_bgformer.errors import check_range
from pyg_bgformer.report.progress import Display

EPILOG = """examples:
  pyg-bgformer serve shop.index                     serves a page at http://127.0.0.1:8000
  curl -F image=@photo.jpg -F k=5 http://127.0.0.1:8000/search
  curl -F image=@photo.jpg http://127.0.0.1:8000/embed
  curl http://127.0.0.1:8000/health

The server needs more libraries: pip install 'pyg-bgformer[serve]'. It has no passwords and no encryption. Before
you set --host to another address, put a server with both in front of it."""


def main(arguments: Sequence[str]) -> int:
    """Serves an index until it is interrupted. Returns the exit code."""
    parser = Parser(
        "serve",
        "Serves an index: POST /search and POST /embed take an image, GET /health describes the index. The page\n"
        "at / searches for photos that you drop on it.",
        EPILOG,
    )
    parser.add_argument("index", metavar="INDEX", help="made by pyg-bgformer index")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen at (default: 127.0.0.1, only this machine)"
    )
    parser.add_argument(
        "--port", type=int, default=8000, metavar="N", help="port; 0 takes a free port (default: 8000)"
    )
    parser.add_argument(
        "--limit", type=float, default=20, metavar="MB", help="largest upload in megabytes (default: 20)"
    )
    parser.add_argument("--device", help="where to compute, for example cuda (default: cpu)")
    parser.add_argument("--model", help="a run or a saved model, if the index has no copy of its model")
    given = parser.parse_intermixed_args(arguments)
    check_range("--limit", given.limit, above=0)
    from pyg_bgformer.deploy.server import serve  # --help works without the optional libraries

    index = ImageIndex(given.index, given.model)
    if given.device is not None:
        index.model.embed([], device=given.device)
    display = Display()
    what = f"{given.index}, {len(index):,} images"
    try:
        serve(
            index,
            given.host,
            given.port,
            limit=int(given.limit * 1e6),
            started=lambda address: display.line(f"serving {what}: {address} (Ctrl-C stops it)"),
        )
    except KeyboardInterrupt:
        display.line("stopped")
    return 0
