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
FILES = {
    INDEX: HTML,
    "player.css": CSS,
    "embed.html": HTML,
    "embed.css": CSS,
    "icon.svg": SVG,
    "dom.js": SCRIPT,
    "embed.js": SCRIPT,
    "playback.js": SCRIPT,
    "player.js": SCRIPT,
    "refusal.js": SCRIPT,
    "retry.js": SCRIPT,
    "storage.js": SCRIPT,
    "controls/casting.js": SCRIPT,
    "controls/chapters.js": SCRIPT,
    "controls/controls.js": SCRIPT,
    "controls/mediasession.js": SCRIPT,
    "controls/namedviewers.js": SCRIPT,
    "controls/nextitem.js": SCRIPT,
    "controls/preparation.js": SCRIPT,
    "controls/seekbar.js": SCRIPT,
    "controls/settings.js": SCRIPT,
    "controls/sharing.js": SCRIPT,
    "controls/shortcuts.js": SCRIPT,
    "controls/downloads.js": SCRIPT,
    "controls/iteminfo.js": SCRIPT,
    "controls/thumbnailtrack.js": SCRIPT,
    "controls/volume.js": SCRIPT,
    "engines/capabilities.js": SCRIPT,
    "engines/decision.js": SCRIPT,
    "engines/hlsengine.js": SCRIPT,
    "engines/nativeengine.js": SCRIPT,
    "engines/pcmtrial.js": SCRIPT,
    "engines/playmodes.js": SCRIPT,
    "engines/shakaengine.js": SCRIPT,
    "instruments/graph.js": SCRIPT,
    "instruments/instruments.js": SCRIPT,
    "instruments/loadedmap.js": SCRIPT,
    "instruments/audiometer.js": SCRIPT,
    "instruments/stats.js": SCRIPT,
    "instruments/stresstests.js": SCRIPT,
    "instruments/waterfall.js": SCRIPT,
    "views/continuewatching.js": SCRIPT,
    "views/conversation.js": SCRIPT,
    "views/conversationrecord.js": SCRIPT,
    "views/eventcontrols.js": SCRIPT,
    "views/events.js": SCRIPT,
    "views/eventstream.js": SCRIPT,
    "views/eventtiming.js": SCRIPT,
    "views/renderqueue.js": SCRIPT,
    "views/library.js": SCRIPT,
    "views/live.js": SCRIPT,
    "views/past.js": SCRIPT,
    "views/nowplaying.js": SCRIPT,
    "views/programmes.js": SCRIPT,
    "views/posters.js": SCRIPT,
    "views/publisher.js": SCRIPT,
    "views/radio.js": SCRIPT,
    "views/recordings.js": SCRIPT,
    "views/station.js": SCRIPT,
    "views/tables.js": SCRIPT,
    "views/television.js": SCRIPT,
    "views/tokencollector.js": SCRIPT,
    "views/virtuallist.js": SCRIPT,
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
