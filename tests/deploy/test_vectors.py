"""Files of vectors."""

import sys

import numpy as np
import pandas as pd
import pytest

from pyg_bgformer.deploy.vectors import Vectors, check_format, read_vectors, stamp, write_vectors
from pyg_bgformer.errors import InputError

TABLE = Vectors(
    ["/photos/a.jpg", "/photos/é, ü.jpg"], np.float32([[0.1, -1e-9], [1 / 3, 0]]), "abc", ["1-2", ""]
)


@pytest.mark.parametrize("name", ["vectors.npz", "vectors.parquet"])
def test_vectors_survive_to_the_bit(tmp_path, name):
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    write_vectors(tmp_path / name, TABLE)
    read = read_vectors(tmp_path / name)
    assert (read.paths, read.model, read.stamps) == (TABLE.paths, "abc", ["1-2", ""])
    assert np.array_equal(read.vectors, TABLE.vectors)
    assert read.vectors.dtype == np.float32
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_a_table_of_text_has_a_column_for_each_dimension(tmp_path):
    write_vectors(tmp_path / "vectors.csv", TABLE)
    frame = pd.read_csv(tmp_path / "vectors.csv")
    assert list(frame) == ["path", "v0", "v1"]
    assert frame["path"].tolist() == TABLE.paths
    assert np.array_equal(frame[["v0", "v1"]].to_numpy(np.float32), TABLE.vectors)


def test_others_read_the_parquet_file(tmp_path):
    pytest.importorskip("pyarrow")
    write_vectors(tmp_path / "vectors.parquet", TABLE)
    frame = pd.read_parquet(tmp_path / "vectors.parquet")
    assert np.array_equal(np.stack(frame["vector"]), TABLE.vectors)


def test_without_pyarrow_there_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(InputError, match=r"need pyarrow: pip install .* or choose \.npz"):
        check_format(tmp_path / "vectors.parquet")


def test_unknown_endings_damaged_files_and_folders_that_are_not_there(tmp_path):
    with pytest.raises(InputError, match=r"unknown ending '\.txt'; expected \.parquet, \.npz, \.csv"):
        write_vectors(tmp_path / "vectors.txt", TABLE)
    with pytest.raises(InputError, match="cannot be written: No such file"):
        write_vectors(tmp_path / "nowhere" / "vectors.npz", TABLE)
    write_vectors(tmp_path / "vectors.npz", TABLE)
    content = (tmp_path / "vectors.npz").read_bytes()
    (tmp_path / "vectors.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="is damaged"):
        read_vectors(tmp_path / "vectors.npz")
    with pytest.raises(InputError, match="cannot be read"):
        read_vectors(tmp_path / "nothing.npz")


def test_a_stamp_differs_when_a_file_was_replaced(tmp_path):
    (tmp_path / "a").write_bytes(b"1")
    first = stamp(str(tmp_path / "a"))
    (tmp_path / "a").write_bytes(b"22")
    assert first != stamp(str(tmp_path / "a"))
    assert stamp(str(tmp_path / "b")) == ""
