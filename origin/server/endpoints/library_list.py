"""``/api/library``: lists the library as JSON, in pages.

The next page of all files is named by the last item of this one, so that files that come and go in between
don't make it skip or repeat others. A view of a folder, a search or another order has positions instead, as
all other lists (`list_pages`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import cast
from urllib.parse import quote, unquote

import msgspec
import structlog
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from origin.access.authentication import client_address
from origin.access.policy import AccessPolicy, sees_covered_alone
from origin.access.visible_items import VisibleItems
from origin.answers.refusals import FOLDER_GONE, FOLDER_RETRY_SECONDS
from origin.http.client_limits import UNLIMITED, ClientLimit, TooManyError, network_of
from origin.http.media_types import media_type
from origin.http.path_prefixes import ITEM_PREFIX
from origin.responses.json_response import UNCACHED
from origin.responses.list_pages import ListPage, is_descending
from origin.responses.refusal import RefusalError, plain_refusal
from packager.bounded_dict import BoundedDict
from packager.library.catalogue import (
    PAGE_ITEMS,
    Catalogue,
    CataloguePage,
    Entry,
    LibraryTitle,
)
from packager.library.conversion_command import conversion_command
from packager.library.file_endings import PLAYLIST_ENDING
from packager.library.file_probe import Facts, TextFacts
from packager.library.folder_state import FolderGoneError, FolderState
from packager.library.library_search import ListedSubfolder, Sort, TooManyViewsError, ViewQuery
from packager.threads import SHARED_THREADS

ADDRESS = "/api/library"

VIEW_REPEATED = ("folder", "search", "sort", "order")
"""Query parameters that all pages of a view have."""

VIEW_PARAMETERS = (*VIEW_REPEATED, "offset", "around")
"""Query parameters of which any asks for a view."""

KEPT_PAGES = 16
"""Pages whose JSON is kept for further requests."""

BUSY_RETRY_SECONDS = 2
"""Retry-After while too many look for different things."""

BUSY = {**UNCACHED, "retry-after": str(BUSY_RETRY_SECONDS)}

log = structlog.get_logger()

PAGE_SECONDS = 1.0
"""Seconds for which a page waits for unknown facts of its files."""

MAX_SEARCH_CHARACTERS = 200
"""Most characters of a search."""


def routes(
    catalogue: Catalogue,
    is_needed: Callable[[], bool],
    *,
    thumbnails: bool = False,
    searches: ClientLimit = UNLIMITED,
    access: AccessPolicy | None = None,
    folder: FolderState | None = None,
) -> list[BaseRoute]:
    """Make the route of ``/api/library``.

    Args:
        is_needed: returns whether a missing folder is an error; else the list is empty.
        thumbnails: whether films have thumbnails for the seek bar.
        searches: how many requests for views one client may have under way.
        access: the policy by which files are listed; without it all of them are.
        folder: whether the library's folder is there; None of a library in S3.
    """
    answers = LibraryList(
        catalogue, is_needed, thumbnails=thumbnails, searches=searches, access=access, folder=folder
    )
    return [Route(ADDRESS, answers.answer), Route(f"{ITEM_PREFIX}library/{{path:path}}", answers.answer_item)]


class LibraryList:
    """The ASGI endpoint of the library's list; see `routes`."""

    def __init__(
        self,
        catalogue: Catalogue,
        is_needed: Callable[[], bool],
        *,
        thumbnails: bool = False,
        searches: ClientLimit = UNLIMITED,
        access: AccessPolicy | None = None,
        folder: FolderState | None = None,
    ) -> None:
        self._folder = folder
        self._access = access
        self._thumbnails = thumbnails
        self._searches = searches
        self._catalogue = catalogue
        self._is_needed = is_needed
        self._written = BoundedDict[Hashable, bytes](KEPT_PAGES)

    async def _visible_to(self, request: Request) -> VisibleItems:
        access = self._access
        if access is None or access.guard is None:
            return VisibleItems(None)
        needs_tokens = access.guard.protected.has_files or sees_covered_alone(request.scope)
        return await access.visible_to(request) if needs_tokens else VisibleItems(None)

    async def answer(self, request: Request) -> Response:
        """List adaptive titles, then files; facts are null until a file has been inspected.

        Query parameters: ``limit``, the number of items; ``after``, kind and path of the item before them
        (``file/a/film.mp4``); or ``path``, to list only the title and file of that path; or those of a view:
        ``folder``, ``search``, ``sort``, ``order``, ``offset``, ``around``, see `view_of`.
        """
        query = request.query_params
        try:
            after = item_of(query.get("after"))
            view = view_of(query, MAX_SEARCH_CHARACTERS)
            page = ListPage.of(query, *(() if view is None else VIEW_REPEATED))
        except RefusalError as error:
            return error.response()
        return await self._answer_page(request, query.get("path"), after, view, page)

    async def answer_item(self, request: Request) -> Response:
        """Describe the title and the file of a path to who knows it, also where the list is protected."""
        path = request.path_params["path"]
        if self._access is not None and not (await self._visible_to(request))(path):
            raise self._access.needs_token(request, f"/vod/{path}")
        return await self._answer_page(request, path, None, None, ListPage(0, PAGE_ITEMS, {}))

    async def _answer_page(
        self,
        request: Request,
        path: str | None,
        after: tuple[str, str] | None,
        view: ViewQuery | None,
        wanted: ListPage,
    ) -> Response:
        query, address = request.query_params, client_address(request)
        visible = await self._visible_to(request)
        base = visible.base
        is_listed = None if visible.guard is None else visible
        # The files that a token covers are looked for among all, too.
        is_search = view is not None or base != "" or visible.covered_alone
        try:
            with self._searches.held(address) if is_search else contextlib.nullcontext():
                if view is not None:
                    around = query.get("around")
                    page = await self._catalogue.view(
                        view,
                        wanted.offset,
                        wanted.limit,
                        around=around,
                        patience=PAGE_SECONDS,
                        network=network_of(address),
                        is_listed=is_listed,
                    )
                elif path is None:
                    page = await self._catalogue.page(
                        after,
                        wanted.limit,
                        patience=PAGE_SECONDS,
                        network=network_of(address),
                        is_listed=is_listed,
                    )
                else:
                    page = await self._catalogue.named(path, patience=PAGE_SECONDS, is_listed=is_listed)
        except TooManyViewsError:
            return plain_refusal(503, "Too many others search or sort the library now.", BUSY)
        except TooManyError:
            # RFC 6585 §4: it is this client's doing.
            return plain_refusal(429, "Too many searches of this address are under way.", BUSY)
        except OSError as error:
            return await self._without_folder(error)
        if self._folder is not None and self._folder.trouble and await self._is_gone(self._folder):
            return _folder_gone()
        key = (path, after, wanted.limit, view, page.offset, page.version, visible)
        body = await self._write(network_of(address), key, page, visible)
        headers = {**UNCACHED, **_page_fields(wanted, page, f"{base}{ADDRESS}")}
        return Response(body, media_type="application/json", headers=headers)

    async def _is_gone(self, folder: FolderState) -> bool:
        try:
            await SHARED_THREADS.run(folder.look)
        except FolderGoneError:
            return True
        return False

    async def _without_folder(self, error: OSError) -> Response:
        if isinstance(error, FileNotFoundError) and not self._is_needed():
            return Response(b"[]", media_type="application/json", headers=UNCACHED)
        if self._folder is None or not await self._is_gone(self._folder):
            log.warning("the library can't be listed", reason=error.strerror)
        return _folder_gone()

    async def _write(self, network: str, key: Hashable, page: CataloguePage, visible: VisibleItems) -> bytes:
        """Encode a page in a thread, once for all requests for it."""
        body = self._written.use(key)
        if body is None:
            threads = SHARED_THREADS.of(network, (self, key))
            body = self._written[key] = await threads.run(_as_json, page, self._thumbnails, visible)
        return body


