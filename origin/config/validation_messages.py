"""Turns validation errors of the configuration into messages for the person who wrote it."""

from __future__ import annotations

import re
import typing
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Literal

from msgspec import Struct

from origin.config.options import Config

_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "array": "a list",
    "object": "a table",
}
"""Plain words for msgspec's types."""


LIKENESS = 0.7
"""How alike a key is that somebody may have meant, by difflib's ratio."""

COMPARED_CHARACTERS = 64
"""As much of an unknown key is compared."""


def allowed_keys(table: type[Struct]) -> str:
    """List the keys of a section."""
    return ", ".join(table.__struct_fields__)


GONE_KEYS = {
    "server.yp_url": "went with version 0.2, as the server announces stations to no directory; remove it,"
    " and enter your stations at the directory's own page",
}
"""Keys that the configuration had once: since when it has them no more, and what to do instead."""


def explain(message: str) -> str:
    """Turn msgspec's "… - at `$.server.port`" into "server.port: …; allowed: …"."""
    fault, _, place = message.replace("`key` in `$", "`$").partition(" - at `$")
    place = place.rstrip("`").removeprefix(".")
    unknown = re.search(r"unknown field `(.*)`", fault)
    kind = _kind_at(place)
    if unknown is None:
        advice = f"; each begins with [[{place}]]" if place in ("live", "radio", "events", "relay") else ""
        return f"{place}: {reason(fault, kind)}{advice}"
    key = f"{place}.{unknown.group(1)}".removeprefix(".")
    if key in GONE_KEYS:
        return f"{key}: {GONE_KEYS[key]}"
    meant = similar_key(unknown.group(1), kind.__struct_fields__, _sections())
    return f"{key}: unknown key; {question(meant)}allowed: {allowed_keys(kind)}"


def question(meant: str) -> str:
    """Return the question whether a key was meant; empty without one."""
    return f"did you mean {meant}? " if meant else ""


def similar_key(unknown: str, keys: Iterable[str], sections: Mapping[str, type[Struct]]) -> str:
    """Return the key that somebody may have meant by an unknown one; empty without one.

    Args:
        keys: which are looked at first, also for keys that are written alike.
        sections: whose keys are looked at where that finds none; the section's name comes with the key.
    """
    written = unknown[:COMPARED_CHARACTERS].lower().replace("-", "_")
    if alike := get_close_matches(written, keys, n=1, cutoff=LIKENESS):
        return alike[0]
    return next(
        (f"{name}.{written}" for name, one in sections.items() if written in one.__struct_fields__), ""
    )


def _sections() -> dict[str, type[Struct]]:
    """Return the types of all sections by name, also of those that may be there several times."""
    hints = typing.get_type_hints(Config)
    return {name: next(iter(typing.get_args(kind)), kind) for name, kind in hints.items()}


def reason(message: str, kind: Any) -> str:
    """Return the description of a valid value.

    Args:
        message: msgspec's, without the location.
        kind: the value's type hint with its constraints.
    """
    bare = without_constraints(kind)
    if typing.get_origin(bare) is Literal:
        return f"not possible; allowed: {', '.join(str(value) for value in typing.get_args(bare))}"
    described = next((one.description for one in getattr(kind, "__metadata__", ()) if one.description), None)
    if described and ("matching regex" in message or typing.get_args(bare)):
        return f"not possible; allowed: {described}"
    return _in_words(message)


def _in_words(message: str) -> str:
    """Rephrase msgspec's messages about types, such as "Expected `int` <= 65535"."""
    if missing := re.fullmatch(r"Object missing required field `(.*)`", message):
        return f"{missing[1]} is missing"
    text = re.sub(r"`(int|float|str|bool|array|object)`", lambda found: _WORDS[found[1]], message)
    text = re.sub(r"(?: of length)? >= (\S+)", r", not less than \1", text)
    text = re.sub(r"(?: of length)? <= (\S+)", r", not more than \1", text)
    text = text.replace("text, not less than 1", "text, not empty").replace("`", "'")
    return (text[:1].lower() + text[1:]).replace(", got ", ", not ")


def _kind_at(place: str) -> Any:
    """Find the type at a path such as ``live[0].ladder[1]``."""
    kind: Any = Config
    for step in re.findall(r"\w+|\[", place.replace("[...]", "[")):
        if step == "[":
            of_items = typing.get_args(without_constraints(kind))
            kind = of_items[0] if of_items[-1] is Ellipsis else of_items[-1]
        elif not step.isdigit():
            kind = _without_none(typing.get_type_hints(kind, include_extras=True)[step])
    return kind


def without_constraints(kind: Any) -> Any:
    """Return a type without the constraints of ``Annotated``."""
    return kind.__origin__ if typing.get_origin(kind) is Annotated else kind


def _without_none(kind: Any) -> Any:
    """Return the type of what may also be absent."""
    if type(None) not in typing.get_args(kind):
        return kind
    return next(one for one in typing.get_args(kind) if one is not type(None))
