import json
import math

import pytest
import torch

from pyg_bgformer.evaluation import clustering, evaluate, retrieval, top_k

LABELS = torch.arange(40) % 8
POINTS = torch.eye(8)[LABELS] + 0.3 * torch.randn(40, 8, generator=torch.Generator().manual_seed(0))


def negative_distance(queries: torch.Tensor, gallery: torch.Tensor) -> torch.Tensor:
    return -torch.cdist(queries, gallery)


def test_joins_retrieval_and_clustering():
    result = evaluate(POINTS, LABELS, ks=(1, 5), seed=3)
    assert result.retrieval.as_dict() == retrieval(POINTS, LABELS, ks=(1, 5)).as_dict()
    assert result.clustering is not None
    assert result.clustering.as_dict() == clustering(POINTS, LABELS, seed=3).as_dict()
    scores = result.as_dict()
    assert list(scores)[:4] == ["recall_at_1", "recall_at_5", "map_at_r", "r_precision"]
    assert (result.recall[1], result.map_at_r) == (scores["recall_at_1"], scores["map_at_r"])
    assert (result.nmi, result.ami, result.ari) == (scores["nmi"], scores["ami"], scores["ari"])
    assert (result.r_precision, result.pair_f1) == (scores["r_precision"], scores["pair_f1"])


def test_plain_numbers_survive_json():
    scores = evaluate(POINTS, LABELS).as_dict()
    assert json.loads(json.dumps(scores)) == scores
    assert {type(value) for value in scores.values()} == {int, float}


def test_clustering_can_be_left_out():
    result = evaluate(POINTS, LABELS, clustering=False)
    assert result.clustering is result.nmi is result.ami is result.ari is result.pair_f1 is None
    assert "nmi" not in result.as_dict()


def test_queries_and_gallery_are_clustered_together():
    result = evaluate(POINTS[:10], LABELS[:10], gallery=POINTS[10:], gallery_labels=LABELS[10:])
    assert result.clustering is not None
    assert result.clustering.as_dict() == clustering(POINTS, LABELS).as_dict()
    assert (result.retrieval.queries, result.retrieval.gallery) == (10, 30)


def test_an_own_similarity_leaves_the_rows_as_they_are():
    result = evaluate(POINTS, LABELS, similarity=negative_distance)
    assert result.clustering is not None
    assert result.clustering.as_dict() == clustering(POINTS, LABELS, normalize=False).as_dict()


def test_neighbours_are_kept_on_request():
    assert evaluate(POINTS, LABELS, clustering=False).neighbours is None
    among = evaluate(POINTS, LABELS, clustering=False, neighbours=3).neighbours
    assert among is not None
    assert torch.equal(among.ids, top_k(POINTS, POINTS, 4).ids[:, 1:])
    task = {"gallery": POINTS[10:], "gallery_labels": LABELS[10:], "clustering": False, "neighbours": 99}
    found = evaluate(POINTS[:10], LABELS[:10], similarity=negative_distance, **task).neighbours
    assert found is not None
    assert found.similarities.shape == (10, 30)
    torch.testing.assert_close(
        found.similarities, negative_distance(POINTS[:10], POINTS[10:]).gather(1, found.ids)
    )


def test_arrays_and_lists_do_as_well_as_tensors():
    expected = evaluate(POINTS, LABELS).as_dict()
    assert evaluate(POINTS.numpy(), LABELS.numpy()).as_dict() == expected
    assert evaluate(POINTS.tolist(), LABELS.tolist()).as_dict() == expected


def test_one_image():
    result = evaluate(POINTS[:1], LABELS[:1])
    assert math.isnan(result.recall[1])
    assert result.nmi == pytest.approx(1)
