"""What pip installs."""

import os
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

from pyg_bgformer import __version__

ROOT = Path(__file__).parents[1]


def carry_out(*command, **settings):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **settings)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_version_is_the_same_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == __version__
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert "version" not in project
    assert project["dynamic"] == ["version"]


@pytest.mark.slow  # builds, makes an environment and trains: half a minute
def test_the_wheel_holds_the_package_and_its_recipes_alone_and_trains(tmp_path):
    pytest.importorskip("build", reason="build is not installed: pip install -e '.[dev]'")
    pytest.importorskip("twine", reason="twine is not installed: pip install -e '.[dev]'")
    checkout = tmp_path / "checkout"
    files = carry_out("git", "ls-files", cwd=ROOT).split("\n") if (ROOT / ".git").exists() else None
    if not files:
        pytest.skip("not a git checkout: which files belong to the project is unknown")
    for name in filter(None, files):
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_bytes((ROOT / name).read_bytes())
    said = carry_out(sys.executable, "-m", "build", "--no-isolation", checkout)
    assert [line for line in said.splitlines() if "warning" in line.lower() and "byte-comp" not in line] == []
    wheel, archive = next(checkout.glob("dist/*.whl")), next(checkout.glob("dist/*.tar.gz"))
    carry_out(sys.executable, "-m", "twine", "check", "--strict", wheel, archive)

    inside = [name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name]
    assert {name.split("/")[0] for name in inside} == {"pyg_bgformer"}
    assert {name for name in files if name.startswith("pyg_bgformer/")} <= set(inside)
    recipes = {path.relative_to(ROOT / "experiments") for path in ROOT.glob("experiments/recipes/*/*.yaml")}
    assert {f"pyg_bgformer/{recipe.as_posix()}" for recipe in recipes} <= set(inside)
    with tarfile.open(archive) as source:
        folders = {name.split("/")[1] for name in source.getnames() if name.count("/") > 1}
    assert not folders & {"tests", "benchmarks", "docs", "data", ".github"}

    outside = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    settings = {"cwd": tmp_path, "env": outside}
    carry_out(sys.executable, "-m", "venv", "fresh", **settings)
    python, command = tmp_path / "fresh" / "bin" / "python", tmp_path / "fresh" / "bin" / "pyg-bgformer"
    carry_out(python, "-m", "pip", "install", "--no-index", "--no-deps", wheel, **settings)
    place = carry_out(
        python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", **settings
    ).strip()
    Path(place, "others.pth").write_text(sysconfig.get_path("purelib"))  # the dependencies, without copies
    assert __version__ in carry_out(command, "--version", **settings)
    assert "R@1" in carry_out(command, "run", "--train.epochs", "1", **settings)
    assert len(list((tmp_path / "runs").iterdir())) == 1
    where = carry_out(python, "-c", "import pyg_bgformer; print(pyg_bgformer.__file__)", **settings)
    assert where.startswith(place)
