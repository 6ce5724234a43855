import os
import subprocess
import sys
from pathlib import Path

import pytest

from pyg_bgformer import __version__
from pyg_bgformer.cli.main import COMMANDS, main


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "--train.epocs", "3"], ["train.epocs", "train.epochs"]),
        (["run", "--config", "nowhere.yaml"], ["nowhere.yaml"]),
        (["run", "--data.name", "digit"], ["'digit'", "'digits'"]),
        (["run", "--data.name", "cub200", "--data.root", "nowhere"], ["nowhere"]),
        (["run", "--resume", "nowhere"], ["nowhere", "config.yaml"]),
        (["run", "--resume", "nowhere", "--seed", "1"], ["nowhere", "config.yaml"]),
        (["run", "--seed", "-1"], ["seed", "-1"]),
        (["run", "--train.device", "cpu", "--train.precision", "16-mixed"], ["16-mixed", "bf16-mixed"]),
        (["run", "--encoder.name", "resnet50"], ["resnet50", "torchvision/"]),
        (["verify"], ["DATASET", "verify --help"]),
        (["verify", "cub"], ["'cub'", "'cub200'"]),
        (["verify", "cub200", "--root", "nowhere"], ["nowhere"]),
        (["verify", "digits", "--rot", "x"], ["--rot"]),
        (["verify", "digits", "--workers", "-1"], ["--workers", "-1", "at least 0"]),
        (["diff", "nowhere", "nowhere"], ["nowhere", "config.yaml"]),
        (["summarise"], ["RUN"]),
        (["rum"], ["'rum'", "'run'", "--help"]),
        ([], ["run,verify", "--help"]),
    ],
)
def test_mistakes_end_with_one_line_and_exit_code_2(arguments, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "are dropped" not in line]
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert all(word in lines[0] for word in words), lines[0]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_has_an_example(command, capsys):
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"usage: pyg-bgformer {command}")
    assert f"pyg-bgformer {command}" in printed.partition("example")[2]


def test_help_lists_the_commands_and_imports_no_torch():
    code = "import sys; from pyg_bgformer.cli.main import main; main(['--help'])"
    check = "import atexit; atexit.register(lambda: print('torch' in sys.modules, file=sys.stderr)); "
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; {check}{code}"], capture_output=True, text=True, check=True
    )
    assert done.stderr.strip() == "False"
    assert all(f"    {command} " in done.stdout for command in COMMANDS)
    assert "example: pyg-bgformer run" in done.stdout


def test_the_version_is_that_of_the_package(capsys):
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out.split()[-1] == __version__


def test_a_command_prints_no_warning_of_a_library(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "pyg_bgformer", "run", "--print_config"],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},  # also where it is not installed
    )
    assert done.stderr == ""
    assert "k: 15" in done.stdout


def test_verify_says_that_digits_are_complete(capsys):
    assert main(["verify", "digits", "--workers", "0"]) == 0
    assert "1797 of 1797 images" in capsys.readouterr().out.replace(",", "")
