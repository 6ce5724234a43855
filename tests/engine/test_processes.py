"""The same run on several processes: on the CPU, exchanging by gloo."""

import multiprocessing
import os
import socket
import traceback
from dataclasses import replace
from pathlib import Path

import torch

from pyg_bgformer.config.recipe import read_config
from pyg_bgformer.encoders import ENCODERS
from pyg_bgformer.engine.launch import build_fabric
from pyg_bgformer.engine.loop import fit
from pyg_bgformer.engine.setup import build_dataset, build_parts
from pyg_bgformer.methods import METHODS
from tests.training import NoisyConv, Silent

RECIPES = Path(__file__).parents[2] / "experiments" / "recipes"
IN_SERVER = multiprocessing.get_context("forkserver")
IN_SERVER.set_forkserver_preload(["tests.engine.test_processes"])


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def process(rank, count, port, function, arguments, results):
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "LOCAL_RANK": str(rank)}
    torch.set_num_threads(1)
    try:
        results.put((rank, function(count, *arguments)))
    except BaseException:
        results.put((rank, traceback.format_exc()))


def on_processes(count, function, *arguments):
    """Returns ``function(count, *arguments)`` of each process of a group."""
    results, port = IN_SERVER.SimpleQueue(), free_port()
    group = [
        IN_SERVER.Process(target=process, args=(rank, count, port, function, arguments, results))
        for rank in range(count)
    ]
    for member in group:
        member.start()
    found = dict(results.get() for _ in group)
    for member in group:
        member.join()
    assert not any(isinstance(value, str) for value in found.values()), "\n".join(map(str, found.values()))
    return [found[rank] for rank in range(count)]


def config_of(method, *, frozen_batchnorm=True, encoder="noisy", devices=1, **train):
    """A method's recipe for digits, of two epochs of two small batches of 20 images."""
    config = read_config(["--config", str(RECIPES / "digits" / f"{method}.yaml")])
    return replace(
        config,
        sampler=config.sampler.changed(samples=4, batches_per_epoch=2),
        encoder=replace(config.encoder.changed(frozen_batchnorm=frozen_batchnorm), name=encoder),
        train=replace(config.train, epochs=2, devices=devices, **train),
        data=replace(config.data, workers=0),
        evaluation=replace(config.evaluation, batch_size=64),
    )


def trained(count, configs, dtype):
    """The states of methods that are trained by several processes, by name."""
    ENCODERS.parts["noisy"] = NoisyConv
    states = []
    for config in configs:
        config = replace(config, train=replace(config.train, devices=count))
        fabric = build_fabric(config.train)
        fabric.launch()
        torch.manual_seed(0)
        parts = build_parts(config, build_dataset(config.data), Silent(), fabric)
        parts.method.to(dtype)
        samples, transform = parts.train_loader.dataset, parts.train_loader.dataset.transform
        samples.transform = lambda image, transform=transform: transform(image).to(dtype)
        fit(parts)
        states.append({name: value.numpy() for name, value in parts.method.state_dict().items()})
    return states


def assert_same_run(configs, count, dtype, tolerance):
    single = trained(1, configs, dtype)
    several = on_processes(count, trained, configs, dtype)
    for config, alone, *members in zip(configs, single, *several, strict=True):
        for name, expected in alone.items():
            for state in members:
                assert (state[name] == members[0][name]).all(), f"{config.method.name}: {name}"
            error = abs(members[0][name] - expected).max()
            assert error <= tolerance, f"{config.method.name}: {name} differs by {error:.1e}"


def cases():
    """All six methods with dropout and drop path in the backbone; BatchNorm that trains; pieces; a warm-up."""
    return [
        *(config_of(method) for method in METHODS),
        *(config_of(method, frozen_batchnorm=False) for method in ("plain", "bgformer", "gca_hng")),
        config_of("bgformer", encode_chunk=4),
        config_of("bgformer", warmup_epochs=1, frozen_batchnorm=False),
    ]


def test_three_processes_give_the_weights_of_one():
    assert_same_run(cases(), 3, torch.float64, 1e-6)
