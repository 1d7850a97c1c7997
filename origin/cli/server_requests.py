"""Requests of commands to a running server, with its admin token: ``headwater reload`` and ``export``."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx
import msgspec

from origin.config.errors import CommandError
from origin.config.load import as_toml_table
from origin.server.tables.table_changes import SECTIONS
from origin.tls.client_trust import explained, led_to_https
from packager.library.catalogue import MAX_PAGE_ITEMS
from packager.sources.pullers.guarded_http import guarded_client, read_content
from packager.sources.retries import PullError

ANSWER_SECONDS = 60.0

MOST_ANSWER_BYTES = 16 << 20
"""Longest answer that is read."""

REDIRECTS = frozenset({301, 302, 303, 307, 308})

LINE_CHARACTERS = 500
"""Most characters of a refusal that are shown."""

LISTS = {"live": "/api/live", "radio": "/api/radio", "relay": "/api/relays"}
"""The address of the list of each section whose tables are made at run time."""


class _ReloadAnswer(msgspec.Struct):
    needs_restart: list[str]


class _ListedTable(msgspec.Struct):
    made: bool
    options: dict[str, Any]


Answer = TypeVar("Answer")

_RELOADED = msgspec.json.Decoder(_ReloadAnswer)
_TABLES = msgspec.json.Decoder(list[_ListedTable])


@dataclass(frozen=True)
class ServerRequests:
    """Asks a running server.

    Attributes:
        server: its address, without a slash at the end.
        token: the administrator's, for the Authorization field.
        trust: by which a server with HTTPS is verified.
    """

    server: str
    token: str
    trust: ssl.SSLContext

    def reload(self) -> list[str]:
        """Reload the server's configuration; return the changed options that need a restart.

        Raises:
            CommandError: it can't be asked, or can't use the configuration.
        """
        answer = self._read(_RELOADED, self._ask("POST", "/api/reload"))
        return answer.needs_restart

    def export(self) -> Iterator[str]:
        """Yield the tables that were made at run time as TOML, with their secrets.

        Raises:
            CommandError: it can't be asked.
        """
        for section, address in LISTS.items():
            offset = 0
            while True:
                page = f"{address}?configuration&reveal&limit={MAX_PAGE_ITEMS}&offset={offset}"
                tables = self._read(_TABLES, self._ask("GET", page))
                for one in tables:
                    if one.made:
                        yield as_toml_table(section, self._table(section, one.options))
                offset += len(tables)
                if len(tables) < MAX_PAGE_ITEMS:
                    break

    def _table(self, section: str, options: dict[str, Any]) -> msgspec.Struct:
        try:
            return msgspec.convert(options, SECTIONS[section])
        except msgspec.ValidationError as error:
            raise CommandError(f"{self.server} has keys that this version doesn't know: {error}") from None

    def _read(self, decoder: msgspec.json.Decoder[Answer], content: bytes) -> Answer:
        try:
            return decoder.decode(content)
        except msgspec.DecodeError:
            raise CommandError(f"{self.server} doesn't answer as this program's server does") from None

    def _ask(self, method: str, path: str) -> bytes:
        """Return the content of a successful answer."""
        status, location, content = asyncio.run(self._answer(self.server, method, path))
        if status in REDIRECTS and (led := led_to_https(self.server, location)) is not None:
            status, _, content = asyncio.run(self._answer(led, method, path))
        if status != 200:
            text = content.decode("utf-8", "replace").strip()[:LINE_CHARACTERS]
            raise CommandError(f"{self.server} answers {status}: {text}")
        return content

    async def _answer(self, server: str, method: str, path: str) -> tuple[int, str, bytes]:
        """Return the status, the Location and the content of the answer."""
        headers = {"authorization": f"Bearer {self.token}", "accept-encoding": "identity"}
        try:
            async with (
                asyncio.timeout(ANSWER_SECONDS),
                guarded_client(server, trust=self.trust, is_direct=True, timeout=ANSWER_SECONDS) as client,
                client.stream(method, f"{server}{path}", headers=headers) as answer,
            ):
                location = answer.headers.get("location", "")
                return answer.status_code, location, await read_content(answer, MOST_ANSWER_BYTES)
        except (httpx.HTTPError, httpx.InvalidURL, PullError, TimeoutError) as error:
            reason = explained(error, "; name the server with --to")
            raise CommandError(f"{server} can't be asked: {reason}") from None
