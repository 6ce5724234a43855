import sys

import pytest

from pyg_bgformer.errors import InputError, RunError
from pyg_bgformer.study import submission
from pyg_bgformer.study.definition import read_study
from pyg_bgformer.study.runs import state, study_runs
from pyg_bgformer.study.submission import carry_out, submit


@pytest.fixture
def runs(content, write, tmp_path):
    return study_runs(read_study(write(content)), tmp_path / "runs")


def test_without_submitit_one_line_says_how_to_get_it(runs, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(InputError, match=r"pip install 'pyg-bgformer\[slurm\]'"):
        submit(runs, tmp_path / "jobs", [])
    assert not (tmp_path / "runs").exists()


def test_a_job_resumes_its_run_and_fails_with_it(monkeypatch):
    asked = []
    monkeypatch.setattr(submission, "main", lambda arguments: asked.append(arguments) or len(asked) - 1)
    carry_out("here")
    assert asked == [["run", "--resume", "here"]]
    with pytest.raises(RunError, match="there: exit code 1"):
        carry_out("there")


def test_a_job_is_prepared_for_each_run_and_handed_over(runs, tmp_path):
    pytest.importorskip("submitit")
    jobs = submit(runs[:2], tmp_path / "jobs", ["timeout_min=1"], cluster="debug")
    assert len(jobs) == 2
    assert [state(run) for run in runs[:2]] == ["to go on with"] * 2


def test_a_machine_without_slurm_and_unknown_parameters_are_one_line(runs, tmp_path):
    pytest.importorskip("submitit")
    for cluster, parameters in (("slurm", []), ("local", ["timeout=1"]), ("local", ["timeout_min"])):
        with pytest.raises(InputError) as error:
            submit(runs, tmp_path / "jobs", parameters, cluster=cluster)
        assert "\n" not in str(error.value)
    assert not (tmp_path / "runs").exists()
