"""A browser without a window, for the tests that open pages."""

import shutil

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def browser_command(*flags):
    """The command of a browser with some flags; skips the test where none is installed."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"none of {', '.join(NAMES)} is installed: no browser to open pages in")
    return [found, "--headless", "--no-sandbox", "--disable-gpu", *flags]
