import os
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from safetensors import SafetensorError

from pyg_bgformer.config.recipe import read_config
from pyg_bgformer.config.schema import ProtocolConfig
from pyg_bgformer.data import load_dataset
from pyg_bgformer.deploy.embedding_model import EmbeddingModel
from pyg_bgformer.encoders import description
from pyg_bgformer.engine import run as run_module
from pyg_bgformer.engine import trained
from pyg_bgformer.engine.run import run
from pyg_bgformer.engine.state import read_checkpoint
from pyg_bgformer.errors import InputError, Interrupted, RunError
from pyg_bgformer.methods import BGFormer, KReciprocalRefinement, Plain
from pyg_bgformer.runs.folder import RunFolder
from pyg_bgformer.runs.result import read_result
from tests.training import Silent, tiny_config

pytestmark = pytest.mark.usefixtures("few_digits")

INTRA_BATCH = Path(__file__).parents[2] / "experiments" / "recipes" / "digits" / "intra_batch.yaml"


@pytest.fixture(scope="module")
def config(few_digits, tmp_path_factory):
    config = tiny_config(tmp_path_factory.mktemp("finished"))
    return replace(config, train=replace(config.train, keep_checkpoint=True))


@pytest.fixture(scope="module")
def finished(config):
    """The folder of a finished run; tests leave it as it is."""
    return run(config, Silent())


def interrupted_run(config, display, monkeypatch):
    """The folder of a run that Ctrl-C stops between training and test."""
    with monkeypatch.context() as patch:
        patch.setattr(run_module, "measure_batch_dependence", _raise_keyboard_interrupt)
        with pytest.raises(Interrupted) as stop:
            run(config, display)
    return RunFolder(str(stop.value))


def _raise_keyboard_interrupt(*_):
    raise KeyboardInterrupt


def test_a_run_leaves_its_files_and_nothing_else(tiny, display, tmp_path):
    folder = run(tiny, display)
    assert sorted(os.listdir(folder.path)) == [
        "README.md",
        "batch_graph.safetensors",
        "config.yaml",
        "embeddings.safetensors",
        "encoder.json",
        "encoder.safetensors",
        "metrics.csv",
        "queries.csv",
        "result.json",
        "tensorboard",
        "untrained.json",
    ]
    assert os.listdir(folder.events)
    assert os.listdir(folder.path.parent) == [folder.path.name]
    metrics = pd.read_csv(folder.metrics)
    assert metrics["epoch"].tolist() == [1, 2]
    columns = {
        "loss",
        "plain",
        "refined",
        "lr_backbone",
        "lr_blocks",
        "same_class_attention",
        "feature_scale",
    }
    assert columns <= set(metrics.columns)
    screen = (tmp_path / "screen.txt").read_text()
    assert "epoch 2/2" in screen
    assert "MAP@R" in screen


def test_the_result_says_where_it_comes_from(finished, config, few_digits):
    result = read_result(finished)
    assert (result.seed, result.protocol) == (config.seed, "final")
    assert (result.trained_epoch, result.last) == (2, None)  # tested once
    assert result.config == config.as_dict() == finished.read_recipe()
    assert not result.batch_dependent
    origin = result.provenance
    assert (origin.dataset, origin.dataset_partial, origin.dataset_cropped) == ("digits", False, False)
    assert len(origin.dataset_manifest_sha256) == 64
    assert (origin.weights, origin.weights_sha256) == ("random", None)
    assert origin.packages["torch"] == torch.__version__.partition("+")[0]
    for when in (result.untrained, result.trained):
        for feature in ("backbone", "embedding"):
            scores = when[feature]
            assert 0 < scores["map_at_r"] <= scores["r_precision"] <= scores["recall_at_8"] <= 1
            assert (scores["queries"], scores["classes"]) == (few_digits["test"].images, 5)


def test_the_deployed_encoder_is_the_trained_one(finished):
    saved = read_checkpoint(finished.checkpoint).method
    for name, value in EmbeddingModel.from_pretrained(finished.path).encoder.state_dict().items():
        assert torch.equal(value, saved[f"encoder.{name}"]), name


