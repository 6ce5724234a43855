import shutil
from dataclasses import replace

import pytest
import torch

from pyg_bgformer.config.schema import ProtocolConfig
from pyg_bgformer.engine import trained as trained_module
from pyg_bgformer.engine.evaluate import Extracted, extract_all
from pyg_bgformer.engine.launch import build_fabric
from pyg_bgformer.engine.loaders import build_test_loaders
from pyg_bgformer.engine.run import run
from pyg_bgformer.engine.setup import build_dataset
from pyg_bgformer.engine.trained import keep_embeddings, kept_embeddings, load_trained
from pyg_bgformer.errors import InputError
from pyg_bgformer.evaluation import retrieval
from pyg_bgformer.runs.folder import RunFolder
from pyg_bgformer.runs.result import read_result
from tests.training import Silent, tiny_config

pytestmark = pytest.mark.usefixtures("few_digits")


def kept_run(path, protocol):
    """The configuration and the folder of a run that keeps its checkpoint."""
    config = tiny_config(path)
    config = replace(
        config,
        train=replace(config.train, keep_checkpoint=True),
        protocol=ProtocolConfig(name=protocol),
        evaluation=replace(config.evaluation, clustering=False),
    )
    return config, run(config, Silent())


@pytest.fixture(scope="module")
def final(few_digits, tmp_path_factory):
    return kept_run(tmp_path_factory.mktemp("final"), "final")


@pytest.fixture(scope="module")
def literature(few_digits, tmp_path_factory):
    return kept_run(tmp_path_factory.mktemp("literature"), "literature")


@pytest.mark.parametrize("protocol", ["final", "literature"])
def test_the_trained_method_gives_the_embeddings_that_were_tested(protocol, request):
    config, folder = request.getfixturevalue(protocol)
    dataset = build_dataset(config.data)
    before = torch.get_rng_state()
    method = load_trained(config, folder, dataset.counts()["train"].classes)
    assert torch.equal(before, torch.get_rng_state())
    assert not method.training
    fabric = build_fabric(config.train)
    loaders = build_test_loaders(
        config.data, config.evaluation.batch_size, dataset, method.encoder, None, device=fabric.device
    )
    (extracted,) = extract_all(fabric, method, loaders)
    (kept,) = kept_embeddings(folder)
    assert torch.equal(extracted.features["embedding"], kept)
    scores = read_result(folder).trained["embedding"]
    assert retrieval(kept, extracted.labels).map_at_r == pytest.approx(scores["map_at_r"])


def test_a_checkpoint_that_does_not_fit_is_named(final, tmp_path):
    config, folder = final
    with pytest.raises(InputError, match=r"checkpoint.pt does not fit the recipe"):
        load_trained(replace(config, method=config.method.changed(num_layers=2)), folder, 5)
    without = RunFolder(shutil.copytree(folder.path, tmp_path / "run"))
    without.checkpoint.unlink()
    with pytest.raises(InputError, match=r"train\.keep_checkpoint: true"):
        load_trained(config, without, 5)


def test_embeddings_of_a_gallery_are_kept_beside_the_queries(tmp_path):
    folder = RunFolder(tmp_path)
    queries, gallery = torch.rand(3, 2), torch.rand(4, 2)
    splits = [Extracted({"embedding": x}, torch.zeros(len(x))) for x in (queries, gallery)]
    keep_embeddings(folder, splits)
    found = kept_embeddings(folder)
    assert [x.tolist() for x in found] == [queries.tolist(), gallery.tolist()]


def test_embeddings_of_very_many_images_are_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(trained_module, "MOST_KEPT", 2)
    folder = RunFolder(tmp_path)
    keep_embeddings(folder, [Extracted({"embedding": torch.rand(3, 2)}, torch.zeros(3))])
    assert kept_embeddings(folder) is None


def test_damaged_embeddings_are_named(tmp_path):
    folder = RunFolder(tmp_path)
    folder.embeddings.write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"embeddings.safetensors is damaged"):
        kept_embeddings(folder)
