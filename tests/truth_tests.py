"""Finds truth tests of values that may be there and false: an empty mapping, no bytes, a limit of 0."""

from __future__ import annotations

import ast
import functools
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.syntax import children, nodes, tree_of

NUMBERS_AND_TEXTS: Mapping[str, object] = {"int": 0, "float": 0.0, "str": "", "bytes": b""}
"""Immutable types that may be false, and the value of each that is: ``x or ""`` means the same for None."""

CONTAINERS = frozenset(
    {
        *("Mapping", "MutableMapping", "dict", "defaultdict", "OrderedDict", "Counter"),
        *("Sequence", "list", "tuple", "deque", "set", "frozenset", "Set", "Collection"),
        *("bytearray", "memoryview", "array"),
    }
)

_Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass
class Declarations:
    """What the program's classes declare.

    Attributes:
        sized: the names of the classes with a length, whose truth nobody has defined.
        public: the annotations of all attributes of a name.
    """

    sized: set[str] = field(default_factory=set)
    public: defaultdict[str, list[ast.expr]] = field(default_factory=lambda: defaultdict(list))

    def add(self, declaring: ast.ClassDef) -> None:
        """Add what a class declares."""
        names = {one.name for one in declaring.body if isinstance(one, _Function)}
        if "__len__" in names and "__bool__" not in names:
            self.sized.add(declaring.name)
        for name, annotation in attributes(declaring):
            self.public[name].append(annotation)


@functools.cache
def attributes(declaring: ast.ClassDef) -> Sequence[tuple[str, ast.expr]]:
    """Return the attributes of a class with their annotations, or with the value of one that has none."""
    return tuple(_attributes(declaring))


def _attributes(declaring: ast.ClassDef) -> Iterator[tuple[str, ast.expr]]:
    for one in declaring.body:
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name):
            yield one.target.id, one.annotation
        if not isinstance(one, _Function):
            continue
        if one.returns is not None and any("property" in ast.unparse(each) for each in one.decorator_list):
            yield one.name, one.returns
        given = _parameters(one)
        for node in nodes(one):
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Attribute):
                yield node.target.attr, node.annotation
            elif isinstance(node, ast.Assign):
                for target in node.targets:
                    if isinstance(target, ast.Attribute):
                        yield (
                            target.attr,
                            given.get(node.value.id, node.value)
                            if isinstance(node.value, ast.Name)
                            else node.value,
                        )


def _parameters(function: _Function) -> dict[str, ast.expr]:
    given = function.args
    every = (*given.posonlyargs, *given.args, *given.kwonlyargs)
    return {one.arg: one.annotation for one in every if one.annotation is not None}


def _members(annotation: ast.expr) -> Iterator[ast.expr]:
    """Yield the members of a union."""
    if isinstance(annotation, ast.BinOp):
        yield from _members(annotation.left)
        yield from _members(annotation.right)
    elif isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) == "Annotated":
        assert isinstance(annotation.slice, ast.Tuple)
        yield from _members(annotation.slice.elts[0])
    else:
        yield annotation


def _false_types(annotation: ast.expr, sized: set[str]) -> set[str]:
    """Return the types of a union that may be false though a value was given; none without None."""
    every = {ast.unparse(one): one for one in _members(annotation)}
    found = set[str]()
    for one in every.values():
        base = one.value if isinstance(one, ast.Subscript) else one
        name = ast.unparse(base).rpartition(".")[2]
        if name in sized:
            found.add(name)
        # A tuple with as many members as its annotation has is never empty.
        is_fixed = (
            name == "tuple" and isinstance(one, ast.Subscript) and not ast.unparse(one).endswith("...]")
        )
        if "None" in every and (name in NUMBERS_AND_TEXTS or name in CONTAINERS) and not is_fixed:
            found.add(name)
    return found


_TESTING = (
    ast.If | ast.While | ast.IfExp | ast.Assert | ast.UnaryOp | ast.comprehension | ast.Call | ast.BoolOp
)


def _tested(node: ast.AST) -> Iterator[tuple[ast.expr, ast.expr | None]]:
    """Yield the expressions whose truth a node asks for, each with what ``or`` has in its place."""
    if isinstance(node, ast.If | ast.While | ast.IfExp | ast.Assert):
        yield node.test, None
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield node.operand, None
    elif isinstance(node, ast.comprehension):
        yield from ((one, None) for one in node.ifs)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "bool":
        yield from ((one, None) for one in node.args)
    elif isinstance(node, ast.BoolOp):
        is_or = isinstance(node.op, ast.Or)
        for one, other in zip(node.values, node.values[1:], strict=False):
            yield one, other if is_or else None


def _is_same(types: set[str], default: ast.expr | None) -> bool:
    """Return whether a default is the false value of the type, so that None and this value mean the same."""
    if isinstance(default, ast.Tuple):
        return not default.elts and types <= {"tuple", "Sequence"}
    if not isinstance(default, ast.Constant):
        return False
    return types == {type(default.value).__name__} and not default.value


def declarations(paths: Sequence[Path]) -> Declarations:
    """Return what the classes of modules declare."""
    found = Declarations()
    for path in paths:
        for node in nodes(tree_of(path)):
            if isinstance(node, ast.ClassDef):
                found.add(node)
    return found


def truth_tests(tree: ast.Module, declared: Declarations) -> Iterator[str]:
    """Yield the truth tests of a module of what may be false though it was given, each with its line."""
    yield from _below(tree, _Scope({}, {}), declared)


@dataclass(frozen=True)
class _Scope:
    """The annotations that are known where a node is: those of names, and of attributes of ``self``."""

    names: dict[str, ast.expr]
    own: Mapping[str, ast.expr]
    is_function: bool = False


def _below(node: ast.AST, scope: _Scope, declared: Declarations) -> Iterator[str]:
    if isinstance(node, ast.ClassDef):
        # Of several assignments the first has the annotation.
        scope = _Scope({}, dict(reversed(attributes(node))))
    elif isinstance(node, _Function):
        scope = _Scope({**scope.names, **_parameters(node)}, scope.own, is_function=True)
    elif scope.is_function and isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        scope.names[node.target.id] = node.annotation
    elif isinstance(node, _TESTING):
        for tested, default in _tested(node):
            annotations = _annotations(tested, scope.names, scope.own, declared)
            types = [_false_types(one, declared.sized) for one in annotations]
            if types and all(types) and not _is_same(types[0], default):
                yield f"{tested.lineno}: {ast.unparse(tested)}"
    for child in children(node):
        yield from _below(child, scope, declared)


def _annotations(
    tested: ast.expr, names: Mapping[str, ast.expr], own: Mapping[str, ast.expr], declared: Declarations
) -> list[ast.expr]:
    """Return what is known of an expression's type; of an attribute what all classes say that have it."""
    if isinstance(tested, ast.Name) and tested.id in names:
        return [names[tested.id]]
    if not isinstance(tested, ast.Attribute):
        return []
    if isinstance(tested.value, ast.Name) and tested.value.id == "self":
        return [own[tested.attr]] if tested.attr in own else []
    return declared.public[tested.attr]
