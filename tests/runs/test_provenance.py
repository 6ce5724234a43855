"""What a result says about the code that it was made with."""

import subprocess

import pytest

from pyg_bgformer.runs import provenance


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout with one file of the package, from which the package seems to run."""
    module = tmp_path / "pyg_bgformer" / "runs" / "provenance.py"
    module.parent.mkdir(parents=True)
    module.write_text("one = 1\n")
    identity = ["-c", "user.name=me", "-c", "user.email=me@example.org"]
    for command in (["init", "-q"], ["add", "."], [*identity, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    monkeypatch.setattr(provenance, "__file__", str(module))
    return tmp_path


def test_the_commit_says_whether_the_package_was_edited(checkout):
    commit = provenance.git_commit()
    assert len(commit) == 40
    (checkout / "table.md").write_text("a table of a study")
    assert provenance.git_commit() == commit
    (checkout / "pyg_bgformer" / "new.py").write_text("two = 2\n")
    assert provenance.git_commit() == f"{commit}+changes"


def test_without_a_checkout_the_commit_is_unknown(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "pyg_bgformer" / "runs" / "provenance.py"))
    assert provenance.git_commit() is None
