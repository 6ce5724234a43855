"""Adds the recipes of experiments/recipes to the package; everything else is in pyproject.toml."""

from setuptools import find_packages, setup

setup(packages=[*find_packages(include=["pyg_bgformer*"]), "pyg_bgformer.recipes"])
