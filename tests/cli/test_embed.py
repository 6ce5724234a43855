"""``pyg-bgformer embed`` as a stranger uses it."""

import pytest
import torch

from pyg_bgformer import EmbeddingModel
from pyg_bgformer.cli.main import main
from pyg_bgformer.deploy.load_model import load_model
from pyg_bgformer.deploy.vectors import read_vectors
from pyg_bgformer.encoders import build_encoder
from pyg_bgformer.geometry import PoincareBall
from tests.photos import write_photos


@pytest.fixture
def photos(tmp_path):
    return write_photos(tmp_path / "photos", "ab")


@pytest.fixture
def model(tmp_path):
    torch.manual_seed(0)
    load_model("conv4", weights="null", image_size=16).save_pretrained(tmp_path / "model")
    return str(tmp_path / "model")


def test_it_says_what_is_in_the_file(photos, model, tmp_path, capsys):
    out = tmp_path / "v.npz"
    assert main(["embed", "--out", str(out), model, str(photos), "--workers", "1"]) == 0
    table = read_vectors(out)
    line = capsys.readouterr().out.splitlines()[-1]
    assert line == f"{out}: 8 images, 64 dimensions, model {table.model[:12]}"


def test_points_of_a_ball_are_not_compared_by_the_cosine(photos, tmp_path, capsys):
    encoder = build_encoder("conv4", embedding_dim=8)
    model = EmbeddingModel(encoder, PoincareBall(), image_size=16, resize=16)
    model.save_pretrained(tmp_path / "ball")
    assert main(["embed", str(tmp_path / "ball"), str(photos), "--out", str(tmp_path / "v.npz")]) == 0
    assert "compare them by EmbeddingModel.similarity, not by the cosine" in capsys.readouterr().out
    table = read_vectors(tmp_path / "v.npz")
    torch.testing.assert_close(torch.from_numpy(table.vectors), model.embed(table.paths))


def test_skipped_images_are_listed(photos, model, tmp_path, capsys):
    (photos / "a" / "0.png").write_bytes(b"")
    arguments = ["embed", model, str(photos), "--out", str(tmp_path / "v.npz")]
    assert main(arguments) == 2
    assert "a/0.png: the file is empty" in capsys.readouterr().err
    assert main([*arguments, "--skip-bad"]) == 0
    printed = capsys.readouterr()
    assert printed.err.startswith(f"skipped: {photos}/a/0.png: the file is empty")
    assert printed.out.splitlines()[-1] == "skipped: 1 of 8 images"
    assert len(read_vectors(tmp_path / "v.npz")) == 7


def test_a_backbone_by_name(photos, tmp_path):
    backbone = ["conv4", "--weights", "null", "--image-size", "16"]
    assert main(["embed", *backbone, str(photos / "a"), "--out", str(tmp_path / "v.npz")]) == 0
    assert read_vectors(tmp_path / "v.npz").vectors.shape == (4, 64)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["MODEL", "PHOTOS"], "--out"),
        (["MODEL", "--out", "v.npz"], "IMAGES"),
        (["MODEL", "PHOTOS", "--out", "v.txt"], "v.txt: unknown ending '.txt'"),
        (["MODEL", "nowhere", "--out", "v.npz"], "nowhere: there is no such file or folder"),
        (["MODEL", "EMPTY", "--out", "v.npz"], "found no images in this folder"),
        (["EMPTY", "PHOTOS", "--out", "v.npz"], "encoder.json is missing"),
        (["MODEL", "PHOTOS", "--out", "v.npz", "--weights", "x.pth"], "has its own weights and image size"),
        (["MODEL", "PHOTOS", "--out", "v.npz", "--batch-size", "0"], "batch_size: found 0"),
        (
            ["me/birds", "PHOTOS", "--out", "v.npz"],
            "no model 'me/birds': there is no such folder, and the Hugging",
        ),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(
    photos, model, tmp_path, capsys, monkeypatch, arguments, said
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pyg_bgformer.deploy.embedding_model.hub_file", no_network)
    (tmp_path / "empty").mkdir()
    before = sorted(tmp_path.iterdir())
    places = {"PHOTOS": str(photos), "MODEL": model, "EMPTY": str(tmp_path / "empty")}
    assert main(["embed", *(places.get(one, one) for one in arguments)]) == 2
    line = capsys.readouterr().err.strip()
    assert said in line
    assert "\n" not in line
    assert sorted(tmp_path.iterdir()) == before


def no_network(*_, **__):
    raise OSError("no route")
