import json
import shutil
import sys
from pathlib import Path

import pytest

from pyg_bgformer.cli.main import main
from pyg_bgformer.config.recipe import read_config
from pyg_bgformer.errors import InputError
from pyg_bgformer.files import hashes_by_name
from pyg_bgformer.losses import LOSSES
from pyg_bgformer.methods import METHODS

EXAMPLE = Path(__file__).parents[2] / "examples" / "gat_method.py"
QUICK = ["--train.epochs=1", "--sampler.batches_per_epoch=1", "--evaluation.clustering=false"]
LOSS = """
from torch import nn
from pyg_bgformer.losses import LOSSES

@LOSSES.register("spread")
class SpreadLoss(nn.Module):
    '''Pulls embeddings to their mean.

    Args:
        weight: Of the loss.
    '''
    def __init__(self, *, weight: float = 1.0):
        super().__init__()
        self.weight = weight

    def forward(self, embeddings, labels):
        return self.weight * embeddings.var(dim=0).sum()
"""


@pytest.fixture(autouse=True)
def forgotten(monkeypatch):
    """Plug-ins of one test are not there in the next."""
    for registry in (METHODS, LOSSES):
        monkeypatch.setattr(registry, "parts", dict(registry.parts))
    yield
    for name in [name for name in sys.modules if name.startswith("pyg_bgformer_plugin_")]:
        del sys.modules[name]


@pytest.fixture
def write(tmp_path):
    def write(name, text):
        (tmp_path / name).write_text(text, encoding="utf-8")
        return str(tmp_path / name)

    return write


def test_a_file_of_the_command_line_adds_a_method_with_its_options():
    config = read_config(["--plugins", str(EXAMPLE), "--method.name", "gat", "--method.heads", "2"])
    assert config.method.options == {"k": 15, "heads": 2, "alpha": 0.5}
    assert config.plugins == (str(EXAMPLE),)


def test_a_recipe_names_plug_ins_relative_to_its_folder_and_the_command_line_adds_more(write):
    write("loss.py", LOSS)
    path = write("recipe.yaml", "plugins: [loss.py]\nloss: {name: spread, weight: 2}")
    config = read_config(["--config", path, "--plugins", str(EXAMPLE), "--method.name=gat"])
    assert config.loss.options == {"weight": 2.0}
    assert [Path(plugin).name for plugin in config.plugins] == ["loss.py", "gat_method.py"]
    assert read_config(["--config", path]).loss.name == "spread"  # the same file again is no second plug-in


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "cannot be read: No such file"),
        (
            "import torch\nimport no_such_module",
            "line 2: ModuleNotFoundError: No module named 'no_such_module'",
        ),
        ("def f(:", "line 1: SyntaxError"),
        ("x = 1\n\n1 / 0", "line 3: ZeroDivisionError"),
        (LOSS.replace("spread", "n_pair"), "line 5: the loss 'n_pair' exists already"),
    ],
)
def test_a_file_that_fails_is_one_line_that_says_where(write, tmp_path, text, words):
    path = str(tmp_path / "mine.py") if text is None else write("mine.py", text)
    for _ in range(2):
        with pytest.raises(InputError) as error:
            read_config(["--plugins", path])
        assert str(error.value).startswith(f"plugin {path}")
        assert words in str(error.value)
        assert "\n" not in str(error.value)


def test_two_files_of_one_name_are_refused(write, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "loss.py").write_text("")
    with pytest.raises(InputError, match="same name"):
        read_config(["--plugins", write("loss.py", LOSS), str(other / "loss.py")])


def test_a_list_of_plug_ins_is_expected(write):
    with pytest.raises(InputError, match="plugins: expected a list"):
        read_config(["--config", write("recipe.yaml", "plugins: mine.py")])


def test_a_run_keeps_a_copy_which_a_resume_uses(tmp_path, capsys):
    mine = tmp_path / "mine.py"
    shutil.copy(EXAMPLE, mine)
    runs = tmp_path / "runs"
    arguments = ["run", "--plugins", str(mine), "--method.name", "gat", "--method.k", "5", *QUICK]
    assert main([*arguments, "--runs", str(runs)]) == 0
    (folder,) = runs.iterdir()
    assert (folder / "plugins" / "mine.py").read_bytes() == EXAMPLE.read_bytes()
    result = json.loads((folder / "result.json").read_text())
    assert result["provenance"]["plugins"] == hashes_by_name([mine])
    assert result["config"]["plugins"] == ["plugins/mine.py"]

    mine.write_text("raise RuntimeError('the copy is used')")
    (folder / "result.json").unlink()
    assert main(["run", "--resume", str(folder)]) == 0, capsys.readouterr().err
    assert json.loads((folder / "result.json").read_text())["trained"] == result["trained"]
