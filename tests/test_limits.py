"""The limits of every room: handed in from the server's, and patched by no test."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import re
import typing
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from origin.http.client_limits import ClientLimits
from origin.server.services.limits import Limits
from tests.program_modules import MODULES, ROOT
from tests.syntax import nodes

CONSTANT = re.compile(r"(?:^|\.)_?[A-Z][A-Z0-9_]+$")
MAY_PATCH = re.compile(
    r"\b(?:setattr|delattr|object|patch)\(|sitecustomize|\.\s*_?[A-Z][A-Z0-9_]+"
    r"(?:\s*[\"'\\]|\s*[^\w\s]{0,3}=(?!=))"
)
"""Without it no constant of another module is set, and the text needn't be parsed."""

PATCHED_ELSEWHERE = re.compile(r"\w+\.[A-Z][A-Z0-9_]+ = |sitecustomize")


def patched_constants(text: str) -> list[str]:
    """Give the constants that a test sets in others' modules: by name, in a path, or by an assignment."""
    found: list[str] = []
    if not MAY_PATCH.search(text):
        return found
    for node in nodes(ast.parse(text)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
            if called in ("setattr", "delattr", "object", "patch"):
                named = [one.value for one in node.args[:2] if isinstance(one, ast.Constant)]
                found += [name for name in named if isinstance(name, str) and CONSTANT.search(name)]
        elif isinstance(node, ast.Assign | ast.AugAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found += [
                one.attr for one in targets if isinstance(one, ast.Attribute) and CONSTANT.search(one.attr)
            ]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            # Programs for other processes, and what Python imports by itself as it starts.
            found += PATCHED_ELSEWHERE.findall(node.value)
    return found


def test_no_test_patches_a_constant() -> None:
    """A test that needs another limit hands one in."""
    tests = [path for path in (ROOT / "tests").rglob("*.py") if path != Path(__file__)]
    patched = {path: found for path in tests if (found := patched_constants(path.read_text("utf-8")))}
    assert patched == {}


@pytest.mark.parametrize(
    "text",
    [
        'monkeypatch.setattr(run, "STALL_SECONDS", 1)',
        'monkeypatch.setattr("packager.live.encoder_run.STALL_SECONDS", 1)',
        'patch.setattr(run, "_STALL_SECONDS", 1)',
        'mock.patch.object(run, "STALL_SECONDS", 1)',
        "run.STALL_SECONDS = 1",
        'PROGRAM = "import run; run.STALL_SECONDS = 1"',
        'path = folder / "sitecustomize.py"',
    ],
)
def test_the_check_of_patches_sees_each_way_to_set_a_constant(text: str) -> None:
    assert patched_constants(text)


def named_types(hint: object) -> Iterator[object]:
    """Give a type and all those that it is made of."""
    yield hint
    for one in typing.get_args(hint):
        yield from named_types(one)


def handed_in(limits: type, found: set[type]) -> set[type]:
    """Add a dataclass of limits to those found, with all that its fields hold."""
    if limits not in found:
        found.update(one for one in limits.__mro__ if dataclasses.is_dataclass(one))
        for hint in typing.get_type_hints(limits).values():
            for one in named_types(hint):
                if isinstance(one, type) and dataclasses.is_dataclass(one):
                    handed_in(one, found)
    return found


def test_the_limits_of_every_room_are_handed_in_from_the_servers() -> None:
    modules = [
        importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
        for path in MODULES
        if re.search(r"^class \w+Limits\b", path.read_text("utf-8"), re.MULTILINE)
    ]
    every = {
        one
        for module in modules
        for name, one in vars(module).items()
        if name.endswith("Limits") and isinstance(one, type) and dataclasses.is_dataclass(one)
    }
    # It counts what each client has; how much that may be is configured.
    assert every - handed_in(Limits, set()) == {ClientLimits}
    assert all(one.__dataclass_params__.frozen for one in every - {ClientLimits})  # type: ignore[attr-defined]


def test_limits_are_plain_values_that_go_to_another_process_as_text() -> None:
    """So tests hand them to servers that they start."""
    assert msgspec.json.decode(msgspec.json.encode(Limits()), type=Limits) == Limits()
