"""``/api/viewers``: the sessions of viewers whose tokens have names, for the administrator alone."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from origin.access.policy import AccessPolicy
from origin.access.viewer_sessions import SessionRecord, ViewerSessions
from origin.responses.json_response import UNCACHED, as_json
from origin.responses.refusal import plain_refusal

ADDRESS = "/api/viewers"


def routes(sessions: ViewerSessions | None, access: AccessPolicy) -> list[BaseRoute]:
    """Make the route.

    Args:
        sessions: None where they aren't counted.
    """

    async def answer(request: Request) -> Response:
        await access.require_admin(request)
        if sessions is None:
            return plain_refusal(409, "sessions are counted with access.viewers_per_name", UNCACHED)
        name = request.path_params.get("name", "")
        if request.method == "DELETE":
            ended = sessions.end(name, request.query_params.get("session", ""))
            if not ended:
                return plain_refusal(404, "no such session", UNCACHED)
            return as_json({"ended": ended})
        return as_json({"sessions": [_describe(one) for one in sessions.listed(name)]})

    return [
        Route(ADDRESS, answer),
        Route(ADDRESS + "/{name:path}", answer, methods=["GET", "DELETE"]),
    ]


def _describe(session: SessionRecord) -> dict[str, object]:
    return {
        "id": session.id,
        "name": session.name,
        "address": session.address,
        "user_agent": session.agent,
        "started": session.started,
        "seen": session.seen,
        "expires": session.expires,
    }
