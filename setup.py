"""Adds the recipes of experiments/recipes to the package. The rest is in pyproject.toml."""

from setuptools import find_namespace_packages, setup

recipes = find_namespace_packages("experiments", include=["recipes*"])

setup(
    packages=[
        *find_namespace_packages(include=["pyg_bgformer*"]),  # with folders of data alone, such as templates
        *(f"pyg_bgformer.{folder}" for folder in recipes),
    ]
)
