"""Tables of the configuration that are made at run time, and kept in the record book of the data folder."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog

from origin.config.kept_secrets import SECRET_BYTES
from origin.config.load import check_together, validate
from origin.config.options import Config, ConfigError
from origin.config.section import HIDDEN, secrecy
from origin.server.tables.config_reload import ConfigReload
from origin.server.tables.table_changes import SECTIONS, Table, UnchangeableError, tables_of
from packager.record_book import RecordBook
from packager.sources.published_source import PUBLISH
from packager.threads import SHARED_THREADS

log = structlog.get_logger()

MOST_TABLES = 1000
"""Most tables of a section that are made."""

MADE_KEYS = {"live": "publish_key", "radio": "source_password", "relay": "token"}
"""The key of each section's tables that is generated where a request has none."""

_TABLE = msgspec.json.Decoder(dict[str, Any])

TableValues = Mapping[str, Any]
"""The keys of a table and their values, as in JSON."""


class RefusedChangeError(Exception):
    """A table stays as it is; the text says why, for a person.

    Attributes:
        status: of the response: 404, 409, 422 or 507.
    """

    def __init__(self, status: int, line: str) -> None:
        super().__init__(line)
        self.status = status


@dataclass(frozen=True, slots=True)
class KnownTable:
    """A table that is in effect.

    Attributes:
        is_made: whether it was made at run time, and isn't the configuration's.
        is_new: whether there was none of its name before.
        made_key: the secret that was generated for it just now; empty for none.
    """

    table: Table
    is_made: bool
    is_new: bool = False
    made_key: str = ""


class MadeTables:
    """The tables that are made at run time, by section and name.

    Args:
        book: keeps them; None without a data folder, where none can be made.

    Attributes:
        troubles: why tables of the record book aren't in effect, by section and name.
    """

    def __init__(self, book: RecordBook | None) -> None:
        self._book = book
        self._values: dict[str, dict[str, TableValues]] = {section: {} for section in SECTIONS}
        self.troubles: dict[str, str] = {}

    @property
    def trouble(self) -> str:
        """Why some of what was made isn't in effect, in one line; empty where all is."""
        lost = [] if self._book is None or not self._book.trouble else [self._book.trouble]
        return "; ".join([*lost, *(f"{name}: {line}" for name, line in self.troubles.items())])

    async def restore(self) -> None:
        """Read what was made before.

        Raises:
            OSError: the record book can't be read.
        """
        if self._book is None:
            return
        self._values = {section: {} for section in SECTIONS}
        for section in SECTIONS:
            for name, data in (await self._book.read(section)).items():
                try:
                    self._values[section][name] = _TABLE.decode(data)
                except msgspec.DecodeError as error:
                    self.troubles[f"{section}/{name}"] = str(error)

    def added_to(self, config: Config) -> Config:
        """Add what was made to a configuration whose own tables come first. Blocks.

        A table that can't be used any more, such as of a file that has gone, is left out.
        """
        self.troubles = {}
        for section, several in self._values.items():
            taken = tables_of(config, section)
            made = {name: values for name, values in several.items() if name not in taken}
            try:
                config = _with_tables(config, section, made)
            except ConfigError:
                config = self._with_usable(config, section, made)
        return config

    def _with_usable(self, config: Config, section: str, made: Mapping[str, TableValues]) -> Config:
        for name, values in made.items():
            try:
                config = _with_tables(config, section, {name: values})
            except ConfigError as error:
                self.troubles[f"{section}/{name}"] = str(error)
                log.error(
                    "a table that was made can't be used", table=f"{section} {name!r}", reason=str(error)
                )
        return config

    def known(self, reload: ConfigReload, section: str) -> dict[str, KnownTable]:
        """Return all tables of a section that are in effect, by name."""
        file, made = tables_of(reload.file, section), self._values[section]
        return {
            name: KnownTable(table, is_made=name in made and name not in file)
            for name, table in reload.in_effect(section).items()
        }

    async def put(self, reload: ConfigReload, section: str, name: str, values: TableValues) -> KnownTable:
        """Make a table, or put it in the place of the one that was made before.

        Args:
            values: its keys, without the name; a secret that is hidden is that of the former table.

        Raises:
            RefusedChangeError: the table stays as it is.
        """
        async with reload.turn:
            return await self._put(reload, section, name, values)

    async def patch(self, reload: ConfigReload, section: str, name: str, changed: TableValues) -> KnownTable:
        """Change some keys of a table that was made (RFC 7396); raises as `put`."""
        async with reload.turn:
            self._check_free(reload, section, name)
            if (former := self._values[section].get(name)) is None:
                raise RefusedChangeError(404, f"no table of [[{section}]] with this name was made")
            return await self._put(reload, section, name, _merged(former, changed))

    async def delete(self, reload: ConfigReload, section: str, name: str) -> None:
        """Remove a table that was made; raises as `put`."""
        async with reload.turn:
            self._check_free(reload, section, name)
            if name not in self._values[section]:
                raise RefusedChangeError(404, f"no table of [[{section}]] with this name was made")
            await self._change(reload, section, name, None)

    async def _put(self, reload: ConfigReload, section: str, name: str, values: TableValues) -> KnownTable:
        self._check_free(reload, section, name)
        former = self._values[section].get(name)
        if former is None and len(self._values[section]) >= MOST_TABLES:
            raise RefusedChangeError(409, f"{MOST_TABLES} tables of [[{section}]] were made already")
        if values.get("name", name) != name:
            raise RefusedChangeError(422, "name: differs from the address's")
        values = _with_former_secrets(section, {**values, "name": name}, former or {})
        made_key = _lacking_key(section, values, former or {})
        if made_key:
            values = {**values, MADE_KEYS[section]: made_key}
        is_new = name not in reload.in_effect(section)
        table = await self._change(reload, section, name, values)
        if table is None:
            raise RuntimeError("a table that was written isn't there")
        fresh = made_key if made_key != (former or {}).get(MADE_KEYS[section]) else ""
        return KnownTable(table, is_made=True, is_new=is_new, made_key=fresh)

    def _check_free(self, reload: ConfigReload, section: str, name: str) -> None:
        if reload.file.cluster.url:
            raise RefusedChangeError(409, "the nodes of a cluster share no tables: change each node's file")
        if self._book is None:
            raise RefusedChangeError(
                409, "nothing that is made here would survive a restart: set server.data"
            )
        if name in tables_of(reload.file, section):
            raise RefusedChangeError(
                409, f"{name!r} stands in the configuration, [[{section}]]: change it there"
            )

    async def _change(
        self, reload: ConfigReload, section: str, name: str, values: TableValues | None
    ) -> Table | None:
        """Check a change, write it down, and carry it out."""
        former = self._values[section].get(name)
        try:
            new = await SHARED_THREADS.run(self._with_change, reload, section, name, values)
            before, after = reload.in_effect(section).get(name), tables_of(new, section).get(name)
            if before != after:
                reload.check(section, before, after)
        except ConfigError as error:
            raise RefusedChangeError(422, str(error)) from None
        except UnchangeableError as error:
            raise RefusedChangeError(409, str(error)) from None
        await self._write(section, name, values)
        await reload.apply(new)
        if reload.in_effect(section).get(name) != after:
            await self._write(section, name, former)
            raise RefusedChangeError(409, f"[[{section}]] {name!r} can't change now; the log says why")
        return after

    def _with_change(
        self, reload: ConfigReload, section: str, name: str, values: TableValues | None
    ) -> Config:
        """Return the configuration in effect with one table changed; blocks."""
        in_effect = reload.config_in_effect()
        others = tuple(one for one in getattr(in_effect, section) if one.name != name)
        config = msgspec.structs.replace(in_effect, **{section: others})
        return config if values is None else _with_tables(config, section, {name: values})

    async def _write(self, section: str, name: str, values: TableValues | None) -> None:
        """Write a table down, or remove it."""
        if self._book is None:
            return
        data = None if values is None else msgspec.json.encode(values)
        try:
            await self._book.write(section, name, data)
        except OSError as error:
            raise RefusedChangeError(507, f"it can't be written down: {error.strerror}") from error
        self.troubles.pop(f"{section}/{name}", None)
        if values is None:
            self._values[section].pop(name, None)
        else:
            self._values[section][name] = values


