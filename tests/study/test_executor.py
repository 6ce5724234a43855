import io
import os
import signal
import sys
import threading
import time

import pytest
from rich.console import Console

from pyg_bgformer.engine.interruption import Interrupted
from pyg_bgformer.report.progress import Display
from pyg_bgformer.study import executor
from pyg_bgformer.study.definition import read_study
from pyg_bgformer.study.executor import execute
from pyg_bgformer.study.runs import state, study_runs

RESULT = '{"leakage": 0.0, "trained": {"embedding": {"map_at_r": 0.25}}}'
FINISH = f"open(folder + '/result.json', 'w').write('{RESULT}')"


@pytest.fixture
def runs(content, write, tmp_path):
    return study_runs(read_study(write(content)), tmp_path / "runs")


@pytest.fixture
def display():
    return Display(Console(file=io.StringIO(), width=200))


def lines(display):
    return display.console.file.getvalue().splitlines()


def pretend(monkeypatch, program):
    """Lets this stand for a run; it knows ``folder``."""
    start = "import os, sys, time; folder = sys.argv[1]\n"
    monkeypatch.setattr(
        executor, "command", lambda folder: [sys.executable, "-c", start + program, str(folder)]
    )


def test_every_run_is_carried_out_and_told_of_with_the_time_left(runs, display, monkeypatch):
    pretend(monkeypatch, FINISH)
    assert execute(runs, 3, 1, display) == []
    assert [state(run) for run in runs] == ["finished"] * 4
    assert lines(display)[0].startswith("4/7 runs: 'plain' seed 0 has MAP@R 25.0; 0:00:0")
    assert lines(display)[-1].endswith("7/7 runs: 'with k=5' seed 1 has MAP@R 25.0; 0:00:00 left")


def test_a_failed_run_is_returned_with_its_last_line_and_the_others_go_on(runs, display, monkeypatch):
    fail = f"""
if 'plain-seed1' in folder:
    print('doing well')
    sys.exit('error: it broke\\n')
{FINISH}"""
    pretend(monkeypatch, fail)
    failed = execute(runs, 0, 2, display)
    assert [(str(run), reason) for run, reason in failed] == [("'plain' seed 1", "error: it broke")]
    assert [state(run) == "finished" for run in runs] == [True, True, False, True]
    assert "runs: 'plain' seed 1 failed;" in "\n".join(lines(display))


def test_a_run_without_a_word_is_told_by_its_exit_code(runs, display, monkeypatch):
    pretend(monkeypatch, "os._exit(3)")
    assert execute(runs[:1], 0, 1, display)[0].reason == "exit code 3"


def test_a_result_that_depends_on_the_batch_is_a_failure(runs, display, monkeypatch):
    pretend(monkeypatch, FINISH.replace('"leakage": 0.0', '"leakage": 0.5'))
    assert "depend on their batch" in execute(runs[:1], 0, 1, display)[0].reason


def test_no_more_than_jobs_are_under_way_and_they_share_the_threads(runs, display, monkeypatch):
    marks = f"""
open(folder + '/threads', 'w').write(os.environ['OMP_NUM_THREADS'])
open(folder + '/times', 'w').write(str(time.time()))
time.sleep(0.5)
{FINISH}
open(folder + '/times', 'a').write(' ' + str(time.time()))"""
    pretend(monkeypatch, marks)
    monkeypatch.setattr(executor.torch, "get_num_threads", lambda: 7)
    execute(runs, 0, 3, display)
    assert {(run.folder / "threads").read_text() for run in runs} == {"2"}
    spans = [tuple(map(float, (run.folder / "times").read_text().split())) for run in runs]
    assert max(sum(start <= moment < end for start, end in spans) for moment, _ in spans) <= 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_every_run_once_and_starts_no_other(runs, display, monkeypatch, number):
    wait = """
import signal
signal.signal(signal.SIGTERM, signal.default_int_handler)
try:
    open(folder + '/started', 'w')
    time.sleep(60)
except KeyboardInterrupt:
    open(folder + '/saved', 'w')
    sys.exit(130)"""
    pretend(monkeypatch, wait)

    def interrupt():
        while not all((run.folder / "started").exists() for run in runs[:2]):
            time.sleep(0.05)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(Interrupted, match="after 0 of 4 runs"):
        execute(runs, 0, 2, display)
    thread.join()
    assert all((run.folder / "saved").exists() for run in runs[:2])
    assert not any(run.folder.exists() for run in runs[2:])
