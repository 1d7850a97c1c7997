"""The page that other sites show in a frame: ``/embed/vod/PATH``, ``/embed/live/CHANNEL`` and so on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from origin.responses.refusal import plain_refusal
from origin.server.endpoints import oembed
from origin.server.endpoints.page import CONTENT_SECURITY_POLICY, HEADERS, HTML, PageFile

NAME = "embed.html"
NOT_FRAMED = "frame-ancestors 'none'"


def routes(player: Path, allow_embed: Sequence[str]) -> list[BaseRoute]:
    """Make the routes of ``/embed/…``: one page for all, whose script looks at its address, and of oEmbed.

    Args:
        player: the folder that holds the page's files.
        allow_embed: the origins whose pages may show it in a frame, or ``*``; this server's always may.
    """
    file = PageFile.load(player, NAME, HTML)
    # CSP3 §6.4.2.1: frame-ancestors says who may frame it; X-Frame-Options could name nobody but this server.
    ancestors = " ".join(("frame-ancestors 'self'", *allow_embed))
    policy = CONTENT_SECURITY_POLICY.replace(NOT_FRAMED, ancestors).encode()
    headers = (*HEADERS, (b"content-security-policy", policy))

    async def page(request: Request) -> Response:
        if request.path_params["kind"] not in oembed.KINDS:
            return plain_refusal(404, f"What can be embedded: {', '.join(sorted(oembed.KINDS))}.")
        found = ((b"link", oembed.discovery(request).encode("latin-1")),) if allow_embed else ()
        return file.response((*headers, *found))

    return [
        Route("/embed/{kind}/{path:path}", page, methods=["GET"], name="embed"),
        *oembed.routes(allow_embed),
    ]