def test_queries_average_to_the_result(finished):
    queries = pd.read_csv(finished.queries)
    scores = read_result(finished).trained["embedding"]
    assert (queries["embedding_first_rank"] <= 1).mean() == pytest.approx(scores["recall_at_1"])
    assert queries["embedding_average_precision_at_r"].mean() == pytest.approx(scores["map_at_r"])


def test_the_recipe_in_the_folder_repeats_the_run(finished, display, tmp_path):
    again = read_config(["--config", str(finished.recipe), "--runs", str(tmp_path / "again")])
    torch.rand(3)  # the caller's random numbers play no part
    before = torch.get_rng_state()
    assert read_result(run(again, display)).trained == read_result(finished).trained
    assert torch.equal(torch.get_rng_state(), before)


def test_an_interrupted_run_is_resumed_to_the_same_result(finished, config, display, monkeypatch, tmp_path):
    config = replace(config, runs=str(tmp_path / "runs"))
    folder = interrupted_run(config, display, monkeypatch)
    assert folder.state == "unfinished"
    result, expected = read_result(run(config, display, resume=folder)), read_result(finished)
    assert result.trained == expected.trained
    assert result.untrained == expected.untrained


def test_a_folder_with_a_recipe_alone_is_started_from_the_beginning(finished, config, display, tmp_path):
    prepared = RunFolder.create(tmp_path / "prepared", config.as_dict())
    assert read_result(run(config, display, resume=prepared)).trained == read_result(finished).trained


def test_a_finished_run_is_not_resumed(finished, config, display):
    with pytest.raises(InputError, match=r"is finished: it was trained for 2 epochs"):
        run(config, display, resume=finished)


def test_a_run_is_not_carried_out_twice_at_a_time(config, display, tmp_path):
    folder = RunFolder.create(tmp_path / "run", config.as_dict())
    with folder.locked(), pytest.raises(InputError, match="another process"):
        run(config, display, resume=folder)


def test_a_run_whose_embeddings_depend_on_their_batch_fails(tiny, display, monkeypatch):
    def embed(self, images):
        points = self.geometry.project(self.encoder(images))
        return points + 0.01 * points.mean(dim=0)

    monkeypatch.setattr(Plain, "embed", embed)
    with pytest.raises(RunError, match=r"changes by .* of its norm with its batch"):
        run(replace(tiny, method=replace(tiny.method, name="plain", options={})), display)


def test_a_divergence_in_the_last_step_is_a_failure_of_the_run(tiny, display):
    train = replace(tiny.train, lr=1e38, epochs=1, optimizer="sgd", clip_norm=None)
    sampler = replace(tiny.sampler, options={**tiny.sampler.options, "batches_per_epoch": 1})
    with pytest.raises(RunError, match="NaN or infinite: training has diverged"):
        run(replace(tiny, train=train, sampler=sampler), display)


def test_a_folder_that_is_deleted_meanwhile_ends_the_run_in_one_line(tiny, display, monkeypatch):
    in_threads = []
    monkeypatch.setattr(threading, "excepthook", in_threads.append)

    def epochs_alone(parts, folder, on_epoch, **_):
        shutil.rmtree(folder.path)
        fit(parts, folder, on_epoch=on_epoch)

    fit = run_module.fit
    monkeypatch.setattr(run_module, "fit", epochs_alone)
    with pytest.raises(RunError, match=r"metrics\.csv cannot be written: No such file"):
        run(tiny, display)
    assert in_threads == []


def test_a_full_disk_at_the_very_end_says_how_to_resume(tiny, display, monkeypatch):
    def full(*_):
        raise SafetensorError("I/O error: No space left on device")

    for module, message in ((trained, r"embeddings\.safetensors"), (description, "model")):
        with monkeypatch.context() as patch:
            patch.setattr(module, "save_file", full)
            with pytest.raises(RunError, match=rf"{message} cannot be written.*No space left.*--resume"):
                run(tiny, display)


