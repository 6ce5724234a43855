"""What must hold on a GPU: the numbers of the CPU, every precision, resuming, repeating, compiling, deploying."""

import os
import signal
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pyg_bgformer import EmbeddingModel, batch_graph
from pyg_bgformer.config.recipe import read_config
from pyg_bgformer.encoders import ENCODERS
from pyg_bgformer.engine.loaders import Upload
from pyg_bgformer.engine.loop import train_batch
from pyg_bgformer.engine.run import run
from pyg_bgformer.engine.setup import deterministic_algorithms
from pyg_bgformer.errors import Interrupted
from pyg_bgformer.evaluation.search import top_k
from pyg_bgformer.geometry import Sphere
from pyg_bgformer.losses import build_loss
from pyg_bgformer.methods import METHODS
from pyg_bgformer.runs.result import read_result
from tests.methods.test_methods import NEEDED
from tests.nn.oracles import close, features
from tests.nn.test_compile import DENSE, blocks
from tests.training import NoisyConv, Silent, Training

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
RECIPES = Path(__file__).parents[1] / "experiments" / "recipes" / "digits"
PATHS = [(name, backend) for backend in ("message", "sparse", "dense", "auto") for name in blocks(backend)]
LOSSES = (
    "pairwise_cross_entropy",
    "n_pair",
    "label_smoothed_cross_entropy",
    "multi_similarity",
    "proxy_anchor",
)


def small(method: str, *arguments: str):
    """A method's recipe for digits, of two epochs of five small batches, without dropout."""
    no_dropout = [
        *NEEDED.get(method, []),
        *(["--method.dropout", "0"] if method in ("batchformer", "gca_hng") else []),
    ]
    config = read_config(
        [
            *("--config", str(RECIPES / f"{method}.yaml"), "--train.epochs", "2", "--train.lr", "1e-3"),
            *("--sampler.samples", "4", "--sampler.batches_per_epoch", "5", "--data.workers", "0"),
            *no_dropout,
            *arguments,
        ]
    )
    return replace(config, train=replace(config.train, device="cuda"))


@pytest.mark.parametrize(("name", "backend"), PATHS)
def test_layers_give_the_numbers_of_the_cpu(name: str, backend: str) -> None:
    def output_and_gradients(device: str) -> list[torch.Tensor]:
        block, inputs = blocks(backend)[name]
        block, inputs = block.to(device), tuple(one.to(device) for one in inputs)
        outputs = block(*inputs)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        weighed = sum(
            (out * torch.linspace(-1, 1, out.numel(), device=device).view_as(out)).sum() for out in outputs
        )
        parameters = list(block.parameters())
        grads = (
            torch.autograd.grad(weighed, parameters, allow_unused=True, materialize_grads=True)
            if parameters
            else ()
        )
        return [one.detach().cpu() for one in (*outputs, *grads)]

    close(output_and_gradients("cuda"), output_and_gradients("cpu"), 1e-9)


def test_a_batch_graph_has_the_edges_of_the_cpu() -> None:
    x, labels = features(300, 16), torch.arange(300) % 7
    on_cpu, on_gpu = batch_graph(x, labels, k=9), batch_graph(x.cuda(), labels.cuda(), k=9)
    assert torch.equal(on_gpu.visual_edge_index.cpu(), on_cpu.visual_edge_index)
    assert torch.equal(on_gpu.semantic_edge_index.cpu(), on_cpu.semantic_edge_index)


def test_neighbours_and_ties_are_those_of_the_cpu() -> None:
    points = torch.randint(0, 3, (400, 8), generator=torch.Generator().manual_seed(0)).float()
    on_cpu, on_gpu = (top_k(p, p, 20, similarity=lambda a, b: a @ b.T) for p in (points, points.cuda()))
    assert torch.equal(on_gpu[0].cpu(), on_cpu[0])
    assert torch.equal(on_gpu[1].cpu(), on_cpu[1])


