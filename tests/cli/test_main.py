import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from pyg_bgformer.cli.main import main

ROOT = Path(__file__).parents[2]
QUICK = ["--data.workers=0", "--train.epochs=1", "--sampler.batches_per_epoch=1"]
DIGITS = ["run", "--config", str(ROOT / "experiments" / "recipes" / "digits" / "bgformer.yaml"), *QUICK]


def test_a_run_ends_with_its_table(tmp_path, capsys):
    assert main([*DIGITS, "--runs", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"MAP@R on 5 unseen classes: \d+\.\d -> \d+\.\d, R@1", printed)
    assert "896 queries" in printed


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "--train.epocs", "3"], ["train.epocs", "train.epochs"]),
        (["run", "--config", "nowhere.yaml"], ["nowhere.yaml"]),
        (["run", "--data.name", "digit"], ["'digit'", "'digits'"]),
        (["run", "--data.name", "cub200", "--data.root", "nowhere"], ["nowhere"]),
        (["run", "--resume", "nowhere"], ["nowhere", "config.yaml"]),
        (["run", "--resume", "nowhere", "--seed", "1"], ["--resume"]),
        (["run", "--train.device", "cpu", "--train.precision", "16-mixed"], ["16-mixed", "bf16-mixed"]),
        (["run", "--encoder.name", "resnet50", "--sampler.classes", "5"], ["resnet50", "torchvision/"]),
        (["run", "--sampler.classes", "6"], ["6", "5 classes"]),
        (["verify"], ["dataset"]),
        (["verify", "cub"], ["'cub'", "'cub200'"]),
        (["verify", "cub200", "--root", "nowhere"], ["nowhere"]),
        (["verify", "digits", "--rot", "x"], ["--rot"]),
        (["verify", "digits", "--workers", "-1"], ["--workers", "-1", "at least 0"]),
    ],
)
def test_mistakes_end_with_one_line_and_exit_code_2(arguments, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert all(word in lines[0] for word in words), lines[0]
    assert not list(tmp_path.iterdir())


def test_an_unknown_command_shows_the_usage(capsys):
    assert main(["rum"]) == 2
    assert "usage:" in capsys.readouterr().err


def test_verify_says_that_digits_are_whole(capsys):
    assert main(["verify", "digits", "--workers", "0"]) == 0
    assert "1797 of 1797 images" in capsys.readouterr().out.replace(",", "")


def test_print_config_prints_a_recipe(capsys):
    assert main([*DIGITS, "--method.k", "3", "--print_config"]) == 0
    printed = capsys.readouterr().out
    assert "k: 3" in printed
    assert "embedding_dim: 64" in printed


def test_ctrl_c_leaves_a_run_that_resume_finishes(tmp_path):
    command = [sys.executable, str(ROOT / "experiments" / "run.py")]
    slow = ["--train.epochs=1", "--sampler.batches_per_epoch=2000", "--evaluation.clustering=false"]
    process = subprocess.Popen(
        [*command, *slow, "--runs", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("*/untrained.json")) and time.monotonic() < deadline:
        time.sleep(0.2)
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    folder = re.search(r"--resume (.+)", errors)[1]
    batches = torch.load(Path(folder, "checkpoint.pt"), weights_only=True)["batch"]
    assert 0 < batches < 2000
    config = Path(folder, "config.yaml")
    config.write_text(
        config.read_text().replace("batches_per_epoch: 2000", f"batches_per_epoch: {batches + 1}")
    )
    done = subprocess.run(
        [*command, "--resume", folder], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    assert Path(folder, "result.json").exists()