def test_a_checkpoint_beyond_the_recipe_is_refused(finished, display, tmp_path):
    folder = RunFolder(shutil.copytree(finished.path, tmp_path / "run"))
    folder.result.unlink()
    recipe = folder.read_recipe()
    recipe["train"]["epochs"] = 1
    folder.recipe.write_text(yaml.safe_dump(recipe))
    with pytest.raises(InputError, match=r"found epoch \d, expected at most 1, which is train\.epochs"):
        run(read_config(["--config", str(folder.recipe)]), display, folder)


def test_a_mistake_in_what_was_given_leaves_no_folder(tiny, display, tmp_path):
    for wrong in (
        replace(tiny, method=replace(tiny.method, options={**tiny.method.options, "alpha": 2.0})),
        replace(tiny, encoder=replace(tiny.encoder, options={"weights": "nowhere.safetensors"})),
        replace(tiny, data=replace(tiny.data, image_size=8, resize=8)),
    ):
        with pytest.raises(InputError) as error:
            run(wrong, display)
        assert "\n" not in str(error.value)
    assert not (tmp_path / "runs").exists()


def test_validation_tests_on_training_classes_alone(tiny, display):
    tiny = replace(tiny, protocol=ProtocolConfig(name="validation", folds=2, fold=1))
    sampler = replace(tiny.sampler, options={**tiny.sampler.options, "classes": 2})
    folder = run(replace(tiny, sampler=sampler), display)
    result = read_result(folder)
    assert result.protocol == "validation, fold 1 of 2"
    assert set(pd.read_csv(folder.queries)["original_class"]) == {2, 3, 4}  # of 0 to 4
    assert result.trained["embedding"]["classes"] == 3


def test_features_that_refine_each_other_stand_beside_the_plain_ones(finished, tiny, display, monkeypatch):
    monkeypatch.setattr(BGFormer, "test_refinement", KReciprocalRefinement(30, 7))
    monkeypatch.setattr(BGFormer, "refine_batches", lambda self, embeddings: embeddings.mean(dim=1))
    result, plain = read_result(run(tiny, display)), read_result(finished)
    assert (plain.refined_features, result.refined_features) == ([], ["refined"])
    assert set(result.trained) == {"backbone", "embedding", "refined"}
    assert result.trained["embedding"] == plain.trained["embedding"]
    assert "refined" not in result.untrained


def test_queries_are_compared_with_the_gallery_where_there_is_one(display, tmp_path, monkeypatch):
    dataset = load_dataset("digits")
    test = dataset.rows("test")
    dataset.table.loc[test, "split"] = "gallery"
    dataset.table.loc[test[::3], "split"] = "query"
    monkeypatch.setattr(run_module, "build_dataset", lambda data: dataset)
    arguments = ["--config", str(INTRA_BATCH), "--runs", str(tmp_path), "--sampler.batches_per_epoch", "3"]
    folder = run(read_config([*arguments, "--method.refinement", "k_reciprocal"]), display)
    result = read_result(folder)
    assert set(result.trained) == {"backbone", "embedding", "refined"}
    for scores in (*result.trained.values(), *result.untrained.values()):
        assert (scores["queries"], scores["gallery"]) == (len(test[::3]), len(test) - len(test[::3]))
    assert len(pd.read_csv(folder.queries)) == len(test[::3])


def test_intra_batch_as_published_with_chunks_redrawn_each_epoch_and_refinement(
    display, tmp_path, few_digits
):
    arguments = ["--config", str(INTRA_BATCH), "--runs", str(tmp_path), "--train.epochs", "2"]
    arguments += ["--sampler.name", "chunks", "--sampler.redraw", "true", "--train.optimizer", "radam"]
    arguments += ["--method.refinement", "k_reciprocal", "--evaluation.clustering", "false"]
    result = read_result(run(read_config(arguments), display))
    assert result.refined_features == ["refined"]
    assert result.trained["refined"]["queries"] == few_digits["test"].images
    assert not result.batch_dependent  # what is deployed is still the encoder alone
