import json
import shutil
import sys
from pathlib import Path

import pytest

from pyg_bgformer.cli.main import main
from pyg_bgformer.config.recipe import read_config
from pyg_bgformer.data.datasets import DATASETS
from pyg_bgformer.encoders.build import ENCODERS
from pyg_bgformer.engine.setup import build_dataset, build_method
from pyg_bgformer.errors import InputError
from pyg_bgformer.files import hashes_by_name
from pyg_bgformer.losses import LOSSES
from pyg_bgformer.methods import METHODS
from pyg_bgformer.runs.folder import RunFolder

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


DATASET = """
from pyg_bgformer.data.datasets import DATASETS
from pyg_bgformer.data.datasets.digits import Digits

@DATASETS.register("my_digits")
def load():
    return Digits()
"""
ENCODER = """
from pyg_bgformer.encoders.build import ENCODERS
from pyg_bgformer.encoders.conv4 import Conv4

@ENCODERS.register("my_network")
def my_network(pooling: str) -> Conv4:
    return Conv4(pooling)
"""


@pytest.fixture(autouse=True)
def forgotten(monkeypatch):
    """Plug-ins of one test are not there in the next."""
    for registry in (METHODS, LOSSES, DATASETS, ENCODERS):
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


def test_datasets_and_encoders_are_added_alike(write):
    given = ["--plugins", write("dataset.py", DATASET), write("encoder.py", ENCODER)]
    config = read_config(
        [*given, "--data.name=my_digits", "--encoder.name=my_network", "--encoder.embedding_dim=8"]
    )
    assert len(build_dataset(config.data).table) == 1797
    assert build_method(config, num_classes=5).encoder.embedding_dim == 8


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
    given = ["--plugins", str(mine), "--method.name", "gat", "--method.k", "5", *QUICK]
    config = read_config(["--config", "digits/plain", *given])
    folder = RunFolder.create(tmp_path / "runs" / "one", config.as_dict())
    assert (folder.plugins / "mine.py").read_bytes() == EXAMPLE.read_bytes()
    assert folder.read_recipe()["plugins"] == ["plugins/mine.py"]

    mine.write_text("raise RuntimeError('the copy is used')")
    assert main(["run", "--resume", str(folder)]) == 0, capsys.readouterr().err
    result = json.loads(folder.result.read_text())
    assert result["provenance"]["plugins"] == {"mine.py": hashes_by_name([EXAMPLE])[EXAMPLE.name]}
    assert result["config"]["plugins"] == ["plugins/mine.py"]
