"""Plug-ins: Python files of a user that register a method, loss, dataset or other part."""

import hashlib
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from pyg_bgformer.errors import InputError


def load_plugins(files: Iterable[Path]) -> None:
    """Imports plug-in files, each one once in a process. This runs the code in them.

    Args:
        files: Python files that register parts, for example with ``@METHODS.register("gat")``.

    Raises:
        InputError: If a file cannot be read, raises an error, registers a name that exists already, or has the same
            name as another file.
    """
    named: dict[str, Path] = {}
    for path in files:
        if named.setdefault(path.name, path) != path:
            raise InputError(f"plugins {named[path.name]} and {path} have the same name; rename one")
        try:
            content = path.read_bytes()
        except OSError as error:
            raise InputError(f"plugin {path} cannot be read: {error.strerror}") from error
        name = f"pyg_bgformer_plugin_{hashlib.sha256(content).hexdigest()[:16]}"
        if name in sys.modules:
            continue
        module = ModuleType(name)
        module.__file__ = str(path)
        sys.modules[name] = module  # typing.get_type_hints looks for the types in its signatures here
        try:
            exec(compile(content, str(path), "exec"), module.__dict__)
        except Exception as error:
            del sys.modules[name]
            frames = traceback.extract_tb(error.__traceback__)
            lines = [frame.lineno for frame in frames if frame.filename == str(path)]
            line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
            kind = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
            where = f"plugin {path}" if line is None else f"plugin {path}, line {line}"
            raise InputError(f"{where}: {kind}{' '.join(str(error).split())}") from error