def _folder_gone() -> Response:
    return plain_refusal(503, FOLDER_GONE, {"retry-after": str(FOLDER_RETRY_SECONDS)})


def _page_fields(wanted: ListPage, page: CataloguePage, address: str) -> dict[str, str]:
    if page.total is not None:
        # With ``around`` the page begins elsewhere than the request says.
        return replace(wanted, offset=page.offset).fields(address, len(page.items), page.total)
    return wanted.next(address, {"after": "/".join(page.after)}) if page.after else {}


def view_of(query: QueryParams, most_characters: int) -> ViewQuery | None:
    """Parse the parameters of a view of the library; None for the whole list by its paths.

    Args:
        query: ``folder``, the shown folder, "" for the library itself, or all items without the parameter;
            ``search``, words; ``sort``, ``name``, ``date`` or ``length``; ``order``, ``asc`` or ``desc``.

    Raises:
        RefusalError: a parameter is malformed, or stands beside one of the whole list.
    """
    if not any(name in query for name in VIEW_PARAMETERS):
        return None
    if "after" in query or "path" in query:
        raise RefusalError(400, f"after, path: not together with {', '.join(VIEW_PARAMETERS)}")
    search = query.get("search", "")
    if len(search) > most_characters:
        raise RefusalError(400, f"search: at most {most_characters} characters")
    sort = query.get("sort", "name")
    if sort not in ("name", "date", "length"):
        raise RefusalError(400, "sort: name, date or length")
    folder = query.get("folder")
    # mypy doesn't see that ``sort`` was checked.
    by = cast("Sort", sort)
    return ViewQuery(
        None if folder is None else folder.strip("/"), search, by, descending=is_descending(query)
    )


