import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "examples" / "photos_to_search.py"
SMALL = (
    "--format",
    "pt2",
    "--encoder",
    "conv4",
    "--weights",
    "null",
    "--image-size",
    "28",
    "--epochs",
    "1",
    "--report.page",
    "false",
)


def write_classes(folder, classes=8, images=6):
    """Writes a folder of noisy pictures for each class, which its colour tells."""
    chance = np.random.default_rng(0)
    for number in range(classes):
        color = chance.integers(0, 200, 3)
        (folder / f"class{number}").mkdir(parents=True)
        for image in range(images):
            pixels = color + chance.integers(0, 56, (32, 40, 3))
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"class{number}" / f"{image}.png")


@pytest.fixture
def script():
    """The functions of the script."""
    spec = importlib.util.spec_from_file_location("photos_to_search", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_whole_path_from_photos_to_an_answer_of_the_server(script, tmp_path, monkeypatch, capsys):
    pytest.importorskip("fastapi", reason="the extra 'serve' is not installed")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    photos, out = tmp_path / "photos", tmp_path / "shop"
    write_classes(photos)
    script.main([str(photos), "--out", str(out), *SMALL])
    lines = capsys.readouterr().out.splitlines()
    steps = [line.split()[2] for line in lines if line.startswith("$ pyg-bgformer ")]
    assert steps == ["train", "show", "embed", "index", "search", "export", "serve"]
    made = {path.name for path in out.iterdir()}
    assert made == {"run", "run.html", "vectors.npz", "shop.index", "found.html", "model.pt2"}
    answer = json.loads(next(line for line in lines if line.startswith('{"neighbours"')))
    assert answer["neighbours"][0]["path"] == str(photos / "class0" / "0.png")


def test_a_step_that_fails_ends_the_script_with_its_line(script, tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        script.main([str(tmp_path / "no"), "--out", str(tmp_path / "x")])
    assert end.value.code == 2
    printed = capsys.readouterr().err
    assert printed.startswith("error: no folder ")
    assert printed.count("\n") == 1
