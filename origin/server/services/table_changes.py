"""Changes of tables of the configuration, such as ``[[live]]``, that take effect while the server runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, TypeAlias

from origin.config.options import AnswerRelayOptions, Config, LiveOptions, RadioOptions
from origin.config.section import Options

Table: TypeAlias = LiveOptions | RadioOptions | AnswerRelayOptions
"""A table of a kind that may come and go while the server runs."""

SECTIONS: Mapping[str, type[Table]] = {
    "live": LiveOptions,
    "radio": RadioOptions,
    "relay": AnswerRelayOptions,
}
"""These kinds, by the name of their section."""


class UnchangeableError(Exception):
    """A table can't be made, changed or removed while the server runs; the text says why, for a person."""


class ChangingTables(Protocol):
    """The services of one section of the configuration, which come and go while the server runs."""

    @property
    def section(self) -> str:
        """The section, such as ``live``."""

    def check(self, before: Table | None, after: Table | None, keys: frozenset[str]) -> None:
        """Check whether a table may change; see `change`.

        Raises:
            UnchangeableError: not while the server runs.
        """

    async def change(self, before: Table | None, after: Table | None, keys: frozenset[str]) -> None:
        """Carry out a change of a table, which was checked.

        Args:
            before: None for a new table.
            after: None for one that goes.
            keys: that differ, without those which take effect by themselves.

        Raises:
            UnchangeableError: not now.
        """


def tables_of(config: Config, section: str) -> dict[str, Table]:
    """Return the tables of a section by name."""
    return {one.name: one for one in getattr(config, section)}


def differences(before: Options, after: Options) -> list[str]:
    """Name the keys of a table that differ."""
    return [key for key in before.__struct_fields__ if getattr(before, key) != getattr(after, key)]
