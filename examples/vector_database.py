"""Imports vectors of ``pyg-bgformer embed`` into LanceDB, a vector database, and searches in it.

    pip install lancedb
    pyg-bgformer embed MODEL photos --out vectors.parquet
    python examples/vector_database.py MODEL vectors.parquet photo.jpg

LanceDB runs inside this program. Other databases take the same columns, ``path`` and ``vector``. For all of them:
use the cosine for unit vectors, and keep the hash of the model, because vectors of two models cannot be compared.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import lancedb
from pyarrow.dataset import dataset

from pyg_bgformer import EmbeddingModel


def import_vectors(vectors: Path, database: Path) -> tuple[lancedb.table.Table, str]:
    """Copies a file of vectors to the table ``photos`` in batches. Returns the table and the hash of the model."""
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
    parser.add_argument("model", help="a run or a saved model")
    parser.add_argument(
        "vectors", type=Path, help="a .parquet file of pyg-bgformer embed, or a folder of such files"
    )
    parser.add_argument("photo", type=Path, help="the photo to search for")
    parser.add_argument("-k", type=int, default=8, help="number of neighbours (default: 8)")
    parser.add_argument(
        "--database",
        type=Path,
        default=Path("photos.lancedb"),
        help="folder of the database (default: photos.lancedb)",
    )
    given = parser.parse_args(arguments)
    model = EmbeddingModel.from_pretrained(given.model)
    table, sha256 = import_vectors(given.vectors, given.database)
    if sha256 != model.sha256:
        raise SystemExit(f"error: {given.vectors} has vectors of another model than {given.model}")
    # For more than about a million vectors, an index makes this faster: table.create_index(metric="cosine")
    query = model.embed(given.photo)[0].numpy()
    for hit in table.search(query).distance_type("cosine").limit(given.k).to_list():
        print(f"{1 - hit['_distance']:8.4f}  {hit['path']}")


if __name__ == "__main__":
    main()
