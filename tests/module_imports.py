"""What the modules of the program import, by their text."""

from __future__ import annotations

import ast
import dataclasses
import functools
from pathlib import Path

from tests.program_modules import MODULES, ROOT
from tests.syntax import children

FACES = {path for path in MODULES if path.name == "__init__.py"}
"""The modules that a folder's name stands for."""


@dataclasses.dataclass
class Source:
    """What the text of a module says.

    Attributes:
        names: the top-level names that it imports, wherever in it.
        known: the modules and folders of ours that it imports, for type checking too, and what isn't one.
        loaded: those of them that it imports when it runs, in a function or at once.
        texts: its constants.
        constructors: how many arguments each has that a class writes out.
    """

    names: set[str] = dataclasses.field(default_factory=set)
    known: set[Path] = dataclasses.field(default_factory=set)
    loaded: set[Path] = dataclasses.field(default_factory=set)
    texts: set[object] = dataclasses.field(default_factory=set)
    constructors: dict[str, int] = dataclasses.field(default_factory=dict)


@functools.cache
def source_of(path: Path) -> Source:
    """Read a module."""
    found = Source()
    pending: list[tuple[ast.AST, bool]] = [(ast.parse(path.read_text("utf-8")), True)]
    for node, is_loaded in pending:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            is_loaded = False
        imported: set[Path] = set()
        if isinstance(node, ast.Constant):
            found.texts.add(node.value)
        elif isinstance(node, ast.ClassDef):
            for one in node.body:
                if isinstance(one, ast.FunctionDef) and one.name == "__init__":
                    arguments = [*one.args.posonlyargs, *one.args.args, *one.args.kwonlyargs]
                    found.constructors[node.name] = len(arguments) - 1
        elif isinstance(node, ast.Import):
            found.names |= {alias.name.split(".")[0] for alias in node.names}
            imported = {ROOT.joinpath(*alias.name.split(".")) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the room"
            found.names.add((node.module or "").split(".")[0])
            folder = ROOT.joinpath(*(node.module or "").split("."))
            imported = {folder / alias.name for alias in node.names} | {folder}
        found.known |= imported
        if is_loaded:
            found.loaded |= imported
        pending += [(child, is_loaded) for child in children(node)]
    return found


def imported(path: Path) -> set[str]:
    """Give the top-level names that a module imports, wherever in it."""
    return source_of(path).names


def modules_among(names: set[Path], path: Path) -> set[Path]:
    """Give the modules of ours among what a module imports; a folder's face is one, where it has names."""
    faces = {name / "__init__.py" for name in names if (name / "__init__.py") in FACES}
    return ({name.with_suffix(".py") for name in names} | faces).intersection(MODULES) - {path}


@functools.cache
def imported_modules(path: Path) -> set[Path]:
    """Give the modules of ours that a module imports when it runs, not for type checking alone."""
    return modules_among(source_of(path).loaded, path)


@functools.cache
def known_modules(path: Path) -> set[Path]:
    """Give the modules of ours that a module imports, for type checking too."""
    return modules_among(source_of(path).known, path)
