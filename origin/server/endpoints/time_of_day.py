"""The server's time, by which players of DASH set their clocks: ``GET /api/time``."""

from __future__ import annotations

from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route


def routes() -> list[BaseRoute]:
    """Make the route of the time."""
    return [Route("/api/time", time_of_day)]


async def time_of_day(_: Request) -> Response:
    """Answer with the time of this machine's clock, as ISO 8601 text (ISO/IEC 23009-1 §5.8.5.7)."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00")
    return PlainTextResponse(f"{now}Z", headers={"cache-control": "no-store"})
