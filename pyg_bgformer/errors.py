"""A user's mistake, a run that failed, and the words that help to mend them."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Something the user gave is wrong: a recipe, a folder, a file, a checkpoint.

    The message is one line that says what was found, what was expected, where, and how to mend it. The
    command line prints that line and ends with exit code 2; as a :class:`ValueError` it is caught the
    ordinary way by those who use the package as a library.
    """


class RunError(RuntimeError):
    """A run that cannot go on or whose result must not be believed, though the user made no mistake.

    The command line prints its one line and ends with exit code 1.
    """


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The nearest known name as a question, or the list of the known names.

    >>> did_you_mean("epoch", ["epochs", "lr"])
    "did you mean 'epochs'?"
    """
    names = sorted(known)
    nearest = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean '{nearest[0]}'?" if nearest else f"known are: {', '.join(names)}"
