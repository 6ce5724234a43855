"""Vectors of ``pyg-bgformer embed`` in a vector database: LanceDB, which runs inside this program.

    pip install lancedb
    pyg-bgformer embed MODEL photos --out vectors.parquet
    python examples/vector_database.py MODEL vectors.parquet photo.jpg

Other databases take the same columns, ``path`` and ``vector``. Two things are the same for each: take the cosine
for unit vectors, and keep the model's hash, because vectors of two models cannot be compared.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import lancedb
from pyarrow.dataset import dataset

from pyg_bgformer import EmbeddingModel


def import_vectors(vectors: Path, database: Path) -> tuple[lancedb.table.Table, str]:
    """Copies a file of vectors to the table ``photos``, some at a time, and returns it and the model's hash."""
    rows = dataset(vectors, format="parquet")
    schema = rows.schema.remove_metadata()
    batches = (batch.replace_schema_metadata(None) for batch in rows.to_batches(batch_size=10_000))
    table = lancedb.connect(database).create_table("photos", batches, schema=schema, mode="overwrite")
    return table, rows.schema.metadata[b"model_sha256"].decode()


def main(arguments: Sequence[str] | None = None) -> None:
    """Imports vectors and searches for a photo among them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument(
        "vectors", type=Path, help="a .parquet file of pyg-bgformer embed, or a folder of them"
    )
    parser.add_argument("photo", type=Path)
    parser.add_argument("-k", type=int, default=8)
    parser.add_argument("--database", type=Path, default=Path("photos.lancedb"), help="a folder")
    given = parser.parse_args(arguments)
    model = EmbeddingModel.from_pretrained(given.model)
    table, sha256 = import_vectors(given.vectors, given.database)
    if sha256 != model.sha256:
        raise SystemExit(f"error: {given.vectors} holds vectors of another model than {given.model}")
    # From about a million vectors on, an approximate index pays: table.create_index(metric="cosine")
    query = model.embed(given.photo)[0].numpy()
    for hit in table.search(query).distance_type("cosine").limit(given.k).to_list():
        print(f"{1 - hit['_distance']:8.4f}  {hit['path']}")


if __name__ == "__main__":
    main()
