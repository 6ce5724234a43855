import os
import signal
import sys
import threading
import time
from dataclasses import replace

import pytest

from pyg_bgformer.errors import InputError, Interrupted, RunError
from pyg_bgformer.study import executor
from pyg_bgformer.study.executor import Job, execute, resources, submit


@pytest.fixture
def jobs(tmp_path):
    """Makes jobs that run a program, each with the path of a file of its own."""

    def make(program, count, outcome=lambda: "is done"):
        return [
            Job(f"job {i}", ["-c", program, str(tmp_path / f"{i}")], tmp_path / f"{i}.log", outcome)
            for i in range(count)
        ]

    return make


def test_every_job_is_carried_out_and_told_of_with_the_time_left(jobs, display, tmp_path):
    assert execute(jobs("import sys; open(sys.argv[1], 'w')", 3), 1, display) == []
    assert all((tmp_path / f"{i}").exists() for i in range(3))
    assert display.text().splitlines()[0].startswith("1/3: job 0 is done; 0:00:0")
    assert display.text().splitlines()[-1] == "3/3: job 2 is done; 0:00:00 left"


def test_a_failed_job_is_returned_with_its_last_line_and_the_others_go_on(jobs, display, tmp_path):
    program = """
import os, sys
print('doing well')
if sys.argv[1].endswith('0'): sys.exit('error: it broke\\n')
if sys.argv[1].endswith('1'): sys.stdout.close(); os._exit(3)
open(sys.argv[1], 'w')"""
    failed = execute(jobs(program, 3), 2, display)
    assert sorted((name, reason) for name, _, reason in failed) == [
        ("job 0", "error: it broke"),
        ("job 1", "doing well"),
    ]
    assert (tmp_path / "2").exists()
    assert any("job 0 failed;" in line for line in display.text().splitlines())
    silent = execute(jobs("import os; os._exit(3)", 1), 1, display)  # its log has the lines of before
    assert silent[0].reason == "error: it broke"


def test_a_job_without_a_word_is_told_by_its_exit_code(jobs, display):
    assert execute(jobs("import os; os._exit(3)", 1), 1, display)[0].reason == "exit code 3"


def test_an_outcome_that_must_not_be_used_is_a_failure(jobs, display):
    def refuse():
        raise RunError("depends on its batch")

    assert execute(jobs("", 1, refuse), 1, display)[0].reason == "depends on its batch"


def test_no_more_than_asked_for_are_under_way_and_they_share_the_threads(
    jobs, display, monkeypatch, tmp_path
):
    program = """
import os, sys, time
with open(sys.argv[1], 'w') as file:
    file.write(f"{os.environ['OMP_NUM_THREADS']} {time.time()} ")
    time.sleep(0.5)
    file.write(str(time.time()))"""
    monkeypatch.setattr(executor.torch, "get_num_threads", lambda: 7)
    execute(jobs(program, 4), 3, display)
    found = [(tmp_path / f"{i}").read_text().split() for i in range(4)]
    assert {threads for threads, _, _ in found} == {"2"}
    spans = [(float(start), float(end)) for _, start, end in found]
    assert max(sum(start <= moment < end for start, end in spans) for moment, _ in spans) <= 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_every_job_once_and_starts_no_other(jobs, display, tmp_path, number):
    program = """
import signal, sys, time
signal.signal(signal.SIGTERM, signal.default_int_handler)
try:
    open(sys.argv[1], 'w')
    time.sleep(60)
except KeyboardInterrupt:
    open(sys.argv[1] + '-saved', 'w')
    sys.exit(130)"""

    def interrupt():
        while not all((tmp_path / f"{i}").exists() for i in range(2)):
            time.sleep(0.05)
        os.kill(os.getpid(), number)

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(Interrupted):
        execute(jobs(program, 4), 2, display)
    thread.join()
    assert all((tmp_path / f"{i}-saved").exists() for i in range(2))
    assert not any((tmp_path / f"{i}").exists() for i in (2, 3))
    assert signal.getsignal(signal.SIGTERM) is before


def test_without_submitit_one_line_says_how_to_get_it(jobs, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(InputError, match=r"pip install 'pyg-bgformer\[slurm\]'"):
        submit(jobs("", 1), tmp_path / "jobs", [])


def test_jobs_are_handed_to_submitit(jobs, tmp_path):
    pytest.importorskip("submitit")
    program = "import sys; open(sys.argv[1], 'w')"
    for job in submit(jobs(program, 2), tmp_path / "jobs", ["timeout_min=1"], cluster="debug"):
        job.result()
    assert (tmp_path / "0").exists()
    assert (tmp_path / "1").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="pretends to be Slurm by shell scripts")
@pytest.mark.parametrize(("nodes", "tasks"), [(1, None), (3, 2)])
def test_slurm_gets_the_gpus_and_tasks_of_a_job_of_several_processes(
    jobs, nodes, tasks, tmp_path, monkeypatch
):
    pytest.importorskip("submitit")
    for name in ("srun", "sbatch"):
        (tmp_path / name).write_text("#!/bin/sh\necho Submitted batch job 12\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    job = replace(jobs("", 1)[0], devices=2, nodes=nodes)
    submit([job], tmp_path / "jobs", ["gpus_per_node=2", "timeout_min=1"])
    (file,) = (tmp_path / "jobs").glob("*_submission.sh")
    script = file.read_text()
    assert "#SBATCH --gpus-per-node=2\n" in script
    assert f"#SBATCH --nodes={nodes}\n" in script
    assert ("--kill-on-bad-exit=1" in script) == (nodes > 1)
    assert (f"#SBATCH --ntasks-per-node={tasks}\n" in script) == (tasks is not None)


def test_a_machine_without_slurm_and_unknown_parameters_are_one_line(jobs, tmp_path):
    pytest.importorskip("submitit")
    for cluster, parameters in (("slurm", []), ("local", ["timeout=1"]), ("local", ["timeout_min"])):
        with pytest.raises(InputError) as error:
            submit(jobs("", 1), tmp_path / "jobs", parameters, cluster=cluster)
        assert "\n" not in str(error.value)


def test_runs_on_several_machines_get_a_task_for_each_process_and_others_one(jobs):
    first, second = jobs("", 2)
    assert resources([first, replace(second, devices=1)]) == {}
    assert resources([replace(first, devices=4)]) == {}  # it starts the others itself
    assert resources([replace(job, devices=4, nodes=2) for job in (first, second)]) == {
        "nodes": 2,
        "tasks_per_node": 4,
        "slurm_srun_args": ["--kill-on-bad-exit=1"],  # the death of one task ends the others
    }
    with pytest.raises(InputError, match=r"rows of this study differ in train\.devices"):
        resources([first, replace(second, devices=2)])
