"""An index of names and vectors on disk, with exact search in bounded memory and faster search by faiss."""

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pyg_bgformer.errors import InputError, one_line
from pyg_bgformer.evaluation.search import SimilarityFunction, first_largest, similarity_blocks
from pyg_bgformer.files import atomic_path, partial_path, remove_stale_partials

SCHEMA = 1
INDEX, LOCK, MODEL = "index.json", ".lock", "model"
CHUNK_ROWS = 2**18
"""Number of vectors that are compared at a time. With 128 dimensions they take 128 MB."""
HNSW_ROWS = 2_000_000
"""Up to this number of vectors the approximate index is a graph (HNSW). A larger one is compressed (IVF-PQ)."""
MEASURED = 200
"""Number of queries that measure the recall of an approximate index."""
RESCORED = 4
"""Number of candidates for each neighbour in an approximate search. They are ordered by exact similarities."""


@dataclass(frozen=True)
class Segment:
    """The entries that one call of :meth:`SearchIndex.add` wrote.

    Attributes:
        vectors: File of the vectors, ``.npy``, float32 ``(rows, D)``.
        names: File of the names, a JSON list.
        rows: Number of entries.
        sha256: SHA-256 of the two files.
    """

    vectors: str
    names: str
    rows: int
    sha256: tuple[str, str]


@dataclass(frozen=True)
class Contents:
    """The contents of ``index.json``.

    Attributes:
        model: SHA-256 of the model that made the vectors.
        dim: Size of a vector.
        segments: The segments in the order of their entries.
        approximate: SHA-256 and number of entries of the approximate index, or ``None``.
        schema: Version of this format.
    """

    model: str
    dim: int
    segments: tuple[Segment, ...] = ()
    approximate: tuple[str, int] | None = None
    schema: int = field(default=SCHEMA)


class Hits(NamedTuple):
    """The neighbours of each query, most similar first.

    Attributes:
        names: The names of the neighbours of each query.
        ids: ``(N, k)`` int64, the numbers of the neighbours in the index, from 0.
        similarities: ``(N, k)`` float32.
    """

    names: list[list[str]]
    ids: Tensor
    similarities: Tensor


