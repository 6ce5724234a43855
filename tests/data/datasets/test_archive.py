import gzip
import io
import multiprocessing
import random
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from pyg_bgformer.data import load_dataset
from pyg_bgformer.data.datasets.archive import ZipArchive, unpack, unpacked
from pyg_bgformer.data.images import ImageError
from pyg_bgformer.errors import InputError


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


def pack(archive: Path, members: dict[str, bytes], links: dict[str, str] | None = None) -> Path:
    """A zip or a gzipped tar of these members; of the links only a tar's are real ones."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w") as file:
            for name, content in members.items():
                file.writestr(name, content)
            for name, target in (links or {}).items():
                entry = zipfile.ZipInfo(name)
                entry.external_attr = (stat.S_IFLNK | 0o777) << 16
                file.writestr(entry, target)
        return archive
    with tarfile.open(archive, "w:gz") as file:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            file.addfile(entry, io.BytesIO(content))
        for name, target in (links or {}).items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            file.addfile(entry)
    return archive


def content(folder: Path) -> dict[str, bytes]:
    return {
        file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()
    }


NOISE = {f"birds/{number}.jpg": bytes(random.Random(number).randbytes(3000)) for number in range(20)}
ENDINGS = pytest.mark.parametrize("ending", ["tgz", "tar.gz", "zip"])


@ENDINGS
@pytest.mark.parametrize("around", ["", "birds/", "other/"])
def test_the_folder_is_named_like_the_archive(tmp_path: Path, ending: str, around: str):
    members = {f"{around}a/1.jpg": b"one", f"{around}b/2.jpg": b"two", "README.txt": b"text"}
    folder = unpack(pack(tmp_path / f"birds.{ending}", {**members, "__MACOSX/x.jpg": b""}))
    assert folder == tmp_path / "birds"
    assert content(folder) == {"a/1.jpg": b"one", "b/2.jpg": b"two", "README.txt": b"text"}
    assert {entry.name for entry in tmp_path.iterdir()} == {"birds", f"birds.{ending}"}


def test_a_folder_that_is_there_is_not_touched(tmp_path: Path):
    archive = pack(tmp_path / "birds.zip", NOISE)
    (tmp_path / "birds").mkdir()
    assert unpacked(tmp_path / "birds") == unpack(archive) == tmp_path / "birds"
    assert content(tmp_path / "birds") == {}
    assert unpacked(tmp_path / "fish") == tmp_path / "fish"


@ENDINGS
@pytest.mark.parametrize("name", ["../x.jpg", "a/../../x.jpg", "/tmp/x.jpg", "a\\..\\x.jpg", "C:/x.jpg"])
def test_a_path_outside_is_refused(tmp_path: Path, ending: str, name: str):
    archive = pack(tmp_path / "in" / f"birds.{ending}", {"a/1.jpg": b"one", name: b"two"})
    with pytest.raises(InputError, match=r"birds\..*holds '.*x\.jpg', which is no path inside a folder"):
        unpack(archive)
    assert list(content(tmp_path)) == [f"in/birds.{ending}"]


@ENDINGS
@pytest.mark.parametrize("target", ["/etc", "a"])
def test_a_link_is_refused(tmp_path: Path, ending: str, target: str):
    archive = pack(tmp_path / f"birds.{ending}", {"a/1.jpg": b"one"}, links={"b": target})
    with pytest.raises(InputError, match="'b' in it is a link"):
        unpack(archive)
    assert [entry.name for entry in tmp_path.iterdir()] == [f"birds.{ending}"]


@ENDINGS
@pytest.mark.parametrize("kept", [0.0, 0.1, 0.9, 0.99])
def test_a_truncated_archive_leaves_nothing(tmp_path: Path, ending: str, kept: float):
    archive = pack(tmp_path / f"birds.{ending}", NOISE)
    archive.write_bytes(archive.read_bytes()[: int(kept * archive.stat().st_size)])
    with pytest.raises(InputError, match=r"birds\..*: a damaged or truncated archive") as caught:
        unpack(archive)
    assert "\n" not in str(caught.value)
    assert [entry.name for entry in tmp_path.iterdir()] == [f"birds.{ending}"]


def test_a_damaged_member_leaves_nothing(tmp_path: Path):
    archive = pack(tmp_path / "birds.zip", NOISE)
    damaged = bytearray(archive.read_bytes())
    damaged[2000] ^= 1
    archive.write_bytes(damaged)
    with pytest.raises(InputError, match=r"a damaged or truncated archive.*CRC"):
        unpack(archive)
    assert not (tmp_path / "birds").exists()


@pytest.mark.parametrize("whole", [True, False])
def test_a_tar_that_is_damaged_in_the_middle_leaves_nothing(tmp_path: Path, whole: bool):
    """With a checksum that fits and without: tarfile alone would take the damaged header for the end."""
    packed = pack(tmp_path / "birds.tgz", NOISE)
    content = bytearray(gzip.decompress(packed.read_bytes()))
    content[10 * (512 + 3072) + 2] ^= 1
    packed.write_bytes(gzip.compress(content))
    if not whole:
        packed.write_bytes(packed.read_bytes()[:-8] + bytes(8))
    with pytest.raises(InputError, match=r"birds\.tgz: a damaged or truncated archive") as caught:
        unpack(packed)
    assert "\n" not in str(caught.value)
    assert [entry.name for entry in tmp_path.iterdir()] == ["birds.tgz"]


@ENDINGS
def test_the_checksum_behind_the_last_member_is_compared(tmp_path: Path, ending: str):
    archive = pack(tmp_path / f"birds.{ending}", NOISE)
    content = bytearray(archive.read_bytes())
    content[-5 if ending != "zip" else -10] ^= 1
    archive.write_bytes(content)
    with pytest.raises(InputError, match="a damaged or truncated archive"):
        unpack(archive)
    assert [entry.name for entry in tmp_path.iterdir()] == [archive.name]


@ENDINGS
def test_an_archive_without_files_leaves_nothing(tmp_path: Path, ending: str):
    archive = pack(tmp_path / f"birds.{ending}", {})
    with pytest.raises(InputError, match=r"birds\..*: an archive without files; remove it"):
        unpack(archive)
    assert [entry.name for entry in tmp_path.iterdir()] == [archive.name]


def test_an_encrypted_archive_is_for_the_user_to_unpack(tmp_path: Path):
    archive = pack(tmp_path / "birds.zip", {"a.jpg": b"one"})
    marked = archive.read_bytes()
    # the flag is in the entry's two headers
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = marked.index(signature) + offset
        marked = marked[:at] + b"\x01" + marked[at + 1 :]
    archive.write_bytes(marked)
    with pytest.raises(InputError, match="encrypted; unpack it yourself"):
        unpack(archive)


def test_what_is_no_archive(tmp_path: Path):
    (tmp_path / "birds.rar").write_bytes(b"")
    with pytest.raises(InputError, match=r"birds\.rar: expected a folder or an archive that ends with \.tgz"):
        unpack(tmp_path / "birds.rar")


@pytest.mark.parametrize(
    ("name", "root"), [("birds", "birds.zip"), ("CUB_200_2011", "."), ("CUB_200_2011", None)]
)
def test_a_dataset_from_its_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, root: str | None
):
    """The archive itself as ``root``, the folder it is in, and where datasets are looked for."""
    image = io.BytesIO()
    Image.new("RGB", (5, 4)).save(image, "PNG")
    images = {f"x/images/00{number}.a/{n}.png": image.getvalue() for number in range(1, 5) for n in range(2)}
    lists = {
        "x/images.txt": "\n".join(f"{n} {path[9:]}" for n, path in enumerate(images, start=1)),
        "x/image_class_labels.txt": "\n".join(f"{n} {100 * (n > 4) + (n - 1) // 2 + 1}" for n in range(1, 9)),
        "x/classes.txt": "\n".join(f"{n} {n:03}.a" for n in range(1, 201)),
    }
    members = {**images, **{name: text.encode() for name, text in lists.items()}}
    pack(tmp_path / f"{name}.zip", members)
    monkeypatch.setenv("PYG_BGFORMER_DATA", str(tmp_path))
    dataset = load_dataset("cub200", tmp_path / root if root else None, allow_partial=True)
    assert dataset.image(7).size == (5, 4)
