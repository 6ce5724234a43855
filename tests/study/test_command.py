import re

import pandas as pd
import pytest

from pyg_bgformer.cli.main import main
from pyg_bgformer.errors import InputError
from pyg_bgformer.runs.folder import RunFolder
from pyg_bgformer.runs.result import read_result
from pyg_bgformer.study import command, results
from pyg_bgformer.study.command import carry_out, show
from pyg_bgformer.study.definition import read_study
from pyg_bgformer.study.executor import Failure
from pyg_bgformer.study.runs import study_runs

from .finished import finish


@pytest.fixture
def study(content, write):
    return read_study(write(content))


@pytest.fixture
def planned(study, tmp_path):
    return study_runs(study, tmp_path / "runs" / "mine")


@pytest.fixture
def asked(study, planned, monkeypatch):
    """Lets runs end at once; keeps which were asked for."""
    names = []

    def execute(jobs, at_once, display):
        names.extend(job.name for job in jobs)
        for run in planned:
            if str(run) in names and run.state() != "finished":
                finish(run, 0.5 + 0.01 * run.config.seed)
        return []

    monkeypatch.setattr(command, "execute", execute)
    return names


def test_a_study_leaves_its_tables(study, asked, tmp_path, display):
    assert carry_out(study, tmp_path / "runs", display)
    assert "mine: 4 runs: 4 pending" in display.text()
    tables = tmp_path / "results"
    names = ["mine-epochs.csv", "mine-epochs.png", "mine.csv", "mine.md", "mine.png", "mine.tex"]
    assert sorted(path.name for path in tables.iterdir()) == names
    assert (tables / "mine.md").read_text() in display.text()
    runs = pd.read_csv(tables / "mine.csv")
    assert runs["row"].unique().tolist() == ["plain", "with k=5"]
    assert runs["seed"].unique().tolist() == [0, 1]
    epochs = pd.read_csv(tables / "mine-epochs.csv")
    assert list(epochs) == ["row", "seed", "epoch", "loss", "feature_scale"]
    assert epochs["row"].tolist() == ["plain"] * 4 + ["with k=5"] * 4
    assert epochs["epoch"].tolist() == [1, 2] * 4


def test_finished_runs_are_kept(study, planned, asked, tmp_path, display):
    carry_out(study, tmp_path / "runs", display)
    assert len(asked) == 4
    planned[2].folder.result.unlink()
    carry_out(study, tmp_path / "runs", display)
    assert asked[4:] == ["'plain' seed 1"]
    assert "3 finished, 1 unfinished" in display.text()


def test_another_study_in_the_same_folders_is_refused_before_anything_runs(
    study, content, write, asked, tmp_path, display
):
    carry_out(study, tmp_path / "runs", display)
    other = read_study(write({**content, "common": {**content["common"], "train.lr": 0.5}}))
    with pytest.raises(InputError, match=r"train\.lr: 0\.0003, expected 0\.5 as in the study"):
        carry_out(other, tmp_path / "runs", display)
    assert len(asked) == 4


def test_show_says_how_far_it_is_and_runs_and_writes_nothing(study, planned, asked, tmp_path, display):
    show(study, tmp_path / "runs", display)
    assert "4 pending" in display.text()
    finish(planned[0])
    show(study, tmp_path / "runs", display)
    assert "1 finished" in display.text()
    assert "| embedding | plain | 1 | 50.0 |" in display.text()
    assert not asked
    assert not (tmp_path / "results").exists()


def test_a_failed_run_leaves_no_tables(study, monkeypatch, tmp_path, display):
    failure = Failure("'plain' seed 0", tmp_path / "log.txt", "error: it broke")
    monkeypatch.setattr(command, "execute", lambda *_: [failure])
    assert not carry_out(study, tmp_path / "runs", display)
    assert re.search(r"'plain' seed 0 failed \(.*log.txt\): error: it broke", display.text())
    assert "1 failed; no table is written" in display.text()
    assert not (tmp_path / "results").exists()


