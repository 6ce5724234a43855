"""Tunes every row of a study with the same number of trials, scored on folds of the training classes.

The trials of all rows are in one SQLite file of Optuna. Each row has its own process, which carries out the trials
one after another: ``python -m pyg_bgformer.study.tuning STORAGE ROW``.
"""

import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from pyg_bgformer.config.recipe import read_config
from pyg_bgformer.config.schema import Config
from pyg_bgformer.errors import InputError, Interrupted, RunError
from pyg_bgformer.memory import keep_freed_memory
from pyg_bgformer.report.progress import Display
from pyg_bgformer.runs.diff import differing
from pyg_bgformer.study.definition import Row, Study, settings_arguments
from pyg_bgformer.study.executor import Job
from pyg_bgformer.study.space import Budget, Values, read_space
from pyg_bgformer.study.trial import fold_scores

if TYPE_CHECKING:
    import optuna

RANDOM_TRIALS = 5
"""Number of trials before the sampler learns from earlier ones. The first of them is the unchanged recipe."""


class Trial(NamedTuple):
    """Settings that were tried for a row.

    Attributes:
        row: Name of the row.
        number: Number of the trial, from 0. Trial 0 is the unchanged recipe.
        score: Mean score over the folds, a fraction. 0 if the trial failed.
        settings: Values by dotted key.
        failed: Why the trial failed. Empty if it did not.
    """

    row: str
    number: int
    score: float
    settings: dict[str, Any]
    failed: str


def tuning_jobs(study: Study, budget: Budget, folder: Path) -> list[Job]:
    """Returns a job for each row with missing trials, and writes to the storage what the row has to try.

    Args:
        study: The study.
        budget: The budget of each row.
        folder: Folder of the study's runs.

    Raises:
        InputError: If Optuna is not installed, the folder cannot be written, or it has trials of another recipe.
    """
    optuna = import_optuna()
    logs = folder / "tuning"
    try:
        logs.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{logs} cannot be made: {error.strerror}; choose another place by --runs"
        ) from error
    path = folder / "tuning.db"
    storage = open_storage(path)
    jobs = []
    for row in study.rows:
        trials = optuna.create_study(
            storage=storage, study_name=row.name, direction="maximize", load_if_exists=True
        )
        check_same(trials, asked(row, budget), folder)
        trials.set_user_attr("asked", asked(row, budget))
        if len(complete(trials)) < budget.trials:
            command = ["-m", "pyg_bgformer.study.tuning", str(path.resolve()), row.name]
            jobs.append(
                Job(f"'{row.name}'", command, logs / f"{row.slug}.log", lambda: f"has {budget.trials} trials")
            )
    return jobs


def asked(row: Row, budget: Budget) -> dict[str, Any]:
    """Returns what is tried for a row, as plain values."""
    return {
        "recipe": {**row.config.as_dict(), "seed": budget.seed, "runs": ""},
        "arguments": list(row.arguments),
        "space": {key: {values.kind: list(values.values)} for key, values in row.space.items()},
        "budget": asdict(budget),
    }


def check_same(trials: "optuna.Study", now: dict[str, Any], folder: Path) -> None:
    """Raises an error if trials of different recipes or spaces would be mixed. More trials are accepted.

    Args:
        trials: The trials so far.
        now: What is tried now, from :func:`asked`.
        folder: Folder of the study's runs, for the message.

    Raises:
        InputError: If the trials so far have another recipe, space or budget.
    """
    before = trials.user_attrs.get("asked")
    if before is None:
        return
    ours, theirs = (
        {**given, "arguments": None, "budget": {**given["budget"], "trials": None}} for given in (now, before)
    )
    for key, (there, here) in differing(theirs, ours).items():
        raise InputError(
            f"{folder} has trials of row '{trials.study_name}' with {key}: {there}, expected {here} as in the "
            "study; remove tuning.db there, or choose another folder with --runs"
        )


