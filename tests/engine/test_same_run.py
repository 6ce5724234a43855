"""The same run on several processes: weights, resuming, stops and scores."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.measuring import compute_in
from pyg_bgformer.config.recipe import read_config
from pyg_bgformer.encoders import ENCODERS
from pyg_bgformer.engine.evaluate import extract_all
from pyg_bgformer.engine.launch import build_fabric
from pyg_bgformer.engine.loop import fit
from pyg_bgformer.engine.processes import Processes
from pyg_bgformer.engine.run import run
from pyg_bgformer.engine.setup import build_dataset, build_parts, check_batches
from pyg_bgformer.engine.state import load_checkpoint
from pyg_bgformer.errors import InputError, Interrupted, RunError
from pyg_bgformer.methods import METHODS
from pyg_bgformer.runs.folder import RunFolder
from pyg_bgformer.runs.result import read_result
from tests.groups import on_processes
from tests.training import NoisyConv, Silent

RECIPES = Path(__file__).parents[2] / "experiments" / "recipes"


def config_of(method, *arguments, frozen_batchnorm=True, **train):
    """A method's recipe for digits, of two epochs of two small batches of 20 images."""
    recipe = ["--config", str(RECIPES / "digits" / f"{method}.yaml")]
    config = read_config([*recipe, *arguments], say=lambda _: None)
    return replace(
        config,
        sampler=config.sampler.changed(samples=4, batches_per_epoch=2),
        encoder=replace(config.encoder.changed(frozen_batchnorm=frozen_batchnorm), name="noisy"),
        train=replace(config.train, epochs=2, **train),
        data=replace(config.data, workers=0),
    )


MEMORY = ("--loss.name", "cross_batch_memory", "--loss.loss", "contrastive", "--loss.memory_size", "50")
CASES = [
    *(config_of(method) for method in METHODS),
    *(config_of(method, frozen_batchnorm=False) for method in METHODS if method != "bgformer"),
    config_of("bgformer", frozen_batchnorm=False, warmup_epochs=1),
    config_of("bgformer", encode_chunk=4),
    config_of("plain", *MEMORY),
]
"""All methods with dropout and drop path in the backbone; BatchNorm that trains; pieces; a loss with a memory."""


def parts_of(config, count, dtype=torch.float64, device="cpu"):
    """What a run of so many processes works with."""
    ENCODERS.parts["noisy"] = NoisyConv
    config = replace(config, train=replace(config.train, devices=count, device=device))
    fabric = build_fabric(config.train)
    fabric.launch()
    torch.manual_seed(config.seed)
    parts = build_parts(config, build_dataset(config.data), Silent(), fabric)
    compute_in(parts, dtype)
    return parts


def state_of(parts):
    return {name: value.cpu().numpy().copy() for name, value in parts.method.state_dict().items()}


def trained(count, configs, dtype, device="cpu"):
    """The weights of methods after training, one after another."""
    states = []
    for config in configs:
        parts = parts_of(config, count, dtype, device)
        fit(parts)
        states.append(state_of(parts))
    return states


def largest_difference(one, other):
    return max(float(abs(one[name] - other[name]).max()) for name in one)


@pytest.mark.parametrize(
    ("count", "dtype", "tolerance"),
    [
        (3, torch.float64, 1e-6),
        pytest.param(2, torch.float64, 1e-6, marks=pytest.mark.slow),
        pytest.param(2, torch.float32, 1e-4, marks=pytest.mark.slow),
        pytest.param(3, torch.float32, 1e-4, marks=pytest.mark.slow),
    ],
)
def test_several_processes_give_the_weights_of_one(count, dtype, tolerance):
    cases = CASES
    if dtype == torch.float32:
        # The bias of attention's keys has no gradient but rounding, of which Adam makes whole steps.
        train = {"optimizer": "sgd", "lr": 0.03}
        cases = [replace(config, train=replace(config.train, **train)) for config in CASES]
    alone = trained(1, cases, dtype)
    several = on_processes(count, trained, count, cases, dtype)
    for number, config in enumerate(cases):
        members = [states[number] for states in several]
        assert all(largest_difference(members[0], member) == 0 for member in members)
        difference = largest_difference(alone[number], members[0])
        print(f"{config.method.name:12} {count} processes, {dtype}: {difference:.1e}")
        assert difference <= tolerance, config.method.name


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_two_gpus_give_the_weights_of_one():
    first, other = on_processes(2, trained, 2, CASES, torch.float64, "cuda")
    (alone,) = on_processes(1, trained, 1, CASES, torch.float64, "cuda")
    for expected, found, same in zip(alone, first, other, strict=True):
        assert largest_difference(found, same) == 0
        assert largest_difference(found, expected) <= 1e-6


def begun(count, config, folder, signalled, dtype):
    """Trains until a signal to one process, and returns where each of them stops."""
    parts = parts_of(config, count, dtype)

    def signal_one(epochs, batches, loss):
        if (epochs, batches) == (0, 1) and parts.processes.rank == signalled:
            os.kill(os.getpid(), signal.SIGTERM)

    try:
        fit(parts, RunFolder(folder), on_batch=signal_one)
    except Interrupted as stop:
        return stop.args
    return ("not stopped",)


