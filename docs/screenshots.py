"""Takes the pictures of pages that the documentation shows, of letters only, and writes them to ``docs/images``.

    python -m docs.screenshots

It carries out the study of the page "Compare methods fairly", makes the pages that a user gets of it, and opens
them in a browser without a window (``apt-get install chromium``). A folder given with ``--work`` keeps what was
trained, so that a second call only makes the pages and takes the pictures. Further arguments, such as
``--train.epochs 1``, are given to every run of the study.
"""

import argparse
import base64
import contextlib
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image, ImageOps

from pyg_bgformer.cli.main import main as pyg_bgformer
from pyg_bgformer.data import DATASETS
from pyg_bgformer.deploy.image_index import ImageIndex
from pyg_bgformer.report.study_page import WORST
from tests.browser import FLAGS, NAMES, find_browser

ROOT = Path(__file__).parents[1]

DESKTOP, PHONE = (1000, 750), (390, 844)
"""Widths and heights of screens in CSS pixels."""
QUERIES = ("Ω U+03A9", "Ж U+0416", "ქ U+10E5")
"""Letters that are searched."""
GAP = 24
"""Pixels between pictures that are side by side."""

LOADED = 'while (document.readyState !== "complete") await new Promise(done => setTimeout(done, 50));'
"""Waits until the page is there."""
DROP = """
const images = await (await fetch("images/{entry}")).blob();
take(new File([images], "letter.webp"));
while (!document.querySelector("#found figure")) await new Promise(done => setTimeout(done, 50));
"""
"""Drops a picture on the page of the server, and waits for its neighbours."""
POINT = """
const svg = document.querySelector("#map svg"), frame = svg.getBoundingClientRect();
const points = JSON.parse(document.getElementById("map-data").textContent).points;
const distance = point => Math.hypot(point[0] - 500, point[1] - 420);
const [x, y] = points.reduce((best, point) => distance(point) < distance(best) ? point : best);
const scale = frame.width / 1024, clientX = frame.left + (x + 12) * scale, clientY = frame.top + (y + 12) * scale;
svg.dispatchEvent(new PointerEvent("pointermove", {clientX, clientY}));
"""
"""Points at the image in the middle of the map."""


class View(NamedTuple):
    """What a picture shows.

    Attributes:
        address: Of the page.
        screen: Width and height in CSS pixels.
        dark: Whether the screen has a dark background.
        at: Selector of the element that is at the top; none for the top of the page.
        script: JavaScript that runs first.
    """

    address: str
    screen: tuple[int, int] = DESKTOP
    dark: bool = False
    at: str | None = None
    script: str = ""


class Browser:
    """A Chromium without a window, which is told what to do by the DevTools protocol over two pipes."""

    def __init__(self, folder: Path) -> None:
        if (browser := find_browser()) is None:
            sys.exit(f"none of {', '.join(NAMES)} is installed: no browser to open pages in")
        (to_it, self.write), (self.read, from_it) = os.pipe(), os.pipe()
        flags = ["--remote-debugging-pipe", f"--user-data-dir={folder}", "--hide-scrollbars"]
        # The browser reads from its file 3 and writes to its file 4.
        redirected = ["bash", "-c", f'exec "$@" 3<&{to_it} 4>&{from_it}', "browser"]
        self.process = subprocess.Popen(
            [*redirected, browser, *FLAGS, *flags], pass_fds=(to_it, from_it), stderr=subprocess.DEVNULL
        )
        os.close(to_it)
        os.close(from_it)
        self.received, self.number = b"", 0
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Returns the answer to a command."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        os.write(self.write, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self.received:
                if not (part := os.read(self.read, 2**20)):
                    raise RuntimeError("the browser has ended")
                self.received += part
            line, _, self.received = self.received.partition(b"\0")
            if (answer := json.loads(line)).get("id") == self.number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]

    def picture(self, view: View, scale: float) -> Image.Image:
        """Returns what a screen shows, RGB.

        Args:
            view: The page, and where on it.
            scale: Pixels of the picture for each CSS pixel.
        """
        width, height = view.screen
        screen = {"width": width, "height": height, "deviceScaleFactor": scale}
        theme = {"name": "prefers-color-scheme", "value": "dark" if view.dark else "light"}
        self.call("Emulation.setDeviceMetricsOverride", self.session, mobile=view.screen == PHONE, **screen)
        self.call("Emulation.setEmulatedMedia", self.session, features=[theme])
        self.call("Page.navigate", self.session, url=view.address)
        self.run(LOADED)
        if view.at is not None:
            self.run(f"document.querySelector({json.dumps(view.at)}).scrollIntoView();")
        self.run(view.script)
        self.run("await Promise.all([...document.images].map(image => image.decode().catch(() => 0)));")
        png = self.call("Page.captureScreenshot", self.session, format="png")["data"]
        return Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")

    def run(self, script: str) -> None:
        """Runs JavaScript in the page, and waits for its end."""
        expression = f"(async () => {{ {script} }})()"
        answer = self.call("Runtime.evaluate", self.session, expression=expression, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"the page says: {answer['exceptionDetails']['exception']['description']}")

    def close(self) -> None:
        """Ends the browser."""
        self.call("Browser.close")
        self.process.wait()


