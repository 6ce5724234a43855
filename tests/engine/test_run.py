from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from pyg_bgformer.config.recipe import read_config
from pyg_bgformer.config.schema import ProtocolConfig
from pyg_bgformer.data import ImageSamples, load_dataset
from pyg_bgformer.deploy.embedding_model import EmbeddingModel
from pyg_bgformer.engine import run as run_module
from pyg_bgformer.engine.interruption import Interrupted
from pyg_bgformer.engine.run import run
from pyg_bgformer.engine.setup import new_run_folder
from pyg_bgformer.errors import InputError, RunError
from pyg_bgformer.methods import BGFormer, KReciprocalRefinement, Plain
from pyg_bgformer.runs.folder import RunFolder
from pyg_bgformer.runs.result import read_result


def interrupted_run(tiny, display, monkeypatch):
    """The folder of a run that Ctrl-C stops between training and test."""
    with monkeypatch.context() as patch:
        patch.setattr(run_module, "measure_batch_dependence", _raise_keyboard_interrupt)
        with pytest.raises(Interrupted) as stop:
            run(tiny, display)
    return RunFolder(str(stop.value))


def _raise_keyboard_interrupt(*_):
    raise KeyboardInterrupt


def test_a_run_leaves_everything_that_its_docstring_names(tiny, display, tmp_path):
    folder = run(tiny, display)
    assert sorted(path.name for path in folder.path.iterdir()) == [
        "README.md",
        "checkpoint.pt",
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
    assert list(folder.events.iterdir())
    metrics = pd.read_csv(folder.metrics)
    assert metrics["epoch"].tolist() == [1, 2]
    assert {"loss", "plain", "refined", "lr_backbone", "lr_blocks"} <= set(metrics.columns)
    screen = (tmp_path / "screen.txt").read_text()
    assert "epoch 2/2" in screen
    assert "MAP@R" in screen


def test_the_result_says_where_it_comes_from(tiny, display):
    folder = run(tiny, display)
    result = read_result(folder)
    assert result.seed == tiny.seed
    assert result.protocol == "final"
    assert result.provenance.dataset == "digits"
    assert result.provenance.dataset_partial is False
    assert result.provenance.dataset_cropped is False
    assert len(result.provenance.dataset_manifest_sha256) == 64
    assert (result.provenance.weights, result.provenance.weights_sha256) == ("random", None)
    assert result.provenance.packages["torch"] == torch.__version__.partition("+")[0]
    assert result.config == tiny.as_dict()
    assert result.batch_dependence <= 1e-4
    for when in (result.untrained, result.trained):
        for feature in ("backbone", "embedding"):
            scores = when[feature]
            assert 0 < scores["map_at_r"] <= scores["r_precision"] <= scores["recall_at_8"] <= 1
            assert (scores["queries"], scores["classes"]) == (896, 5)


def test_the_recipe_in_the_folder_repeats_the_run(tiny, display, tmp_path):
    first = run(tiny, display)
    config = read_config(["--config", str(first.recipe), "--runs", str(tmp_path / "again")])
    second = run(config, display)
    scores = [read_result(f).trained for f in (first, second)]
    assert scores[0] == scores[1]


def test_the_deployed_encoder_is_the_trained_one(tiny, display):
    folder = run(tiny, display)
    saved = torch.load(folder.checkpoint, weights_only=True)["method"]
    encoder = EmbeddingModel.from_pretrained(folder.path).encoder
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, saved[f"encoder.{name}"]), name


def test_queries_average_to_the_result(tiny, display):
    folder = run(tiny, display)
    queries = pd.read_csv(folder.queries)
    scores = read_result(folder).trained["embedding"]
    assert (queries["embedding_first_rank"] <= 1).mean() == pytest.approx(scores["recall_at_1"])
    assert queries["embedding_average_precision_at_r"].mean() == pytest.approx(scores["map_at_r"])


def test_an_interrupted_run_is_resumed_to_the_same_result(tiny, display, monkeypatch, tmp_path):
    whole = run(replace(tiny, runs=str(tmp_path / "whole")), display)
    stopped = interrupted_run(tiny, display, monkeypatch)
    folder = run(tiny, display, resume=stopped)
    results = [read_result(f) for f in (whole, folder)]
    assert results[0].trained == results[1].trained
    assert results[0].untrained == results[1].untrained