def tune(storage: Path, row: str, display: Display) -> None:
    """Carries out the missing trials of one row.

    The settings of a trial only depend on the seed, its number and the trials before it. An interrupted tuning
    therefore has the same result as one that was never stopped.

    Args:
        storage: The SQLite file from :func:`tuning_jobs`.
        row: Name of the row.
        display: Shows a line for each trial.

    Raises:
        InputError: If the settings of a trial are wrong.
        Interrupted: If a signal stops the tuning.
    """
    optuna = import_optuna()
    trials = optuna.load_study(storage=open_storage(storage), study_name=row)
    given = trials.user_attrs["asked"]
    arguments, budget = given["arguments"], Budget(**given["budget"])
    space = read_space(given["space"], "space")
    own = {key: setting(read_config(arguments), key) for key in space}
    own = {key: value for key, value in own.items() if value in space[key]}
    while (number := len(complete(trials))) < budget.trials:
        if number == 0:
            trials.enqueue_trial(own)
        seed = np.random.SeedSequence([budget.seed, number]).generate_state(1)[0]
        trials.sampler = optuna.samplers.TPESampler(
            seed=int(seed),
            n_startup_trials=RANDOM_TRIALS,
            constant_liar=False,  # stopped trials must not change the next ones
        )
        tried = own if number == 0 else space
        trial = trials.ask({key: distribution(space[key]) for key in tried})
        told = ", ".join(
            f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}"
            for key, value in trial.params.items()
        )
        try:
            folds = fold_scores(read_config([*arguments, *settings_arguments(trial.params)]), budget)
            trial.set_user_attr("folds", folds)
        except RunError as error:
            folds = [0.0]
            trial.set_user_attr("failed", str(error))
            display.line(f"trial {number} failed and counts as 0: {error}")
        trials.tell(trial, fmean(folds))
        display.line(
            f"trial {number}: {budget.score} {100 * fmean(folds):.2f} with {told or 'the unchanged recipe'}"
        )


def read_trials(study: Study, budget: Budget, folder: Path) -> list[Trial]:
    """Returns the finished trials row by row, for each row at most as many as the budget has.

    Args:
        study: The study before tuning.
        budget: The budget of each row.
        folder: Folder of the study's runs.

    Raises:
        InputError: If Optuna is not installed, or the folder has trials of another recipe.
    """
    optuna = import_optuna()
    path = folder / "tuning.db"
    if not path.exists():
        return []
    storage = open_storage(path)
    begun = optuna.get_all_study_names(storage)
    found = []
    for row in study.rows:
        if row.name not in begun:
            continue
        trials = optuna.load_study(storage=storage, study_name=row.name)
        check_same(trials, asked(row, budget), folder)
        for number, trial in enumerate(complete(trials)[: budget.trials]):
            failed = trial.user_attrs.get("failed", "")
            found.append(Trial(row.name, number, cast(float, trial.value), trial.params, failed))
    return found


def tuned(row: Row, trials: Sequence[Trial]) -> Row:
    """Returns a row with the settings of its best trial. If several are equally good, the first one is taken."""
    best = max((trial for trial in trials if trial.row == row.name), key=lambda trial: trial.score)
    if best.number == 0:
        return row
    settings = settings_arguments(best.settings)
    config = read_config([*row.arguments, *settings, "--seed", str(row.seeds[0])])
    return replace(row, config=config, arguments=(*row.arguments, *settings))


def tuned_study(study: Study, trials: Sequence[Trial]) -> Study:
    """Returns the study with the best settings of each row."""
    return replace(study, rows=tuple(tuned(row, trials) for row in study.rows))


def setting(config: Config, key: str) -> Any:
    """Returns the value of a dotted key."""
    value: Any = config.as_dict()
    for part in key.split("."):
        value = value[part]
    return value


def distribution(values: Values) -> "optuna.distributions.BaseDistribution":
    """Returns the values of a setting as a distribution of Optuna."""
    kinds = import_optuna().distributions
    found: optuna.distributions.BaseDistribution
    if values.kind == "choice":
        found = kinds.CategoricalDistribution(values.values)
    elif values.kind == "int":
        found = kinds.IntDistribution(*values.values)
    else:
        found = kinds.FloatDistribution(*values.values, log=values.kind == "log")
    return found


def complete(trials: "optuna.Study") -> list["optuna.trial.FrozenTrial"]:
    """Returns the trials with a score in their order. Stopped trials have none."""
    return trials.get_trials(deepcopy=False, states=[import_optuna().trial.TrialState.COMPLETE])


def open_storage(path: Path) -> Any:
    """Returns the storage in a SQLite file. Several processes can use it and wait for each other."""
    return import_optuna().storages.RDBStorage(
        f"sqlite:///{path}", engine_kwargs={"connect_args": {"timeout": 60}}
    )


def import_optuna() -> ModuleType:
    """Returns the module ``optuna``, with a quiet log.

    Raises:
        InputError: If Optuna is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise InputError("a study with 'tune' needs Optuna: pip install 'pyg-bgformer[tune]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def main(arguments: Sequence[str]) -> int:
    """Carries out the trials of one row. Returns the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        tune(Path(arguments[0]), arguments[1], Display())
    except (Interrupted, KeyboardInterrupt):
        print("interrupted")
        return 130
    except InputError as error:
        print(f"error: {error}")
        return 2
    return 0


if __name__ == "__main__":
    keep_freed_memory()
    sys.exit(main(sys.argv[1:]))