def command(*arguments: str | Path) -> None:
    """Carries out a command of ``pyg-bgformer``; ends the program if it fails."""
    print(f"$ pyg-bgformer {' '.join(map(str, arguments))}", flush=True)
    if code := pyg_bgformer([str(argument) for argument in arguments]):
        sys.exit(code)


def make_pages(settings: Sequence[str]) -> dict[str, str]:
    """Trains on letters and makes all pages in the current folder; returns their addresses by name.

    Args:
        settings: Keys of a recipe, for every run.
    """
    page = (ROOT / "docs" / "compare.md").read_text(encoding="utf-8")
    study = re.search(r"<!-- file: compare.yaml -->\n```yaml\n(.*?)```", page, re.DOTALL)
    Path("compare.yaml").write_text(study[1], encoding="utf-8")
    command("study", "compare.yaml", *settings)
    run = next(Path("runs/compare").glob("BGFormer-seed0*"))
    command("show", run)
    command("show", "runs/compare")
    command("graph", run, "--batch", "0", "--out", "batch_graph")
    write_letters(Path("letters"))
    queries = [f"letters/{name}/DejaVuSans.png" for name in QUERIES]
    if not Path("letters.index").exists():
        command("index", run, "letters", "--out", "letters.index")
    command("search", "letters.index", *queries, "-k", "5", "--html", "found.html")
    pages = {"run": run, "study": run.parent}
    addresses = {name: (folder / "report.html").resolve().as_uri() for name, folder in pages.items()}
    return addresses | {"found": Path("found.html").resolve().as_uri()}


def write_letters(folder: Path) -> None:
    """Writes the letters of the test scripts as image files, a folder for each.

    Args:
        folder: Where to.
    """
    letters = DATASETS.find("glyphs")()
    for row, path in enumerate(letters.table["path"]):
        script, letter, face = path.split("/")
        if script != "Latin":
            place = folder / f"{chr(int(letter.removeprefix('U+'), 16))} {letter}"
            place.mkdir(parents=True, exist_ok=True)
            letters.image(row).save(place / f"{face}.png")


@contextlib.contextmanager
def served(index: Path) -> Iterator[str]:
    """Serves an index; yields the address.

    Args:
        index: The index.
    """
    import uvicorn

    from pyg_bgformer.deploy.server import search_app

    server = uvicorn.Server(uvicorn.Config(search_app(ImageIndex(index)), port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.05)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
    finally:
        server.should_exit = True
        thread.join()


def side_by_side(pictures: Sequence[Image.Image]) -> Image.Image:
    """Returns pictures of one height beside each other, RGBA."""
    width = sum(picture.width for picture in pictures) + GAP * (len(pictures) - 1)
    whole = Image.new("RGBA", (width, pictures[0].height))
    left = 0
    for picture in pictures:
        whole.paste(picture, (left, 0))
        left += picture.width + GAP
    return whole


def take_pictures(pages: dict[str, str], out: Path) -> None:
    """Writes all pictures.

    Args:
        pages: Addresses by name.
        out: The folder.
    """
    run, study, found, search = (pages[name] for name in ("run", "study", "found", "search"))
    drop = DROP.format(entry=1000)
    views = {
        "report": [View(run)],
        "report_gallery": [View(run, dark=True, at="h3:nth-of-type(2)")],  # random queries
        "report_phone": [
            View(run, PHONE),
            View(run, PHONE, dark=True, at="#gallery"),
            View(run, PHONE, at="#embedding-map", script=POINT),
        ],
        "found": [View(found)],
        "search": [View(search, script=drop)],
        "search_phone": [View(search, PHONE, script=drop), View(found, PHONE, dark=True)],
        "study": [View(study)],
        "study_gallery": [View(study, dark=True, at=f":nth-child({WORST + 1} of .asked-of-all)")],
    }
    with tempfile.TemporaryDirectory() as profile:
        browser = Browser(Path(profile))
        for name, some in views.items():
            pictures = [ImageOps.expand(browser.picture(view, 1.5), 2, "#c5c9ce") for view in some]
            picture = pictures[0] if len(pictures) == 1 else side_by_side(pictures)
            picture.save(out / f"{name}.webp", quality=80, method=6)
        browser.close()
    graph = Image.open("batch_graph.png").convert("RGB")
    graph.thumbnail((1000, 1100))
    graph.quantize(128).save(out / "batch_graph.png", optimize=True)


def main() -> None:
    """Makes the pages and takes the pictures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images", help="folder of the pictures")
    parser.add_argument("--work", type=Path, help="folder that keeps runs and pages")
    given, settings = parser.parse_known_args()
    out = given.out.resolve()
    with tempfile.TemporaryDirectory() as temporary:
        work = given.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        with contextlib.chdir(work):
            pages = make_pages(settings)
            with served(Path("letters.index")) as address:
                take_pictures(pages | {"search": address}, out)
    for file in sorted(out.iterdir()):
        print(f"{file.stat().st_size / 1e3:6.0f} kB  {file.name}")


if __name__ == "__main__":
    main()