@pytest.mark.parametrize("name", LOSSES)
def test_losses_give_the_numbers_of_the_cpu(name: str) -> None:
    embeddings, labels = features(20, 8), torch.arange(20) % 5

    def value_and_gradient(device: str) -> list[torch.Tensor]:
        torch.manual_seed(0)
        loss = build_loss(name, {}, geometry=Sphere(), num_classes=5, embedding_dim=8).double().to(device)
        x = embeddings.to(device, copy=True).requires_grad_()
        value = loss(x, labels.to(device))
        return [value.detach().cpu(), torch.autograd.grad(value, x)[0].cpu()]

    close(value_and_gradient("cuda"), value_and_gradient("cpu"), 1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_methods_train_as_on_the_cpu(method: str, tmp_path: Path) -> None:
    config = small(method)
    on_cpu = replace(config, train=replace(config.train, device="cpu"))
    with torch.backends.cudnn.flags(allow_tf32=False):
        gpu, cpu = (Training(one, tmp_path).fit().history for one in (config, on_cpu))
    for ours, theirs in zip(gpu, cpu, strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=2e-2)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_learns_in_every_precision(method: str, precision: str, tmp_path: Path) -> None:
    config = small(method, "--train.precision", precision, "--sampler.batches_per_epoch", "20")
    first, last = Training(config, tmp_path).fit().history
    assert last.get("plain", last.get("pair", last["loss"])) < first.get(
        "plain", first.get("pair", first["loss"])
    )


@pytest.mark.parametrize("method", METHODS)
def test_a_seed_repeats_bit_for_bit_with_deterministic_algorithms(method: str, tmp_path: Path) -> None:
    arguments = ("--train.deterministic", "true", "--report.page", "false", "--runs", str(tmp_path))
    folders = [run(small(method, *arguments), Silent()) for _ in range(2)]
    first, second = ((folder.path / "encoder.safetensors").read_bytes() for folder in folders)
    assert first == second


@pytest.mark.parametrize("method", METHODS)
def test_pieces_give_the_weights_of_the_whole_batch(method: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(ENCODERS.parts, "noisy", NoisyConv)
    config = small(method)
    config = replace(config, encoder=replace(config.encoder.changed(frozen_batchnorm=True), name="noisy"))
    whole, pieces = (
        Training(replace(config, train=replace(config.train, encode_chunk=chunk)), tmp_path).double().fit()
        for chunk in (None, 7)
    )
    for name, value in whole.method.state_dict().items():
        torch.testing.assert_close(pieces.method.state_dict()[name], value, rtol=0, atol=1e-6, msg=name)


def test_pieces_work_with_fp16(tmp_path: Path) -> None:
    config = small("bgformer", "--train.precision", "16-mixed", "--encoder.frozen_batchnorm", "true")
    whole, pieces = (
        Training(replace(config, train=replace(config.train, encode_chunk=chunk)), tmp_path).fit().history
        for chunk in (None, 7)
    )
    assert pieces[-1]["loss"] == pytest.approx(whole[-1]["loss"], rel=5e-2)


def test_a_stopped_training_is_resumed_on_the_gpu(tmp_path: Path) -> None:
    def stop(epochs: int, batches: int, _: float) -> None:
        if (epochs, batches) == (1, 2):
            os.kill(os.getpid(), signal.SIGINT)

    config = small("bgformer")
    with deterministic_algorithms(True):
        whole = Training(config, tmp_path).fit()
        with pytest.raises(Interrupted):
            Training(config, tmp_path).fit(on_batch=stop)
        resumed = Training(config, tmp_path).resume().fit()
    for name, value in whole.method.state_dict().items():
        assert torch.equal(resumed.method.state_dict()[name], value), name


def test_a_step_waits_for_the_gpu_once_at_most(tmp_path: Path) -> None:
    """The loss needs to know the number of classes; everything else is queued behind the step before."""
    parts = Training(small("plain"), tmp_path).parts
    batch = next(iter(parts.train_loader))
    assert batch[0].dtype == torch.uint8
    parts.method.train()
    parts.state.batch = 1  # the first batch of an epoch is also measured
    upload = Upload(parts.fabric.device)
    with warnings.catch_warnings(record=True) as waits:
        warnings.simplefilter("always")
        for mode in ("default", "warn"):  # the first step makes the optimiser's state
            torch.cuda.set_sync_debug_mode(mode)
            waits.clear()
            images, labels, _ = upload(batch)
            train_batch(parts.fabric, parts.state, parts.config.train, images, labels)
        torch.cuda.set_sync_debug_mode("default")
    assert len(waits) <= 1, [f"{wait.filename}:{wait.lineno}" for wait in waits]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "backend"), DENSE)
def test_compiled_blocks_give_what_eager_ones_give(name: str, backend: str) -> None:
    torch._dynamo.reset()
    block, inputs = blocks(backend)[name]
    block, inputs = block.cuda(), tuple(one.cuda() for one in inputs)
    close(torch.compile(block)(*inputs), block(*inputs), 1e-6)


def test_a_run_on_the_gpu_gives_a_model_for_both_devices(tmp_path: Path) -> None:
    folder = run(small("bgformer", "--runs", str(tmp_path), "--report.page", "false"), Silent())
    assert read_result(folder).provenance.device == torch.cuda.get_device_name()
    images = torch.randint(
        0, 256, (70, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    on_gpu, on_cpu = (
        EmbeddingModel.from_pretrained(str(folder)).embed(images, device=device) for device in ("cuda", "cpu")
    )
    torch.testing.assert_close(on_gpu, on_cpu, atol=1e-4, rtol=0)
