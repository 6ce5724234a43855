import pytest
import torch

from pyg_bgformer.engine.insight import edge_homophily, same_class_mass
from pyg_bgformer.errors import InputError
from pyg_bgformer.report.run_images import TrainedRun
from tests.report.finished import finished


def test_a_training_batch_has_its_images_labels_and_graph(bgformer_run):
    batch = TrainedRun(bgformer_run).training_batch(0)
    assert batch.images.shape == (20, 3, 16, 16)
    assert 0 <= batch.images.min() < batch.images.max() <= 1
    assert batch.labels.unique(return_counts=True)[1].tolist() == [4] * 5
    edge_index, weight = batch.edges["layers.0.visual"]
    assert edge_index.max() < 20
    assert 0 < same_class_mass(edge_index, weight, batch.labels) <= 1
    assert edge_homophily(batch.edges["layers.0.semantic"][0], batch.labels) == 1


def test_a_training_batch_is_the_same_each_time_and_differs_from_the_next(bgformer_run):
    run = TrainedRun(bgformer_run)
    first, again, second = (run.training_batch(number) for number in (0, 0, 1))
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, second.images)


@pytest.mark.parametrize("number", [-1, 3])
def test_a_batch_that_the_epoch_does_not_have(bgformer_run, number):
    with pytest.raises(InputError, match=f"batch: found {number}, expected 0 to 2"):
        TrainedRun(bgformer_run).training_batch(number)


@pytest.mark.parametrize("views", ["null", "2"])
def test_a_frozen_encoder_sees_the_views_that_it_was_trained_on(tmp_path, views):
    folder = finished(
        tmp_path,
        "--method.name=dybgr",
        "--encoder.frozen=true",
        f"--data.views={views}",
        "--data.feature_cache=null",
    )
    batch = TrainedRun(folder).training_batch(0)
    assert batch.images.shape == (20, 3, 16, 16)
    assert batch.edges


def test_without_the_checkpoint_the_first_batch_alone_has_its_graph(own_run):
    expected = TrainedRun(own_run).training_batch(0).edges
    own_run.graph.unlink()
    computed = TrainedRun(own_run).training_batch(0).edges
    for name, (edge_index, weight) in expected.items():
        assert torch.equal(computed[name][0], edge_index)
        torch.testing.assert_close(computed[name][1], weight)
    own_run.checkpoint.unlink()
    with pytest.raises(InputError, match=r"train\.keep_checkpoint"):
        TrainedRun(own_run).training_batch(1)


def test_names_of_classes_and_test_images(plain_run, few_digits):
    run = TrainedRun(plain_run)
    assert run.class_names == {number: str(number) for number in range(10)}
    images = run.embedded_images()
    assert set(images.labels) == {5, 6, 7, 8, 9}
    assert len(images.embeddings) == len(images.rows) == few_digits["test"].images
    assert images.query_picture(0).size == (8, 8)


def test_a_folder_whose_run_is_not_finished(own_run):
    own_run.result.unlink()
    with pytest.raises(InputError, match="not the folder of a finished run"):
        TrainedRun(own_run)