def item_of(text: str | None) -> tuple[str, str] | None:
    """Parse the item that a page follows.

    Raises:
        RefusalError: it is malformed.
    """
    if text is None:
        return None
    kind, _, path = text.partition("/")
    if kind not in ("title", "file") or not path:
        raise RefusalError(
            400, "after: title/ or file/ and a path, as the Link field of the page before has it"
        )
    return kind, path


def _as_json(page: CataloguePage, thumbnails: bool, visible: VisibleItems) -> bytes:
    items = [visible.based(_describe(one, thumbnails=thumbnails, visible=visible)) for one in page.items]
    # Item by item: the encoder holds the GIL for each call.
    return b"[%b]" % b",".join(map(msgspec.json.encode, items))


def _describe(
    one: ListedSubfolder | LibraryTitle | Entry, *, thumbnails: bool, visible: VisibleItems
) -> dict[str, object]:
    if isinstance(one, ListedSubfolder):
        return {
            "kind": "folder",
            "path": one.path,
            "name": one.path.rpartition("/")[2],
            "files": one.files,
        }
    item = describe_title(one) if isinstance(one, LibraryTitle) else describe_file(one)
    if thumbnails:
        has_some = one.facts is not None and one.facts.thumbnails
        item["thumbnails"] = _thumbnails(item) if has_some else None
        # ffmpeg decodes what is encoded while it is watched, and so a picture of it.
        needs_poster = item["kind"] == "file" and item["encoded"] and item["width"] and not has_some
        item["poster"] = f"/vod/{quote(one.path)}/poster.jpg" if needs_poster else None
    # A token for HLS alone doesn't cover the file itself, nor one for the file what is made of it.
    for name in ("media", "hls", "cover", "poster", "chapters"):
        address = item[name]
        if address is not None and not visible.may_fetch(unquote(str(address))):
            item[name] = None
    return item


def _thumbnails(item: dict[str, object]) -> str | None:
    """Return the addresses of a film's thumbnails, if the film can be packaged."""
    address = item["hls"]
    return None if address is None else f"{str(address).rpartition('/')[0]}/thumbnails.vtt"


def describe_file(entry: Entry) -> dict[str, object]:
    """Describe a file and the addresses at which it can be played."""
    facts, path = entry.facts or Facts(), quote(entry.path)
    tags = facts.tags
    known = entry.facts is not None
    return {
        "kind": "file",
        "path": entry.path,
        "name": entry.path.rpartition("/")[2],
        "size": entry.size,
        "modified": entry.modified / 1e9,
        "media_type": media_type(entry.path),
        "duration": facts.duration,
        "width": facts.width,
        "height": facts.height,
        "frame_rate": facts.frame_rate,
        "codecs": ", ".join(facts.codecs),
        "content_type": content_type(entry.path, facts.codec_strings),
        "playable": facts.reason is None if known else None,
        "reason": facts.reason,
        "incomplete": facts.incomplete,
        "convert": conversion_command(entry.path, facts),
        "media": None if path.endswith(PLAYLIST_ENDING) else f"/media/{path}",
        "hls": None if facts.obstacle or not known else f"/vod/{path}/master.m3u8",
        "obstacle": facts.obstacle,
        "encoded": facts.encoded,
        "tags": {"title": tags.title, "artist": tags.artist, "album": tags.album, "track": tags.track},
        "cover": _cover(path, facts),
        "poster": None,
        **_describe_text(facts.text),
    }


def _cover(path: str, facts: Facts) -> str | None:
    """Return the address of the cover of music: beside it, or in it."""
    if facts.cover is not None:
        return f"/media/{quote(facts.cover)}"
    return f"/vod/{path}/cover.jpg" if facts.has_cover else None


def content_type(path: str, codecs: Sequence[str]) -> str | None:
    """Return the type by which a browser judges a file in ``canPlayType`` and MediaCapabilities.

    Args:
        codecs: the codec strings of its streams; none where it couldn't be read.
    """
    # RFC 6381 §3.2: several codecs are one quoted string.
    container = "video/mp4" if path.endswith(PLAYLIST_ENDING) else media_type(path)
    return f'{container}; codecs="{", ".join(codecs)}"' if codecs else None


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
        "unused": [{"file": file, "reason": reason} for file, reason in text.unused],
        "burned_subtitles": list(text.burned),
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
        # Clients list the library again while this isn't known, and then get whether there is HLS.
        "playable": None if title.facts is None else described["playable"],
        "kind": "title",
        "path": title.path,
        "name": title.path.rpartition("/")[2],
        "size": sum(entry.size for entry in title.renditions),
        "modified": max(entry.modified for entry in title.renditions) / 1e9,
        "renditions": [entry.path for entry in title.renditions],
        "hls": f"/vod/{quote(title.path)}/master.m3u8" if packaged else None,
        "obstacle": (title.facts or Facts()).obstacle,
        **_describe_text((title.facts or Facts()).text),
    }
