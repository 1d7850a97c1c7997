"""Syntax trees of modules, and a walk through them for rules about all of the program's code."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path


@functools.cache
def tree_of(path: Path) -> ast.Module:
    """Parse a module."""
    return ast.parse(path.read_text("utf-8"))


def children(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes right below a node in the order of its fields.

    Contexts and operators are left out, such as ``ast.Load``: no rule is about them, and they are two fifths
    of all nodes.
    """
    for value in vars(node).values():
        if isinstance(value, list):
            for one in value:
                if isinstance(one, ast.AST):
                    yield one
        elif isinstance(value, ast.AST) and value._fields:
            yield value


@functools.cache
def nodes(tree: ast.AST) -> Sequence[ast.AST]:
    """Return a tree's nodes, each before those below it.

    One rule after the other walks through the same module, and `ast.walk` takes several times as long.
    """
    found = [tree]
    # The list grows while the loop reads it.
    for node in found:
        found.extend(children(node))
    return found