def test_a_finished_run_that_depends_on_its_batch_fails_again(study, planned, asked, tmp_path, display):
    finish(planned[0], batch_dependence=0.5)
    assert not carry_out(study, tmp_path / "runs", display)
    assert "depend on their batch" in display.text()


def test_results_are_written_all_or_none(study, asked, monkeypatch, tmp_path, display):
    monkeypatch.setattr(results, "draw_study", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        carry_out(study, tmp_path / "runs", display)
    assert not list((tmp_path / "results").iterdir())
    (tmp_path / "results").rmdir()
    (tmp_path / "results").write_text("")
    with pytest.raises(InputError, match=r"results .*results cannot be written"):
        carry_out(study, tmp_path / "runs", display)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere.yaml"], ["nowhere.yaml", "cannot be read"]),
        (["STUDY", "--jobs", "0"], ["--jobs", "0"]),
        (["STUDY", "--size", "small"], ["no size 'small'"]),
        (["STUDY", "--seed", "3"], ["'seed'", "seeds"]),
        (["STUDY", "--train.epocs", "2"], ["train.epocs", "'train.epochs'"]),
        (["STUDY", "--data.name", "cub200", "--data.root", "nowhere"], ["nowhere"]),
        (["STUDY", "--submit", "slurm", "--slurm", "partition"], ["KEY=VALUE"]),
    ],
)
def test_mistakes_end_with_one_line_and_exit_code_2(content, write, arguments, words, capsys, tmp_path):
    path = str(write(content))
    before = sorted(tmp_path.rglob("*"))
    given = [path if word == "STUDY" else word for word in arguments]
    assert main(["study", *given, "--runs", str(tmp_path / "runs")]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert all(word in lines[0] for word in words), lines[0]
    assert sorted(tmp_path.rglob("*")) == before


def test_a_tuned_study_from_its_file_to_its_tables(content, write, tmp_path, capsys):
    content["rows"][1]["space"] = {"method.lam": {"uniform": [0.0, 0.4]}}
    content |= {
        "seeds": 1,
        "reference": "with k=5",
        "rows": content["rows"][1:],
        "common": {**content["common"], "sampler.classes": 2},
        "tune": {"trials": 2, "space": {"train.lr": {"log": [1e-5, 1e-2]}}},
    }
    given = ["study", str(write(content)), "--runs", str(tmp_path / "runs")]
    assert main([*given, "--print"]) == 0
    assert capsys.readouterr().out == "0 of 2 trials  'with k=5'\n"
    assert main(given) == 0
    printed = capsys.readouterr().out
    assert "mine: tuning of 1 rows, 0 finished" in printed
    assert re.search(r"1/1: 'with k=5' seed 0 has MAP@R \d+\.\d; 0:00:00 left", printed)
    assert "tuning: 2 trials x 2 folds" in printed
    page = (tmp_path / "results" / "mine-tuning.md").read_text()
    assert "Every row: 2 trials" in page
    assert "| with k=5 | method.lam | 0 to 0.4 | 0.5 |" in page
    assert "| with k=5 | train.lr | 1e-05 to 0.01 (log) | 0.0003 |" in page
    trials = pd.read_csv(tmp_path / "results" / "mine-tuning.csv")
    best = trials.loc[trials["score"].idxmax()]
    runs = tmp_path / "runs" / "mine"
    result = read_result(RunFolder(runs / "with_k=5-seed0"))
    assert result.config["train"]["lr"] == best["train.lr"]
    assert result.protocol == "final"
    assert "trial 1: embedding/map_at_r" in (runs / "tuning" / "with_k=5.log").read_text()
    assert main([*given, "--print"]) == 0
    printed = capsys.readouterr().out
    assert "2 of 2 trials  'with k=5', best embedding/map_at_r" in printed
    assert "| embedding | with k=5 | 1 |" in printed
