"""``python -m tests.configuration_reference``: write the table of ``docs/configuration.md``.

The table is generated from the types, defaults and docstrings of the options, and from the list of those that
take effect without a restart. The text around the table is written by hand.
"""

from __future__ import annotations

import ast
import inspect
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec

from origin.config import limit_options, options
from origin.config.options import Config
from origin.config.validation_messages import without_constraints
from origin.server.changes.live_changes import IN_PLACE
from origin.server.tables.config_reload import TAKEN, TAKEN_ACCESS, TAKEN_LIMITS
from origin.server.tables.table_changes import SECTIONS

PAGE = Path(__file__).parent.parent / "docs" / "configuration.md"
HEAD = "| key | type and range | unit | default | restart | meaning |\n|---|---|---|---|---|---|\n"
UNBOUNDED = 1 << 40
"""Largest value of a number for which no smaller one makes sense."""

SUFFIXES = {"_seconds": "seconds", "_bytes": "bytes"}


class Option(NamedTuple):
    """A key of the configuration, as the table describes it."""

    key: str
    kind: str
    unit: str
    default: str
    restart: str
    meaning: str


def _restart(section: str, key: str) -> str:
    """Say what a changed option needs before it takes effect."""
    in_place = {f"live.{name}" for name in IN_PLACE}
    if key in TAKEN | TAKEN_ACCESS | TAKEN_LIMITS | in_place or section == "webhooks":
        return "no"
    return "anew" if section in SECTIONS else "yes"


def described_options() -> Iterator[Option]:
    """Yield all options in the order in which the code declares them."""
    docstrings = _docstrings()
    for section, hint in typing.get_type_hints(Config).items():
        table = hint if isinstance(hint, type) else typing.get_args(hint)[0]
        hints = typing.get_type_hints(table, include_extras=True)
        for field in msgspec.structs.fields(table):
            key, kind = f"{section}.{field.name}", hints[field.name]
            unit = _unit(field.name, kind)
            yield Option(
                key,
                kind_in_words(kind),
                unit,
                _default(_default_of(field), unit),
                _restart(section, key),
                docstrings.get((table.__name__, field.name), ""),
            )


def _default_of(field: msgspec.structs.FieldInfo) -> object:
    return field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()


def generated_table() -> str:
    """Return the table of all options as Markdown."""
    return HEAD + "".join(
        f"| `{one.key}` | {' | '.join(map(_cell, one[1:]))} |\n" for one in described_options()
    )


def generated_page(page: str) -> str:
    """Return the page with its table replaced by the one that the code gives."""
    before, head, rest = page.partition(HEAD)
    assert head, "docs/configuration.md has no table of keys"
    return before + generated_table() + re.sub(r"\A(?:\|.*\n)*", "", rest)


def kind_in_words(kind: Any) -> str:
    """Describe a type and its range for the person who writes the configuration."""
    metas = getattr(kind, "__metadata__", ())
    bare = without_constraints(kind)
    for meta in metas:
        if meta.description:
            return str(meta.description)
    arguments = typing.get_args(bare)
    if typing.get_origin(bare) is Literal:
        values = [f'"{value}"' if isinstance(value, str) else str(value) for value in arguments]
        return f"{', '.join(values[:-1])} or {values[-1]}"
    if typing.get_origin(bare) is tuple:
        most = next((f" of at most {meta.max_length}" for meta in metas if meta.max_length), "")
        return f"list{most}: {kind_in_words(arguments[0])}"
    if typing.get_origin(bare) is dict:
        return f"table: {kind_in_words(arguments[0])}, and {kind_in_words(arguments[1])}"
    if type(None) in arguments:
        return " or ".join(kind_in_words(one) for one in arguments if one is not type(None))
    if bare is bool:
        return "true or false"
    if bare is str:
        return "text, not empty" if any(meta.min_length for meta in metas) else "text"
    return f"{'whole number' if bare is int else 'number'}{_range(metas)}"


def _range(metas: tuple[msgspec.Meta, ...]) -> str:
    bounds = {
        name: value
        for meta in metas
        for name in ("gt", "ge", "le")
        if (value := getattr(meta, name)) is not None
    }
    if bounds.get("le", UNBOUNDED) >= UNBOUNDED:
        return f", {bounds['ge']:,} or more" if "ge" in bounds else ""
    least = f"above {bounds['gt']:,}" if "gt" in bounds else f"from {bounds['ge']:,}"
    return f" {least} to {bounds['le']:,}"


def _unit(name: str, kind: Any) -> str:
    if type(None) in typing.get_args(kind):
        (kind,) = (one for one in typing.get_args(kind) if one is not type(None))
    for meta in getattr(kind, "__metadata__", ()):
        if meta.extra and "unit" in meta.extra:
            return str(meta.extra["unit"])
    words = kind_in_words(kind)
    if words.startswith(("a duration", "a number of bytes")):
        return "s, m, h or d" if words.startswith("a duration") else "bytes, M, G or T"
    if words.startswith(("number", "whole number")):
        return next((unit for suffix, unit in SUFFIXES.items() if name.endswith(suffix)), "")
    return ""


def _default(value: object, unit: str) -> str:
    if value is msgspec.NODEFAULT:
        return "required"
    if value is None:
        return "absent"
    if isinstance(value, tuple):
        return f"`{msgspec.json.encode(value).decode()}`".replace(",", ", ")
    exact = f"`{msgspec.json.encode(value).decode()}`"
    if unit == "bytes" and isinstance(value, int) and value % 1024 == 0:
        return f"{exact} ({value >> 20} MiB)" if value % (1 << 20) == 0 else f"{exact} ({value >> 10} KiB)"
    return exact


def _cell(text: str) -> str:
    return re.sub(r"``(.+?)``", r"`\1`", text).replace("|", "\\|")


def _docstrings() -> dict[tuple[str, str], str]:
    """Map the name of a section's class and that of its option to the docstring behind the option."""
    found: dict[tuple[str, str], str] = {}
    for section in [
        *ast.parse(inspect.getsource(options)).body,
        *ast.parse(inspect.getsource(limit_options)).body,
    ]:
        if not isinstance(section, ast.ClassDef):
            continue
        for option, text in zip(section.body, section.body[1:], strict=False):
            if (
                isinstance(option, ast.AnnAssign)
                and isinstance(option.target, ast.Name)
                and isinstance(text, ast.Expr)
                and isinstance(text.value, ast.Constant)
            ):
                found[section.name, option.target.id] = " ".join(str(text.value.value).split())
    return found


if __name__ == "__main__":
    PAGE.write_text(generated_page(PAGE.read_text("utf-8")), "utf-8")
