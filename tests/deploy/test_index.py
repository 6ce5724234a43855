import json
from concurrent.futures import ProcessPoolExecutor

import pytest
import torch
import torch.nn.functional as F

from pyg_bgformer.deploy import index as index_file
from pyg_bgformer.deploy.index import SearchIndex
from pyg_bgformer.errors import InputError
from pyg_bgformer.geometry import PoincareBall

MODEL = "a" * 64


def unit_vectors(rows, seed=0, dim=8):
    return F.normalize(torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed)), dim=1)


def filled(folder, vectors, **options):
    index = SearchIndex.create(folder, MODEL, vectors.size(1))
    half = len(vectors) // 2
    index.add([f"{i}.jpg" for i in range(half)], vectors[:half], MODEL)
    index.add([f"{i}.jpg" for i in range(half, len(vectors))], vectors[half:], MODEL)
    return SearchIndex(folder, **options)


def test_neighbours_are_those_of_plain_loops(tmp_path, monkeypatch):
    monkeypatch.setattr(index_file, "CHUNK_ROWS", 7)
    vectors, queries = unit_vectors(30), unit_vectors(4, seed=1)
    hits = filled(tmp_path / "index", vectors).search(queries, k=5)
    for query, names, similarities in zip(queries, hits.names, hits.similarities, strict=True):
        expected = sorted(range(30), key=lambda i: -float(query @ vectors[i]))[:5]
        assert names == [f"{i}.jpg" for i in expected]
        assert torch.allclose(similarities, vectors[expected] @ query, atol=1e-6)


def test_of_equal_entries_the_first_one_comes_first(tmp_path, monkeypatch):
    monkeypatch.setattr(index_file, "CHUNK_ROWS", 2)
    vectors = unit_vectors(1).expand(6, -1)
    assert filled(tmp_path / "index", vectors).search(vectors[:1], k=4).ids.tolist() == [[0, 1, 2, 3]]


def test_only_new_entries_are_added_where_this_is_asked_for(tmp_path):
    vectors = unit_vectors(6)
    index = filled(tmp_path / "index", vectors[:4])
    stale = SearchIndex(tmp_path / "index")
    index.add(["late.jpg"], vectors[5:], MODEL)
    assert stale.add(["3.jpg", "late.jpg", "4.jpg"], vectors[3:], MODEL, only_new=True) == 1
    assert SearchIndex(tmp_path / "index").names == ("0.jpg", "1.jpg", "2.jpg", "3.jpg", "late.jpg", "4.jpg")
    assert stale.search(vectors[5:], k=6).names[0][0] == "late.jpg"
    assert SearchIndex(tmp_path / "index").add(["4.jpg"], vectors[4:5], MODEL, only_new=True) == 0


def test_a_geometry_gives_the_similarity(tmp_path):
    ball = PoincareBall()
    points = ball.project(
        3 * unit_vectors(20) * torch.rand(20, 1, generator=torch.Generator().manual_seed(2))
    )
    index = filled(tmp_path / "index", points, similarity=ball.similarity)
    expected = ball.similarity(points[:3], points).argmax(dim=1)
    assert index.search(points[:3], k=1).ids[:, 0].tolist() == expected.tolist()


def test_an_approximate_index_finds_most_neighbours_and_knows_later_entries(tmp_path):
    pytest.importorskip("faiss", reason="the extra 'search' is not installed")
    vectors = unit_vectors(400)
    index = filled(tmp_path / "index", vectors)
    assert index.build_approximate(vectors[:20], k=5) > 0.9
    late = unit_vectors(1, seed=9)
    index.add(["late.jpg"], late, MODEL)
    again = SearchIndex(tmp_path / "index")
    assert again.search(late, k=1, exact=False).names == [["late.jpg"]]
    assert again.search(vectors[3:4], k=1, exact=False).names == [["3.jpg"]]


