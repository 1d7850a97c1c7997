"""Finds the relay that a request is for, checks its key, and writes refusals as clients expect them."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from origin.access.authentication import CHALLENGE, Unauthorized
from origin.access.authorization import Action, Authorization, NamedResource, Permission, ResourceKind
from origin.events.channel_keys import is_foreign
from origin.responses.refusal import RefusalError
from origin.token_relay.dialects import CHAT, Dialect
from origin.token_relay.errors import CompletionError
from origin.token_relay.relay import TokenRelay

JSON = "application/json"
NO_STORE = {"cache-control": "no-store"}

KEY_CHARACTERS = 2048
"""Longest key of a caller's own."""

NEEDED = "or server.admin_token is needed"


def relay_named(relays: Mapping[str, TokenRelay], request: Request) -> TokenRelay:
    """Return the relay that a request is for.

    Raises:
        RefusalError: there is no such relay.
    """
    relay = relays.get(request.path_params["name"])
    if relay is None:
        raise RefusalError(404, "no such relay")
    return relay


def refused_key(request: Request, relay: TokenRelay) -> RefusalError:
    """Return the refusal of a request without the right key."""
    key = "the channel's publish_token" if relay.publishes else "the relay's token"
    told = Unauthorized(f"{key} {NEEDED}").to(request)
    return RefusalError(401, bytes(told.body).decode().strip(), {"www-authenticate": CHALLENGE})


async def permission_to_ask(
    authorization: Authorization, relay: TokenRelay, request: Request
) -> Permission | None:
    """Return the permission to ask a relay; None for none.

    Credentials that a browser adds by itself don't count where another site's page asks.
    """
    resource = NamedResource(ResourceKind.RELAY, relay.name)
    return await authorization.permission(request, Action.ASK, resource, with_basic=not is_foreign(request))


async def found_relay(
    relays: Mapping[str, TokenRelay], authorization: Authorization, request: Request
) -> tuple[TokenRelay, Permission]:
    """Return a relay and its caller's permission.

    Raises:
        RefusalError: there is no such relay, or the request has no key of it.
    """
    relay = relay_named(relays, request)
    caller = await permission_to_ask(authorization, relay, request)
    if caller is None:
        raise refused_key(request, relay)
    return relay, caller


def own_key(relay: TokenRelay, authorization: Authorization, request: Request) -> str:
    """Return the key of a caller's own that goes to the upstream server; empty for none.

    A secret of this server, with which the caller was admitted, never does.

    Args:
        request: of a caller who was admitted.
    """
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    key = key.strip()
    is_key = scheme.lower() == "bearer" and 0 < len(key) <= KEY_CHARACTERS
    if not (relay.passes_key and is_key and key.isascii() and key.isprintable()):
        return ""
    return "" if authorization.is_secret(NamedResource(ResourceKind.RELAY, relay.name), key) else key


def with_bearer(scope: Scope) -> Scope:
    """Return a request's scope with the key as a Bearer token, for which Anthropic's clients have a field."""
    fields = dict(scope["headers"])
    if b"authorization" in fields or b"x-api-key" not in fields:
        return scope
    presented = (b"authorization", b"Bearer " + fields[b"x-api-key"])
    return {**scope, "headers": [*scope["headers"], presented]}


def refusal(error: RefusalError, dialect: Dialect = CHAT) -> Response:
    """Refuse a request as clients of an API expect it."""
    told = {**NO_STORE, **(error.headers or {})}
    return Response(dialect.write_refusal(str(error), error.status) + "\n", error.status, told, JSON)


def error_response(error: CompletionError, dialect: Dialect = CHAT) -> Response:
    """Answer with what the upstream server said instead of an answer."""
    headers = dict(NO_STORE)
    headers |= error.fields
    body = error.told or dialect.write_status_error(str(error), error.upstream)
    return Response(body + "\n", error.status, headers, JSON)
