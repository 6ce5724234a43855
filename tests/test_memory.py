"""Freed memory is kept for the next allocation."""

import os
import subprocess
import sys

import pytest

from pyg_bgformer.memory import OWN_CHOICES

STEPS = """
import resource
from pyg_bgformer.memory import keep_freed_memory

def step():
    bytearray(b"a") * (64 << 20)  # writes every page, and is freed

def faults(steps):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(steps):
        step()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

kept = keep_freed_memory()
step()
print(kept, faults(4))
"""
PAGES = 4 * (64 << 20) // 4096
"""Pages that four steps write."""


def kept_and_faults(environment):
    """What the function returns in a new process, and how many pages the system cleared in four steps after it."""
    done = subprocess.run(
        [sys.executable, "-c", STEPS], env=environment, capture_output=True, text=True, check=True
    )
    kept, faults = done.stdout.split()
    return kept == "True", int(faults)


UNDECIDED = {name: value for name, value in os.environ.items() if name not in OWN_CHOICES}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc has the setting")
def test_the_pages_of_freed_memory_are_not_cleared_again():
    kept, faults = kept_and_faults(UNDECIDED)
    if not kept:
        pytest.skip("the C library is not glibc")
    assert faults < PAGES / 100


def test_the_choice_of_the_user_is_respected():
    kept, _ = kept_and_faults(UNDECIDED | {"MALLOC_MMAP_THRESHOLD_": "131072"})
    assert not kept
