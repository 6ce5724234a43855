"""A study from its file to its tables."""

from argparse import Namespace
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pyg_bgformer.errors import InputError
from pyg_bgformer.report.progress import Display
from pyg_bgformer.report.study_table import study_markdown
from pyg_bgformer.study.definition import Study, read_study
from pyg_bgformer.study.executor import Failure, Job, execute, submit
from pyg_bgformer.study.results import gather, write_results, write_tuning
from pyg_bgformer.study.runs import check_here, fault, state, study_runs
from pyg_bgformer.study.tuning import fold_config, read_trials, tuned_study, tuning_jobs


def carry_out(given: Namespace, overrides: Sequence[str], display: Display) -> int:
    """Does what ``pyg-bgformer study`` is asked for.

    Args:
        given: Its command line; see :func:`pyg_bgformer.cli.study_command`.
        overrides: Settings for all rows.
        display: Progress and tables.

    Returns:
        0, or 1 if a part of the study failed.

    Raises:
        InputError: The study, its data, or what is in the folders of its runs is not as it should be.
        Interrupted: Ctrl-C; the same command resumes.
    """
    if given.jobs < 1:
        raise InputError(f"--jobs: expected at least 1, found {given.jobs}")
    study = read_study(given.study, given.size, overrides)
    place = given.runs.expanduser() / study.name
    if given.print:
        show(study, place, display)
        return 0
    if study.budget is not None:
        folds = range(study.budget.folds)
        check_here([fold_config(row.config, study.budget, fold) for row in study.rows for fold in folds])
        jobs = tuning_jobs(study, place)
        display.line(f"{study.name}: {len(study.rows)} rows to tune, {len(study.rows) - len(jobs)} finished")
        code = work(jobs, [], place, given, display)
        if code is not None:
            return code
        trials = read_trials(study, place)
        display.line(f"written: {', '.join(map(str, write_tuning(study, trials)))}")
        study = tuned_study(study, trials)
    runs = study_runs(study, place)
    states = [state(run) for run in runs]
    display.line(f"{study.name}: {len(runs)} runs: {counts(states)}")
    todo = [run for run, is_now in zip(runs, states, strict=True) if is_now != "finished"]
    check_here([run.config for run in todo])
    finished = [run for run in runs if run not in todo]
    faults = [Failure(str(run), run.folder, reason) for run in finished if (reason := fault(run))]
    code = work([run.job() for run in todo], faults, place, given, display)
    if code is not None:
        return code
    files = write_results(study, runs)
    display.line(files[1].read_text(encoding="utf-8"))
    display.line(f"written: {', '.join(map(str, files))}")
    return 0


def work(
    jobs: Sequence[Job], failed: Sequence[Failure], place: Path, given: Namespace, display: Display
) -> int | None:
    """Carries out jobs, or submits them; returns the exit code if the study ends with that.

    Args:
        jobs: Parts of the study.
        failed: Parts that have failed before.
        place: Folder of the study's runs.
        given: The command line.
        display: Progress.
    """
    if given.submit is not None and jobs:
        submit(jobs, place / "jobs", given.slurm)
        display.line(f"{len(jobs)} jobs submitted; run the same command again when they have ended")
        return 0
    failed = [*failed, *execute(jobs, given.jobs, display)]
    for failure in failed:
        display.line(f"{failure.name} failed ({failure.log}): {failure.reason}")
    if failed:
        display.line(f"{len(failed)} failed: no table is written; --print shows what there is")
    return 1 if failed else None


def show(study: Study, place: Path, display: Display) -> None:
    """Prints how far a study is, and its table so far. Nothing is written."""
    if study.budget is not None:
        trials = read_trials(study, place)
        for row in study.rows:
            scores = [trial.score for trial in trials if trial.row == row.name]
            best = f", best {study.budget.score} {100 * max(scores):.1f}" if scores else ""
            display.line(f"{len(scores)} of {study.budget.trials} trials  '{row.name}'{best}")
        if len(trials) < len(study.rows) * study.budget.trials:
            return
        study = tuned_study(study, trials)
    runs = study_runs(study, place)
    states = [state(run) for run in runs]
    for run, is_now in zip(runs, states, strict=True):
        display.line(f"{is_now:<10}  {run.folder}")
    display.line(f"{study.name}: {len(runs)} runs: {counts(states)}")
    finished = [run for run, is_now in zip(runs, states, strict=True) if is_now == "finished"]
    if finished:
        display.line(study_markdown(gather(study, finished), study.title))


def counts(states: Sequence[str]) -> str:
    """How many runs are in each state."""
    return ", ".join(f"{number} {is_now}" for is_now, number in Counter(states).items())
