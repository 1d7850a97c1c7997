"""``/api/live/NAME``: makes, changes, describes and removes tables of the configuration at run time.

``PUT``, ``PATCH``, ``GET`` and ``DELETE``, for the administrator and for tokens with ``configure``; also for
the other sections whose tables come and go.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Coroutine, Mapping
from typing import Any, TypeAlias, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from origin.access.authorization import Action, KeyHolder, NamedResource, Permission, ResourceKind
from origin.access.policy import is_loopback
from origin.config.section import shown_value
from origin.http.token_bucket import TokenBucket
from origin.responses.json_response import UNCACHED, as_json
from origin.responses.list_pages import ListPage
from origin.responses.refusal import RefusalError
from origin.responses.request_body import media_type_of, receive_body, require_plain
from origin.server.services.services import Services
from origin.server.tables.config_reload import ConfigReload
from origin.server.tables.made_tables import (
    MADE_KEYS,
    KnownTable,
    MadeTables,
    RefusedChangeError,
    TableValues,
)
from origin.server.tables.table_changes import SECTIONS

AREAS = {"live": "live", "radio": "radio", "relay": "relays"}
"""The part of the address of each section, by the section."""

MOST_BODY_BYTES = 64 << 10

CHANGES_AT_ONCE, CHANGES_A_SECOND = 20, 10
"""Changes of all tables together."""

TYPES = ("application/json", "application/merge-patch+json")

PARAMETERS = ("configuration", "reveal")

Plain: TypeAlias = bool | int | float | str | None

_BODY = msgspec.json.Decoder(dict[str, Plain | list[Plain] | dict[str, Plain]])
"""Decodes tables, in which nothing is nested any deeper."""

Result = TypeVar("Result")


def endpoints(services: Services) -> dict[str, TableEndpoint]:
    """Make the endpoints, by section."""
    changes = TokenBucket(CHANGES_AT_ONCE, CHANGES_A_SECOND)
    return {section: TableEndpoint(services, section, changes) for section in AREAS}


def routes(tables: Mapping[str, TableEndpoint]) -> list[BaseRoute]:
    """Make the routes of endpoints, by section."""
    return [
        Route(f"/api/{AREAS[section]}/{{name:live_name}}", handle, methods=[method])
        for section, one in tables.items()
        for method, handle in (
            ("GET", one.describe),
            ("PUT", one.put),
            ("PATCH", one.patch),
            ("DELETE", one.delete),
        )
    ]


class TableEndpoint:
    """Answers requests for the tables of one section.

    Args:
        section: such as ``live``.
        changes: the changes that may come, of all sections together.
    """

    def __init__(self, services: Services, section: str, changes: TokenBucket) -> None:
        self._services = services
        self._section = section
        self._changes = changes

    async def list_all(self, request: Request) -> Response:
        """List the tables that are in effect, those of the configuration and those that were made."""
        await self._services.access.require_admin(request)
        if "schema" in request.query_params:
            return as_json(schema_of(self._section))
        reveals = _reveals(request)
        known = self._made().known(self._reload(), self._section)
        page = ListPage.of(request.query_params, *(one for one in PARAMETERS if one in request.query_params))
        listed = page.of_items(sorted(known.items()))
        answer = as_json(
            [
                {"name": name, "made": one.is_made, "options": _shown(one, reveals=reveals)}
                for name, one in listed
            ]
        )
        answer.headers.update(page.fields(request.url.path, len(listed), len(known)))
        return answer

    async def describe(self, request: Request) -> Response:
        """Answer with a table, whether the configuration has it or it was made."""
        permission = await self._permission(request)
        reveals = _reveals(request)
        if reveals and permission.holder is not KeyHolder.ADMIN:
            raise RefusalError(403, "reveal: server.admin_token is needed")
        known = self._made().known(self._reload(), self._section).get(request.path_params["name"])
        if known is None:
            raise RefusalError(404, f"no table of [[{self._section}]] has this name")
        return as_json(_shown(known, reveals=reveals))

    async def put(self, request: Request) -> Response:
        """Make a table, or replace one that was made."""
        await self._permission(request)
        name, values = await self._change_of(request)
        made = await _carried_out(self._made().put(self._reload(), self._section, name, values))
        return self._answer(made, 201 if made.is_new else 200)

    async def patch(self, request: Request) -> Response:
        """Change some keys of a table that was made."""
        await self._permission(request)
        name, values = await self._change_of(request)
        return self._answer(
            await _carried_out(self._made().patch(self._reload(), self._section, name, values)), 200
        )

    async def delete(self, request: Request) -> Response:
        """Remove a table that was made."""
        await self._permission(request)
        self._check_turn()
        await _carried_out(self._made().delete(self._reload(), self._section, request.path_params["name"]))
        return Response(status_code=204, headers=UNCACHED)

    async def _permission(self, request: Request) -> Permission:
        """Return the permission for the table that a request is for.

        Raises:
            RefusalError: there is none.
        """
        resource = NamedResource(ResourceKind(self._section), request.path_params["name"])
        return await self._services.access.require_permission(request, Action.CONFIGURE, resource)

    async def _change_of(self, request: Request) -> tuple[str, TableValues]:
        """Return the name and the keys of a request that changes a table."""
        self._check_turn()
        require_plain(request)
        if media_type_of(request) not in TYPES:
            raise RefusalError(415, f"the body must be {TYPES[0]}")
        body = await receive_body(request, MOST_BODY_BYTES)
        try:
            return request.path_params["name"], _BODY.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise RefusalError(400, f"the body must be an object of JSON: {error}") from None

    def _check_turn(self) -> None:
        services = self._services
        if services.waits_for_data:
            raise RefusalError(409, "another server uses the data folder: change it there")
        if services.ending or services.draining:
            raise RefusalError(503, "the server is about to end", {"retry-after": "2"})
        if (seconds := self._changes.acquire()) > 0:
            line = f"at most {CHANGES_A_SECOND} changes a second"
            raise RefusalError(429, line, {"retry-after": str(int(seconds) + 1)})

    def _reload(self) -> ConfigReload:
        if self._services.reload is None:
            raise RefusalError(409, "this server reads no configuration")
        return self._services.reload

    def _made(self) -> MadeTables:
        return self._services.made_tables

    def _answer(self, made: KnownTable, status: int) -> Response:
        """Answer with a table, and with the secret that was generated for it, which isn't shown again."""
        shown = _shown(made)
        if made.made_key:
            shown[MADE_KEYS[self._section]] = made.made_key
        return as_json(shown, status)


