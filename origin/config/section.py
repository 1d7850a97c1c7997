"""A section of the configuration, which shows no secret where it is logged."""

from __future__ import annotations

import functools
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct

from packager.redaction import MASK, redacted_url

HIDDEN = "********"
"""Shown instead of a secret."""


class Options(Struct, frozen=True, forbid_unknown_fields=True):
    """A section of the configuration; its repr hides secrets."""

    def __repr__(self) -> str:
        """Represent the options for logs and tracebacks."""
        shown = ", ".join(f"{key}={shown_value(type(self), key, value)!r}" for key, value in _items(self))
        return f"{type(self).__name__}({shown})"


@functools.cache
def secrecy(section: type[Struct]) -> Mapping[str, str]:
    """Map the keys of a section that hold secrets to ``all``, ``in URL`` or ``path``, which is of a URL."""
    hints = typing.get_type_hints(section, include_extras=True)
    return {key: found for key, hint in hints.items() if (found := _secrecy_of(hint))}


def _secrecy_of(hint: Any) -> str:
    for meta in getattr(hint, "__metadata__", ()):
        if meta.extra and "secret" in meta.extra:
            return str(meta.extra["secret"])
    return next(filter(None, map(_secrecy_of, typing.get_args(hint))), "")


def shown_value(section: type[Struct], key: str, value: Any) -> Any:
    """Return a value as it may be shown."""
    kind = secrecy(section).get(key)
    if isinstance(value, tuple):
        return tuple(shown_value(section, key, one) for one in value)
    if not kind or not isinstance(value, str) or not value:
        return value
    if kind == "all":
        return HIDDEN
    return redacted_url(value, MASK, with_path=kind != "path")


def _items(table: Struct) -> Iterator[tuple[str, Any]]:
    return ((key, getattr(table, key)) for key in table.__struct_fields__)
