import io
import zipfile
from dataclasses import replace

import pytest
import torch

from pyg_bgformer.engine.state import (
    Origin,
    is_sealed,
    load_checkpoint,
    read_checkpoint,
    save_checkpoint,
    seal,
)
from pyg_bgformer.errors import InputError, RunError
from pyg_bgformer.runs.folder import RunFolder
from tests.training import Training


@pytest.fixture
def training(tiny, tmp_path):
    """With a checkpoint."""
    training = Training(tiny, RunFolder.create(tmp_path / "run", tiny.as_dict()).path)
    save_checkpoint(training.fabric, training.state, training.folder, training.parts.origin)
    return training


def resealed(folder, content):
    """Writes a checkpoint of another content, with a right checksum."""
    torch.save(content, folder.checkpoint)
    seal(folder.checkpoint)


def test_torch_and_zip_read_a_checkpoint_with_its_checksum(training):
    path = training.folder.checkpoint
    assert is_sealed(path.read_bytes())
    assert torch.load(path, weights_only=True)["origin"]["method"] == "bgformer"
    assert zipfile.ZipFile(path).testzip() is None


def test_a_flip_of_any_bit_is_refused(training):
    path = training.folder.checkpoint
    content = path.read_bytes()
    places = torch.randint(len(content), (40,), generator=torch.Generator().manual_seed(0)).tolist()
    for place in [0, *places, len(content) - 1]:
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"checkpoint\.pt is damaged"):
            read_checkpoint(path)


@pytest.mark.parametrize("size", [0, 10, 5000])
def test_a_truncated_checkpoint_is_refused_by_name(training, size):
    path = training.folder.checkpoint
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(InputError, match=r"checkpoint\.pt is damaged"):
        read_checkpoint(path)


def test_a_missing_checkpoint_is_named(training):
    training.folder.checkpoint.unlink()
    with pytest.raises(InputError, match=r"checkpoint\.pt is missing"):
        training.resume()


def test_no_pickle_is_loaded(training, capsys):
    class Evil:
        def __reduce__(self):
            return (print, ("evil",))

    resealed(training.folder, {"origin": Evil()})
    with pytest.raises(InputError, match="is not a checkpoint"):
        training.resume()
    assert "evil" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epoch": "1"}, "epoch: expected a whole number, found text"),
        ({"method": {"weight": 1.0}}, "method, weight: expected a Tensor, found a number"),
        ({"history": [3]}, "history, item 1: expected a mapping"),
        ({"rng": torch.zeros(3)}, "does not fit the recipe"),
        ({"optimizer": {}}, "does not fit the recipe"),
        ({"schedule": {"last_epoch": None, "lr_lambdas": 3}}, "does not fit the recipe"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_values_of_another_type_are_refused_in_one_line(training, change, message):
    content = torch.load(training.folder.checkpoint, weights_only=True)
    resealed(training.folder, {**content, **change})
    with pytest.raises(InputError, match=message) as error:
        training.resume()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("change", [{"epoch": -5}, {"epoch": 99}, {"batch": -1}])
def test_a_checkpoint_that_contradicts_its_own_log_is_refused(training, change):
    content = torch.load(training.folder.checkpoint, weights_only=True)
    torch.save(content | change, training.folder.checkpoint)
    seal(training.folder.checkpoint)
    with pytest.raises(InputError, match=r"has the log of \d+ epochs: it is damaged"):
        read_checkpoint(training.folder.checkpoint)


def test_something_else_than_a_checkpoint_is_refused(training):
    for content in ([1], {"a": 1}, torch.zeros(3)):
        resealed(training.folder, content)
        with pytest.raises(InputError, match=r"checkpoint .*(expected|missing)"):
            training.resume()


def test_a_checkpoint_of_another_method_or_of_other_images_is_refused(training):
    manifest = training.parts.origin.manifest
    for origin, message in (
        (Origin("plain", manifest), "found method 'bgformer', expected 'plain'"),
        (
            Origin("bgformer", "f" * 64),
            f"dataset has changed since .* {manifest[:12]} and is now ffffffffffff",
        ),
    ):
        with pytest.raises(InputError, match=message):
            load_checkpoint(training.fabric, training.state, training.folder, origin)


def test_a_checkpoint_of_another_size_is_refused(training, tiny):
    encoder = replace(tiny.encoder, options={**tiny.encoder.options, "embedding_dim": 32})
    with pytest.raises(InputError, match="does not fit the recipe"):
        Training(replace(tiny, encoder=encoder), training.folder.path).resume()


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(training, monkeypatch):
    before = training.folder.checkpoint.read_bytes()

    def full(content, path):
        path.write_bytes(b"half")
        raise RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(RunError, match=r"cannot be written: the disk may be full; .* resume with: --resume"):
        save_checkpoint(training.fabric, training.state, training.folder, training.parts.origin)
    assert training.folder.checkpoint.read_bytes() == before
    assert is_sealed(io.BytesIO(before).getvalue())
