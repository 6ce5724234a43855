import json
import re
import subprocess

import pytest

from pyg_bgformer.report.page import run_pictures, write_run_page
from tests.browser import browser_command

pytestmark = pytest.mark.slow

FRAME = """<!doctype html><iframe src="{page}" width="{width}" height="2000"></iframe>
<script>
document.querySelector("iframe").addEventListener("load", event => {{
  const inside = event.target.contentDocument, window = event.target.contentWindow;
  const broken = [...inside.images].filter(image => !image.complete || !image.naturalWidth).length;
  const svg = inside.querySelector("#map svg"), frame = svg.getBoundingClientRect();
  const point = JSON.parse(inside.getElementById("map-data").textContent).points[0];
  svg.dispatchEvent(new window.PointerEvent("pointermove", {{
    clientX: frame.left + (point[0] + 12) * frame.width / 1024,
    clientY: frame.top + (point[1] + 12) * frame.width / 1024,
  }}));
  document.body.textContent = JSON.stringify({{
    width: inside.documentElement.scrollWidth, images: inside.images.length, broken,
    tip: inside.getElementById("tip").textContent, color: window.getComputedStyle(inside.body).backgroundColor,
  }});
}});
</script>"""


@pytest.fixture(scope="module")
def browser():
    """The command of a browser without a window."""
    return browser_command("--allow-file-access-from-files")


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize(("scheme", "color"), [(1, "rgb(255, 255, 255)"), (0, "rgb(20, 22, 26)")])
def test_a_page_fits_the_screen_and_its_map_answers(browser, own_run, tmp_path, width, scheme, color):
    page = write_run_page(own_run, pictures=run_pictures(own_run))
    frame = tmp_path / "frame.html"
    frame.write_text(FRAME.format(page=page.as_uri(), width=width), encoding="utf-8")
    dump = ["--virtual-time-budget=10000", "--dump-dom", frame.as_uri()]
    done = subprocess.run(
        [*browser, f"--blink-settings=preferredColorScheme={scheme}", *dump],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    seen = re.search(r"\{.*\}", done.stdout)
    assert seen, done.stdout[:500]
    found = json.loads(seen[0])
    assert found["width"] <= width
    assert found["broken"] == 0
    assert found["images"] > 100
    assert found["tip"] in "56789"
    assert found["tip"]
    assert found["color"] == color
