"""Adds folders of data to the package: the recipes, and the pages' templates. The rest is in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

datasets = sorted(path.name for path in Path("experiments/recipes").iterdir() if path.is_dir())

setup(
    packages=[
        *find_packages(include=["pyg_bgformer*"]),
        "pyg_bgformer.report.templates",
        "pyg_bgformer.recipes",
        *(f"pyg_bgformer.recipes.{dataset}" for dataset in datasets),
    ]
)
