import shutil
from dataclasses import replace

import pytest
import torch

from pyg_bgformer.config.schema import Component
from pyg_bgformer.data import ImageSamples
from pyg_bgformer.encoders import ENCODERS, build_encoder
from pyg_bgformer.engine import setup
from pyg_bgformer.engine.loop import fit
from pyg_bgformer.engine.processes import Processes
from pyg_bgformer.engine.setup import build_dataset, build_encoding, build_parts, new_run_folder
from pyg_bgformer.errors import InputError
from tests.training import NoisyConv, Silent


def parts_of(config):
    return build_parts(config, build_dataset(config.data), Silent())


def test_noise_is_of_the_training_images_alone(tiny):
    parts = parts_of(replace(tiny, data=replace(tiny.data, label_noise=0.4, image_noise=0.2)))
    train, test = parts.train_loader.dataset, parts.test_loaders[0].dataset
    clean = train.dataset.table["original_class"].astype(int).to_numpy()
    assert (train.labels != clean[train.rows]).mean() == pytest.approx(0.4, abs=1e-3)
    assert (test.labels == clean[test.rows]).all()
    assert len(train.noisy_rows) == round(0.2 * 901)
    assert type(test) is ImageSamples
    batch = [train[draw][1] for draw in parts.sampler.plan(0)[0]]
    assert batch == sorted(batch, key=batch.index)  # batches are made by the wrong labels


def with_one_class(config, name, **options):
    sampler = replace(config.sampler, options={**config.sampler.options, "classes": 1})
    return replace(config, sampler=sampler, loss=Component(name, options))


@pytest.mark.parametrize("name", ["pairwise_cross_entropy", "triplet_margin", "contrastive"])
def test_batches_of_one_class_are_refused_for_losses_that_compare_classes(tiny, name):
    with pytest.raises(
        InputError, match=rf"sampler\.classes: found 1 class .* at least 2: loss {name} compares"
    ):
        parts_of(with_one_class(tiny, name))


def test_batches_of_one_class_are_taken_by_losses_with_proxies(tiny):
    assert parts_of(with_one_class(tiny, "proxy_anchor")).sampler.classes == 1


def test_an_image_size_that_the_encoder_does_not_take_is_refused(tiny):
    with pytest.raises(InputError, match="does not take images of 8 px"):
        parts_of(replace(tiny, data=replace(tiny.data, image_size=8, resize=8)))


def test_compiling_for_a_cpu_needs_a_compiler(tiny, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(InputError, match=r"train\.compile: found no C\+\+ compiler no-such-compiler"):
        parts_of(replace(tiny, train=replace(tiny.train, device="cpu", compile=True)))


@pytest.mark.parametrize(("name", "chunk", "told"), [("noisy", 4, 1), ("noisy", None, 0), ("conv4", 4, 0)])
def test_a_note_says_where_compiling_leaves_the_backbone_out(tiny, name, chunk, told, monkeypatch):
    monkeypatch.setitem(ENCODERS.parts, "noisy", NoisyConv)
    monkeypatch.setattr(setup, "compile_networks", lambda *_: None)
    lines = []
    monkeypatch.setattr(Silent, "line", lambda self, line: lines.append(line))
    encoder = replace(tiny.encoder.changed(frozen_batchnorm=True), name=name)
    train = replace(tiny.train, device="cpu", compile=True, encode_chunk=chunk)
    parts_of(replace(tiny, encoder=encoder, train=train))
    assert len([line for line in lines if line.startswith("train.compile: noisy draws random")]) == told


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_compiled_networks_train_as_without_compiling(tiny):
    method = replace(tiny.method, options={**tiny.method.options, "dropout": 0.0})
    losses = {True: [], False: []}
    states = {}
    for compiled, seen in losses.items():
        train = replace(tiny.train, device="cpu", epochs=1, compile=compiled)
        torch.manual_seed(0)
        parts = parts_of(replace(tiny, method=method, train=train))
        fit(parts, on_batch=lambda epoch, batch, loss, seen=seen: seen.append(loss))
        states[compiled] = parts.method.state_dict()
    assert losses[True] == pytest.approx(losses[False], rel=1e-4)
    assert states[True].keys() == states[False].keys()


def test_runs_that_begin_in_the_same_second_have_folders_of_their_own(tiny):
    folders = [new_run_folder(tiny, "20260101-000000") for _ in range(3)]
    assert [folder.path.name[-9:] for folder in folders] == ["01-000000", "-000000-2", "-000000-3"]
    assert all(folder.state == "pending" for folder in folders)


def test_a_run_folder_that_cannot_be_made_is_named(tiny, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"run folder .*file.* cannot be made"):
        new_run_folder(replace(tiny, runs=str(tmp_path / "file")), "now")


def test_a_batchnorm_over_several_processes_is_not_compiled(tiny):
    encoder = build_encoder("conv4")
    compiled = replace(tiny, train=replace(tiny.train, compile=True))
    several = Processes(0, 2)
    with pytest.raises(
        InputError, match=r"train\.compile: BatchNorm of conv4 over several processes cannot be"
    ):
        build_encoding(compiled, encoder, torch.device("cpu"), several)
    assert build_encoding(tiny, encoder, torch.device("cpu"), several).processes == several
    frozen = build_encoder("conv4", frozen_batchnorm=True)
    assert not build_encoding(compiled, frozen, torch.device("cpu"), several).random