def test_a_folder_with_a_recipe_alone_is_started_from_the_beginning(tiny, display, tmp_path):
    whole = run(replace(tiny, runs=str(tmp_path / "whole")), display)
    prepared = RunFolder.create(tmp_path / "prepared", tiny.as_dict())
    results = [read_result(f) for f in (whole, run(tiny, display, resume=prepared))]
    assert results[0].trained == results[1].trained


def test_noise_is_of_the_training_images_alone(tiny, display, monkeypatch):
    seen = {}

    def spy(name, build):
        def note(config, dataset, *rest):
            seen[name] = build(config, dataset, *rest)
            return seen[name]

        monkeypatch.setattr(run_module, f"build_{name}", note)

    for name in ("sampler", "train_loader", "test_loaders"):
        spy(name, getattr(run_module, f"build_{name}"))
    noisy = replace(tiny, data=replace(tiny.data, label_noise=0.4, image_noise=0.2))
    result = read_result(run(noisy, display))
    train, test = seen["train_loader"].dataset, seen["test_loaders"][0].dataset
    clean = train.dataset.table["original_class"].astype(int).to_numpy()
    assert (train.labels != clean[train.rows]).mean() == pytest.approx(0.4, abs=1e-3)
    assert (test.labels == clean[test.rows]).all()
    assert len(train.noisy_rows) == round(0.2 * 901)
    assert type(test) is ImageSamples
    batch = [train[draw][1] for draw in seen["sampler"].plan(0)[0]]
    assert batch == sorted(batch, key=batch.index)  # batches are made by the wrong labels
    assert result.config["data"]["label_noise"] == 0.4


def test_a_finished_run_is_not_resumed(tiny, display):
    folder = run(tiny, display)
    with pytest.raises(InputError, match="is finished"):
        run(tiny, display, resume=folder)


@pytest.mark.parametrize("size", [0, 100, 5000])
def test_a_truncated_checkpoint_is_refused_by_name(tiny, display, monkeypatch, size, tmp_path):
    folder = interrupted_run(tiny, display, monkeypatch)
    checkpoint = folder.checkpoint
    checkpoint.write_bytes(checkpoint.read_bytes()[:size])
    with pytest.raises(InputError, match=r"checkpoint\.pt is damaged"):
        run(tiny, display, resume=folder)


def test_a_missing_checkpoint_is_named(tiny, display, monkeypatch, tmp_path):
    folder = interrupted_run(tiny, display, monkeypatch)
    (folder.checkpoint).unlink()
    with pytest.raises(InputError, match=r"checkpoint\.pt is missing"):
        run(tiny, display, resume=folder)


def test_a_checkpoint_of_another_method_is_refused(tiny, display, monkeypatch, tmp_path):
    folder = interrupted_run(tiny, display, monkeypatch)
    other = replace(tiny, method=replace(tiny.method, name="plain", options={}))
    with pytest.raises(InputError, match="is of method 'bgformer', the recipe's is 'plain'"):
        run(other, display, resume=folder)


def test_a_checkpoint_that_does_not_fit_is_refused(tiny, display, monkeypatch, tmp_path):
    folder = interrupted_run(tiny, display, monkeypatch)
    wider = replace(tiny, encoder=replace(tiny.encoder, embedding_dim=32))
    with pytest.raises(InputError, match="does not fit the recipe"):
        run(wider, display, resume=folder)


def test_no_pickle_is_loaded_from_a_run_folder(tiny, display, monkeypatch, tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("evil",))

    folder = interrupted_run(tiny, display, monkeypatch)
    torch.save({"method_name": Evil()}, folder.checkpoint)
    with pytest.raises(InputError, match="damaged or not a checkpoint"):
        run(tiny, display, resume=folder)


def test_a_run_whose_embeddings_depend_on_their_batch_fails(tiny, display, monkeypatch):
    def embed(self, images):
        points = self.geometry.project(self.encoder(images))
        return points + 0.01 * points.mean(dim=0)

    monkeypatch.setattr(Plain, "embed", embed)
    leaking = replace(tiny, method=replace(tiny.method, name="plain", options={}))
    with pytest.raises(RunError, match=r"changes by .* of its norm with the batch"):
        run(leaking, display)


def test_nothing_is_left_behind_when_the_recipe_cannot_be_built(tiny, display, tmp_path):
    for wrong in (
        replace(tiny, sampler=replace(tiny.sampler, classes=0)),
        replace(tiny, method=replace(tiny.method, options={**tiny.method.options, "alpha": 2.0})),
        replace(tiny, encoder=replace(tiny.encoder, weights="nowhere.safetensors")),
    ):
        with pytest.raises(InputError) as error:
            run(wrong, display)
        assert "\n" not in str(error.value)
    assert not (tmp_path / "runs").exists()


