"""The page that other sites show in a frame: ``/embed/vod/PATH``, ``/embed/live/CHANNEL`` and so on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from origin.responses.refusal import plain_refusal
from origin.responses.representation import BytesRepresentation, RepresentationResponse
from origin.server.endpoints import oembed
from origin.server.endpoints.page import CACHE_CONTROL, CONTENT_SECURITY_POLICY, HEADERS, HTML

NAME = "embed.html"
NOT_FRAMED = "frame-ancestors 'none'"


def routes(player: Path, allow_embed: Sequence[str]) -> list[BaseRoute]:
    """Make the routes of ``/embed/…``: one page for all, whose script looks at its address, and of oEmbed.

    Args:
        player: the folder that holds the page's files.
        allow_embed: the origins whose pages may show it in a frame, or ``*``; this server's always may.
    """
    data = (player / NAME).read_bytes()
    representation = BytesRepresentation(data, HTML, etag=f'"{hashlib.sha256(data).hexdigest()[:32]}"')
    # CSP3 §6.4.2.1: frame-ancestors says who may frame it; X-Frame-Options could name nobody but this server.
    ancestors = " ".join(("frame-ancestors 'self'", *allow_embed))
    headers = {**HEADERS, "content-security-policy": CONTENT_SECURITY_POLICY.replace(NOT_FRAMED, ancestors)}

    async def page(request: Request) -> Response:
        if request.path_params["kind"] not in oembed.KINDS:
            return plain_refusal(404, f"What can be embedded: {', '.join(sorted(oembed.KINDS))}.")
        found = {"link": oembed.discovery(request)} if allow_embed else {}
        return RepresentationResponse(
            representation, cache_control=CACHE_CONTROL, headers={**headers, **found}
        )

    return [
        Route("/embed/{kind}/{path:path}", page, methods=["GET"], name="embed"),
        *oembed.routes(allow_embed),
    ]
