"""Carries out a study, from its definition to its tables."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pyg_bgformer.errors import InputError, RunError
from pyg_bgformer.report.progress import Display
from pyg_bgformer.report.tables import comparison_markdown
from pyg_bgformer.study.definition import Study
from pyg_bgformer.study.executor import Failure, Job, execute, submit
from pyg_bgformer.study.results import gather, write_results, write_tuning
from pyg_bgformer.study.runs import StudyRun, check_here, study_runs
from pyg_bgformer.study.trial import fold_config
from pyg_bgformer.study.tuning import read_trials, tuned_study, tuning_jobs


def carry_out(
    study: Study, runs: Path, display: Display, *, jobs: int = 1, slurm: Sequence[str] | None = None
) -> bool:
    """Carries out a study, or the rest of it: tunes its rows if it has a budget, runs them, and writes the tables.

    Args:
        study: The study.
        runs: Folder in which the folder of the study's runs is made.
        display: Shows the progress and the table.
        jobs: Number of jobs that run at a time, from 1.
        slurm: Parameters ``KEY=VALUE`` of a Slurm cluster that the jobs are submitted to. With ``None``, they run
            on this machine.

    Returns:
        Whether no job failed.

    Raises:
        InputError: If data are missing, a folder has a run or trials of another recipe, or ``jobs`` is below 1.
        Interrupted: After Ctrl-C or SIGTERM. The same call resumes the study.
    """
    if jobs < 1:
        raise InputError(f"--jobs: expected at least 1, found {jobs}")
    place = runs / study.name
    if study.budget is not None:
        folds = range(study.budget.folds)
        check_here(fold_config(row.config, study.budget, fold) for row in study.rows for fold in folds)
        todo = tuning_jobs(study, study.budget, place)
        display.line(
            f"{study.name}: tuning of {len(study.rows)} rows, {len(study.rows) - len(todo)} finished"
        )
        if todo and slurm is not None:
            return hand_over(todo, place, slurm, display)
        if not reported(execute(todo, jobs, display), display):
            return False
        trials = read_trials(study, study.budget, place)
        files = write_tuning(study, study.budget, trials)
        display.line(f"written: {', '.join(map(str, files))}")
        study = tuned_study(study, trials)
    all_runs = study_runs(study, place)
    states = [run.state() for run in all_runs]
    display.line(f"{study.name}: {len(all_runs)} runs: {counts(states)}")
    open_runs = [run for run, state in zip(all_runs, states, strict=True) if state != "finished"]
    check_here(run.config for run in open_runs)
    todo = [run.job() for run in open_runs]
    if todo and slurm is not None:
        return hand_over(todo, place, slurm, display)
    failed = [failure for run in all_runs if run not in open_runs for failure in faults(run)]
    if not reported([*failed, *execute(todo, jobs, display)], display):
        return False
    files = write_results(study, all_runs)
    display.line(files[1].read_text(encoding="utf-8"))
    display.line(f"written: {', '.join(map(str, files))}")
    return True


def show(study: Study, runs: Path, display: Display) -> None:
    """Shows the progress of a study, and its table so far. Nothing is written.

    Args:
        study: The study.
        runs: Folder with the folder of the study's runs.
        display: Shows the lines.

    Raises:
        InputError: If a folder has a run or trials of another recipe, or a result is damaged.
    """
    place = runs / study.name
    if study.budget is not None:
        trials = read_trials(study, study.budget, place)
        for row in study.rows:
            scores = [trial.score for trial in trials if trial.row == row.name]
            best = f", best {study.budget.score} {100 * max(scores):.1f}" if scores else ""
            display.line(f"{len(scores)} of {study.budget.trials} trials  '{row.name}'{best}")
        if len(trials) < len(study.rows) * study.budget.trials:
            return
        study = tuned_study(study, trials)
    all_runs = study_runs(study, place)
    states = [run.state() for run in all_runs]
    for run, state in zip(all_runs, states, strict=True):
        display.line(f"{state:<10}  {run.folder}")
    display.line(f"{study.name}: {len(all_runs)} runs: {counts(states)}")
    finished = [run for run, state in zip(all_runs, states, strict=True) if state == "finished"]
    if finished:
        display.line(comparison_markdown(gather(study, finished), study.title))


def hand_over(jobs: Sequence[Job], place: Path, slurm: Sequence[str], display: Display) -> bool:
    """Submits jobs to Slurm, and says so. Returns true."""
    submit(jobs, place / "jobs", slurm)
    display.line(f"{len(jobs)} jobs submitted; run the same command again when they have ended")
    return True


def faults(run: StudyRun) -> list[Failure]:
    """Returns why a finished run must not be compared. The list is empty if it may be compared."""
    try:
        run.outcome()
    except RunError as error:
        return [Failure(str(run), run.folder.path, str(error))]
    return []


def reported(failed: Sequence[Failure], display: Display) -> bool:
    """Shows the jobs that failed, and returns whether none failed."""
    for failure in failed:
        display.line(f"{failure.name} failed ({failure.log}): {failure.reason}")
    if failed:
        display.line(f"{len(failed)} failed; no table is written; --print shows the table so far")
    return not failed


def counts(states: Sequence[str]) -> str:
    """Returns the number of runs in each state as text."""
    return ", ".join(f"{number} {state}" for state, number in Counter(states).items())
