import sys
from types import ModuleType, SimpleNamespace

import pytest

from pyg_bgformer.cli.main import main
from pyg_bgformer.engine.wandb_logger import WandbLogger
from pyg_bgformer.errors import InputError
from pyg_bgformer.report.events import log_result
from pyg_bgformer.report.run_images import TrainedRun
from pyg_bgformer.runs.folder import RunFolder
from pyg_bgformer.runs.result import read_result
from tests.report.finished import finished

pytestmark = pytest.mark.usefixtures("few_digits")


class Stub(ModuleType):
    """Stands for the library, and keeps what is logged."""

    Error = RuntimeError

    def __init__(self):
        super().__init__("wandb")
        self.started, self.logged, self.summary, self.settings, self.ended = [], [], {}, {}, []

    def init(self, **options):
        self.started.append(options)
        return SimpleNamespace(
            id=options["id"],
            log=lambda values, step: self.logged.append((step, values)),
            summary=self.summary,
            config=SimpleNamespace(update=lambda given, **_: self.settings.update(given)),
            finish=lambda exit_code: self.ended.append(exit_code),
        )

    def Image(self, array):
        return array.shape


@pytest.fixture
def wandb(monkeypatch):
    stub = Stub()
    monkeypatch.setitem(sys.modules, "wandb", stub)
    return stub


def test_a_run_sends_its_curves_settings_scores_and_gallery(wandb, tmp_path):
    run = finished(tmp_path, "--report.wandb", "birds")
    log_result(run, TrainedRun(run).embedded_images())
    project, name = "birds", f"{tmp_path.name}-{run.path.name}"
    assert [(start["project"], start["id"], start["resume"]) for start in wandb.started] == [
        (project, name, "allow")
    ] * 2
    assert wandb.settings["train"]["epochs"] == 2
    assert [step for step, _ in wandb.logged] == [1, 2]
    assert all("train/loss" in values for _, values in wandb.logged)
    expected = read_result(run).trained["embedding"]["map_at_r"]
    assert wandb.summary["test/embedding/map_at_r"] == pytest.approx(expected)
    assert wandb.summary["test/gallery"][2] == 3
    assert wandb.ended == [0, 0]


def test_a_folder_with_signs_that_an_identifier_cannot_have_is_renamed(wandb, tmp_path):
    assert WandbLogger("birds", RunFolder(tmp_path / "it's" / "a, b-seed0")).version == "it-s-a- b-seed0"


def test_the_library_itself_keeps_curves_and_gallery_in_the_folder(monkeypatch, tmp_path):
    pytest.importorskip("wandb", reason="wandb is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    run = finished(tmp_path, "--report.wandb", "birds")
    log_result(run, TrainedRun(run).embedded_images())
    training, testing = sorted((run.path / "wandb").glob("offline-run-*"))
    assert list(training.glob("run-*.wandb"))
    assert list(testing.glob("files/media/images/test/gallery*.png"))


def test_without_the_library_nothing_is_started(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert main(["run", "--config", "digits/plain", "--report.wandb", "x", "--runs", str(tmp_path)]) == 2
    printed = capsys.readouterr()
    assert printed.err == (
        "error: report.wandb needs Weights & Biases: pip install wandb, or set report.wandb to null\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_library_that_does_not_start_is_one_line(wandb, tmp_path):
    def refuse(**_):
        raise wandb.Error("api_key not configured (no-tty).\nCall wandb.login()")

    wandb.init = refuse
    with pytest.raises(
        InputError, match=r"does not start: api_key not configured \(no-tty\)\. Call wandb"
    ) as e:
        WandbLogger("birds", RunFolder(tmp_path))
    assert "\n" not in str(e.value)