@functools.cache
def schema_of(section: str) -> dict[str, Any]:
    """Return the JSON schema of each key of a section's tables."""
    kind = SECTIONS[section]
    found: dict[str, Any] = msgspec.json.schema(kind)["$defs"][kind.__name__]["properties"]
    return found


def _reveals(request: Request) -> bool:
    """Return whether secrets are to be shown.

    Raises:
        RefusalError: not over a wire without encryption.
    """
    if "reveal" not in request.query_params:
        return False
    if request.url.scheme == "https" or (request.client is not None and is_loopback(request.client.host)):
        return True
    raise RefusalError(403, "reveal: secrets are shown by HTTPS, or on this machine")


async def _carried_out(change: Coroutine[Any, Any, Result]) -> Result:
    """Carry out a change; one that has begun ends, though its client has left.

    Raises:
        RefusalError: nothing was changed.
    """
    try:
        return await asyncio.shield(change)
    except RefusedChangeError as error:
        raise RefusalError(error.status, str(error)) from None


def _shown(known: KnownTable, *, reveals: bool = False) -> dict[str, Any]:
    """Return a table as JSON, secrets hidden."""
    kind = type(known.table)
    values = ((key, getattr(known.table, key)) for key in known.table.__struct_fields__)
    return {key: value if reveals else shown_value(kind, key, value) for key, value in values}
