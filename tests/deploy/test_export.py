import json
import sys

import numpy as np
import pytest
import torch

from pyg_bgformer.cli.main import main
from pyg_bgformer.deploy.export import Deployed, export_model
from pyg_bgformer.errors import InputError, RunError
from pyg_bgformer.geometry import PoincareBall
from tests.deploy.photos import small_model

ON_THE_BALL = small_model(geometry=PoincareBall(c=0.3))


def pictures(count):
    return np.random.default_rng(count).integers(0, 256, (count, 3, 28, 28), dtype=np.uint8)


def test_onnx_gives_the_embeddings_of_any_number_of_images(tmp_path):
    pytest.importorskip("onnxscript", reason="the extra 'export' is not installed")
    runtime = pytest.importorskip("onnxruntime", reason="the extra 'export' is not installed")
    assert export_model(ON_THE_BALL, tmp_path / "model.onnx", "onnx", input="uint8") < 1e-6
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    session = runtime.InferenceSession(str(tmp_path / "model.onnx"))
    for count in (1, 7):
        (embeddings,) = session.run(None, {"images": pictures(count)})
        expected = ON_THE_BALL.embed(torch.from_numpy(pictures(count)))
        np.testing.assert_allclose(embeddings, expected, atol=1e-6)
    facts = json.loads(session.get_modelmeta().custom_metadata_map["pyg_bgformer"])
    assert facts["model"] == ON_THE_BALL.sha256
    assert (facts["image_size"], facts["resize"], facts["input"]) == (28, 28, "uint8")
    assert facts["geometry"] == {"name": "PoincareBall", "c": 0.3, "clip_radius": 2.3}


def test_a_program_of_torch_gives_the_same_embeddings(tmp_path, capsys):
    model = small_model()
    model.save_pretrained(tmp_path / "model")
    out = tmp_path / "x.pt2"
    assert main(["export", str(tmp_path / "model"), "--format", "pt2", "--out", str(out)]) == 0
    printed = capsys.readouterr()
    assert "largest difference from PyTorch: 0.0e+00" in printed.out
    assert "images (B, 3, 28, 28), RGB, 0 to 1; embeddings (B, 8)" in printed.out
    assert printed.err == ""
    files = {"pyg_bgformer.json": ""}
    program = torch.export.load(out, extra_files=files).module()
    images = torch.from_numpy(pictures(5)) / 255
    torch.testing.assert_close(program(images), model.embed(images))
    assert json.loads(files["pyg_bgformer.json"])["model"] == model.sha256


def test_a_model_with_other_embeddings_is_refused_and_no_file_left(tmp_path):
    with pytest.raises(RunError, match=r"differ by .* from PyTorch's, expected at most"):
        export_model(small_model(), tmp_path / "x.pt2", "pt2", tolerance=-1)
    assert list(tmp_path.iterdir()) == []


def test_the_command_exits_with_1_where_the_export_is_refused(tmp_path, monkeypatch, capsys):
    small_model().save_pretrained(tmp_path / "model")
    monkeypatch.setattr("pyg_bgformer.deploy.export.largest_difference", lambda *_: 2e-4)
    assert main(["export", str(tmp_path / "model"), "--format", "pt2", "--out", str(tmp_path / "x.pt2")]) == 1
    assert capsys.readouterr().err.endswith("differ by 2.0e-04 from PyTorch's, expected at most 1e-04\n")


def test_mistakes_are_one_line(tmp_path, monkeypatch):
    model = small_model()
    with pytest.raises(InputError, match="format must be one of onnx, pt2; found 'tflite'"):
        export_model(model, tmp_path / "x", "tflite")
    with pytest.raises(InputError, match="cannot be written: No such file or directory"):
        export_model(model, tmp_path / "no" / "x.pt2", "pt2")
    monkeypatch.setattr(Deployed, "forward", lambda self, images: images if images.sum() > 0 else -images)
    with pytest.raises(InputError, match=r"torch\.export cannot trace the model: ") as error:
        export_model(model, tmp_path / "x.pt2", "pt2")
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_onnx_without_its_libraries_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(InputError, match=r"pip install 'pyg-bgformer\[export\]'"):
        export_model(small_model(), tmp_path / "x.onnx", "onnx")
    assert list(tmp_path.iterdir()) == []
