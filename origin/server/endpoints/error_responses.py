"""Applications of routes, and their responses to requests that fail before, or instead of, an endpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import StatelessLifespan

from origin.access.authentication import client_address
from origin.access.limits import RefusalLogLimits
from origin.access.refusal_log import RefusalLog
from origin.answers.refusals import ABSENT_FILE_SECONDS
from origin.http1.application_exchange import SlowBodyError
from origin.radio.source_clients import is_source
from origin.responses.refusal import RefusalError, plain_refusal
from origin.responses.response_middleware import FAILURE

MOUNT_CHARACTERS = 64
"""Most characters of a mistaken source client's address in the log."""

_source_refusals = RefusalLog("source refused", RefusalLogLimits())


async def _not_found(request: Request, __: Exception) -> Response:
    """Answer 404 for unknown addresses exactly as for missing files."""
    if is_source(request):
        reason = "no such station: its address is /radio/NAME, or one of the station's aliases"
        mount = request.url.path[:MOUNT_CHARACTERS]
        _source_refusals.write(client_address(request), mount=mount, reason=reason)
    return plain_refusal(404, headers={"cache-control": f"public, max-age={ABSENT_FILE_SECONDS}"})


async def _incomplete(_: Request, __: Exception) -> Response:
    """Answer 400 when a client closes its side within its body; RFC 9112 §8: it may still read that."""
    return plain_refusal(400, headers={"connection": "close"})


async def _too_slow(_: Request, error: Exception) -> Response:
    """Answer 408 (RFC 9110 §15.5.9); the client may repeat the request on another connection."""
    headers = {"connection": "close", "cache-control": "no-store"}
    return plain_refusal(408, str(error), headers)


async def _refused(_: Request, error: RefusalError) -> Response:
    """Answer with the status and the line of an endpoint's refusal."""
    return error.response()


async def _failed(_: Request, __: Exception) -> Response:
    """Answer 500 for a failed endpoint exactly as for what fails outside of them."""
    return FAILURE


ERROR_RESPONSES: Mapping[Any, Any] = MappingProxyType(
    {
        404: _not_found,
        ClientDisconnect: _incomplete,
        SlowBodyError: _too_slow,
        RefusalError: _refused,
        Exception: _failed,
    }
)
"""By status or by error, as Starlette takes them."""


def routed_application(
    routes: Sequence[BaseRoute], lifespan: StatelessLifespan[Starlette] | None = None
) -> Starlette:
    """Make the application of some routes: with these responses to errors, and without redirects."""
    app = Starlette(routes=routes, lifespan=lifespan, exception_handlers=ERROR_RESPONSES)
    # A redirect would lead to the host in the request's Host field; an address with a further slash is 404.
    app.router.redirect_slashes = False
    return app
