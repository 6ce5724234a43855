"""The pages of ``search`` and ``serve`` in a browser without a window."""

import re
import subprocess
import threading
import time

import pytest

from pyg_bgformer.deploy.image_index import ImageIndex, find_images
from pyg_bgformer.report.search_page import write_search_page
from tests.browser import browser_command
from tests.deploy.photos import small_model, write_photos

pytestmark = pytest.mark.slow

MEASURE = """<script>
addEventListener("load", () => {
  const frame = document.documentElement, broken = [...document.images].filter(i => i.src && !i.naturalWidth);
  frame.dataset.seen = [frame.scrollWidth <= innerWidth, document.images.length, broken.length].join(" ");
});
</script>"""

DROP = """<script>
fetch("images/4").then(answer => answer.blob()).then(blob => take(new File([blob], "photo.webp")));
</script><img src="wait" hidden>"""
"""Drops a photo; the page is not complete before the picture that never comes was waited for."""


@pytest.fixture(scope="module")
def browser():
    """The command of a browser without a window."""
    return browser_command()


@pytest.fixture
def index(tmp_path):
    write_photos(tmp_path / "photos")
    return ImageIndex.create(tmp_path / "index", small_model(), find_images([tmp_path / "photos"]))


def opened(browser, address, width):
    """Returns the page after its scripts have run."""
    options = [f"--window-size={width},900", "--timeout=20000", "--dump-dom", address]
    return subprocess.run(
        [*browser, *options], capture_output=True, text=True, timeout=120, check=True
    ).stdout


@pytest.mark.parametrize("width", [1280, 500])
def test_the_page_of_a_search_fits_the_screen(browser, index, tmp_path, width):
    photos = list(index.vectors.names[:2])
    hits = index.search(photos, k=5)
    found = [list(zip(hits.names[i], hits.similarities[i].tolist(), strict=True)) for i in range(2)]
    page = tmp_path / "page.html"
    write_search_page(page, photos, found, "shop.index")
    page.write_text(
        page.read_text(encoding="utf-8").replace("</body>", f"{MEASURE}</body>"), encoding="utf-8"
    )
    assert 'data-seen="true 12 0"' in opened(browser, page.as_uri(), width)


@pytest.mark.parametrize("width", [1280, 500])
def test_a_photo_that_is_dropped_on_the_page_of_the_server_shows_its_neighbours(browser, index, width):
    pytest.importorskip("fastapi", reason="the extra 'serve' is not installed")
    import uvicorn
    from fastapi.responses import HTMLResponse

    from pyg_bgformer.deploy.server import search_app

    app = search_app(index)
    page = next(route for route in app.routes if route.path == "/").endpoint()
    demo = page.replace("</body>", f"{MEASURE}{DROP}</body>")
    app.get("/demo", response_class=HTMLResponse)(lambda: demo)
    app.get("/wait", response_class=HTMLResponse)(lambda: time.sleep(3) or "")
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        seen = opened(browser, f"http://127.0.0.1:{port}/demo", width)
    finally:
        server.should_exit = True
        thread.join()
    assert re.search(r"12 neighbours in \d+ ms", seen)
    assert len(re.findall(r"<figure title=", seen)) == 12
    assert 'data-seen="true 14 1"' in seen  # the photo, 12 neighbours, and the picture that never comes
