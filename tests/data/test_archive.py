import multiprocessing
import zipfile
from pathlib import Path

import pytest

from pyg_bgformer.data.archive import ZipArchive
from pyg_bgformer.data.images import ImageError


@pytest.fixture
def archive(tmp_path: Path) -> ZipArchive:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as file:
        file.mkdir("folder")
        for number in range(200):
            file.writestr(f"folder/{number}", str(number) * 5000)
    return ZipArchive(tmp_path / "x.zip")


def _wrong(archive: ZipArchive) -> int:
    return sum(
        archive.open(f"folder/{number}").read() != str(number).encode() * 5000 for number in range(200)
    )


def test_members(archive: ZipArchive):
    assert archive.names() == [f"folder/{number}" for number in range(200)]
    assert _wrong(archive) == 0


def test_a_member_that_is_not_there(archive: ZipArchive):
    with pytest.raises(ImageError, match=r"x\.zip: cannot read nothing"):
        archive.open("nothing")


def test_forked_processes_do_not_disturb_each_other(archive: ZipArchive):
    archive.names()  # opened before the fork
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(_wrong, [archive] * 4) == [0] * 4
    assert _wrong(archive) == 0
