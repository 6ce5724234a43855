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
from pyg_bgformer.data.datasets import archive as archives
from pyg_bgformer.data.datasets.archive import ZipArchive, unpack, unpacked
from pyg_bgformer.data.images import ImageError
from pyg_bgformer.errors import InputError

ENDINGS = pytest.mark.parametrize("ending", ["tgz", "zip"])
NOISE = {f"birds/{number}.jpg": bytes(random.Random(number).randbytes(3000)) for number in range(20)}


@pytest.fixture
def archive(tmp_path: Path) -> ZipArchive:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as file:
        file.mkdir("folder")
        for number in range(200):
            file.writestr(f"folder/{number}", str(number) * 5000)
    return ZipArchive(tmp_path / "x.zip")


def wrong_members(archive: ZipArchive) -> int:
    return sum(
        archive.open(f"folder/{number}").read() != str(number).encode() * 5000 for number in range(200)
    )


def test_members(archive: ZipArchive):
    assert archive.names() == [f"folder/{number}" for number in range(200)]
    assert wrong_members(archive) == 0
    with pytest.raises(ImageError, match=r"x\.zip: cannot read nothing"):
        archive.open("nothing")


def test_forked_processes_do_not_disturb_each_other(archive: ZipArchive):
    archive.names()  # opened before the fork
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(wrong_members, [archive] * 4) == [0] * 4
    assert wrong_members(archive) == 0


