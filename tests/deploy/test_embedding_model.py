"""The deployed model: saved, loaded and used by somebody else."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import HfApi
from huggingface_hub.errors import LocalEntryNotFoundError
from PIL import Image

from pyg_bgformer import EmbeddingModel
from pyg_bgformer.data.images import to_tensor
from pyg_bgformer.data.transforms import eval_transform
from pyg_bgformer.encoders import build_encoder, published
from pyg_bgformer.errors import InputError
from pyg_bgformer.geometry import Geometry, PoincareBall, Sphere


def build(name: str = "conv4", geometry: Geometry | None = None, **options: Any) -> EmbeddingModel:
    encoder = build_encoder(name, embedding_dim=8, **options)
    with torch.no_grad():
        encoder(torch.rand(4, 3, 32, 32))  # moves BatchNorm's statistics
    return EmbeddingModel(encoder, geometry, image_size=32, resize=36, training={"method": "plain"})


@pytest.fixture
def model() -> EmbeddingModel:
    torch.manual_seed(0)
    return build()


@pytest.fixture
def pictures() -> list[np.ndarray]:
    chance = np.random.default_rng(0)
    return [chance.integers(0, 256, (40 + i, 60 - i, 3), dtype=np.uint8) for i in range(5)]


CASES: list[tuple[str, Geometry, dict[str, Any]]] = [
    ("conv4", Sphere(), {"pooling": "avgmax", "frozen_batchnorm": True, "head_norm": True}),
    ("conv4", PoincareBall(c=0.2), {"feature_norm": "batch"}),
    ("conv4", Sphere(), {"feature_norm": "layer", "frozen": True, "pca_dim": 6}),
    ("conv4", Sphere(), {"feature_norm": "l2"}),
    ("torchvision/googlenet", Sphere(), {}),
    ("timm/vit_tiny_patch16_224.augreg_in21k", PoincareBall(), {}),
]


@pytest.mark.parametrize(("name", "geometry", "options"), CASES, ids=str)
def test_a_stranger_gets_the_same_embeddings(
    name: str, geometry: Geometry, options: dict[str, Any], tmp_path: Path, pictures: list[np.ndarray]
) -> None:
    model = build(name, geometry, **options)
    model.save_pretrained(tmp_path / "model")
    before = torch.get_rng_state()
    loaded = EmbeddingModel.from_pretrained(tmp_path / "model")
    assert torch.equal(torch.get_rng_state(), before)
    assert not loaded.training
    assert (loaded.encoder.spec, loaded.geometry) == (model.encoder.spec, geometry)
    torch.testing.assert_close(loaded.embed(pictures), model.embed(pictures))
    assert loaded.sha256 == model.sha256
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [
        "README.md",
        "encoder.json",
        "encoder.safetensors",
    ]


def test_embeddings_are_those_of_the_evaluation(model: EmbeddingModel, pictures: list[np.ndarray]) -> None:
    encoder = model.encoder
    transform = eval_transform(32, resize=36, mean=encoder.mean, std=encoder.std)
    prepared = torch.stack([transform(to_tensor(Image.fromarray(picture))) for picture in pictures])
    expected = model.geometry.project(encoder.eval()(prepared))
    torch.testing.assert_close(model.embed(pictures), expected)


def test_mean_and_std_of_the_weights_survive(tmp_path: Path) -> None:
    """Those of these weights differ from the defaults of their network."""
    encoder = build_encoder("timm/mobilenetv3_small_100", embedding_dim=8)
    encoder.mean, encoder.std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    EmbeddingModel(encoder, image_size=32, resize=32).save_pretrained(tmp_path)
    loaded = EmbeddingModel.from_pretrained(tmp_path)
    assert (loaded.encoder.mean, loaded.encoder.std) == ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    assert loaded.mean.flatten().tolist() == [0.0, 0.0, 0.0]
    assert (loaded.image_size, loaded.resize) == (32, 32)


def test_embeddings_lie_in_the_geometry(pictures: list[np.ndarray]) -> None:
    sphere, ball = build(), build(geometry=PoincareBall(c=0.1))
    units, points = sphere.embed(pictures), ball.embed(pictures)
    assert units.dtype == points.dtype == torch.float32
    torch.testing.assert_close(units.norm(dim=1), torch.ones(5))
    torch.testing.assert_close(sphere.similarity(units, units[:2]), units @ units[:2].T)
    assert (points.norm(dim=1) < 10**0.5).all()
    distances = -ball.similarity(points, points)
    torch.testing.assert_close(distances, -PoincareBall(c=0.1).similarity(points, points))
    assert (distances.diagonal() == 0).all()


def test_images_of_every_kind_give_the_same(
    model: EmbeddingModel, pictures: list[np.ndarray], tmp_path: Path
) -> None:
    images = [Image.fromarray(picture) for picture in pictures]
    paths = [tmp_path / f"{i}.png" for i in range(5)]
    for path, image in zip(paths, images, strict=True):
        image.save(path)
    expected = model.embed(pictures, batch_size=2)
    for given in (images, paths, [str(path) for path in paths], np.array([str(path) for path in paths])):
        torch.testing.assert_close(model.embed(given, workers=0), expected)
    mixed = [paths[0], images[1], pictures[2], str(paths[3]), pictures[4]]
    torch.testing.assert_close(model.embed(iter(mixed), batch_size=3, workers=2), expected)
    for alone in (paths[1], str(paths[1]), images[1], pictures[1]):
        torch.testing.assert_close(model.embed(alone), expected[1:2])
    assert model.embed([]).shape == (0, 8)


def test_tensors_are_resized_and_cut_like_images(model: EmbeddingModel) -> None:
    batch = torch.randint(
        0, 256, (5, 3, 50, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    expected = model.embed([image.permute(1, 2, 0).numpy() for image in batch])
    torch.testing.assert_close(model.embed(batch, batch_size=2), expected)
    for floats in (batch / 255, batch.double() / 255):
        assert (
            model.embed(floats) - expected
        ).abs().max() < 0.02  # resized without rounding to whole numbers


def test_the_forward_pass_takes_prepared_images(model: EmbeddingModel) -> None:
    images = torch.rand(2, 3, 32, 32)
    normalised = (images - model.mean) / model.std
    torch.testing.assert_close(model.eval()(images), model.geometry.project(model.encoder(normalised)))


def test_embedding_leaves_the_mode_and_reports_progress(
    model: EmbeddingModel, pictures: list[np.ndarray]
) -> None:
    model.train()
    seen: list[tuple[int, int]] = []
    model.embed(pictures, batch_size=2, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(2, 5), (4, 5), (5, 5)]
    assert model.training
    assert model.encoder.backbone.training


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        (["nothing.jpg"], {}, "nothing.jpg: cannot be opened"),
        (["a\0b.jpg"], {}, "cannot be opened"),
        ([__file__], {}, "test_embedding_model.py: not an image"),
        ([3], {}, "image 0: found int"),
        ([np.zeros((8, 8, 3))], {}, r"image 0: found an array \(8, 8, 3\) of float64"),
        ([np.zeros((3, 8, 8), dtype=np.uint8)], {}, r"expected \(H, W, 3\) of uint8"),
        (torch.zeros(3, 8, 8), {}, r"images: found a tensor \(3, 8, 8\)"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.int32), {}, "of torch.int32"),
        (torch.full((2, 3, 8, 8), -2.0), {}, "found values from -2 to -2, expected 0 to 1"),
        (torch.full((2, 3, 8, 8), torch.nan), {}, "found values from nan"),
        (torch.zeros(2, 3, 8, 8), {"batch_size": 0}, "batch_size: found 0"),
        ([], {"workers": -1}, "workers: found -1"),
        (torch.zeros(2, 3, 8, 8), {"device": "quantum"}, "device 'quantum' cannot be used"),
    ],
)
def test_bad_images_are_one_clear_line(
    model: EmbeddingModel, images: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        model.embed(images, **options)
    assert "\n" not in str(caught.value)


def test_folders_without_a_model(model: EmbeddingModel, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no model in .*: encoder\.json is missing"):
        EmbeddingModel.from_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"no model '.*not there': there is no such folder"):
        EmbeddingModel.from_pretrained(tmp_path / "not there")
    model.save_pretrained(tmp_path / "one")
    build(pooling="max").save_pretrained(tmp_path / "two")
    shutil.copy(tmp_path / "one" / "encoder.safetensors", tmp_path / "two" / "encoder.safetensors")
    with pytest.raises(InputError, match=r"is damaged, or not the file that encoder\.json"):
        EmbeddingModel.from_pretrained(tmp_path / "two")


@pytest.mark.parametrize(
    ("section", "change", "message"),
    [
        ("encoder", {"embedding_dim": 10**12}, "differ in embedding_dim"),
        ("encoder", {"name": "conv5"}, "unknown encoder 'conv5'"),
        ("encoder", {"head_norm": True}, "do not fit the network: 6 missing"),
        ("geometry", {"name": "torus"}, "unknown geometry 'torus'"),
        ("geometry", {"name": None}, "geometry, name: expected text"),
        ("geometry", {"c": 1.0}, "geometry: .*unexpected keyword argument 'c'"),
    ],
)
def test_descriptions_that_do_not_fit_the_tensors(
    model: EmbeddingModel, tmp_path: Path, section: str, change: dict[str, Any], message: str
) -> None:
    model.save_pretrained(tmp_path)
    path = tmp_path / "encoder.json"
    content = json.loads(path.read_text())
    content[section] |= change
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=message) as caught:
        EmbeddingModel.from_pretrained(tmp_path)
    assert "\n" not in str(caught.value)


def test_saving_does_not_change_the_model_and_keeps_an_edited_card(
    model: EmbeddingModel, tmp_path: Path
) -> None:
    model.train()
    model.encoder.freeze_backbone(True)
    model.save_pretrained(tmp_path)
    assert model.encoder.training
    assert model.encoder.backbone_frozen
    assert not EmbeddingModel.from_pretrained(tmp_path).encoder.backbone_frozen
    (tmp_path / "README.md").write_text("mine")
    model.save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"
    with pytest.raises(InputError, match="model cannot be written to"):
        model.save_pretrained(tmp_path / "README.md" / "folder")


def test_what_a_run_could_not_measure_is_none(tmp_path: Path) -> None:
    model = EmbeddingModel(
        build_encoder("conv4"),
        image_size=28,
        resize=28,
        scores={"recall_at_1": 0.5, "map_at_r": float("nan")},
    )
    model.save_pretrained(tmp_path)
    assert EmbeddingModel.from_pretrained(tmp_path).scores == {"recall_at_1": 0.5, "map_at_r": None}


def test_a_name_on_the_hub_without_network_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def not_cached(*_: object, local_files_only: bool = False, **__: object) -> None:
        assert local_files_only
        raise LocalEntryNotFoundError("not cached")

    def no_network(*_: object, **__: object) -> None:
        raise OSError("no route\nto host")

    monkeypatch.setattr(published, "hf_hub_download", not_cached)
    monkeypatch.setattr(published, "get_hf_file_metadata", no_network)
    with pytest.raises(
        InputError, match=r"no model 'me/birds': .* the Hugging Face hub does not give it \(no route to"
    ):
        EmbeddingModel.from_pretrained("me/birds")


def test_to_the_hub_and_back(model: EmbeddingModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A folder stands in for the hub."""
    hub = tmp_path / "hub"
    monkeypatch.setattr(HfApi, "create_repo", lambda _, repo_id, **__: type("Repo", (), {"repo_id": repo_id}))
    monkeypatch.setattr(
        HfApi,
        "upload_folder",
        lambda _, folder_path, repo_id, **__: shutil.copytree(folder_path, hub / repo_id),
    )
    monkeypatch.setattr(
        published, "hf_hub_download", lambda repo, name, local_files_only, **__: str(hub / repo / name)
    )
    model.push_to_hub("me/birds")
    assert sorted(path.name for path in (hub / "me" / "birds").iterdir()) == [
        "README.md",
        "encoder.json",
        "encoder.safetensors",
    ]
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(EmbeddingModel.from_pretrained("me/birds").embed(images), model.embed(images))


