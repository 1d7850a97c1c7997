"""Serves the player page: a fixed list of files from memory, with a strict content security policy."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from origin.responses.refusal import plain_refusal
from origin.responses.representation import BytesRepresentation, RepresentationResponse

PLAYER = Path(__file__).resolve().parents[2] / "player"
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
    "embed.js": SCRIPT,
    "icon.svg": SVG,
    "player.js": SCRIPT,
    "capabilities.js": SCRIPT,
    "dom.js": SCRIPT,
    "graph.js": SCRIPT,
    "chapters.js": SCRIPT,
    "events.js": SCRIPT,
    "eventstream.js": SCRIPT,
    "framequeue.js": SCRIPT,
    "eventtiming.js": SCRIPT,
    "tokentexts.js": SCRIPT,
    "thumbnails.js": SCRIPT,
    "library.js": SCRIPT,
    "live.js": SCRIPT,
    "mediasession.js": SCRIPT,
    "meter.js": SCRIPT,
    "nowplaying.js": SCRIPT,
    "playback.js": SCRIPT,
    "posters.js": SCRIPT,
    "publisher.js": SCRIPT,
    "radio.js": SCRIPT,
    "retry.js": SCRIPT,
    "seekbar.js": SCRIPT,
    "shortcuts.js": SCRIPT,
    "stage.js": SCRIPT,
    "station.js": SCRIPT,
    "stats.js": SCRIPT,
    "virtuallist.js": SCRIPT,
    "casting.js": SCRIPT,
    "controls.js": SCRIPT,
    "stresstests.js": SCRIPT,
    "hlsengine.js": SCRIPT,
    "instruments.js": SCRIPT,
    "loadedmap.js": SCRIPT,
    "playmodes.js": SCRIPT,
    "nativeengine.js": SCRIPT,
    "settings.js": SCRIPT,
    "shakaengine.js": SCRIPT,
    "volume.js": SCRIPT,
    "waterfall.js": SCRIPT,
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
HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
# Kept by the browser, asked about each time: a new version of the page is never mixed from two.
CACHE_CONTROL = "no-cache"


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
    representations = {name: _load(player, name, media_type) for name, media_type in FILES.items()}

    async def file(request: Request) -> Response:
        representation = representations.get(request.path_params["file"])
        if representation is None:
            return plain_refusal(404, "There is no such file of the page.")
        return _answer(representation)

    return [
        Route("/", _constant(representations[INDEX]), methods=["GET"], name="page"),
        Route("/player/{file:path}", file, methods=["GET"], name="page-file"),
    ]


def _load(player: Path, name: str, media_type: str) -> BytesRepresentation:
    path = player / name
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path} is missing: run `make setup`") from error
    return BytesRepresentation(data, media_type, etag=f'"{hashlib.sha256(data).hexdigest()[:32]}"')


def _answer(representation: BytesRepresentation) -> Response:
    return RepresentationResponse(representation, cache_control=CACHE_CONTROL, headers=HEADERS)


def _constant(representation: BytesRepresentation) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(_request: Request) -> Response:
        return _answer(representation)

    return endpoint