def test_a_large_approximate_index_is_compressed_and_its_candidates_are_compared_exactly(
    tmp_path, monkeypatch
):
    faiss = pytest.importorskip("faiss", reason="the extra 'search' is not installed")
    monkeypatch.setattr(index_file, "HNSW_ROWS", 100)
    vectors, queries = unit_vectors(1000), unit_vectors(20, seed=1)
    index = filled(tmp_path / "index", vectors)
    assert index.build_approximate(queries, k=5) > 0.8
    (graph,) = (tmp_path / "index").glob("*.faiss")
    assert isinstance(faiss.read_index(str(graph)), faiss.IndexIVFPQ)
    hits = index.search(queries, k=5, exact=False)
    expected = torch.einsum("nd,nkd->nk", queries, vectors[hits.ids])
    torch.testing.assert_close(hits.similarities, expected)
    assert index.build_approximate(queries, k=5) > 0.8
    assert list((tmp_path / "index").glob("*.faiss")) == [graph]


def add_one(folder, number):
    SearchIndex(folder).add([f"{number}.jpg"], unit_vectors(1, seed=number), MODEL)


def test_processes_that_add_at_a_time_lose_no_entry(tmp_path):
    SearchIndex.create(tmp_path / "index", MODEL, 8)
    with ProcessPoolExecutor(2) as pool:
        list(pool.map(add_one, [tmp_path / "index"] * 12, range(12)))
    assert sorted(SearchIndex(tmp_path / "index").names) == sorted(f"{i}.jpg" for i in range(12))


@pytest.mark.parametrize("ending", [".npy", ".json"])
def test_a_flipped_byte_is_found(tmp_path, ending):
    filled(tmp_path / "index", unit_vectors(10))
    file = next(
        f for f in (tmp_path / "index").iterdir() if f.name.endswith(ending) and f.name != "index.json"
    )
    content = bytearray(file.read_bytes())
    content[-2] ^= 4
    file.write_bytes(content)
    with pytest.raises(InputError, match="is damaged: its content"):
        SearchIndex(tmp_path / "index")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"schema": 2}',
        '{"schema": 1, "model": "a", "dim": "x", "segments": [], "approximate": null}',
    ],
)
def test_a_hostile_description_is_one_line(tmp_path, content):
    (tmp_path / "index.json").write_text(content)
    with pytest.raises(InputError) as error:
        SearchIndex(tmp_path)
    assert "\n" not in str(error.value)


def test_a_segment_stays_inside_the_index(tmp_path):
    index = filled(tmp_path / "index", unit_vectors(4))
    path = index.folder / "index.json"
    content = json.loads(path.read_text())
    content["segments"][0]["names"] = "../../secret.json"
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match="not the contents of an index"):
        SearchIndex(index.folder)


def test_mistakes_are_one_line(tmp_path):
    vectors = unit_vectors(4)
    index = filled(tmp_path / "index", vectors)
    mistakes = [
        (lambda: index.add(["x"], vectors[:1], "b" * 64), "vectors of two models cannot be compared"),
        (lambda: index.add(["x", "y"], vectors[:1], MODEL), r"found \(1, 8\), expected \(2, 8\)"),
        (lambda: index.add(["x"], vectors[:1] * torch.nan, MODEL), "NaN or infinity"),
        (lambda: index.search(vectors[:, :3], k=1), r"expected \(N, 8\)"),
        (lambda: index.search(vectors * torch.nan, k=1), "queries: found NaN or infinity"),
        (lambda: index.search(vectors, k=0), "k: found 0, expected 1 to 4"),
        (lambda: index.search(vectors, k=5), "k: found 5, expected 1 to 4"),
        (lambda: SearchIndex.create(tmp_path / "index", MODEL, 8), "exists already"),
        (lambda: SearchIndex.create(tmp_path / "new", MODEL, 8).search(vectors, k=1), "is empty"),
        (lambda: SearchIndex(tmp_path / "nowhere"), "is not an index"),
    ]
    for call, message in mistakes:
        with pytest.raises(InputError, match=message):
            call()
