"""A study from its file to its tables."""

from argparse import Namespace
from collections import Counter
from collections.abc import Sequence

from pyg_bgformer.errors import InputError
from pyg_bgformer.report.progress import Display
from pyg_bgformer.report.study_table import study_markdown
from pyg_bgformer.study.definition import Study, read_study
from pyg_bgformer.study.executor import Failure, execute
from pyg_bgformer.study.results import gather, write_results
from pyg_bgformer.study.runs import State, StudyRun, check_here, fault, state, study_runs
from pyg_bgformer.study.submission import submit


def carry_out(given: Namespace, overrides: Sequence[str], display: Display) -> int:
    """What ``pyg-bgformer study`` does.

    Args:
        given: Its command line; see :func:`pyg_bgformer.cli.study_command`.
        overrides: Settings for all rows.
        display: Progress and tables.

    Returns:
        0, or 1 if a run failed.

    Raises:
        InputError: The study, its data, or what is in the folders of its runs is not as it should be.
        Interrupted: Ctrl-C; the same command goes on.
    """
    if given.jobs < 1:
        raise InputError(f"--jobs: expected at least 1, found {given.jobs}")
    study = read_study(given.study, given.size, overrides)
    runs = study_runs(study, given.runs.expanduser())
    states = [state(run) for run in runs]
    todo = [run for run, is_now in zip(runs, states, strict=True) if is_now != "finished"]
    if given.print:
        _show(study, runs, states, display)
        return 0
    display.line(f"{study.name}: {_counts(states)}")
    if given.submit is not None and todo:
        submit(todo, given.runs / study.name / "jobs", given.slurm)
        display.line(
            f"{len(todo)} runs submitted; when they have ended, the same command without --submit goes on"
        )
        return 0
    check_here(todo)
    failed = execute(todo, len(runs) - len(todo), given.jobs, display)
    failed += [Failure(run, reason) for run in runs if run not in todo and (reason := fault(run))]
    return _end(study, runs, failed, display)


def _end(study: Study, runs: Sequence[StudyRun], failed: Sequence[Failure], display: Display) -> int:
    if failed:
        for run, reason in failed:
            display.line(f"{run} failed ({run.folder}): {reason}")
        display.line(
            f"{len(failed)} of {len(runs)} runs failed: no table is written; --print shows what there is"
        )
        return 1
    files = write_results(study, runs)
    display.line(files[1].read_text(encoding="utf-8"))
    display.line(f"written: {', '.join(map(str, files))}")
    return 0


def _show(study: Study, runs: Sequence[StudyRun], states: Sequence[State], display: Display) -> None:
    for run, is_now in zip(runs, states, strict=True):
        display.line(f"{is_now:<14}  {run.folder}")
    display.line(f"{study.name}: {_counts(states)}")
    finished = [run for run, is_now in zip(runs, states, strict=True) if is_now == "finished"]
    if finished:
        display.line(study_markdown(gather(study, finished), study.title))


def _counts(states: Sequence[State]) -> str:
    parts = [f"{number} {is_now}" for is_now, number in Counter(states).items()]
    return f"{len(states)} runs: {', '.join(parts)}"
