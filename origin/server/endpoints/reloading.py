"""``POST /api/reload``: reads the configuration again for the administrator, and answers with the result."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from origin.responses.json_response import UNCACHED, as_json
from origin.responses.refusal import plain_refusal
from origin.server.services.services import Services

ADDRESS = "/api/reload"


def routes(services: Services) -> list[BaseRoute]:
    """Make the route."""

    async def reload(request: Request) -> Response:
        await services.access.require_admin(request)
        if services.reload is None:
            return plain_refusal(409, "this server reads no configuration again", UNCACHED)
        # A reload that has begun is carried out, though the client has left.
        result = await asyncio.shield(services.reload.run())
        if result.error:
            return plain_refusal(422, result.error, UNCACHED)
        return as_json({"needs_restart": result.needs_restart})

    return [Route(ADDRESS, reload, methods=["POST"])]
