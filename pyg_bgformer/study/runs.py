"""The runs of a study, each in a folder of its own, and how far each of them is."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pyg_bgformer.config.schema import Config
from pyg_bgformer.data import ImageDataset
from pyg_bgformer.engine.setup import build_dataset, build_fabric, build_sampler, protocol_part
from pyg_bgformer.errors import InputError, RunError
from pyg_bgformer.runs.diff import differing
from pyg_bgformer.runs.folder import RunFolder, State
from pyg_bgformer.runs.result import RunResult, read_result
from pyg_bgformer.study.definition import Study
from pyg_bgformer.study.executor import Job


@dataclass(frozen=True)
class StudyRun:
    """One row with one seed.

    Args:
        row: Name of the row.
        config: With this seed.
        folder: Where it is carried out: a function of row and seed.
    """

    row: str
    config: Config
    folder: Path

    def __str__(self) -> str:
        return f"'{self.row}' seed {self.config.seed}"

    def job(self) -> Job:
        """What carries it out."""
        command = ["-m", "pyg_bgformer", "run", "--resume", str(self.folder.resolve())]
        return Job(str(self), command, RunFolder(self.folder).log, self.outcome, self.prepare)

    def outcome(self) -> str:
        """What came out of a finished run, in a few words.

        Raises:
            RunError: Its result must not be compared.
        """
        if reason := fault(self):
            raise RunError(reason)
        return f"has MAP@R {100 * self.result().trained['embedding']['map_at_r']:.1f}"

    def prepare(self) -> None:
        """Makes the folder, with the recipe.

        Raises:
            InputError: It cannot be written.
        """
        if not RunFolder(self.folder).recipe.exists():
            RunFolder.create(self.folder, self.config.as_dict())

    def result(self) -> RunResult:
        """Returns what the finished run found."""
        return read_result(RunFolder(self.folder))


def study_runs(study: Study, place: Path) -> list[StudyRun]:
    """All runs in one folder, seed by seed, so that every row has its first before any has its second."""
    seeds = sorted({seed for row in study.rows for seed in row.seeds})
    return [
        StudyRun(row.name, replace(row.config, seed=seed, runs=str(place)), place / f"{row.slug}-seed{seed}")
        for seed in seeds
        for row in study.rows
        if seed in row.seeds
    ]


def state(run: StudyRun) -> State:
    """How far a run is.

    Raises:
        InputError: Its folder holds a run by another recipe.
    """
    folder = RunFolder(run.folder)
    if not folder.recipe.exists():
        return folder.state
    different = differing({**folder.read_recipe(), "runs": run.config.runs}, run.config.as_dict())
    if different:
        key, (there, asked) = next(iter(different.items()))
        more = f" (and {len(different) - 1} keys more)" if len(different) > 1 else ""
        raise InputError(
            f"{run.folder} holds a run with {key}: {there}, but the study asks for {asked}{more}; remove that "
            "folder, or name another with --runs"
        )
    return folder.state


def check_here(configs: Iterable[Config]) -> None:
    """Finds before the first run what would let all of them fail: no data, no device, batches that are too large.

    Raises:
        InputError: What a run would raise.
    """
    datasets: dict[tuple[Any, ...], ImageDataset] = {}
    for config in configs:
        data = config.data
        key = (data.name, data.root, data.variant, data.allow_partial, data.crop_to_box)
        if key not in datasets:
            datasets[key] = build_dataset(config)
        build_fabric(config)
        build_sampler(config, protocol_part(config, datasets[key]))


def fault(run: StudyRun) -> str | None:
    """Why the result of a finished run must not be compared; nothing where it may be."""
    result = run.result()
    if result.batch_dependent:
        return f"embeddings depend on their batch (by {result.batch_dependence:.1e} of their norm)"
    return None
