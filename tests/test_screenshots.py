"""Pictures of pages in the documentation."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from docs.screenshots import PHONE, Browser, View
from tests.browser import browser_command

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
PAGE = """<!doctype html><meta name="viewport" content="width=device-width"><style>
body { margin: 0; background: rgb(255, 0, 0); } #below { height: 3000px; background: rgb(0, 255, 0); }
@media (prefers-color-scheme: dark) { body { background: rgb(0, 0, 255); } }
</style><div style="height: 2000px"></div><div id="below"></div>"""


def test_pictures_are_compact_and_each_is_on_a_page_with_a_text_that_says_what_it_shows():
    assert sum(file.stat().st_size for file in IMAGES.iterdir()) < 1_500_000
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    shown = {
        (page.parent / place).resolve(): text
        for page in pages
        for text, place in re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", page.read_text(encoding="utf-8"))
    }
    assert {file for file in shown if file.parent == IMAGES} == set(IMAGES.iterdir())
    assert all(len(text.split()) > 2 for text in shown.values())


def test_a_picture_shows_the_screen_the_colours_and_the_place_that_were_asked_for(tmp_path):
    browser_command()  # skips where there is no browser
    (tmp_path / "page.html").write_text(PAGE, encoding="utf-8")
    address = (tmp_path / "page.html").as_uri()
    browser = Browser(tmp_path / "profile")
    try:
        light = browser.picture(View(address, PHONE), 2)
        dark = browser.picture(View(address, dark=True), 1)
        below = browser.picture(View(address, at="#below"), 1)
        changed = browser.picture(View(address, script="document.body.style.background = '#fff';"), 1)
        with pytest.raises(RuntimeError, match="missing is not defined"):
            browser.picture(View(address, script="missing();"), 1)
    finally:
        browser.close()
    assert light.size == (2 * PHONE[0], 2 * PHONE[1])
    pixels = [picture.getpixel((50, 50)) for picture in (light, dark, below, changed)]
    assert pixels == [(255, 0, 0), (0, 0, 255), (0, 255, 0), (255, 255, 255)]


@pytest.mark.slow  # nine runs in processes of their own: some minutes
def test_the_script_takes_all_pictures(tmp_path):
    browser_command()  # skips where there is no browser
    settings = ["--data.name", "digits", "--train.epochs", "1", "--sampler.batches_per_epoch", "1"]
    command = [sys.executable, "-m", "docs.screenshots", "--out", str(tmp_path), *settings]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    made = {file.name for file in tmp_path.iterdir()}
    assert made == {file.name for file in IMAGES.iterdir()} - {"batch_graph_digits.png"}
