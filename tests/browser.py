"""A browser without a window, for pictures of pages and for the tests that open pages."""

import shutil

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu")


def find_browser():
    """The path of a browser; none where none is installed."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def browser_command(*flags):
    """The command of a browser with some flags; skips the test where none is installed."""
    if (found := find_browser()) is None:
        pytest.skip(f"none of {', '.join(NAMES)} is installed: no browser to open pages in")
    return [found, *FLAGS, *flags]
