import os
import socket
import subprocess
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pyg_bgformer.errors import InputError
from pyg_bgformer.files import (
    ABANDONED_SECONDS,
    MOST_BYTES,
    atomic_path,
    partial_path,
    read_mapping,
    remove_stale_partials,
)


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


def test_what_dead_processes_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    here = socket.gethostname()
    dead = [
        tmp_path / f".a.cache.{here}-{process.pid}.partial",
        tmp_path / f".b.{here}-{process.pid}.partial",
    ]
    dead[0].write_text("half")
    dead[1].mkdir()
    (dead[1] / "1.jpg").touch()
    elsewhere, abandoned = (tmp_path / f".{name}.node-7-{process.pid}.partial" for name in "cd")
    kept = [partial_path(tmp_path / "e"), elsewhere, tmp_path / "f.cache", tmp_path / ".g.partial"]
    for path in [*kept, abandoned]:
        path.touch()
    long_ago = time.time() - ABANDONED_SECONDS - 9
    for path in (abandoned, kept[0]):
        os.utime(path, (long_ago, long_ago))
    remove_stale_partials(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted(kept)


BOMB = "a: &a [x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join(9 * [f'*{a}'])}]\n" for a, b in zip("abcdefg", "bcdefgh", strict=True)
)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (BOMB, "line 1 is not plain YAML: anchors"),
        ("a: 1\nb: &b [*b]", "line 2 is not plain YAML: anchors"),
        ("a: " + "[" * 5000, "nested too deeply"),
        ("a: " + "9" * 5000, "is not plain YAML"),
        ("a: 2001-99-99", "is not plain YAML"),
        ("a: [", "is not plain YAML"),
        ("a: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
        ('a: "x\\0y"', "NUL"),
        ("a: 1\nb: 2\na: 3", "line 3 is not plain YAML: the key 'a' occurs twice"),
        (b"\xff\xfe\x00", "not text"),
        ("a: " + "x" * MOST_BYTES, "larger than 1,000,000 bytes"),
        ("", "must be a mapping of keys to values, found nothing"),
        ("root:x:0:0", "must be a mapping of keys to values, found str"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "bytes",
)
def test_a_file_that_is_no_plain_mapping_is_one_line(
    tmp_path: Path, content: str | bytes, words: str
) -> None:
    path = tmp_path / "r.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError) as error:
        read_mapping(path, "recipe")
    line = str(error.value)
    assert line.startswith(f"recipe {path}")
    assert words in line
    assert "\n" not in line
    assert len(line) < 400


@pytest.mark.parametrize(
    ("name", "words"), [("", "a folder"), ("nowhere", "No such file"), ("pipe", "a device")]
)
def test_what_is_no_file_is_not_opened(tmp_path: Path, name: str, words: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match=words):
        read_mapping(tmp_path / name, "recipe")


def test_plain_yaml_is_read(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("# a comment\na: {b: [1, 2.5, null, yes, text]}\nc: 'd'")
    assert read_mapping(path, "recipe") == {"a": {"b": [1, 2.5, None, True, "text"]}, "c": "d"}
