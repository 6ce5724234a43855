"""The documentation site is built without a warning, and without the network."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow  # 94 seconds on a busy machine, 37 of CPU time
def test_the_site_is_built_without_a_warning_and_asks_no_other_host(tmp_path):
    for name in ("sphinx", "furo", "myst_parser"):
        pytest.importorskip(name, reason=f"{name} is not installed: pip install -e '.[docs]'")
    environment = {key: value for key, value in os.environ.items() if key != "PYG_BGFORMER_DATA"}
    environment |= {"PYTHONPATH": str(ROOT), "https_proxy": "http://localhost:9", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "docs", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    keys = (tmp_path / "generated" / "keys.html").read_text(encoding="utf-8")
    assert "train.epochs" in keys
    assert "loss.softmax_scale" in keys
    for page in tmp_path.rglob("*.html"):
        assert not re.findall(r'(?:src|<link[^>]*href)="https?://[^"]+"', page.read_text(encoding="utf-8")), (
            page
        )
