"""What the markers of tests say, such as the clauses and promises that they hold, read from the syntax."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.syntax import nodes

ROOT = Path(__file__).parent.parent


def texts(function: ast.FunctionDef | ast.AsyncFunctionDef, marker: str) -> Iterator[str]:
    """Yield what the markers of a name say of a function, also those of single parameters."""
    for decorator in function.decorator_list:
        for node in ast.walk(decorator):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == f"pytest.mark.{marker}":
                for argument in node.args:
                    assert isinstance(argument, ast.Constant), f"{function.name}: a {marker} is a literal"
                    assert isinstance(argument.value, str), f"{function.name}: a {marker} is text"
                    yield argument.value


def table(paths: Iterable[Path], marker: str) -> dict[str, list[str]]:
    """Return the tests in files or folders, as pytest names them, by what their markers of a name say."""
    tests: dict[str, list[str]] = {}
    files = {file for path in paths for file in (sorted(path.rglob("*.py")) if path.is_dir() else [path])}
    for file in sorted(files):
        source = file.read_text("utf-8")
        for node in nodes(ast.parse(source)) if f"pytest.mark.{marker}" in source else ():
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                for text in texts(node, marker):
                    tests.setdefault(text, []).append(f"{file.relative_to(ROOT)}::{node.name}")
    return tests
