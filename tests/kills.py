"""Kills a run at random moments, and resumes it to its end."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from pyg_bgformer.runs.folder import RunFolder

RECIPE = (
    *("--config", "digits/bgformer", "--data.workers", "1", "--evaluation.clustering", "false"),
    *("--sampler.batches_per_epoch", "6", "--train.epochs", "3", "--report.page", "false"),
)
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def start(*arguments):
    """A run as a process group of its own, as a terminal or a scheduler starts it."""
    command = [sys.executable, "-W", "ignore", "-m", "pyg_bgformer", "run", *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def encoder_of(folder):
    return (folder.path / "encoder.safetensors").read_bytes()


def kill_and_resume(runs: Path, kills: int, seed: int = 0) -> list[str]:
    """Kills runs ``kills`` times in all, each run again and again until it is finished.

    Args:
        runs: Folder of the runs.
        kills: Number of signals.
        seed: Decides the moments and the signals.

    Returns:
        One line for each fault: a stack trace, an exit code that is not the signal's, an encoder that differs.
    """
    chance, faults, sent = random.Random(seed), [], 0
    begun = time.monotonic()
    process = start(*RECIPE, "--runs", str(runs / "whole"))
    _, errors = process.communicate()
    longest = time.monotonic() - begun
    if process.returncode:
        return [f"without a kill: exit code {process.returncode}: {errors}"]
    whole = encoder_of(RunFolder(next((runs / "whole").iterdir())))
    while sent < kills:
        place = runs / f"killed-{sent}"
        folder, code = None, None
        while code != 0:
            process = start(*(["--resume", str(folder)] if folder else [*RECIPE, "--runs", str(place)]))
            number = chance.choice(SIGNALS)
            if sent < kills:
                try:
                    process.wait(chance.uniform(0.2, 0.9) * longest)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, number)
                    sent += 1
            _, errors = process.communicate()
            code = process.returncode
            found = [path for path in place.glob("*") if (path / "config.yaml").exists()]
            folder = RunFolder(found[0]) if found else None
            if "Traceback" in errors:
                faults.append(f"{number.name}: {errors}")
            # A shell shows 130 also for an end by SIGINT: so Python ends where the signal met an exec() of text.
            if code not in (0, 130, -signal.SIGINT, -signal.SIGKILL, -number):
                faults.append(f"{number.name}: exit code {code}: {errors}")
            if code == 130 and folder and not re.search(r"resume with: --resume|nothing was started", errors):
                faults.append(f"{number.name}: does not say how to resume: {errors}")
            if faults:
                return faults
            # A kill after the result leaves nothing to resume.
            if folder and folder.state == "finished":
                break
        if encoder_of(folder) != whole:
            faults.append(f"{folder}: the encoder differs from that of a run that was not killed")
        if left := [path.name for path in [*place.rglob("*")] if path.name.endswith(".partial")]:
            faults.append(f"{folder}: left behind {', '.join(left)}")
    return faults
