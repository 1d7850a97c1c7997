"""``/api/library``: lists the library as JSON, in pages.

A Link field (RFC 8288) of relation ``next`` names the next page by the last item of this one, so that files
that come and go in between don't make it skip or repeat others.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from urllib.parse import quote, urlencode

import msgspec
import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from origin.http.media_types import media_type
from origin.responses.refusal import plain_refusal
from packager.library.catalogue import (
    Catalogue,
    CataloguePage,
    Entry,
    Facts,
    LibraryTitle,
    TextFacts,
)

ADDRESS = "/api/library"

KEPT_PAGES = 16
"""Pages whose JSON is kept for further requests."""

RETRY_SECONDS = 5
"""Retry-After while the folder can't be read."""

UNCACHED = {"cache-control": "no-store"}

log = structlog.get_logger()


def routes(
    catalogue: Catalogue, is_needed: Callable[[], bool], *, thumbnails: bool = False
) -> list[BaseRoute]:
    """Make the route of ``/api/library``.

    Args:
        catalogue: of the library.
        is_needed: tells whether a missing folder is an error; else the list is empty.
        thumbnails: whether films have small pictures for the seek bar.
    """
    return [Route(ADDRESS, LibraryList(catalogue, is_needed, thumbnails=thumbnails).answer)]


class AskedWronglyError(Exception):
    """The query is invalid; the text says why, in one line."""


class LibraryList:
    """The ASGI endpoint of the library's list; see `routes`."""

    def __init__(
        self, catalogue: Catalogue, is_needed: Callable[[], bool], *, thumbnails: bool = False
    ) -> None:
        self._thumbnails = thumbnails
        self._catalogue = catalogue
        self._is_needed = is_needed
        self._is_gone = False
        self._written: OrderedDict[object, asyncio.Future[bytes]] = OrderedDict()

    async def answer(self, request: Request) -> Response:
        """List adaptive titles, then files; facts are null until a file has been inspected.

        Query parameters: ``limit``, the number of items; ``after``, kind and path of the item before them
        (``file/a/film.mp4``); or ``path``, to list only the title and file of that path.
        """
        query, limits = request.query_params, self._catalogue.limits
        try:
            limit = limit_of(query.get("limit", str(limits.page_items)), limits.most_page_items)
            after = item_of(query.get("after"))
        except AskedWronglyError as error:
            return plain_refusal(400, str(error), UNCACHED)
        path = query.get("path")
        try:
            if path is None:
                page = await self._catalogue.page(after, limit, patience=limits.page_seconds)
            else:
                page = await self._catalogue.named(path, patience=limits.page_seconds)
        except OSError as error:
            return self._without_folder(error)
        self._is_gone = False
        body = await self._write((path, after, limit, page.version), page)
        # Repeat the limit, so that a client that asked for small pages gets small pages.
        more = {"after": "/".join(page.after)} if page.after else {}
        more |= {"limit": query["limit"]} if more and "limit" in query else {}
        link = {"link": f'<{ADDRESS}?{urlencode(more, quote_via=quote)}>; rel="next"'} if more else {}
        return Response(body, media_type="application/json", headers={**UNCACHED, **link})

    def _without_folder(self, error: OSError) -> Response:
        if isinstance(error, FileNotFoundError) and not self._is_needed():
            return Response(b"[]", media_type="application/json", headers=UNCACHED)
        if not self._is_gone:
            log.warning("the library can't be read", reason=error.strerror)
        self._is_gone = True
        headers = {**UNCACHED, "retry-after": str(RETRY_SECONDS)}
        return plain_refusal(503, "The library's folder can't be read now.", headers)

    async def _write(self, key: object, page: CataloguePage) -> bytes:
        """Encode a page in a thread, once for all requests for it."""
        writing = self._written.get(key)
        if writing is None or writing.cancelled():
            writing = asyncio.get_running_loop().run_in_executor(None, _as_json, page, self._thumbnails)
            self._written[key] = writing
            if len(self._written) > KEPT_PAGES:
                self._written.popitem(last=False)
        self._written.move_to_end(key)
        return await asyncio.shield(writing)


