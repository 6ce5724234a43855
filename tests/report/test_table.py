import io

import pytest
from rich.console import Console

from pyg_bgformer.report.table import result_table


def printed(result):
    console = Console(file=io.StringIO(), width=100)
    console.print(result_table(result))
    return console.file.getvalue()


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

    return {
        "dataset_partial": False,
        "protocol": "final",
        "seed": 3,
        "leakage": 2e-6,
        "refined_features": [],
        "weights": "IMAGENET1K_V1",
        "device": "cpu (x86_64)",
        "config": {
            "data": {"name": "cub200", "image_size": 96},
            "encoder": {"name": "torchvision/resnet50", "embedding_dim": 48},
            "method": {"name": "bgformer"},
        },
        "untrained": {"backbone": scores(0.5, nmi=0.4), "embedding": scores(0.3, nmi=0.4)},
        "trained": {"backbone": scores(0.625, nmi=0.4), "embedding": scores(0.2, nmi=0.4)},
    }


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
    assert "2.0e-06 of its norm" in text
    setting = "torchvision/resnet50, weights IMAGENET1K_V1, 48 dimensions, 96 px, whole data; cpu (x86_64)"
    assert setting in text
    assert "partial" not in text


def test_a_partial_copy_is_marked(result):
    assert "partial copy: not comparable" in printed({**result, "dataset_partial": True})


def test_cropped_images_are_marked(result):
    assert "images cut to annotated boxes: not" in printed({**result, "dataset_cropped": True})
    assert "boxes" not in printed({**result, "dataset_cropped": False})


def test_metrics_that_were_not_measured_have_no_row(result):
    for when in ("untrained", "trained"):
        for scores in result[when].values():
            del scores["nmi"]
    assert "NMI" not in printed(result)


def test_refined_features_have_scores_but_no_gain_and_are_marked(result):
    result["trained"]["refined"] = {**result["trained"]["backbone"], "recall_at_1": 0.75}
    result["refined_features"] = ["refined"]
    text = printed(result)
    recall = next(line for line in text.splitlines() if "Recall@1 " in line)
    assert recall.split("│")[-2].strip() == "75.0"
    assert "refined: test images refined by each other" in " ".join(text.split())


def test_the_best_test_epoch_stands_beside_the_last_one_and_the_gap_is_told(result):
    last = {feature: {**scores, "recall_at_1": 0.125} for feature, scores in result["trained"].items()}
    text = printed({**result, "last": last, "trained_epoch": 2, "epochs": 9})
    recall = next(line for line in text.splitlines() if "Recall@1 " in line)
    cells = [cell.strip() for cell in recall.split("│")[2:-1]]
    assert cells == ["50.0", "62.5", "+12.5", "12.5", "30.0", "20.0", "-10.0", "12.5"]
    told = " ".join(text.split())
    assert "epoch 2 of 9, chosen on the test images themselves" in told
    assert "+7.5 Recall@1 of the embedding" in told
    assert "tested once" not in told
