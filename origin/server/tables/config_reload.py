"""Reads the configuration again at SIGHUP; an invalid one is logged in one line and changes nothing."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog

from origin.config import logging_setup
from origin.config.errors import CommandError
from origin.config.options import Config, ConfigError, has_signed, redactor_of
from origin.config.section import Options
from origin.server.tables.table_changes import (
    ChangingTables,
    Table,
    TableChange,
    UnchangeableError,
    differences,
    tables_of,
)
from origin.system.hang_ups import has_hung_up
from packager.concurrency import background_task
from packager.threads import SHARED_THREADS

log = structlog.get_logger()

STDIN = 0

TAKEN = frozenset(
    (
        *("log.level", "log.format", "live.publish_key", "access.keys", "access.jwt_keys"),
        *("events.publish_token", "events.read_key", "radio.source_password", "radio.listener_password"),
        *("radio.title", "radio.genre", "server.admin_token", "relay.token", "relay.read_key"),
        *("events.relay_key", "relay.relay_keys"),
    )
)
"""Options that take effect without a restart."""

TAKEN_ACCESS = frozenset(
    (
        "library.access",
        "library.folders",
        "live.access",
        "live.recordings_access",
        "radio.access",
        "events.access",
        "access.channels",
    )
)
"""Options that take effect without a restart where something needed a token at the start."""

TAKEN_LIMITS = frozenset(
    (
        *("limits.listeners", "radio.max_listeners", "limits.connections_per_address"),
        *("limits.listeners_per_address", "limits.blocked_requests_per_address"),
        "limits.event_readers_per_address",
    )
)
"""Limits that take effect without a restart, where no other process of this server holds them, too."""

PRESENT = frozenset(
    (
        *("events.read_key", "radio.listener_password", "radio.source_password", "server.admin_token"),
        *(one for one in TAKEN_LIMITS if one.endswith("_per_address")),
    )
)
"""Options that need a restart where they come or go: protected services are served otherwise."""

Follower = Callable[[Config], Awaitable[None]]
"""Applies those changes of a reloaded configuration that need no restart."""


@dataclass(frozen=True, slots=True)
class ReloadResult:
    """The result of a reload.

    Attributes:
        error: why the configuration can't be used; empty if it is.
        needs_restart: the changed options that have no effect yet.
    """

    error: str = ""
    needs_restart: tuple[str, ...] = ()


class ConfigReload:
    """Reads the configuration again, one time after another, and carries out what takes effect at once.

    Args:
        config: the one that the server started with.
        read: reads it from the same sources; blocks.

    Attributes:
        file: the configuration as it was read last, without tables that were made at run time.
        followers: apply what is new; the server adds them.
        changing: the services of the sections whose tables come and go; the server adds them.
        with_made: adds the tables that were made at run time to a configuration that was read; blocks.
        turn: is held while something changes.
    """

    def __init__(self, config: Config, read: Callable[[], Config]) -> None:
        self._first = self._now = self.file = config
        self._read = read
        limits = TAKEN_LIMITS if config.server.workers == 1 else frozenset()
        self._taken = TAKEN | limits | (TAKEN_ACCESS if has_signed(config) else frozenset())
        self.turn = asyncio.Lock()
        self.followers: list[Follower] = []
        self.changing: list[ChangingTables] = []
        self.with_made: Callable[[Config], Config] = lambda config: config

    def begin_with(self, config: Config) -> None:
        """Note with which configuration the server begins, if tables were made at run time before."""
        self._first = self._now = config

    async def run(self) -> ReloadResult:
        """Read the configuration, apply what needs no restart, and log the result."""
        async with self.turn:
            result = await self._run()
        if result.error:
            log.error("the changed configuration can't be used", reason=result.error)
            return result
        # The administrator who reloads waits for this line, so no level of the log hides it.
        level = max(logging.WARNING, logging.getLevelNamesMapping()[self._now.log.level.upper()])
        pending = ", ".join(result.needs_restart)
        log.log(level, "configuration read again", needs_restart=pending or "nothing")
        return result

    async def _run(self) -> ReloadResult:
        try:
            file = await SHARED_THREADS.run(self._read)
            new = await SHARED_THREADS.run(self.with_made, file)
        except (ConfigError, OSError) as error:
            # The configured user may not be allowed to read what root could at the start.
            user = self._first.server.user
            return ReloadResult(f"{error}{f' (read as {user}, whom it became)' if user else ''}")
        self.file = file
        return await self.apply(new)

    def in_effect(self, section: str) -> dict[str, Table]:
        """Return the tables of a section that are in effect, by name."""
        return tables_of(self._first, section)

    def config_in_effect(self) -> Config:
        """Return the newest configuration, with the tables that are in effect."""
        tables = {one.section: getattr(self._first, one.section) for one in self.changing}
        return msgspec.structs.replace(self._now, **tables)

    def check(self, section: str, before: Table | None, after: Table | None) -> None:
        """Check whether a table may change.

        Raises:
            UnchangeableError: not while the server runs.
        """
        for one in self.changing:
            if one.section == section:
                one.check(self._change_between(one, before, after))
                return
        raise UnchangeableError(f"[[{section}]] needs a restart")

    async def apply(self, new: Config) -> ReloadResult:
        """Apply a configuration, while the turn is held."""
        if self._taken.intersection(await SHARED_THREADS.run(changes, self._now, new)):
            redactor = await SHARED_THREADS.run(redactor_of, self._first, new)
            await SHARED_THREADS.run(logging_setup.configure, new.log.level, new.log.format, redactor)
        # Before the tables: nothing is served before it is known whether it needs a token.
        for follower in self.followers:
            await follower(new)
        for one in self.changing:
            await self._change_tables(one, new)
        self._now = new
        self._first = msgspec.structs.replace(self._first, webhooks=new.webhooks)
        # In a thread: of thousands of channels it takes a while.
        return ReloadResult("", await SHARED_THREADS.run(_pending, self._taken, self._first, new))

    async def _change_tables(self, changing: ChangingTables, new: Config) -> None:
        """Carry out what has changed of a section, table by table, and note what is in effect then."""
        section = changing.section
        in_effect, wanted = tables_of(self._first, section), tables_of(new, section)
        for name in [*(in_effect.keys() - wanted.keys()), *wanted]:
            before, after = in_effect.get(name), wanted.get(name)
            if before == after:
                continue
            change = self._change_between(changing, before, after)
            try:
                changing.check(change)
                await changing.carry_out(change)
            except (UnchangeableError, OSError, CommandError) as error:
                log.warning("a table can't change now", table=f"{section} {name!r}", reason=str(error))
                continue
            in_effect.pop(name, None)
            if after is not None:
                in_effect[name] = after
        self._first = msgspec.structs.replace(self._first, **{section: tuple(in_effect.values())})

    def _change_between(
        self, changing: ChangingTables, before: Table | None, after: Table | None
    ) -> TableChange:
        if before is None or after is None:
            return TableChange(before, after)
        in_place = changing.in_place(before, after)

        def takes_effect(key: str) -> bool:
            if key in in_place:
                return True
            name = f"{changing.section}.{key}"
            comes_or_goes = bool(getattr(before, key)) != bool(getattr(after, key))
            return name in self._taken and not (name in PRESENT and comes_or_goes)

        keys = (key for key in differences(before, after) if not takes_effect(key))
        return TableChange(before, after, frozenset(keys))


@contextlib.asynccontextmanager
async def reloading(config: Config, read: Callable[[], Config]) -> AsyncGenerator[ConfigReload]:
    """Read the configuration again at each SIGHUP while the context is open.

    Args:
        config: the one that the server started with.
        read: reads it from the same sources; blocks.

    Yields:
        The reload, to which the server adds who takes what is new.
    """
    loop, asked = asyncio.get_running_loop(), asyncio.Event()
    reload = ConfigReload(config, read)
    at_terminal = os.isatty(STDIN)

    def hang_up() -> None:
        if at_terminal and not os.isatty(STDIN):
            # The terminal hung up: nobody could end the server with Ctrl-C any more.
            os.kill(os.getpid(), signal.SIGTERM)
        else:
            asked.set()

    loop.add_signal_handler(signal.SIGHUP, hang_up)
    if has_hung_up():
        hang_up()
    try:
        async with background_task(_follow(reload, asked)):
            yield reload
    finally:
        loop.remove_signal_handler(signal.SIGHUP)


async def _follow(reload: ConfigReload, asked: asyncio.Event) -> None:
    while True:
        await asked.wait()
        asked.clear()
        await reload.run()


@functools.cache
def _taken_defaults(taken: frozenset[str], section: str, kind: type[Options]) -> dict[str, Any]:
    """Return the defaults of those options of a section that take effect."""
    fields = msgspec.structs.fields(kind)
    return {field.name: field.default for field in fields if f"{section}.{field.name}" in taken}


def _without(taken: frozenset[str], config: Config) -> Config:
    """Return a configuration in which options that take effect are absent or have their defaults."""

    def without(section: str, table: Options) -> Options:
        if not (defaults := _taken_defaults(taken, section, type(table))):
            return table
        present = {name for name in defaults if f"{section}.{name}" in PRESENT and getattr(table, name)}
        return msgspec.structs.replace(table, **{**defaults, **dict.fromkeys(present, "present")})

    sections: dict[str, Any] = {}
    for name in config.__struct_fields__:
        value = getattr(config, name)
        several = isinstance(value, tuple)
        sections[name] = tuple(without(name, one) for one in value) if several else without(name, value)
    return Config(**sections)


def _pending(taken: frozenset[str], first: Config, new: Config) -> tuple[str, ...]:
    """Name the options that differ and don't take effect."""
    return tuple(changes(_without(taken, first), _without(taken, new)))


def changes(old: Config, new: Config) -> list[str]:
    """Name the options that differ as a configuration file does: ``log.level``, ``live 'demo' (dvr)``."""
    found: list[str] = []
    for section in old.__struct_fields__:
        before, after = getattr(old, section), getattr(new, section)
        if isinstance(before, tuple):
            known, wanted = ({one.name: one for one in several} for several in (before, after))
            for name in {**known, **wanted}:
                if known.get(name) != wanted.get(name):
                    keys = differences(known[name], wanted[name]) if name in known and name in wanted else []
                    found.append(f"{section} {name!r}" + (f" ({', '.join(keys)})" if keys else ""))
        else:
            found += [f"{section}.{key}" for key in differences(before, after)]
    return found
