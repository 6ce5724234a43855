import re

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from pyg_bgformer.errors import InputError
from pyg_bgformer.geometry import PoincareBall
from pyg_bgformer.report.embedded_images import EmbeddedImages
from pyg_bgformer.report.graph_figure import plot_batch_graph
from pyg_bgformer.report.page import RunPictures, run_page, run_pictures, write_run_page
from pyg_bgformer.runs.folder import RunFolder
from tests.report.html_page import Page
from tests.results import a_result

EVIL = "<script>alert('&')</script>"

HISTORY = pd.DataFrame(
    {
        "epoch": [1, 2, 3],
        "loss": [3.0, 2.0, 1.0],
        "plain": [2.0, 1.0, 0.5],
        "feature_scale": [1.0, 0.9, 0.8],
        "same_class_attention": [0.1, 0.2, 0.3],
        "edge_homophily": [0.1, 0.1, 0.2],
        "test_recall_at_1": [np.nan, 0.4, 0.5],
        "lr_backbone": [0.1, 0.1, 0.1],
        "lr_head": [0.1, 0.1, 0.1],
        "lr_loss": [0.3, 0.2, 0.1],
    }
)


def the_result(**changes):
    """A result with the scores that a page names."""
    before, after = (
        {"recall_at_1": r, "recall_at_2": 0.9, "map_at_r": r / 2, "queries": 12, "classes": 3}
        for r in (0.1, 0.5)
    )
    scores = {"untrained": {"embedding": before}, "trained": {"embedding": after}}
    return a_result(**{**scores, **changes})


def some_images(gallery=False, **options):
    """Twelve images of three classes with random embeddings, and perhaps a gallery of nine."""
    generator = torch.Generator().manual_seed(0)
    x = F.normalize(torch.rand(21, 5, generator=generator), dim=1)
    if gallery:
        items = {
            "items": x[12:],
            "gallery_labels": np.arange(9) % 3,
            "gallery_rows": np.arange(100, 109),
        }
        options = {**items, **options}
    return EmbeddedImages(
        x[:12],
        np.arange(12) % 3,
        np.arange(12),
        {0: "one", 1: EVIL, 2: "three"},
        lambda row: Image.new("RGB", (20, 30), (row, 80, 160)),
        **options,
    )


def graph():
    edges = torch.tensor([[0, 1, 2], [1, 2, 0]])
    return plot_batch_graph(edges, torch.rand(3, 3, 8, 8), class_names=[EVIL])


def test_a_page_has_all_of_its_sections_and_loads_nothing():
    html = run_page(
        the_result(), HISTORY, "runs/one/config.yaml", pictures=RunPictures(some_images(), graph())
    )
    page = Page(html)
    assert page.open == []
    assert {
        *(
            "verdict",
            "scores",
            "curves",
            "gallery",
            "confused",
            "embedding-map",
            "graph",
            "recipe",
            "provenance",
        ),
    } <= page.ids
    assert page.addresses
    for address in page.addresses:
        assert address.startswith(("data:image/", "#")), address
    assert not re.search(r"url\((?!#|\$)", html)
    assert "@import" not in html
    assert "prefers-color-scheme: dark" in html
    assert 'name="viewport"' in html
    for text in (
        "R@1 10.0 -> 50.0",
        "protocol final",
        "pyg-bgformer run --config runs/one/config.yaml",
        "triplet",
    ):
        assert text in page.text


def test_names_of_classes_are_text():
    html = run_page(the_result(), HISTORY, "config.yaml", pictures=RunPictures(some_images(), graph()))
    assert "<script>alert" not in html
    assert page_scripts(html) == ["application/json", None]
    assert any(EVIL in image["alt"] for image in Page(html).images)


def page_scripts(html):
    """The types of the page's scripts."""
    found = re.findall(r"<script([^>]*)>", html)
    return [match[1] if (match := re.search(r'type="([^"]+)"', given)) else None for given in found]


@pytest.mark.parametrize("geometry", [None, PoincareBall()])
def test_frames_say_which_neighbours_are_right(geometry):
    similarity = None if geometry is None else geometry.similarity
    images = some_images(gallery=True, similarity=similarity)
    found = images.retrieve(8)
    page = Page(run_page(the_result(), HISTORY, "config.yaml", pictures=RunPictures(images)))
    right = sum(image["alt"].startswith("right: ") for image in page.images)
    wrong = sum(image["alt"].startswith("wrong: ") for image in page.images)
    queries = sum(image["alt"].startswith("query: ") for image in page.images)
    assert right + wrong == 8 * queries
    assert queries == 12  # three worst, three best, six random ones
    assert found.ids.max() < 9
    expected = (images.gallery_labels[found.ids] == images.labels[:, None]).sum()
    assert right == expected


def test_a_page_without_pictures_says_why():
    page = Page(run_page(the_result(), HISTORY, "config.yaml", missing="the images are gone"))
    assert "the images are gone" in page.text
    assert {"gallery", "confused", "embedding-map", "graph"}.isdisjoint(page.ids)
    assert page.images == []


def test_what_makes_scores_special_is_said():
    last = {"recall_at_1": 0.4, "recall_at_2": 0.9, "map_at_r": 0.1}
    result = the_result(origin={"dataset_partial": True}, last={"embedding": last})
    page = Page(run_page(result, HISTORY, "config.yaml"))
    assert "partial copy of the dataset: not comparable" in page.text
    assert "differs from the last epoch by +10.0" in page.text


def test_a_finished_run_has_its_page(own_run):
    file = write_run_page(own_run, pictures=run_pictures(own_run))
    assert file == own_run.page
    page = Page(file.read_text(encoding="utf-8"))
    assert {"gallery", "confused", "embedding-map", "graph"} <= page.ids
    assert file.stat().st_size < 3e6
    # The same from the encoder, where embeddings were not kept.
    own_run.embeddings.unlink()
    again = write_run_page(own_run, file.with_name("again.html"), pictures=run_pictures(own_run))
    assert again.read_bytes() == file.read_bytes()


def test_a_run_whose_data_has_changed_has_no_pictures(own_run):
    result = own_run.result.read_text(encoding="utf-8")
    own_run.result.write_text(re.sub(r'("dataset_manifest_sha256": ")\w', r"\1x", result), encoding="utf-8")
    with pytest.raises(InputError, match="has changed since the run"):
        run_pictures(own_run)


def test_a_method_without_a_graph_has_a_page_without_one(plain_run, tmp_path):
    pictures = run_pictures(plain_run)
    file = write_run_page(plain_run, tmp_path / "page.html", pictures=pictures, map_method="none")
    page = Page(file.read_text(encoding="utf-8"))
    assert "gallery" in page.ids
    assert {"graph", "embedding-map"}.isdisjoint(page.ids)


def test_a_page_needs_a_finished_run_and_a_place(tmp_path, bgformer_run):
    with pytest.raises(InputError, match="not the folder of a finished run"):
        write_run_page(RunFolder(tmp_path))
    with pytest.raises(InputError, match=r"nowhere/page.html cannot be written: No such file"):
        write_run_page(bgformer_run, tmp_path / "nowhere" / "page.html")
