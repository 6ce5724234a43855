import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch
import yaml

from pyg_bgformer.cli.main import main

ROOT = Path(__file__).parents[2]
QUICK = ["--data.workers=0", "--train.epochs=1", "--sampler.batches_per_epoch=1"]


def test_a_run_without_a_recipe_is_the_default_one_and_ends_with_its_table(tmp_path, capsys):
    assert main(["run", *QUICK, "--verbose", "--evaluation.clustering=false", "--runs", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "R-precision" in printed
    assert re.search(r"MAP@R on 264 unseen classes: \d+\.\d -> \d+\.\d, R@1", printed)
    assert "3463 queries" in printed
    assert next(tmp_path.glob("*")).name.startswith("glyphs-bgformer-seed0")


def test_print_config_prints_the_whole_recipe_and_runs_nothing(tmp_path, capsys):
    arguments = [
        "--config",
        "digits/bgformer",
        "--method.k",
        "3",
        "--loss.name",
        "triplet",
        "--runs",
        str(tmp_path),
    ]
    assert main(["run", *arguments, "--print_config"]) == 0
    printed = capsys.readouterr()
    recipe = yaml.safe_load(printed.out)
    assert (recipe["method"]["k"], recipe["encoder"]["embedding_dim"]) == (3, 64)
    assert recipe["loss"]["margin"] == 0.05
    assert printed.err == (
        "loss: replaced pairwise_cross_entropy by triplet; its options tau, reduction are dropped\n"
    )
    assert not list(tmp_path.iterdir())


def test_ctrl_c_leaves_a_run_that_resume_finishes(tmp_path):
    command = [sys.executable, str(ROOT / "experiments" / "run.py")]
    slow = [
        "--config=digits/bgformer",
        "--train.epochs=1",
        "--sampler.batches_per_epoch=2000",
        "--evaluation.clustering=false",
    ]
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
