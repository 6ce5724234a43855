import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from pyg_bgformer.cli.main import main
from pyg_bgformer.config.recipe import read_config
from pyg_bgformer.study import command, results
from pyg_bgformer.study.definition import read_study
from pyg_bgformer.study.executor import Failure
from pyg_bgformer.study.runs import StudyRun, study_runs

from .finished import finish

ROOT = Path(__file__).parents[2]


@pytest.fixture
def study(content, write, tmp_path):
    return write(content), ["--runs", str(tmp_path / "runs")]


def pretend(monkeypatch):
    """Lets runs end at once; keeps whether any was asked for."""
    asked = []

    def execute(jobs, at_once, display):
        asked.extend(job.name for job in jobs)
        for job in jobs:
            job.prepare()
            folder = job.log.parent
            config = read_config(["--config", str(folder / "config.yaml")])
            finish(StudyRun(folder.name, config, folder), 0.5 + 0.01 * config.seed)
        return []

    monkeypatch.setattr(command, "execute", execute)
    return asked


def test_a_study_from_its_file_to_its_tables(content, write, tmp_path):
    content["seeds"] = [3]
    done = subprocess.run(
        [
            *(sys.executable, str(ROOT / "experiments" / "study.py"), str(write(content))),
            *("--runs", str(tmp_path / "runs"), "--jobs", "2"),
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    assert "2 runs: 2 pending" in done.stdout
    assert re.search(r"2/2: .* has MAP@R \d+\.\d; 0:00:00 left", done.stdout)
    tables = tmp_path / "results"
    assert sorted(path.name for path in tables.iterdir()) == [
        f"mine.{e}" for e in ("csv", "md", "png", "tex")
    ]
    assert (tables / "mine.md").read_text() in done.stdout
    runs = pd.read_csv(tables / "mine.csv")
    assert runs["method"].unique().tolist() == ["plain", "with k=5"]
    assert runs["seed"].unique().tolist() == [3]
    assert "epoch 1/1" in (tmp_path / "runs" / "mine" / "plain-seed3" / "log.txt").read_text()
    assert (
        main(["diff", *(str(tmp_path / "runs" / "mine" / f"{row}-seed3") for row in ("plain", "with_k=5"))])
        == 1
    )


def test_finished_runs_are_kept(study, monkeypatch, tmp_path, capsys):
    path, runs = study
    asked = pretend(monkeypatch)
    assert main(["study", str(path), *runs]) == 0
    assert len(asked) == 4
    (tmp_path / "runs" / "mine" / "plain-seed1" / "result.json").unlink()
    assert main(["study", str(path), *runs]) == 0
    assert asked[4:] == ["'plain' seed 1"]
    assert "3 finished" in capsys.readouterr().out


def test_another_study_in_the_same_folders_is_refused_before_anything_runs(
    study, content, write, monkeypatch, capsys
):
    path, runs = study
    asked = pretend(monkeypatch)
    main(["study", str(path), *runs])
    write({**content, "common": {**content["common"], "train.lr": 0.5}})
    capsys.readouterr()
    assert main(["study", str(path), *runs]) == 2
    errors = capsys.readouterr().err.strip().splitlines()
    assert len(errors) == 1
    assert "train.lr: 0.0003, but the study asks for 0.5" in errors[0]
    assert len(asked) == 4


def test_print_says_how_far_it_is_and_runs_and_writes_nothing(study, monkeypatch, tmp_path, capsys):
    path, runs = study
    asked = pretend(monkeypatch)
    assert main(["study", str(path), *runs, "--print"]) == 0
    assert "4 pending" in capsys.readouterr().out
    planned = study_runs(read_study(path), tmp_path / "runs" / "mine")
    finish(planned[0])
    assert main(["study", str(path), *runs, "--print"]) == 0
    printed = capsys.readouterr().out
    assert "1 finished" in printed
    assert "| embedding | plain | 1 | 50.0 |" in printed
    assert not asked
    assert not (tmp_path / "results").exists()


def test_a_failed_run_ends_with_code_1_and_without_tables(study, monkeypatch, tmp_path, capsys):
    path, runs = study
    monkeypatch.setattr(
        command, "execute", lambda jobs, *_: [Failure(jobs[1].name, jobs[1].log, "error: it broke")]
    )
    assert main(["study", str(path), *runs]) == 1
    printed = capsys.readouterr().out
    assert re.search(r"'with k=5' seed 0 failed \(.*with_k=5-seed0.*\): error: it broke", printed)
    assert "1 failed: no table is written" in printed
    assert not (tmp_path / "results").exists()


def test_an_old_result_that_depends_on_the_batch_fails_again(study, monkeypatch, tmp_path, capsys):
    path, runs = study
    finish(study_runs(read_study(path), tmp_path / "runs" / "mine")[0], batch_dependence=0.5)
    pretend(monkeypatch)
    assert main(["study", str(path), *runs]) == 1
    assert "depend on their batch" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere.yaml"], ["nowhere.yaml", "cannot be read"]),
        (["STUDY", "--jobs", "0"], ["--jobs", "0"]),
        (["STUDY", "--job", "2"], ["job"]),
        (["STUDY", "--size", "small"], ["no size 'small'"]),
        (["STUDY", "--seed", "3"], ["'seed'", "seeds"]),
        (["STUDY", "--train.epocs", "2"], ["train.epocs", "'train.epochs'"]),
        (["STUDY", "--data.name", "cub200", "--data.root", "nowhere"], ["nowhere"]),
        (["STUDY", "--submit", "slurm", "--slurm", "partition"], ["KEY=VALUE"]),
        ([], ["study"]),
    ],
)
def test_mistakes_end_with_one_line_and_exit_code_2(study, arguments, words, capsys, tmp_path):
    path, runs = study
    before = sorted(tmp_path.rglob("*"))
    if "--submit" in arguments:
        pytest.importorskip("submitit")
    assert main(["study", *(str(path) if word == "STUDY" else word for word in arguments), *runs]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert all(word in lines[0] for word in words), lines[0]
    assert sorted(tmp_path.rglob("*")) == before


def test_results_that_cannot_be_written_are_named(study, monkeypatch, tmp_path, capsys):
    path, runs = study
    pretend(monkeypatch)
    (tmp_path / "results").write_text("")
    assert main(["study", str(path), *runs]) == 2
    assert re.search(r"results .*results cannot be written", capsys.readouterr().err)


def test_results_are_written_all_or_none(study, monkeypatch, tmp_path):
    path, runs = study
    pretend(monkeypatch)
    monkeypatch.setattr(results, "draw_study", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["study", str(path), *runs])
    assert not list((tmp_path / "results").iterdir())


def test_the_recipe_in_a_runs_folder_is_that_of_the_study(study, monkeypatch, tmp_path):
    path, runs = study
    pretend(monkeypatch)
    main(["study", str(path), *runs])
    folder = tmp_path / "runs" / "mine" / "with_k=5-seed1"
    recipe = yaml.safe_load((folder / "config.yaml").read_text())
    assert (recipe["method"]["k"], recipe["seed"], recipe["runs"]) == (5, 1, str(folder.parent))
    assert recipe == json.loads((folder / "result.json").read_text())["config"]
