"""``/oembed``: describes to other sites how to embed an address of ``/embed/…`` (oEmbed 1.0, oembed.com)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from urllib.parse import parse_qs, quote, unquote, urlsplit

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from origin.responses.base_url import base_url
from origin.responses.refusal import plain_refusal

ADDRESS = "/oembed"
KINDS = frozenset(("vod", "live", "media", "radio"))
"""The kinds that can be embedded: the first part of an address behind ``/embed/``."""

VIDEO_SIZE = (640, 360)
AUDIO_SIZE = (480, 80)
"""Pixels of a frame where the other site doesn't say how large one may be."""

KEPT = {"cache-control": "public, max-age=300"}
MOST_ADDRESS = 4096
"""Most characters of an address that are parsed."""

_PAGE = re.compile(r"/embed/([a-z]+)/([^?#]+)")
_PIXELS = re.compile(r"[1-9][0-9]{0,4}")
_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")


def routes(allow_embed: Sequence[str]) -> list[BaseRoute]:
    """Make the route; there is none where no other site may show the pages.

    Args:
        allow_embed: the origins whose pages may.
    """
    return [Route(ADDRESS, _describe, methods=["GET"])] if allow_embed else []


def discovery(request: Request) -> str:
    """Write the Link field by which other sites find the description of an embeddable page (oEmbed §4)."""
    page = quote(str(request.url), safe="")
    return f'<{base_url(request)}{ADDRESS}?url={page}>; rel="alternate"; type="application/json+oembed"'


async def _describe(request: Request) -> Response:
    query = request.query_params
    if query.get("format", "json") != "json":
        # oEmbed §2.3.4.1: the requested format isn't supported.
        return plain_refusal(501, "Only format=json is there.", KEPT)
    sizes = [query.get(name) for name in ("maxwidth", "maxheight")]
    if not all(one is None or _PIXELS.fullmatch(one) for one in sizes):
        return plain_refusal(400, "maxwidth and maxheight are numbers of pixels.", KEPT)
    page = _page_of(query.get("url", ""), base_url(request))
    if page is None:
        return plain_refusal(404, f"url: an address of {base_url(request)}/embed/…", KEPT)
    kind, path, source = page
    size = AUDIO_SIZE if kind == "radio" else VIDEO_SIZE
    width, height = _fitting(size, *(None if one is None else int(one) for one in sizes))
    title = path.rpartition("/")[2]
    described = {
        "version": "1.0",
        "type": "rich" if kind == "radio" else "video",
        "title": title,
        "provider_name": "Headwater",
        "provider_url": base_url(request),
        "width": width,
        "height": height,
        "html": f'<iframe src="{escape(source)}" width="{width}" height="{height}" title="{escape(title)}"'
        ' style="border:0" allow="autoplay; picture-in-picture" allowfullscreen></iframe>',
    }
    return JSONResponse(described, headers=KEPT)


def _page_of(url: str, base: str) -> tuple[str, str, str] | None:
    """Read a page's address: what is shown, its path, and the address for a frame; None of any other."""
    if len(url) > MOST_ADDRESS:
        return None
    try:
        parts, own = urlsplit(url), urlsplit(base)
    except ValueError:
        return None
    found = _PAGE.fullmatch(parts.path)
    # Links go from http to https, and back, more often than sites between hosts.
    if found is None or found[1] not in KINDS or parts.netloc != own.netloc:
        return None
    if parts.scheme not in ("http", "https"):
        return None
    path = unquote(found[2])
    start = parse_qs(parts.query).get("start", [""])[0]
    query = f"?start={start}" if _SECONDS.fullmatch(start) else ""
    return found[1], path, f"{base}/embed/{found[1]}/{quote(path)}{query}"


def _fitting(size: tuple[int, int], most_width: int | None, most_height: int | None) -> tuple[int, int]:
    """Make a frame smaller, in its proportions, until it fits."""
    width, height = size
    bounds = (most_width, width), (most_height, height)
    share = min([1.0, *(most / size for most, size in bounds if most is not None)])
    return max(1, int(width * share)), max(1, int(height * share))
