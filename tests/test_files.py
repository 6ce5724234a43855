import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pyg_bgformer.files import atomic_path


def test_a_file_is_whole_or_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("before")

    def interrupted() -> None:
        with atomic_path(path) as partial:
            partial.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        interrupted()
    assert path.read_text() == "before"
    with atomic_path(path) as partial:
        partial.write_text("whole")
    assert path.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_files_follow_the_umask_whatever_writes_them(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        for name, write in (
            ("t.safetensors", lambda p: save_file({"a": torch.zeros(1)}, p)),
            ("t", Path.touch),
        ):
            with atomic_path(tmp_path / name) as partial:
                write(partial)
            assert (tmp_path / name).stat().st_mode & 0o777 == 0o666 & ~umask
    finally:
        os.umask(before)
