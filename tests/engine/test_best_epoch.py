import json
from dataclasses import replace

import pandas as pd
import pytest
import torch

from pyg_bgformer.config.schema import ProtocolConfig
from pyg_bgformer.deploy.embedding_model import EmbeddingModel
from pyg_bgformer.engine import epoch_log
from pyg_bgformer.engine import run as run_module
from pyg_bgformer.engine.best_epoch import TEST_SCORE, best_epoch, is_tested
from pyg_bgformer.engine.run import run
from pyg_bgformer.errors import Interrupted
from pyg_bgformer.runs.folder import RunFolder
from pyg_bgformer.runs.result import read_result

pytestmark = pytest.mark.usefixtures("few_digits")


@pytest.fixture
def constant(tiny):
    """Its first epoch does not depend on how many follow."""
    return replace(
        tiny,
        train=replace(tiny.train, schedule="constant", epochs=3),
        evaluation=replace(tiny.evaluation, clustering=False),
    )


def literature(config, every=1):
    return replace(config, protocol=ProtocolConfig(name="literature", every=every))


def tested_as(monkeypatch, *recalls):
    """Lets the epochs that are tested have these scores."""
    given = iter(recalls)
    monkeypatch.setattr(epoch_log, "recall_at_1", lambda *_: next(given))


def test_the_best_test_epoch_is_kept_and_the_last_one_stands_beside_it(
    constant, display, monkeypatch, tmp_path
):
    first, last = (
        run(replace(constant, train=replace(constant.train, epochs=n), runs=str(tmp_path / str(n))), display)
        for n in (1, 3)
    )
    tested_as(monkeypatch, 0.7, 0.6, 0.7)
    folder = run(literature(constant), display)
    result = read_result(folder)
    assert result.protocol == "literature, best test epoch"
    assert (result.trained_epoch, result.epochs) == (1, 3)
    assert result.trained == read_result(first).trained
    assert result.last == read_result(last).trained  # tests between epochs leave the training as it is
    deployed, expected = (
        EmbeddingModel.from_pretrained(found.path).encoder.state_dict() for found in (folder, first)
    )
    assert all(torch.equal(deployed[name], expected[name]) for name in expected)
    described = json.loads((folder.path / "encoder.json").read_text())
    assert "literature, best test epoch" in json.dumps(described)
    assert '"trained_epoch": 1' in json.dumps(described)
    screen = " ".join((tmp_path / "screen.txt").read_text().split())
    assert "epoch 1 of 3, chosen on the test images" in screen
    assert "images/s, test Recall@1 60.0" in screen


def test_the_score_of_each_tested_epoch_is_that_of_the_embeddings(constant, display):
    folder = run(literature(constant, every=2), display)
    result, metrics = read_result(folder), pd.read_csv(folder.metrics)
    assert metrics[TEST_SCORE].isna().tolist() == [True, False, False]
    assert metrics[TEST_SCORE].iloc[2] == result.last["embedding"]["recall_at_1"]
    best = metrics[TEST_SCORE].idxmax()
    assert result.trained_epoch == best + 1
    assert result.trained["embedding"]["recall_at_1"] == metrics[TEST_SCORE][best]


def test_a_resumed_run_keeps_the_best_epoch_from_before(constant, display, monkeypatch, tmp_path):
    tested_as(monkeypatch, 0.9, 0.1, 0.2)
    whole = run(replace(literature(constant), runs=str(tmp_path / "whole")), display)
    with monkeypatch.context() as patch:
        patch.setattr(run_module, "measure_batch_dependence", _raise_keyboard_interrupt)
        tested_as(monkeypatch, 0.9, 0.1, 0.2)
        with pytest.raises(Interrupted) as stop:
            run(literature(constant), display)
    folder = run(literature(constant), display, resume=RunFolder(str(stop.value)))
    for key in ("trained_epoch", "trained", "last"):
        assert getattr(read_result(folder), key) == getattr(read_result(whole), key)


def _raise_keyboard_interrupt(*_):
    raise KeyboardInterrupt


@pytest.mark.parametrize("name", ["final", "validation"])
def test_other_protocols_test_no_epoch_of_the_training(name):
    assert not is_tested(ProtocolConfig(name=name), 2, 2)


def test_the_first_of_equally_good_epochs_is_the_best_and_without_a_test_there_is_none():
    history = [{"epoch": 1.0}, {"epoch": 2.0, TEST_SCORE: 0.5}, {"epoch": 3.0, TEST_SCORE: 0.5}]
    assert best_epoch(history) == 2
    with pytest.raises(ValueError, match="empty"):
        best_epoch(history[:1])