def test_hashes_differ_with_whatever_embeddings_depend_on(model: EmbeddingModel) -> None:
    encoder = model.encoder
    others = [
        EmbeddingModel(encoder, image_size=32, resize=32),
        EmbeddingModel(encoder, PoincareBall(), image_size=32, resize=36),
        build(),
    ]
    same = EmbeddingModel(encoder, image_size=32, resize=36, license="mit", scores={"nmi": 1.0})
    assert same.sha256 == model.sha256
    assert len({other.sha256 for other in [model, *others]}) == 4


def test_a_model_prints_what_it_is(model: EmbeddingModel) -> None:
    assert str(model) == "EmbeddingModel(conv4, 8 dimensions, 32 px, Sphere())"


def test_the_card_says_how_to_use_the_model(tmp_path: Path) -> None:
    model = EmbeddingModel(
        build_encoder("conv4"),
        image_size=28,
        resize=32,
        training={"method": "bgformer", "dataset": "glyphs", "protocol": "final"},
        scores={"recall_at_1": 0.617, "map_at_r": None},
        license="cc-by-4.0",
    )
    model.save_pretrained(tmp_path)
    card = (tmp_path / "README.md").read_text()
    for text in (
        "license: cc-by-4.0",
        "library_name: pyg-bgformer",
        "# Image embeddings: conv4 on glyphs",
        "EmbeddingModel.from_pretrained(",
        "| protocol | final |",
        "| recall at 1 | 61.7 |",
        "| map at r | undefined |",
        "arxiv.org/abs/2211.10622",
        "to 32 pixels on the shorter side",
    ):
        assert text in card, text
    assert "No licence has been chosen" in build().generate_model_card().content
