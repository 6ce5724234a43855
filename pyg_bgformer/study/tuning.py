"""Equal tuning for every row of a study: as many trials for each, scored on folds of the training classes.

The trials of all rows are in one SQLite file of Optuna. A process of its own carries out those of one row, one
after another: ``python -m pyg_bgformer.study.tuning STORAGE ROW``.
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
from pyg_bgformer.report.progress import Display
from pyg_bgformer.runs.diff import differing
from pyg_bgformer.study.definition import Row, Study, settings_arguments
from pyg_bgformer.study.executor import Job
from pyg_bgformer.study.space import Budget, Values, read_space
from pyg_bgformer.study.trial import fold_scores

if TYPE_CHECKING:
    import optuna

RANDOM_TRIALS = 5
"""Trials before the sampler learns from earlier ones. The first of them is the recipe as it is."""


class Trial(NamedTuple):
    """Settings that were tried for a row.

    Args:
        row: Name of the row.
        number: From 0, which is the recipe as it is.
        score: Mean over the folds.
        settings: By dotted key.
        failed: Why there is no score, which then counts as 0.
    """

    row: str
    number: int
    score: float
    settings: dict[str, Any]
    failed: str


def tuning_jobs(study: Study, budget: Budget, folder: Path) -> list[Job]:
    """Returns a job for each row whose trials are not all there, and notes in the storage what it has to try.

    Args:
        study: The study.
        budget: What each row is given.
        folder: Of the study's runs.

    Raises:
        InputError: Optuna is not installed, the folder cannot be written, or it holds trials of another recipe.
    """
    optuna = import_optuna()
    logs = folder / "tuning"
    try:
        logs.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{logs} cannot be made: {error.strerror}; see --runs") from error
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
    """What is tried for a row, as plain values."""
    return {
        "recipe": {**row.config.as_dict(), "seed": budget.seed, "runs": ""},
        "arguments": list(row.arguments),
        "space": {key: {values.kind: list(values.values)} for key, values in row.space.items()},
        "budget": asdict(budget),
    }


def check_same(trials: "optuna.Study", now: dict[str, Any], folder: Path) -> None:
    """Refuses to mix trials of different recipes or spaces. More trials of the same kind are accepted.

    Raises:
        InputError: Something else was asked for when the trials were begun.
    """
    before = trials.user_attrs.get("asked")
    if before is None:
        return
    ours, theirs = (
        {**given, "arguments": None, "budget": {**given["budget"], "trials": None}} for given in (now, before)
    )
    for key, (there, here) in differing(theirs, ours).items():
        raise InputError(
            f"{folder} holds trials of row '{trials.study_name}' with {key}: {there}, but the study asks for "
            f"{here}; remove tuning.db there, or name another folder with --runs"
        )


def tune(storage: Path, row: str, display: Display) -> None:
    """Carries out the trials of one row that are not there yet.

    What a trial tries depends only on the seed, its number and the trials before it. So an interrupted tuning ends
    like one that was never stopped.

    Args:
        storage: The SQLite file, made by :func:`tuning_jobs`.
        row: Name of the row.
        display: Gets a line for each trial.

    Raises:
        InputError: A trial's settings cannot be trained with.
        Interrupted: A signal asked to stop.
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
            constant_liar=False,  # forgets trials that were stopped
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
            f"trial {number}: {budget.score} {100 * fmean(folds):.2f} with {told or 'the recipe as it is'}"
        )


def read_trials(study: Study, budget: Budget, folder: Path) -> list[Trial]:
    """Returns the trials that have a score, row by row, no more of each row than the budget says."""
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
    """Returns the row with the settings of its best trial, the first of equal ones."""
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
    """The value of a dotted key."""
    value: Any = config.as_dict()
    for part in key.split("."):
        value = value[part]
    return value


def distribution(values: Values) -> "optuna.distributions.BaseDistribution":
    """Values in Optuna's terms."""
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
    """Trials that have a score, in their order; one that was stopped has none."""
    return trials.get_trials(deepcopy=False, states=[import_optuna().trial.TrialState.COMPLETE])


def open_storage(path: Path) -> Any:
    """The storage in a SQLite file, for several processes that wait for each other."""
    return import_optuna().storages.RDBStorage(
        f"sqlite:///{path}", engine_kwargs={"connect_args": {"timeout": 60}}
    )


def import_optuna() -> ModuleType:
    """Returns the module.

    Raises:
        InputError: It is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise InputError("a study with 'tune' needs Optuna: pip install 'pyg-bgformer[tune]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def main(arguments: Sequence[str]) -> int:
    """Carries out the trials of one row; returns the exit code."""
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
    sys.exit(main(sys.argv[1:]))
