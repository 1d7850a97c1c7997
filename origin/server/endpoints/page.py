"""Serves the player page: a fixed list of files from memory, with a strict content security policy."""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from origin.answers.asgi import ReplyResponse
from origin.answers.reply import Reply
from origin.answers.representation_replies import memory_reply
from origin.answers.request import Request as GetRequest
from origin.http.answer import Headers
from origin.http.representation import RepresentationMetadata
from origin.responses.refusal import plain_refusal

PLAYER = Path(__file__).resolve().parents[3] / "player"
"""The folder of the page."""

HTML = "text/html; charset=utf-8"
CSS = "text/css; charset=utf-8"
SCRIPT = "text/javascript; charset=utf-8"  # RFC 9239 §6
SVG = "image/svg+xml"
TEXT = "text/plain; charset=utf-8"

INDEX = "index.html"
MODULES = {
    "": "dom embed playback player refusal retry storage",
    "controls/": "casting chapters controls downloads iteminfo mediasession namedviewers nextitem "
    "preparation seekbar settings sharing shortcuts thumbnailtrack volume",
    "engines/": "capabilities decision hlsengine nativeengine pcmtrial playmodes shakaengine",
    "instruments/": "audiometer graph instruments loadedmap stats stresstests waterfall",
    "views/": "continuewatching conversation conversationrecord eventcontrols events eventstream "
    "eventtiming library live nowplaying past posters programmes publisher radio "
    "recordings renderqueue station tables television tokencollector virtuallist",
}
"""The names of the page's ES modules, by folder."""

FILES = {
    INDEX: HTML,
    "player.css": CSS,
    "embed.html": HTML,
    "embed.css": CSS,
    "icon.svg": SVG,
    **{f"{folder}{name}.js": SCRIPT for folder, names in MODULES.items() for name in names.split()},
    "vendor/hls.min.mjs": SCRIPT,
    "vendor/hls.LICENSE.txt": TEXT,
    "vendor/shaka-player.dash.js": SCRIPT,
    "vendor/shaka-player.LICENSE.txt": TEXT,
}

# hls.js hands the video element a MediaSource by a blob: address; all else comes from this server alone.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "media-src 'self' blob: data:; worker-src 'self' blob:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = (
    # Kept by the browser, asked about each time: a new version of the page is never mixed from two.
    (b"cache-control", b"no-cache"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)
"""Header fields of all files of the page, beside the policy."""


def routes(player: Path) -> list[BaseRoute]:
    """Read the page's files once and serve them from memory.

    Args:
        player: the folder that holds ``index.html``, its modules and ``vendor/hls.min.mjs``.

    Returns:
        Routes of ``/`` and ``/player/{file}``; GET and HEAD, with ETag and conditional requests
        (RFC 9110 §13). Any other name under ``/player/`` is 404.

    Raises:
        FileNotFoundError: A file of the page is missing; the message says what to do.
    """
    headers = (*HEADERS, (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()))
    pages = {name: PageFile.load(player, name, media_type) for name, media_type in FILES.items()}

    async def file(request: Request) -> Response:
        found = pages.get(request.path_params["file"])
        if found is None:
            return plain_refusal(404, "There is no such file of the page.")
        return found.response(headers)

    async def index(_request: Request) -> Response:
        return pages[INDEX].response(headers)

    return [
        Route("/", index, methods=["GET"], name="page"),
        Route("/player/{file:path}", file, methods=["GET"], name="page-file"),
    ]


class PageFile(NamedTuple):
    """A file of the page in memory."""

    data: bytes
    metadata: RepresentationMetadata

    @classmethod
    def load(cls, player: Path, name: str, media_type: str) -> PageFile:
        """Read a file.

        Raises:
            FileNotFoundError: the file is missing; the message says what to do.
        """
        path = player / name
        try:
            data = path.read_bytes()
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{path} is missing: run `make setup`") from error
        etag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
        return cls(data, RepresentationMetadata(len(data), media_type, etag))

    def response(self, headers: Headers) -> Response:
        """Return the response with the file."""
        return ReplyResponse(partial(self._reply, tuple(headers)))

    def _reply(self, headers: Headers, request: GetRequest) -> Reply:
        return memory_reply(request, (self.data,), self.metadata, headers)