def test_a_run_folder_that_cannot_be_made_is_named(tiny, display, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"run folder .*file.* cannot be made"):
        run(replace(tiny, runs=str(tmp_path / "file")), display)


def test_config_yaml_is_whole(tiny, display):
    folder = run(tiny, display)
    assert folder.read_recipe() == tiny.as_dict()


def test_validation_tests_on_training_classes_alone(tiny, display):
    tiny = replace(tiny, protocol=ProtocolConfig("validation", folds=2, fold=1))
    tiny = replace(tiny, sampler=replace(tiny.sampler, classes=2))
    folder = run(tiny, display)
    result = read_result(folder)
    assert result.protocol == "validation, fold 1 of 2"
    assert set(pd.read_csv(folder.queries)["original_class"]) == {2, 3, 4}  # of 0 to 4
    assert result.trained["embedding"]["classes"] == 3


def test_features_that_refine_each_other_stand_beside_the_plain_ones(tiny, display, monkeypatch):
    plain = read_result(run(tiny, display))
    monkeypatch.setattr(BGFormer, "test_refinement", KReciprocalRefinement(30, 7))
    monkeypatch.setattr(BGFormer, "refine_batches", lambda self, embeddings: embeddings.mean(dim=1))
    result = read_result(run(tiny, display))
    assert (plain.refined_features, result.refined_features) == ([], ["refined"])
    assert set(result.trained) == {"backbone", "embedding", "refined"}
    assert result.trained["embedding"] == plain.trained["embedding"]
    assert "refined" not in result.untrained


def test_queries_are_compared_with_the_gallery_where_there_is_one(display, tmp_path, monkeypatch):
    dataset = load_dataset("digits")
    test = dataset.rows("test")
    dataset.table.loc[test, "split"] = "gallery"
    dataset.table.loc[test[::3], "split"] = "query"
    monkeypatch.setattr(run_module, "build_dataset", lambda config: dataset)
    recipe = Path(__file__).parents[2] / "experiments" / "recipes" / "digits" / "intra_batch.yaml"
    arguments = ["--config", str(recipe), "--runs", str(tmp_path), "--sampler.batches_per_epoch", "3"]
    folder = run(read_config([*arguments, "--method.refinement", "k_reciprocal"]), display)
    result = read_result(folder)
    assert set(result.trained) == {"backbone", "embedding", "refined"}
    for scores in (*result.trained.values(), *result.untrained.values()):
        assert (scores["queries"], scores["gallery"]) == (len(test[::3]), len(test) - len(test[::3]))
    assert len(pd.read_csv(folder.queries)) == len(test[::3])


def test_intra_batch_as_published_with_chunks_redrawn_each_epoch_and_refinement(display, tmp_path):
    recipe = Path(__file__).parents[2] / "experiments" / "recipes" / "digits" / "intra_batch.yaml"
    arguments = ["--config", str(recipe), "--runs", str(tmp_path), "--train.epochs", "2"]
    arguments += ["--sampler.name", "chunks", "--sampler.redraw", "true", "--train.optimizer", "radam"]
    arguments += ["--method.refinement", "k_reciprocal", "--evaluation.clustering", "false"]
    folder = run(read_config(arguments), display)
    result = read_result(folder)
    assert result.refined_features == ["refined"]
    assert result.trained["refined"]["queries"] == 896
    assert result.batch_dependence <= 1e-4  # what is deployed is still the encoder alone
    screen = (tmp_path / "screen.txt").read_text()
    assert "test images refined by each other" in " ".join(screen.split())


def test_a_mistake_that_shows_before_the_first_epoch_leaves_no_folder(tiny, display):
    small = replace(tiny, data=replace(tiny.data, image_size=8, resize=8))
    with pytest.raises(InputError, match="images of 16 px or more"):
        run(small, display)
    assert not list(Path(tiny.runs).iterdir())


def test_runs_that_begin_in_the_same_second_have_folders_of_their_own(tiny):
    folders = [new_run_folder(tiny, "20260101-000000") for _ in range(3)]
    assert [folder.path.name[-9:] for folder in folders] == ["01-000000", "-000000-2", "-000000-3"]
    assert all(folder.state == "pending" for folder in folders)