class TablesAtTakeover:
    """Reads the tables again once another server, which may have changed them, has left the data folder."""

    name = "tables made at run time"

    def __init__(self, tables: MadeTables, reload: ConfigReload) -> None:
        self._tables = tables
        self._reload = reload

    async def run(self) -> None:
        """Read and apply the tables, as soon as this server has the data folder."""
        async with self._reload.turn:
            await self._tables.restore()
            await self._reload.apply(await SHARED_THREADS.run(self._tables.added_to, self._reload.file))
        await asyncio.Event().wait()


def _with_tables(config: Config, section: str, made: Mapping[str, TableValues]) -> Config:
    """Add tables to a configuration, and check the whole. Blocks.

    Raises:
        ConfigError: naming the key and what is allowed.
    """
    if not made:
        return config
    added = tables_of(validate({section: [*made.values()]}, "the table"), section)
    config = msgspec.structs.replace(config, **{section: (*getattr(config, section), *added.values())})
    check_together(config)
    return config


def _merged(former: TableValues, changed: TableValues) -> TableValues:
    """Return a table with changes (RFC 7396 §2): null removes a key."""
    merged = dict(former)
    for key, value in changed.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict):
            below = merged.get(key)
            merged[key] = _merged(below if isinstance(below, dict) else {}, value)
        else:
            merged[key] = value
    return merged


def _with_former_secrets(section: str, values: TableValues, former: TableValues) -> TableValues:
    """Return a table whose hidden secrets, as it is shown, are those that it had."""
    hidden = {key for key in secrecy(SECTIONS[section]) if values.get(key) == HIDDEN and key in former}
    return {**values, **{key: former[key] for key in hidden}}


def _lacking_key(section: str, values: TableValues, former: TableValues) -> str:
    """Return the secret that a table lacks: the one that it had, or a new one; empty where it needs none."""
    if values.get(MADE_KEYS[section]) or (section != "relay" and values.get("source") != PUBLISH):
        return ""
    return str(former.get(MADE_KEYS[section]) or secrets.token_urlsafe(SECRET_BYTES))