def limit_of(text: str, most: int) -> int:
    """Parse the number of items, of which a page has so many at most.

    Raises:
        AskedWronglyError: it isn't a number in range.
    """
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= most):
        raise AskedWronglyError(f"limit: a whole number from 1 to {most}")
    return int(text)


def item_of(text: str | None) -> tuple[str, str] | None:
    """Parse the item that a page follows.

    Raises:
        AskedWronglyError: it is malformed.
    """
    if text is None:
        return None
    kind, _, path = text.partition("/")
    if kind not in ("title", "file") or not path:
        raise AskedWronglyError(
            "after: title/ or file/ and a path, as the Link field of the page before has it"
        )
    return kind, path


def _as_json(page: CataloguePage, thumbnails: bool) -> bytes:
    items = [
        describe_title(one) if isinstance(one, LibraryTitle) else describe_file(one) for one in page.items
    ]
    if thumbnails:
        facts = (one.facts or Facts() for one in page.items)
        items = [
            {**item, "thumbnails": _thumbnails(item) if one.thumbnails else None}
            for item, one in zip(items, facts, strict=True)
        ]
    # Item by item: the encoder holds the GIL for each call.
    return b"[%b]" % b",".join(map(msgspec.json.encode, items))


def _thumbnails(item: dict[str, object]) -> str | None:
    """Say where the small pictures of a film are, which needs that it can be packaged."""
    address = item["hls"]
    return None if address is None else f"{str(address).rpartition('/')[0]}/thumbnails.vtt"


def describe_file(entry: Entry) -> dict[str, object]:
    """Describe a file and the addresses at which it can be played."""
    facts, path = entry.facts or Facts(), quote(entry.path)
    known = entry.facts is not None
    return {
        "kind": "file",
        "path": entry.path,
        "name": entry.path.rpartition("/")[2],
        "size": entry.size,
        "media_type": media_type(entry.path),
        "duration": facts.duration,
        "width": facts.width,
        "height": facts.height,
        "codecs": ", ".join(facts.codecs),
        "playable": facts.reason is None if known else None,
        "reason": facts.reason,
        "media": f"/media/{path}",
        "hls": None if facts.obstacle or not known else f"/vod/{path}/master.m3u8",
        "obstacle": facts.obstacle,
        **_describe_text(facts.text),
    }


def _describe_text(text: TextFacts) -> dict[str, object]:
    """Describe subtitles and chapters, and the addresses at which they are as a whole."""
    return {
        "subtitles": [
            {
                "name": one.name,
                "language": one.language,
                "default": one.default,
                "forced": one.forced,
                "sdh": one.sdh,
                "file": one.file,
                "webvtt": f"/vod/{quote(one.path)}",
            }
            for one in text.subtitles
        ],
        "subtitles_left_out": list(text.left_out),
        "chapters": None if text.chapters is None else f"/vod/{quote(text.chapters)}",
    }


def describe_title(title: LibraryTitle) -> dict[str, object]:
    """Describe an adaptive title; its progressive address is that of its tallest playable rendition."""
    playable = [entry for entry in title.renditions if entry.facts and entry.facts.reason is None]
    unknown = [entry for entry in title.renditions if entry.facts is None]
    best = (playable or unknown or title.renditions)[-1]
    packaged = title.facts is not None and title.facts.obstacle is None
    described = describe_file(best)
    return {
        **described,
        # Who lists the library asks again while this isn't known, and learns then whether there is HLS.
        "playable": None if title.facts is None else described["playable"],
        "kind": "title",
        "path": title.path,
        "name": title.path.rpartition("/")[2],
        "size": sum(entry.size for entry in title.renditions),
        "renditions": [entry.path for entry in title.renditions],
        "hls": f"/vod/{quote(title.path)}/master.m3u8" if packaged else None,
        "obstacle": (title.facts or Facts()).obstacle,
        **_describe_text((title.facts or Facts()).text),
    }
