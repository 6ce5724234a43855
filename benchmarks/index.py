"""The index compared with plain faiss: time to build and to search, memory, and the share of true neighbours found.

    python benchmarks/index.py                     # 1,000,000 vectors of 128 dimensions
    python benchmarks/index.py --rows 100000       # smaller

The vectors and the queries are unit vectors around random centres. Each row of the table has its own process,
which reads the vectors from a file, builds the index and searches. Memory is the largest resident size without
that of the imported libraries. Pages of memory-mapped files count while they are resident. The true neighbours for
recall@10 come from plain faiss's exhaustive search.
"""

import argparse
import multiprocessing
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import faiss
import numpy as np
import torch
from measuring import write_table

from pyg_bgformer.deploy.index import HNSW_ROWS, SearchIndex

K = 10
MODEL = "0" * 64
CHUNK = 2**16

Ask = Callable[[np.ndarray], np.ndarray]


class Row(NamedTuple):
    """The measurements of one way to search."""

    build: float
    single: float
    batch: float
    memory: float
    ids: np.ndarray


def write_vectors(path: Path, rows: int, dim: int, centres: int, seed: int) -> None:
    """Writes unit vectors: random centres, which do not depend on the seed, plus noise of the same length."""
    middle = np.random.default_rng(0).standard_normal((centres, dim), dtype=np.float32)
    chance = np.random.default_rng(seed)
    file = np.lib.format.open_memmap(path, "w+", np.float32, (rows, dim))
    for first in range(0, rows, CHUNK):
        count = min(CHUNK, rows - first)
        part = middle[chance.integers(0, centres, count)]
        part = part + chance.standard_normal((count, dim), dtype=np.float32)
        file[first : first + count] = part / np.linalg.norm(part, axis=1, keepdims=True)
    file.flush()


def parts(folder: Path) -> Iterator[np.ndarray]:
    vectors = np.load(folder / "vectors.npy", mmap_mode="r")
    for first in range(0, len(vectors), CHUNK):
        yield np.ascontiguousarray(vectors[first : first + CHUNK])


def ours(folder: Path, approximate: bool) -> Ask:
    index, count = SearchIndex.create(folder / "index", MODEL, dim_of(folder)), 0
    for part in parts(folder):
        index.add([f"{count + i}.jpg" for i in range(len(part))], torch.from_numpy(part), MODEL)
        count += len(part)
    if approximate:
        index.build_approximate(torch.from_numpy(np.load(folder / "queries.npy")[:1]))
    return lambda queries: index.search(torch.from_numpy(queries), K, exact=not approximate).ids.numpy()


def plain(folder: Path, approximate: bool) -> Ask:
    dim = dim_of(folder)
    if approximate:
        index = faiss.IndexHNSWFlat(dim, 32, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction, index.hnsw.efSearch = 80, 128
    else:
        index = faiss.IndexFlatIP(dim)
    for part in parts(folder):
        index.add(part)
    return lambda queries: index.search(queries, K)[1]


def dim_of(folder: Path) -> int:
    return int(np.load(folder / "queries.npy", mmap_mode="r").shape[1])


WAYS: dict[str, tuple[Callable[[Path, bool], Ask], bool]] = {
    "faiss, exhaustive": (plain, False),
    "SearchIndex, exact": (ours, False),
    "faiss, HNSW": (plain, True),
    "SearchIndex, approximate": (ours, True),
}


def measure(name: str, folder: Path) -> Row:
    build, approximate = WAYS[name]
    queries = np.load(folder / "queries.npy")
    Path("/proc/self/clear_refs").write_text("5")  # sets VmHWM back to VmRSS
    before = resident("VmRSS")
    started = time.perf_counter()
    ask = build(folder, approximate)
    built = time.perf_counter() - started
    ask(queries[:1])
    started = time.perf_counter()
    for query in queries[:20]:
        ask(query[None])
    single = (time.perf_counter() - started) / len(queries[:20])
    started = time.perf_counter()
    ids = ask(queries)
    batch = (time.perf_counter() - started) / len(queries)
    return Row(built, single, batch, resident("VmHWM") - before, ids)


def resident(name: str) -> float:
    """Returns the resident size in MB: VmRSS is the current one, VmHWM the largest one so far."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition(f"{name}:")[2].split()[0]) / 1e3


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--centres", type=int, default=None, help="default: a hundredth of the rows")
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--csv", type=Path, help="file of the table")
    options = parser.parse_args()
    centres = options.centres or max(1, options.rows // 100)
    print(f"{options.rows:,} x {options.dim}, {centres:,} centres, {faiss.omp_get_max_threads()} threads")
    if options.rows > HNSW_ROWS:
        print("the approximate SearchIndex is IVF-PQ at this size, plain faiss is HNSW")
    columns = (f"{options.rows:,} vectors", "build, s", "one query, ms", "in a batch, ms", "MB", "recall@10")
    print(f"{columns[0]:26}" + "".join(f"{column:>15}" for column in columns[1:]))
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_vectors(folder / "vectors.npy", options.rows, options.dim, centres, 1)
        write_vectors(folder / "queries.npy", options.queries, options.dim, centres, 2)
        truth = None
        for way in WAYS:
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                row: Row = pool.apply(measure, (way, folder))
            truth = row.ids if truth is None else truth
            recall = float((row.ids[:, :, None] == truth[:, None, :]).any(axis=1).mean())
            cells = [f"{row.build:.1f}", f"{1e3 * row.single:.2f}", f"{1e3 * row.batch:.2f}"]
            cells += [f"{row.memory:.0f}", f"{recall:.3f}"]
            print(f"{way:26}" + "".join(f"{cell:>15}" for cell in cells), flush=True)
            rows.append(dict(zip(columns, (way, *cells), strict=True)))
            shutil.rmtree(folder / "index", ignore_errors=True)
    write_table(options.csv, rows)


if __name__ == "__main__":
    main()
