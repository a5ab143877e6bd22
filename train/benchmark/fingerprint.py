"""Which code a figure depends on: a figure of other code is another figure.

What a release says of itself changes too seldom, and a hash of every file too often: a comment, or another network,
would throw hours of training away. So the code that a model's training can reach by its imports is hashed, without
comments and docstrings. Scene readers and native kernels are not among it: tests hold those to their results.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

# What decides on figures; the table of networks is left out, for each model starts at its own.
_WITHIN = ("hyperline.train.", "hyperline.splits", "hyperline.metrics")
_WITHOUT = ("hyperline.train.models", "hyperline.train.benchmark")
_BENCHMARK = "hyperline.train.benchmark."


@cache
def fingerprint(*modules: str) -> str:
    """Hash some modules of hyperline and all of training, splits and metrics that they import, wherever they do.

    Returns:
        16 hexadecimal digits; the same wherever the code is the same and Python's grammar of the same release.
    """
    seen: dict[str, str] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        found = find_spec(name)
        if name in seen or found is None or found.origin is None:
            continue
        tree = ast.parse(Path(found.origin).read_text())
        seen[name] = ast.dump(_without_docstrings(tree))
        if not name.startswith(_BENCHMARK):  # it knows every kind of model
            followed = (one for one in _imports(tree) if one.startswith(_WITHIN) and one not in _WITHOUT)
            waiting += (one for one in followed if not one.startswith(_BENCHMARK))
    text = "\n".join(f"{name} {seen[name]}" for name in sorted(seen))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _imports(tree: ast.Module) -> Iterator[str]:
    """Give the modules that a module imports, also inside its functions; a name of a package may be a module of it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module
            if node.module.startswith(_WITHIN):
                yield from (name for one in node.names if _is_module(name := f"{node.module}.{one.name}"))


def _is_module(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False  # what is imported from a plain module is no module


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:]
    return tree
