import io
from dataclasses import replace

import pytest
from rich.console import Console

from pyg_bgformer.report.table import result_table
from tests.results import a_result


def printed(result):
    console = Console(file=io.StringIO(), width=100)
    console.print(result_table(result))
    return console.file.getvalue()


def marked(result, **changes):
    return replace(result, provenance=replace(result.provenance, **changes))


@pytest.fixture
def result():
    def scores(recall, **more):
        return {
            "recall_at_1": recall,
            "recall_at_10": 0.9,
            "map_at_r": 0.25,
            "queries": 40,
            "classes": 4,
            **more,
        }

    return a_result(
        seed=3,
        batch_dependence=2e-6,
        origin={"weights": "IMAGENET1K_V1", "device": "cpu (x86_64)"},
        config={
            "data": {"name": "cub200", "image_size": 96},
            "encoder": {"name": "torchvision/resnet50", "embedding_dim": 48},
            "method": {"name": "bgformer"},
        },
        untrained={"backbone": scores(0.5, nmi=0.4), "embedding": scores(0.3, nmi=0.4)},
        trained={"backbone": scores(0.625, nmi=0.4), "embedding": scores(0.2, nmi=0.4)},
    )


def test_each_metric_has_its_gain_in_points(result):
    recall = next(line for line in printed(result).splitlines() if "Recall@1 " in line)
    assert [cell.strip() for cell in recall.split("│")[2:-1]] == [
        "50.0",
        "62.5",
        "+12.5",
        "30.0",
        "20.0",
        "-10.0",
    ]


def test_it_says_what_was_tested_and_how(result):
    text = " ".join(printed(result).split())
    assert "cub200, method bgformer, seed 3" in text
    assert "40 queries of 4 unseen classes; protocol final" in text
    assert "batch independence: OK (largest relative change 2.0e-06)" in text
    setting = "torchvision/resnet50, weights IMAGENET1K_V1, 48 dimensions, 96 px, whole data; cpu (x86_64)"
    assert setting in text
    assert "partial" not in text


def test_a_partial_copy_is_marked(result):
    assert "partial copy: not comparable" in printed(marked(result, dataset_partial=True))


def test_cropped_images_are_marked(result):
    assert "images cut to annotated boxes: not" in printed(marked(result, dataset_cropped=True))
    assert "boxes" not in printed(result)


def test_embeddings_that_depend_on_their_batch_are_marked(result):
    text = " ".join(printed(replace(result, batch_dependence=0.5)).split())
    assert "batch independence: FAILED (largest relative change 5.0e-01)" in text


def test_metrics_that_were_not_measured_have_no_row(result):
    for when in (result.untrained, result.trained):
        for scores in when.values():
            del scores["nmi"]
    assert "NMI" not in printed(result)


def test_refined_features_have_scores_but_no_gain_and_are_marked(result):
    refined = {"refined": {**result.trained["backbone"], "recall_at_1": 0.75}}
    text = printed(replace(result, trained={**result.trained, **refined}, refined_features=["refined"]))
    recall = next(line for line in text.splitlines() if "Recall@1 " in line)
    assert recall.split("│")[-2].strip() == "75.0"
    assert "refined: test images refined by each other" in " ".join(text.split())


def test_the_best_test_epoch_stands_beside_the_last_one_and_the_gap_is_told(result):
    last = {feature: {**scores, "recall_at_1": 0.125} for feature, scores in result.trained.items()}
    text = printed(replace(result, last=last, trained_epoch=2, epochs=9))
    recall = next(line for line in text.splitlines() if "Recall@1 " in line)
    cells = [cell.strip() for cell in recall.split("│")[2:-1]]
    assert cells == ["50.0", "62.5", "+12.5", "12.5", "30.0", "20.0", "-10.0", "12.5"]
    told = " ".join(text.split())
    assert "epoch 2 of 9, chosen on the test images themselves" in told
    assert "+7.5 Recall@1 of the embedding" in told
    assert "tested once" not in told