def pack(archive: Path, members: dict[str, bytes], links: dict[str, str] | None = None) -> Path:
    """A zip or a gzipped tar of these members; of the links only a tar's are real ones."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
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


def refused(archive: Path, said: str) -> None:
    """One line that names the archive, and nothing beside it."""
    with pytest.raises(InputError, match=said) as caught:
        unpack(archive)
    assert "\n" not in str(caught.value)
    assert str(archive) in str(caught.value)
    assert [entry.name for entry in archive.parent.iterdir()] == [archive.name]


@pytest.mark.parametrize(("ending", "around"), [("tgz", ""), ("tar.gz", "birds/"), ("zip", "other/")])
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
@pytest.mark.parametrize("name", ["../x.jpg", "a/../../x.jpg", "ROOT/outside/x.jpg"])
def test_no_path_leads_outside(tmp_path: Path, ending: str, name: str):
    name = name.replace("ROOT", str(tmp_path))
    archive = pack(tmp_path / "in" / f"birds.{ending}", {"a/1.jpg": b"one", name: b"two"})
    if ending == "tgz" and ".." in name:
        refused(archive, "do not trust this archive")
    else:
        assert unpack(archive) == tmp_path / "in" / "birds"
    assert {file.split("/")[1] for file in content(tmp_path)} <= {archive.name, "birds"}


@ENDINGS
def test_a_link_is_refused(tmp_path: Path, ending: str):
    refused(pack(tmp_path / f"birds.{ending}", {"a/1.jpg": b"one"}, {"b": "a"}), "'b' in it is a link")


@ENDINGS
def test_a_truncated_archive_leaves_nothing(tmp_path: Path, ending: str):
    archive = pack(tmp_path / f"birds.{ending}", NOISE)
    content = archive.read_bytes()
    for kept in (0.0, 0.1, 0.99):
        archive.write_bytes(content[: int(kept * len(content))])
        refused(archive, "a damaged or truncated archive")


def test_a_damaged_member_leaves_nothing(tmp_path: Path):
    archive = pack(tmp_path / "birds.zip", NOISE)
    damaged = bytearray(archive.read_bytes())
    damaged[2000] ^= 1
    archive.write_bytes(damaged)
    refused(archive, r"a damaged or truncated archive.*CRC")


@pytest.mark.parametrize("whole", [True, False])
def test_a_tar_that_is_damaged_in_the_middle_leaves_nothing(tmp_path: Path, whole: bool):
    """With a checksum that fits and without: tarfile alone would take the damaged header for the end."""
    packed = pack(tmp_path / "birds.tgz", NOISE)
    content = bytearray(gzip.decompress(packed.read_bytes()))
    content[10 * (512 + 3072) + 2] ^= 1
    packed.write_bytes(gzip.compress(content))
    if not whole:
        packed.write_bytes(packed.read_bytes()[:-8] + bytes(8))
    refused(packed, "a damaged or truncated archive")


@ENDINGS
def test_the_checksum_behind_the_last_member_is_compared(tmp_path: Path, ending: str):
    archive = pack(tmp_path / f"birds.{ending}", NOISE)
    content = bytearray(archive.read_bytes())
    content[-5 if ending != "zip" else -10] ^= 1
    archive.write_bytes(content)
    refused(archive, "a damaged or truncated archive")


@ENDINGS
def test_an_archive_without_files_leaves_nothing(tmp_path: Path, ending: str):
    refused(pack(tmp_path / f"birds.{ending}", {}), "an archive without files; remove it")


def sparse_tar(size: int) -> bytes:
    """A tar of one file that claims to be ``size`` zeros and stores none of them."""
    entry = tarfile.TarInfo("a/big.jpg")
    entry.size = 512
    names = {"major": "1", "minor": "0", "name": "a/big.jpg", "realsize": str(size)}
    entry.pax_headers = {f"GNU.sparse.{name}": value for name, value in names.items()}
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as file:
        file.addfile(entry, io.BytesIO(f"1\n{size}\n0\n".encode().ljust(512, b"\0")))
    return gzip.compress(stream.getvalue())


def test_a_sparse_archive_that_becomes_too_large_is_refused_with_its_limit(tmp_path: Path):
    archive = tmp_path / "bomb.tgz"
    archive.write_bytes(sparse_tar(50 * 10**9))
    assert archive.stat().st_size < 300
    refused(archive, "becomes larger than 10,485,760 bytes, the limit for an archive of its size")


@ENDINGS
@pytest.mark.parametrize("size", [0, 10**5])
def test_many_or_large_files_are_refused_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, size: int
):
    monkeypatch.setattr(archives, "MIN_LIMIT", 10 * archives.BLOCK)
    monkeypatch.setattr(archives, "MAX_RATIO", 1)
    members = {f"a/{number}.jpg": bytes(size) for number in range(9 if size else 11)}
    refused(pack(tmp_path / f"bomb.{ending}", members), "becomes larger than 40,960 bytes")


def test_the_limit_is_a_multiple_of_the_archive_and_never_beyond_the_largest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    archive = tmp_path / "x.zip"
    archive.write_bytes(bytes(10**6))
    assert archives.unpacked_limit(archive) == 100 * 10**6
    monkeypatch.setattr(archives, "MAX_RATIO", 10**9)
    assert archives.unpacked_limit(archive) == 200 * 2**30


def test_an_encrypted_archive_is_for_the_user_to_unpack(tmp_path: Path):
    archive = pack(tmp_path / "birds.zip", {"a.jpg": b"one"})
    marked = archive.read_bytes()
    # the flag is in the entry's two headers
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = marked.index(signature) + offset
        marked = marked[:at] + b"\x01" + marked[at + 1 :]
    archive.write_bytes(marked)
    refused(archive, "encrypted; unpack it yourself")


def test_what_is_no_archive(tmp_path: Path):
    (tmp_path / "birds.rar").write_bytes(b"")
    refused(tmp_path / "birds.rar", r"birds\.rar: expected a folder or an archive that ends with \.tgz")


def test_what_a_killed_process_left_is_removed(tmp_path: Path, dead_partial):
    left = dead_partial(tmp_path / "birds")
    left.mkdir()
    (left / "1.jpg").write_bytes(b"one")
    unpack(pack(tmp_path / "birds.zip", NOISE))
    assert {entry.name for entry in tmp_path.iterdir()} == {"birds", "birds.zip"}


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