class SearchIndex:
    """Names and vectors in a folder, which vectors of the same model can search.

    The folder has ``index.json``, two files for each addition, and usually a copy of the model in ``model/``. The
    vectors are memory-mapped, so a search does not load the whole index.

    Args:
        folder: Folder of the index, from :meth:`create`.
        similarity: The similarity of the model's geometry; :obj:`None` for the dot product of unit vectors.
        verify: Whether to compare every file with its checksum.

    Raises:
        InputError: If there is no index, or it is damaged.
    """

    def __init__(
        self, folder: str | Path, similarity: SimilarityFunction | None = None, verify: bool = True
    ) -> None:
        self.folder = Path(folder)
        self.similarity = similarity
        self.contents = _read(self.folder)
        if verify:
            self._verify()

    @classmethod
    def create(cls, folder: str | Path, model: str, dim: int) -> "SearchIndex":
        """Makes an empty index and returns it.

        Args:
            folder: Folder of the index. It must not exist.
            model: SHA-256 of the model whose vectors will be added.
            dim: D, the size of a vector.

        Raises:
            InputError: If the folder exists or cannot be made.
        """
        folder = Path(folder)
        unfinished = partial_path(folder)
        try:
            if folder.exists():
                raise InputError(f"{folder} exists already; add to it with --add, or choose another name")
            unfinished.mkdir(parents=True)
            _write(unfinished, Contents(model, dim))
            unfinished.rename(folder)
        except OSError as error:
            raise InputError(f"index {folder} cannot be made: {error.strerror}") from error
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
        return cls(folder)

    def __len__(self) -> int:
        return sum(segment.rows for segment in self.contents.segments)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.folder}, {len(self):,} x {self.contents.dim})"

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of all entries, in the order of their numbers."""
        files = (self.folder / segment.names for segment in self.contents.segments)
        return tuple(name for file in files for name in json.loads(file.read_text(encoding="utf-8")))

    def add(self, names: Sequence[str], vectors: Tensor, model: str, *, only_new: bool = False) -> int:
        """Adds entries. Several processes may add to one index at the same time.

        Args:
            names: n names.
            vectors: ``(n, D)``, floating point.
            model: SHA-256 of the model that made the vectors.
            only_new: Leave out entries whose names the index has already.

        Returns:
            The number of added entries.

        Raises:
            InputError: If the vectors are from another model, have the wrong shape, are not finite, or cannot be
                written.
        """
        if model != self.contents.model:
            raise InputError(
                f"{self.folder} has vectors of the model {self.contents.model[:12]}, found vectors of "
                f"{model[:12]}: vectors of two models cannot be compared; make a new index"
            )
        found = (len(names), self.contents.dim)
        if tuple(vectors.shape) != found:
            raise InputError(
                f"vectors: found {tuple(vectors.shape)}, expected {found} for {len(names)} names"
            )
        if not bool(vectors.isfinite().all()):
            raise InputError("vectors: found NaN or infinity, expected finite numbers")
        rows = vectors.detach().cpu().float().numpy()
        try:
            with self._locked():
                self._reload()
                if only_new:
                    known = set(self.names)
                    new = [i for i, name in enumerate(names) if name not in known]
                    names, rows = [names[i] for i in new], rows[new]
                if len(names):
                    self._append(names, rows)
        except OSError as error:
            raise InputError(f"{self.folder} cannot be written: {error.strerror}") from error
        return len(names)

    def refresh(self) -> None:
        """Reads the entries that other processes have added since the index was opened."""
        if _read(self.folder) != self.contents:
            self._reload()

    def _append(self, names: Sequence[str], rows: np.ndarray) -> None:
        stem = f"{time.time_ns()}-{os.getpid()}"
        files = (f"{stem}.npy", f"{stem}.json")
        with atomic_path(self.folder / files[0]) as path, open(path, "wb") as file:
            np.save(file, rows)
        with atomic_path(self.folder / files[1]) as path:
            path.write_text(json.dumps(list(names)), encoding="utf-8")
        sums = (_file_hash(self.folder / files[0]), _file_hash(self.folder / files[1]))
        segments = (*self.contents.segments, Segment(*files, len(names), sums))
        _write(self.folder, replace(self.contents, segments=segments))
        self._reload()

    def search(self, queries: Tensor, k: int = 8, *, exact: bool = True) -> Hits:
        """Returns the ``k`` most similar entries of each query. Equally similar entries are ordered by number.

        Args:
            queries: ``(N, D)``, vectors of the index's model.
            k: Number of neighbours, from 1 to the number of entries.
            exact: Compare with every entry. Otherwise the approximate index proposes candidates, if there is one.
                Candidates are ordered by their exact similarities.

        Raises:
            InputError: If ``k`` is not from 1 to the number of entries, queries have the wrong shape or are not
                finite, or faiss is needed and not installed.
        """
        self.check_k(k)
        if queries.dim() != 2 or queries.size(1) != self.contents.dim:
            raise InputError(f"queries: found {tuple(queries.shape)}, expected (N, {self.contents.dim})")
        queries = queries.detach().cpu().float()
        if not bool(queries.isfinite().all()):
            raise InputError("queries: found NaN or infinity, expected finite numbers")
        first = 0
        parts = []
        if not exact and self.contents.approximate is not None:
            first = self.contents.approximate[1]
            parts.append(self._approximate(queries, k))
        parts += [self._nearest(queries, chunk, start, k) for start, chunk in self._chunks(first)]
        ids, similarities = (torch.cat(column, dim=1) for column in zip(*parts, strict=True))
        order = ids.argsort(dim=1)  # first_largest orders equal similarities by column, and so by number
        similarities, places = first_largest(similarities.gather(1, order), min(k, ids.size(1)))
        ids = ids.gather(1, order).gather(1, places)
        return Hits([[self.names[i] for i in row] for row in ids.tolist()], ids, similarities)

    def check_k(self, k: int) -> None:
        """Raises an error if the index has fewer than ``k`` entries.

        Args:
            k: Number of neighbours.

        Raises:
            InputError: If the index is empty, or ``k`` is not from 1 to the number of entries.
        """
        if len(self) == 0:
            raise InputError(f"{self.folder} is empty; add images to it first")
        if not 1 <= k <= len(self):
            raise InputError(f"k: found {k}, expected 1 to {len(self)}: the index has {len(self)} entries")

    def sample(self, count: int) -> Tensor:
        """Returns vectors of the index ``(n, D)``, chosen at random. The same index gives the same vectors.

        Args:
            count: Largest number of vectors.
        """
        ids = np.random.default_rng(0).choice(len(self), min(count, len(self)), replace=False)
        return torch.from_numpy(self._gather(np.sort(ids)))

    def build_approximate(self, queries: Tensor | None = None, k: int = 10) -> float:
        """Builds a faiss index of all entries and compares it with exact search.

        Args:
            queries: ``(N, D)``, the queries of the comparison. ``None`` takes :data:`MEASURED` entries.
            k: Number of neighbours of each query. If the index has fewer entries, all of them.

        Returns:
            The share of the ``k`` true neighbours that approximate search finds, from 0 to 1.

        Raises:
            InputError: If faiss is not installed, the similarity is not a dot product, or the file cannot be
                written.
        """
        if self.similarity is not None:
            raise InputError("an approximate index needs unit vectors and the dot product; use exact search")
        faiss = _faiss()
        rows, dim = len(self), self.contents.dim
        if rows <= HNSW_ROWS:
            graph = faiss.IndexHNSWFlat(dim, 32, faiss.METRIC_INNER_PRODUCT)
            graph.hnsw.efConstruction, graph.hnsw.efSearch = 80, 128
        else:
            lists, codes = int(4 * rows**0.5), next(m for m in (32, 16, 8, 4, 2, 1) if dim % m == 0)
            # "np" turns off faiss's polysemous codes, which are not used and take a minute to train
            graph = faiss.index_factory(dim, f"IVF{lists},PQ{codes}np", faiss.METRIC_INNER_PRODUCT)
            graph.train(self.sample(64 * lists).numpy())
            graph.nprobe = 64
        for _, chunk in self._chunks(0):
            graph.add(chunk.numpy())
        try:
            with self._locked():
                partial = partial_path(self.folder / "approximate")
                faiss.write_index(graph, str(partial))
                sha256 = _file_hash(partial)
                partial.rename(_graph_file(self.folder, sha256))
                before = _read(self.folder)
                _write(self.folder, replace(before, approximate=(sha256, rows)))
                if before.approximate is not None and before.approximate[0] != sha256:
                    _graph_file(self.folder, before.approximate[0]).unlink(missing_ok=True)
        except (OSError, RuntimeError) as error:  # faiss raises a RuntimeError for a full disk
            raise InputError(f"{self.folder} cannot be written: {one_line(error)}") from error
        del graph  # the search reads it from the file; two of them would take twice the memory
        self._reload()
        queries, k = self.sample(MEASURED) if queries is None else queries, min(k, rows)
        truth, found = (self.search(queries, k, exact=exact).ids for exact in (True, False))
        return float((found[:, :, None] == truth[:, None, :]).any(dim=1).float().mean())

    def _approximate(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Returns candidates and their exact similarities. Missing candidates have number -1 and -inf."""
        graph = self._graph
        ids = torch.from_numpy(graph.search(queries.numpy(), min(RESCORED * k, graph.ntotal))[1])
        flat, places = torch.unique(ids.clamp(min=0), return_inverse=True)
        vectors = torch.from_numpy(self._gather(flat.numpy()))
        similarities = torch.einsum("nd,nkd->nk", queries, vectors[places])
        return ids, similarities.masked_fill(ids < 0, -torch.inf)

    def _gather(self, ids: np.ndarray) -> np.ndarray:
        vectors = np.empty((len(ids), self.contents.dim), dtype=np.float32)
        for start, rows in self._mapped:
            inside = (ids >= start) & (ids < start + len(rows))
            vectors[inside] = rows[ids[inside] - start]
        return vectors

    def _nearest(self, queries: Tensor, chunk: Tensor, start: int, k: int) -> tuple[Tensor, Tensor]:
        """Returns the numbers and similarities of the nearest entries in a chunk of the index."""
        found = [
            first_largest(block, min(k, len(chunk)))
            for _, block in similarity_blocks(queries, chunk, self.similarity)
        ]
        similarities, ids = (torch.cat(column) for column in zip(*found, strict=True))
        return ids + start, similarities

    def _chunks(self, first: int) -> Iterator[tuple[int, Tensor]]:
        """Yields the vectors from entry ``first`` on in chunks, each with the number of its first entry."""
        for start, rows in self._mapped:
            for at in range(max(0, first - start), len(rows), CHUNK_ROWS):
                yield start + at, torch.from_numpy(rows[at : at + CHUNK_ROWS])

    @cached_property
    def _mapped(self) -> list[tuple[int, np.ndarray]]:
        """The memory-mapped vectors of each segment, with the number of its first entry."""
        starts = accumulate((segment.rows for segment in self.contents.segments), initial=0)
        return [  # mode "c" is copy on write, because torch warns about read-only arrays
            (start, np.load(self.folder / segment.vectors, mmap_mode="c"))
            for start, segment in zip(starts, self.contents.segments, strict=False)
        ]

    @cached_property
    def _graph(self) -> Any:
        sha256, _ = self.contents.approximate or ("", 0)
        try:
            return _faiss().read_index(str(_graph_file(self.folder, sha256)))
        except RuntimeError as error:
            raise InputError(f"{self.folder} has been changed by another process; open it again") from error

    def _reload(self) -> None:
        """Reads ``index.json`` again, and forgets what depends on the old one."""
        self.contents = _read(self.folder)
        for name in ("names", "_mapped", "_graph"):
            self.__dict__.pop(name, None)

    def _verify(self) -> None:
        for segment in self.contents.segments:
            for name, expected in zip((segment.vectors, segment.names), segment.sha256, strict=True):
                _check_file(self.folder / name, expected)
        if self.contents.approximate is not None:
            sha256, _ = self.contents.approximate
            _check_file(_graph_file(self.folder, sha256), sha256)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with open(self.folder / LOCK, "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            remove_stale_partials(self.folder)
            yield


def _read(folder: Path) -> Contents:
    path = folder / INDEX
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{folder} is not an index: {INDEX} cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise InputError(f"{path} is damaged ({error}); make the index again") from error
    try:
        if content["schema"] != SCHEMA:
            raise InputError(
                f"{path}: found schema {content['schema']}, expected {SCHEMA}; make the index again"
            )
        approximate = content["approximate"]
        return Contents(
            model=str(content["model"]),
            dim=int(content["dim"]),
            segments=tuple(_segments(content)),
            approximate=None if approximate is None else (str(approximate[0]), int(approximate[1])),
        )
    except (KeyError, TypeError, IndexError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is not the contents of an index; make the index again") from error


def _segments(content: dict[str, Any]) -> Iterator[Segment]:
    for entry in content["segments"]:
        vectors, names = str(entry["vectors"]), str(entry["names"])
        if {"/", "\\"} & set(vectors + names):
            raise ValueError("a segment lies outside of the index")
        first, second = entry["sha256"]
        yield Segment(vectors, names, int(entry["rows"]), (str(first), str(second)))


def _write(folder: Path, contents: Contents) -> None:
    with atomic_path(folder / INDEX) as path:
        path.write_text(json.dumps(asdict(contents), indent=1) + "\n", encoding="utf-8")


def _graph_file(folder: Path, sha256: str) -> Path:
    return folder / f"{sha256[:16]}.faiss"


def _file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_file(path: Path, expected: str) -> None:
    try:
        found = _file_hash(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); make the index again") from error
    if found != expected:
        raise InputError(f"{path} is damaged: its content does not match its checksum; make the index again")


def _faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise InputError("an approximate index needs faiss: pip install 'pyg-bgformer[search]'") from error
    return faiss
