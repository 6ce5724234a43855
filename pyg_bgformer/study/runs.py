"""The runs of a study: their folders, states and jobs."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pyg_bgformer.config.schema import Config, ReportConfig
from pyg_bgformer.data import ImageDataset
from pyg_bgformer.engine.extension import ANY_NUMBER
from pyg_bgformer.engine.launch import build_fabric
from pyg_bgformer.engine.setup import build_dataset, build_sampler, protocol_part
from pyg_bgformer.errors import InputError, RunError
from pyg_bgformer.files import hashes_by_name
from pyg_bgformer.runs.diff import differing
from pyg_bgformer.runs.folder import RunFolder, State
from pyg_bgformer.runs.result import read_result
from pyg_bgformer.study.definition import Study
from pyg_bgformer.study.executor import Job


@dataclass(frozen=True)
class StudyRun:
    """One row with one seed.

    Args:
        row: Name of the row.
        config: The configuration with this seed.
        folder: The run's folder. Its name is made of the row and the seed.
    """

    row: str
    config: Config
    folder: RunFolder

    def __str__(self) -> str:
        return f"'{self.row}' seed {self.config.seed}"

    def state(self) -> State:
        """Returns whether the run is pending, unfinished or finished.

        Raises:
            InputError: If its folder has a run of another recipe.
        """
        if not self.folder.recipe.exists():
            return "pending"
        there = {
            **self.folder.read_recipe(),
            "runs": self.config.runs,
            "plugins": self.folder.plugin_hashes(),
        }
        plugins = hashes_by_name(map(Path, self.config.plugins))
        different = differing(there, {**self.config.as_dict(), "plugins": plugins})
        different = {key: pair for key, pair in different.items() if key not in ANY_NUMBER}
        for key, (found, asked) in different.items():
            more = f" (and {len(different) - 1} more keys)" if len(different) > 1 else ""
            raise InputError(
                f"{self.folder} has a run with {key}: {found}, expected {asked} as in the study{more}; remove that "
                "folder, or choose another one with --runs"
            )
        return self.folder.state

    def job(self) -> Job:
        """Returns the job that carries out the run, or the rest of it."""
        devices, nodes = self.config.train.devices or 1, self.config.train.nodes
        command = ["-m", "pyg_bgformer", "run", "--resume", str(self.folder.path.resolve())]
        command += ["--train.devices", str(devices), "--train.nodes", str(nodes)]
        return Job(str(self), command, self.folder.log, self.outcome, self.prepare, devices, nodes)

    def prepare(self) -> None:
        """Makes the run's folder with its recipe, if it does not exist.

        Raises:
            InputError: If the folder cannot be made.
        """
        if not self.folder.recipe.exists():
            RunFolder.create(self.folder.path, self.config.as_dict())

    def outcome(self) -> str:
        """Returns the result of the finished run in a few words.

        Raises:
            InputError: If there is no result, or it is damaged.
            RunError: If embeddings depend on their batch. Such results must not be compared.
        """
        result = read_result(self.folder)
        if result.batch_dependent:
            raise RunError(
                f"embeddings depend on their batch (by {result.batch_dependence:.1e} of their norm)"
            )
        return f"has MAP@R {100 * result.trained['embedding']['map_at_r']:.1f}"


def study_runs(study: Study, place: Path) -> list[StudyRun]:
    """Returns all runs of a study, seed by seed. Every row has its first run before any row has its second one.

    The runs write no pages, unless a recipe sets ``report.page``. ``pyg-bgformer show`` writes them later.

    Args:
        study: The study.
        place: Folder of the study's runs.
    """
    return [
        StudyRun(
            row.name,
            replace(
                row.config, seed=seed, runs=str(place), report=ReportConfig(page=bool(row.config.report.page))
            ),
            RunFolder(place / f"{row.slug}-seed{seed}"),
        )
        for seed in sorted({seed for row in study.rows for seed in row.seeds})
        for row in study.rows
        if seed in row.seeds
    ]


def check_here(configs: Iterable[Config]) -> None:
    """Raises an error before the first run if data, a device or images for a batch are missing.

    Args:
        configs: Configurations of the runs.

    Raises:
        InputError: If a run would raise this error.
    """
    datasets: dict[tuple[Any, ...], ImageDataset] = {}
    for config in configs:
        data = config.data
        key = (data.name, data.root, data.variant, data.allow_partial, data.crop_to_box, data.min_images)
        if key not in datasets:
            datasets[key] = build_dataset(data)
        build_fabric(config.train)
        build_sampler(config.sampler, protocol_part(config.protocol, datasets[key]), config.seed)
