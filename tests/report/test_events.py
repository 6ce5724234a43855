import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pyg_bgformer.report.events import log_result
from pyg_bgformer.report.run_images import TrainedRun
from pyg_bgformer.runs.result import read_result


def test_tensorboard_has_test_scores_settings_and_the_gallery(own_run):
    log_result(own_run, TrainedRun(own_run).embedded_images())
    result, events = read_result(own_run), EventAccumulator(str(own_run.events)).Reload()
    for feature in ("backbone", "embedding"):
        (event,) = events.Scalars(f"test/{feature}/map_at_r")
        assert event.value == pytest.approx(result.trained[feature]["map_at_r"])
        assert event.step == 2
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2]
    (image,) = events.Images("test/gallery")
    assert image.width > image.height / 4 > 0
    assert events.Scalars("hparam/recall_at_1")
    assert "_hparams_/session_start_info" in events.summary_metadata


def test_without_images_there_is_no_gallery(own_run):
    log_result(own_run)
    events = EventAccumulator(str(own_run.events)).Reload()
    assert events.Scalars("test/embedding/recall_at_1")
    assert events.Tags()["images"] == []