def resumed(count, config, folder, dtype):
    """Resumes from the checkpoint to the end."""
    parts = parts_of(config, count, dtype)
    load_checkpoint(parts.fabric, parts.state, RunFolder(folder), parts.origin)
    fit(parts, RunFolder(folder))
    return state_of(parts)


@pytest.mark.parametrize(("before", "after"), [(2, 1), pytest.param(1, 2, marks=pytest.mark.slow)])
def test_a_signal_to_one_process_stops_all_and_the_run_is_resumed_on_another_number(before, after, tmp_path):
    config, dtype = config_of("gca_hng"), torch.float64
    arguments = config, tmp_path, before - 1, dtype
    stops = on_processes(before, begun, before, *arguments) if before > 1 else [begun(1, *arguments)]
    assert stops == [("after epoch 0, batch 1",)] * before
    arguments = config, tmp_path, dtype
    ends = on_processes(after, resumed, after, *arguments) if after > 1 else [resumed(1, *arguments)]
    (whole,) = trained(1, [config], dtype)
    for state in ends:
        assert largest_difference(state, whole) <= 1e-6


def extracted(count):
    """Features and labels of all test images, and how many of them a process loads, by the size of a batch."""
    found = {}
    for batch_size in (100, 1000):
        config = config_of("plain")
        config = replace(config, evaluation=replace(config.evaluation, batch_size=batch_size))
        parts = parts_of(config, count, torch.float32)
        own = sum(len(labels) for loader in parts.test_loaders for _, labels, _ in loader)
        (split,) = extract_all(parts.fabric, parts.method, parts.test_loaders, processes=parts.processes)
        found[batch_size] = (
            own,
            {name: x.numpy() for name, x in split.features.items()},
            split.labels.tolist(),
        )
    return found


def test_every_test_image_is_extracted_once_with_the_features_of_one_process():
    alone, several = extracted(1), on_processes(2, extracted, 2)
    for batch_size, (total, features, labels) in alone.items():  # 9 batches for 2 processes, and a single one
        assert sum(member[batch_size][0] for member in several) == total == 896
        for _, found, found_labels in (member[batch_size] for member in several):
            assert found_labels == labels
            assert all((found[name] == features[name]).all() for name in features)


def test_more_processes_than_images_of_a_batch_are_refused():
    parts = parts_of(config_of("plain"), 1)
    with pytest.raises(InputError, match=r"found 21 processes, expected at most 20"):
        check_batches(parts.config, parts.sampler, parts.method, Processes(0, 21))


def whole_run(count, config):
    """The result of a run, from its recipe to its files."""
    config = replace(config, train=replace(config.train, devices=count, device="cpu"))
    return read_result(run(config, Silent()))


def run_config(runs, *arguments):
    recipe = [
        "--config",
        str(RECIPES / "digits" / "bgformer.yaml"),
        "--runs",
        str(runs),
        "--data.workers",
        "0",
    ]
    small = ["--sampler.batches_per_epoch", "2", "--train.epochs", "2", "--evaluation.clustering", "false"]
    return read_config([*recipe, *small, *arguments], say=lambda _: None)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--protocol.name", "literature"),
        ("--encoder.frozen", "true", "--data.feature_cache", "null", "--encoder.frozen_batchnorm", "false"),
    ],
    ids=["literature", "frozen"],
)
def test_a_whole_run_has_the_scores_of_one_process_and_one_folder(arguments, tmp_path):
    alone = whole_run(1, run_config(tmp_path / "alone", *arguments))
    first, other = on_processes(2, whole_run, 2, run_config(tmp_path / "two", *arguments))
    assert other == 0  # its exit code: it has nothing to write
    assert len([*(tmp_path / "two").iterdir()]) == 1
    assert first.untrained == alone.untrained
    assert first.trained_epoch == alone.trained_epoch
    assert not first.batch_dependent
    for name, score in alone.trained["embedding"].items():
        assert first.trained["embedding"][name] == pytest.approx(score, abs=0.01), name


class Leaky(NoisyConv):
    """A backbone whose features depend on the other images of their batch when it is tested."""

    def forward(self, images):
        features = super().forward(images)
        return features if self.training else features + features.mean(dim=0)


def refused(count, config):
    """The error of a run whose encoder depends on the batch."""
    ENCODERS.parts["leaky"] = Leaky
    with pytest.raises(RunError) as error:
        whole_run(count, config)
    return error.value.args


def test_an_encoder_that_depends_on_the_batch_is_found_on_two_processes(tmp_path):
    config = config_of("plain")
    config = replace(config, encoder=replace(config.encoder, name="leaky"), runs=str(tmp_path))
    (told,), other = on_processes(2, refused, 2, config)
    assert other == 0  # its exit code: the first process measures
    assert "an embedding changes by" in told
