"""Changes of tables of the configuration, such as ``[[live]]``, that take effect while the server runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import msgspec

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


@dataclass(frozen=True, slots=True)
class TableChange:
    """A table that comes, changes or goes.

    Attributes:
        before: None for one that comes.
        after: None for one that goes.
        keys: that differ, without those which take effect by themselves.
    """

    before: Table | None
    after: Table | None
    keys: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """The table's name."""
        return next(one.name for one in (self.before, self.after) if one is not None)

    @property
    def is_anew(self) -> bool:
        """Whether what the table makes ends or begins."""
        return self.before is None or self.after is None or bool(self.keys)


class ChangingTables(Protocol):
    """The services of one section of the configuration, which come and go while the server runs."""

    @property
    def section(self) -> str:
        """The section, such as ``live``."""

    def in_place(self, before: Any, after: Any, /) -> frozenset[str]:
        """Return the keys that change while what a table makes goes on."""

    def check(self, change: TableChange) -> None:
        """Check whether a table may change.

        Raises:
            UnchangeableError: not while the server runs.
        """

    async def carry_out(self, change: TableChange) -> None:
        """Carry out a change that was checked.

        Raises:
            UnchangeableError: not now; nothing has changed.
            OSError, CommandError: likewise, for a reason that the administrator has to mend.
        """


def tables_of(config: Config, section: str) -> dict[str, Table]:
    """Return the tables of a section by name."""
    return {one.name: one for one in getattr(config, section)}


def differences(before: Options, after: Options) -> list[str]:
    """Name the keys of a table that differ."""
    return [key for key in before.__struct_fields__ if getattr(before, key) != getattr(after, key)]


def with_table(config: Config, section: str, change: TableChange) -> Config:
    """Return a configuration with a table that comes, changes or goes."""
    tables = {name: one for name, one in tables_of(config, section).items() if name != change.name}
    if change.after is not None:
        tables[change.name] = change.after
    return msgspec.structs.replace(config, **{section: tuple(tables.values())})
