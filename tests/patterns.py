"""All regular expressions of the program, and how long each takes for a mebibyte of the worst text found.

``python -m tests.patterns`` prints the table, the slowest first.
"""

from __future__ import annotations

import ast
import functools
import importlib
import re
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from re import _constants as codes  # type: ignore[attr-defined]  # what the standard library's parser gives
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

import click

from tests.program_modules import MODULES, ROOT

MEBIBYTE = 1 << 20
SCREENED = 16 << 10
"""Length of the texts by which the worst one is found."""

SEARCHED_FOR_WORST = 3
"""How many of the worst of those are tried at full length."""

MOST_EXAMPLES = 40
MOST_LETTERS = 60
"""Of an example of what a pattern matches."""

USUAL = " \t,;:=\"'a0-./%<&\r\n"

ENDS = {"media.subtitles.ass: _PARTS": "}"}
"""Ends of the texts of patterns that are used on texts with another end than the usual one."""

RUNS = ("fullmatch", "match", "search", "split", "sub", "subn", "findall", "finditer")
REPEATED = RUNS[3:]
"""Methods that go on behind a match: their time is that of all matches of a text."""

_USES = re.compile(rf"\.(?:compile|{'|'.join(RUNS)})\b")


@dataclass(frozen=True)
class UsedPattern:
    """A regular expression of the program, and what is done with it.

    Attributes:
        name: module, and name or source.
        compiled: the pattern; None if it is made of what isn't known before a function runs.
        is_repeated: whether all matches of a text are sought, or parts of it replaced.
        is_anchored: whether it is tried at a text's beginning alone.
        end: of the texts that it is used on, as the code that calls it sees to it.
    """

    name: str
    compiled: re.Pattern[Any] | None
    is_repeated: bool = False
    is_anchored: bool = False
    end: str = "\x01"

    @functools.cached_property
    def run(self) -> Callable[[Any], object]:
        """Do with a text what the program does."""
        assert self.compiled is not None
        if self.is_repeated:
            finditer = self.compiled.finditer
            return lambda text: deque(finditer(text), 0)
        return self.compiled.fullmatch if self.is_anchored else self.compiled.search

    def text(self, unit: str, size: int) -> str | bytes:
        """Repeat a text up to a length, with an end that most patterns can't match."""
        assert self.compiled is not None
        whole = (unit * (size // len(unit) + 1))[: size - 1] + self.end
        return whole.encode("latin-1", "replace") if isinstance(self.compiled.pattern, bytes) else whole

    def seconds(self, unit: str, size: int) -> float:
        """Measure the processor time for such a text."""
        text = self.text(unit, size)
        begin = time.thread_time()
        self.run(text)
        return time.thread_time() - begin


@dataclass(frozen=True, slots=True)
class Worst:
    """The worst text that was found for a pattern.

    Attributes:
        seconds: of processor time for it.
        size: its length, in characters.
        unit: what it repeats.
    """

    seconds: float
    size: int
    unit: str

    @property
    def seconds_per_mebibyte(self) -> float:
        """By what was measured; more if it grows faster than the text."""
        return self.seconds * MEBIBYTE / self.size


def worst(used: UsedPattern, size: int = MEBIBYTE, most_seconds: float = 0.05) -> Worst:
    """Find the worst text of a length for a pattern.

    Args:
        most_seconds: a short text that takes longer isn't tried at full length.
    """
    assert used.compiled is not None
    screened = min(SCREENED, size)
    found = sorted(
        (Worst(used.seconds(unit, screened), screened, unit) for unit in units(used.compiled)),
        key=lambda one: one.seconds,
        reverse=True,
    )
    if found[0].seconds > most_seconds or screened == size:
        return found[0]
    return max(
        (Worst(used.seconds(one.unit, size), size, one.unit) for one in found[:SEARCHED_FOR_WORST]),
        key=lambda one: one.seconds,
    )


def units(compiled: re.Pattern[Any]) -> list[str]:
    """Return what to repeat: each beginning of what a pattern matches, and usual characters."""
    source = compiled.pattern if isinstance(compiled.pattern, str) else compiled.pattern.decode("latin-1")
    found = dict.fromkeys(USUAL)
    for example in _examples(parser.parse(source, compiled.flags & ~re.UNICODE & ~re.LOCALE)):
        found |= dict.fromkeys(example[:end] for end in range(1, min(len(example), MOST_LETTERS) + 1))
    return list(found)


def _examples(parsed: Sequence[Any]) -> list[str]:
    """Return some texts that a parsed pattern matches, without its assertions."""
    found = [""]
    for code, argument in parsed:
        found = [text + more for text in found for more in _of_part(code, argument)][:MOST_EXAMPLES]
    return found


def _of_part(code: Any, argument: Any) -> list[str]:
    if code is codes.LITERAL:
        return [chr(argument)]
    if code in (codes.ANY, codes.NOT_LITERAL):
        return ["x" if argument != ord("x") else "y"]
    if code is codes.IN:
        return [
            next((one for one in ("x0 -." + "".join(map(chr, range(256)))) if _is_in(one, argument)), "x")
        ]
    if code in (codes.MAX_REPEAT, codes.MIN_REPEAT, codes.POSSESSIVE_REPEAT):
        least, most, part = argument
        inner = _examples(part)
        return [one * max(least, min(1, most)) for one in inner] + ([""] if least == 0 else [])
    if code is codes.SUBPATTERN:
        return _examples(argument[3])
    if code is codes.ATOMIC_GROUP:
        return _examples(argument)
    if code is codes.BRANCH:
        return [one for part in argument[1] for one in _examples(part)][:MOST_EXAMPLES]
    return [""]  # a place, an assertion, or what a group has matched


def _is_in(char: str, among: Sequence[Any]) -> bool:
    is_negated, found = False, False
    for code, argument in among:
        if code is codes.NEGATE:
            is_negated = True
        elif code is codes.LITERAL:
            found |= ord(char) == argument
        elif code is codes.RANGE:
            found |= argument[0] <= ord(char) <= argument[1]
        else:
            name = str(argument).lower().rpartition("category_")[2]
            kind = {"digit": r"\d", "space": r"\s", "word": r"\w", "not_digit": r"\D", "not_space": r"\S"}
            found |= re.match(kind.get(name, r"\W"), char) is not None
    return found != is_negated


def patterns() -> Iterator[UsedPattern]:
    """Find all regular expressions by the program's text, in the order of the modules."""
    calls: list[tuple[Path, ast.Call]] = []
    names: dict[ast.AST, str] = {}
    uses: dict[tuple[str, str], set[str]] = {}
    for path in MODULES:
        text = path.read_text()
        # Each run collects tests by them: most modules needn't be parsed.
        for node in ast.walk(ast.parse(text)) if _USES.search(text) else ():
            if isinstance(node, ast.Attribute) and node.attr in RUNS:
                name = _name(node.value)
                # A private name is its module's own.
                uses.setdefault((str(path) if name.startswith("_") else "", name), set()).add(node.attr)
            elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
                names[node.value] = _name(node.targets[0])
            elif isinstance(node, ast.Call) and _is_of_re(node.func):
                calls.append((path, node))
    for path, call in calls:
        method = _name(call.func)
        used = {method}
        name = ast.unparse(call.args[0])
        if method == "compile":
            name = names.get(call, name)
            used = uses.get((str(path) if name.startswith("_") else "", name), set(RUNS))
        whole_name = f"{_module(path)}: {name}"
        yield UsedPattern(
            whole_name,
            _evaluated(path, call, is_compiled=method == "compile"),
            is_repeated=bool(used & set(REPEATED)),
            is_anchored=used <= {"fullmatch", "match"},
            end=ENDS.get(whole_name, "\x01"),
        )


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else getattr(node, "attr", "")


def _is_of_re(function: ast.expr) -> bool:
    return (
        isinstance(function, ast.Attribute)
        and isinstance(function.value, ast.Name)
        and function.value.id == "re"
        and function.attr in ("compile", *RUNS)
    )


def _module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _evaluated(path: Path, call: ast.Call, *, is_compiled: bool) -> re.Pattern[Any] | None:
    """Compile the pattern of a call; None if it needs what only a running function has."""
    flags = call.args[1:] if is_compiled else []
    flags += [one.value for one in call.keywords if one.arg == "flags"]
    flags += [one for one in call.args[2:] if ast.unparse(one).startswith("re.")]
    source = f"re.compile({', '.join(map(ast.unparse, (call.args[0], *flags[:1])))})"
    try:
        found = eval(source, dict(vars(importlib.import_module(_module(path)))))
    except NameError:
        return None
    assert isinstance(found, re.Pattern)
    return found


def main() -> None:
    """Print the table."""
    rows = [(worst(one), one) for one in patterns() if one.compiled is not None]
    for one, used in sorted(rows, key=lambda row: row[0].seconds_per_mebibyte, reverse=True):
        grows = " and more" if one.size < MEBIBYTE else ""
        click.echo(f"{one.seconds_per_mebibyte * 1e3:9.1f} ms{grows}  {used.name}  {one.unit!r}")


if __name__ == "__main__":
    main()
