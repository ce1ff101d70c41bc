"""The version of the code that makes a result: a hash of its syntax, not of its text.

Comments, docstrings, blank lines and line breaks do not count; an edited constant, name or default does. Results
that are named by this hash survive an edited comment and are made anew after an edited formula.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from audioml.store.files import hash_json

PACKAGE = Path(__file__).resolve().parents[1]


def code_version(modules: Sequence[str], within: Sequence[str], package: Path = PACKAGE) -> str:
    """Return the hash of some modules and of what they import of their own package.

    Parameters
    ----------
    modules
        Files to start from, relative to the package, such as ``features/logmel.py``.
    within
        Folders and files of the package into which imports are followed, such as ``audio`` or ``units.py``.
        What is imported from elsewhere (params, errors, other packages) does not count.
    package
        The package's folder; imports are absolute, ``from <package>.folder.module import name``.

    Returns
    -------
    str
        64 hex digits, the same on every supported Python.
    """
    syntax: dict[str, str] = {}
    to_read = list(modules)
    while to_read:
        module = to_read.pop()
        if module in syntax:
            continue
        path = package / module
        syntax[module], imported = _read(path, package, path.stat().st_mtime_ns)
        to_read += [path for path in imported if _is_within(path, within)]
    return hash_json(syntax)


@lru_cache(maxsize=256)
def _read(path: Path, package: Path, mtime_ns: int) -> tuple[str, tuple[str, ...]]:
    """Return the hash of a module's syntax and the files of the package it imports; once for each state of the file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return hash_json(_dump(tree)), tuple(_imported(tree, package))


def _imported(tree: ast.Module, package: Path) -> Iterator[str]:
    """Yield the files of the package that a module imports, relative to the package."""
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    for name in names:
        top, _, rest = name.partition(".")
        path = f"{rest.replace('.', '/')}.py"
        if top == package.name and (package / path).is_file():
            yield path


def _is_within(path: str, within: Sequence[str]) -> bool:
    return any(path == place or path.startswith(f"{place}/") for place in within)


def _dump(node: Any) -> Any:
    """Turn a syntax tree into JSON, without docstrings, positions, and fields that only some Pythons have."""
    if isinstance(node, ast.AST):
        fields = {name: _dump(value) for name, value in ast.iter_fields(node) if value is not None and value != []}
        return [type(node).__name__, fields]
    if isinstance(node, list):
        return [_dump(item) for item in node if not _is_docstring(item)]
    return f"{type(node).__name__} {node!r}"


def _is_docstring(node: Any) -> bool:
    """Tell whether a statement is a bare string: a docstring of a module, class, function or attribute."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
