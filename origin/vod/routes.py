"""VOD over HTTP: ``/vod/PATH/…`` for a file of the library, ``/vod/TITLE/…`` for a title's renditions."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import NamedTuple

import structlog
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from media.dash import mpd
from media.errors import MediaError, TooLargeError, UnsupportedError
from media.hls.media_playlist import MEDIA_TYPE
from media.mp4 import wvtt
from media.subtitles import webvtt
from origin.files.open_files import OpenFileCache
from origin.http.representation import SelectedRepresentation
from origin.responses import gzip_cache
from origin.responses.media_responses import RequestTraits, text_response
from origin.responses.refusal import ABSENT_FILE_SECONDS, READING_RETRY_SECONDS, absent, unavailable
from origin.responses.representation import BytesRepresentation, RepresentationResponse
from origin.vod.answer_cache import AnswerCache, CachedInitSegment, Text
from origin.vod.cache_control import Lifetime, VodCaching
from origin.vod.segment_responses import (
    I_FRAMES,
    SegmentRepresentation,
    media_type_of,
    metadata_of,
)
from packager.library.local_storage import NotFoundError
from packager.library.storage_interface import FileChangedError
from packager.vod import Titles
from packager.vod.clip_sequence import NO_TEXT, SUFFIX, TRACKS, ClipSequence
from packager.vod.index.chapters import chapters_json
from packager.vod.movie.versioned_addresses import VERSION_PREFIX, MediaVersion, version_of
from packager.vod.segments.clip import Clip, ClipError, read_clip
from packager.vod.sprites.sprite_maker import NotReadyError, SpriteMaker

log = structlog.get_logger()

PICTURE_RETRY_SECONDS = 2
"""Retry-After of a picture for the seek bar that isn't made yet."""

RAW_PATH = "raw path"
"""Where endpoints find the path as it was sent, beside its decoded parts."""

_SEGMENT = re.compile(r"(0|[1-9][0-9]{0,7})(?:-(0|[1-9][0-9]{0,17})-([1-9][0-9]{0,17}))?")
"""A segment's number, and of a trimmed one from when to when it lasts, or when the clip does."""

_BOUNDS = re.compile(r"(0|[1-9][0-9]{0,17})-([1-9][0-9]{0,17})")
"""When a clip begins and ends in ticks, in the name of its I-frames."""

_WEBVTT_SEGMENT = re.compile(r"(0|[1-9][0-9]{0,7})(?:-(0|[1-9][0-9]{0,17})(?:-([1-9][0-9]{0,17}))?)?")
"""A segment's number, of a clip's one when the clip begins, and where another one follows when it ends."""

_SPRITE = re.compile(r"0|[1-9][0-9]{0,4}")


class SegmentMedia(NamedTuple):
    """The content of a segment, of I-frames or of pictures, and how long caches may keep it."""

    content: SelectedRepresentation
    lifetime: Lifetime


def routes(
    titles: Titles,
    thumbnails: SpriteMaker | None = None,
    *,
    max_age: int = 3600,
    open_files: OpenFileCache | None = None,
    answers: AnswerCache | None = None,
) -> list[BaseRoute]:
    """Make the routes of VOD.

    Args:
        thumbnails: its small pictures; None: there are none.
        max_age: seconds for which caches may keep media whose addresses have no version.
        open_files: where files are kept open for the fast path; None: nowhere.
        answers: where answers are kept for it; None: nowhere.
    """
    vod = _Vod(titles, max_age, open_files, answers)
    pictures = [] if thumbnails is None else _thumbnail_routes(thumbnails, vod)
    subtitles = "/vod/{path:path}/subtitles/{track}"
    track = "/vod/{path:path}/{track}"
    return [
        *pictures,
        Route(f"{subtitles}/media.m3u8", vod.answers(vod.text_playlist)),
        *_media_routes(subtitles, "init.mp4", vod.answers(vod.text_init)),
        *_media_routes(subtitles, "{number}.m4s", vod.answers(vod.text_mp4_segment)),
        *_media_routes(subtitles, "{number}.vtt", vod.answers(vod.text_segment)),
        Route(f"{subtitles}.vtt", vod.answers(vod.whole_text)),
        Route("/vod/{path:path}/chapters.json", vod.answers(vod.chapters)),
        Route("/vod/{path:path}/master.m3u8", vod.answers(vod.multivariant_playlist)),
        Route("/vod/{path:path}/manifest.mpd", vod.answers(vod.manifest)),
        Route(f"{track}/media.m3u8", vod.answers(vod.media_playlist)),
        Route(f"{track}/iframes.m3u8", vod.answers(vod.i_frame_playlist)),
        *_media_routes(track, "iframes.mp4", vod.answers(vod.i_frames)),
        *_media_routes(track, "iframes-{bounds}.mp4", vod.answers(vod.i_frames)),
        *_media_routes(track, "init.mp4", vod.answers(vod.init_segment)),
        *_media_routes(track, "{number}.m4s", vod.answers(vod.segment)),
    ]


def _media_routes(
    track: str, name: str, endpoint: Callable[[Request], Awaitable[Response]]
) -> tuple[Route, Route]:
    """Make the routes of media of a track: of the version that playlists name, and of whichever there is."""
    return Route(f"{track}/{VERSION_PREFIX}{{version}}/{name}", endpoint), Route(f"{track}/{name}", endpoint)


class _Vod:
    """The endpoints below ``/vod``.

    Attributes:
        caching: for how long caches may keep answers.
    """

    def __init__(
        self, titles: Titles, max_age: int, open_files: OpenFileCache | None, answers: AnswerCache | None
    ) -> None:
        self._titles = titles
        self.caching = VodCaching(max_age)
        self._open_files = open_files
        self._answers = answers

    def answers(
        self,
        select: Callable[[dict[str, str], QueryParams], Awaitable[SegmentMedia | Text | CachedInitSegment]],
    ) -> Callable[[Request], Awaitable[Response]]:
        """Make an endpoint that answers with what ``select`` finds, or with a line that says why not."""

        async def endpoint(request: Request) -> Response:
            return await respond(request)

        async def respond(request: Request, *, is_second: bool = False) -> Response:
            # Once more where a file turns out to be replaced while it is read.
            again = None if is_second else partial(respond, request, is_second=True)
            query: bytes = request.scope["query_string"]
            raw_path: bytes = request.scope["raw_path"]
            path = {**request.path_params, RAW_PATH: raw_path.decode("ascii")}
            looked_up = time.monotonic()
            try:
                found = await select(path, request.query_params)
            except NotFoundError:
                return absent(ABSENT_FILE_SECONDS)
            except NotReadyError:
                # Players don't ask for a picture twice; this is for whoever overtakes the making of many.
                return unavailable(PICTURE_RETRY_SECONDS, "Not ready yet")
            except ClipError as error:
                return absent(ABSENT_FILE_SECONDS, str(error), 400)
            except MediaError as error:
                # RFC 9110 §15.5.16, §15.5.21: of a kind that isn't supported, or of the right kind but wrong
                supported = isinstance(error, TooLargeError) or not isinstance(error, UnsupportedError)
                status = 422 if supported else 415
                reason = f"{path['path']} can't be packaged: {error}"
                return absent(ABSENT_FILE_SECONDS, reason, status)
            except OSError as error:
                if again is not None and isinstance(error, FileChangedError):
                    return await again()
                log.error("vod_unreadable", path=path["path"], error=str(error))
                return unavailable(READING_RETRY_SECONDS)
            if self._answers is not None and isinstance(found, Text | CachedInitSegment):
                self._answers.keep(raw_path + b"?" + query if query else raw_path, found, looked_up)
            if isinstance(found, Text):
                coded = RequestTraits.from_headers(request.scope["headers"]).takes_gzip
                return await asyncio.to_thread(_text_response, found, coded=coded)
            if isinstance(found, CachedInitSegment):
                tag = gzip_cache.tag((found.data,))
                found = SegmentMedia(BytesRepresentation(found.data, found.media_type, tag), found.lifetime)
            return RepresentationResponse(
                found.content, cache_control=found.lifetime.cache_control, again=again
            )

        return endpoint

    async def multivariant_playlist(self, path: dict[str, str], query: QueryParams) -> Text:
        if path["path"].endswith(SUFFIX):
            return await self._sequence(path, "master", _sequence_master)
        text = await self._titles.threads.run(self._titles.multivariant_playlist, path["path"], _clip(query))
        return Text(text.encode(), MEDIA_TYPE, self.caching.playlists)

    async def _sequence(
        self, path: dict[str, str], kind: str, write: Callable[[ClipSequence], bytes]
    ) -> Text:
        """Answer with a text of a playlist of clips."""
        data = await self._titles.threads.run(self._titles.sequence, path["path"], kind, write)
        media_type = mpd.MEDIA_TYPE if kind == "manifest" else MEDIA_TYPE
        return Text(data, media_type, self.caching.playlists)

    async def manifest(self, path: dict[str, str], query: QueryParams) -> Text:
        if path["path"].endswith(SUFFIX):
            return await self._sequence(path, "manifest", _sequence_manifest)
        data = await self._titles.threads.run(self._titles.manifest, path["path"], _clip(query))
        return Text(data, mpd.MEDIA_TYPE, self.caching.playlists)

    async def media_playlist(self, path: dict[str, str], query: QueryParams) -> Text:
        if path["path"].endswith(SUFFIX):
            track = path["track"]
            if track not in TRACKS:  # before all clips are put together
                raise NotFoundError(track)
            return await self._sequence(path, f"track {track}", partial(_sequence_track, track))
        text = await self._titles.threads.run(
            self._titles.media_playlist, path["path"], path["track"], _clip(query)
        )
        return Text(text.encode(), MEDIA_TYPE, self.caching.playlists)

    async def init_segment(self, path: dict[str, str], _query: QueryParams) -> CachedInitSegment:
        wanted = path.get("version")
        track = await self._titles.threads.run(self._titles.track, path["path"], path["track"], wanted)
        return CachedInitSegment(track.init, media_type_of(track.video), self.lifetime(wanted, track.version))

    async def text_playlist(self, path: dict[str, str], query: QueryParams) -> Text:
        if path["path"].endswith(SUFFIX):
            track = path["track"]
            return await self._sequence(path, f"text {track}", partial(_sequence_text, track))
        text = await self._titles.threads.run(
            self._titles.text_playlist, path["path"], path["track"], _clip(query)
        )
        return Text(text, MEDIA_TYPE, self.caching.playlists)

    async def text_init(self, path: dict[str, str], _query: QueryParams) -> CachedInitSegment:
        return CachedInitSegment(wvtt.INIT, wvtt.MEDIA_TYPE, await self._text_lifetime(path))

    async def _text_lifetime(self, path: dict[str, str]) -> Lifetime:
        """Say for how long caches may keep what an address of a text track has, if that is its version."""
        wanted = path.get("version")
        track = await self._titles.threads.run(self._titles.text_track, path["path"], path["track"], wanted)
        return self.lifetime(wanted, track.version)

    def lifetime(self, wanted: str | None, version: MediaVersion) -> Lifetime:
        """Say for how long caches may keep media that were asked for by a version, or without one."""
        return self.caching.media(None if wanted is None else version.is_settled(time.time()))

    async def text_segment(self, path: dict[str, str], _query: QueryParams) -> Text:
        name = _WEBVTT_SEGMENT.fullmatch(path["number"])
        if name is None:
            raise NotFoundError(path["number"])
        begin, until = (None if told is None else int(told) for told in name.groups()[1:])
        lifetime = await self._text_lifetime(path)
        write = partial(self._titles.text_segment, version=path.get("version"))
        data = await self._titles.threads.run(write, path["path"], path["track"], int(name[1]), begin, until)
        return Text(data, webvtt.MEDIA_TYPE, lifetime)

    async def text_mp4_segment(self, path: dict[str, str], _query: QueryParams) -> SegmentMedia:
        number, bounds = _segment_name(path["number"])
        lifetime = await self._text_lifetime(path)
        write = partial(self._titles.mp4_text_segment, version=path.get("version"))
        data = await self._titles.threads.run(write, path["path"], path["track"], number, bounds)
        return SegmentMedia(BytesRepresentation(data, wvtt.MEDIA_TYPE, gzip_cache.tag((data,))), lifetime)

    async def whole_text(self, path: dict[str, str], _query: QueryParams) -> Text:
        if path["path"].endswith(SUFFIX):
            if path["track"] != NO_TEXT:
                raise NotFoundError(path["track"])
            await self._sequence(
                path, "master", _sequence_master
            )  # which says whether there is such a playlist
            return Text(webvtt.segment([], 0), webvtt.MEDIA_TYPE, self.caching.media())
        data = await self._titles.threads.run(self._titles.whole_text, path["path"], path["track"])
        return Text(data, webvtt.MEDIA_TYPE, self.caching.media())

    async def chapters(self, path: dict[str, str], query: QueryParams) -> Text:
        found = await self._titles.threads.run(self._titles.chapters, path["path"], _clip(query))
        return Text(chapters_json(found), "application/json", self.caching.media())

    async def segment(self, path: dict[str, str], _query: QueryParams) -> SegmentMedia:
        number, bounds = _segment_name(path["number"])
        looked_up, wanted = time.monotonic(), path.get("version")
        find = partial(self._titles.open_segment, version=wanted)
        opened = await self._titles.threads.opened(find, path["path"], path["track"], number, bounds)
        metadata = metadata_of(opened, f"{path['track']}-{path['number']}", opened.track.video, time.time())
        release = opened.close
        of_file = path[RAW_PATH].rsplit("/", 2 if wanted is None else 3)[0].encode("ascii")
        if self._open_files is not None:
            release = self._open_files.keep(of_file, opened.file, metadata.media_type, (), looked_up)
        lifetime = self.lifetime(wanted, opened.track.version)
        return SegmentMedia(SegmentRepresentation(opened, metadata, release), lifetime)

    async def i_frame_playlist(self, path: dict[str, str], query: QueryParams) -> Text:
        text = await self._titles.threads.run(
            self._titles.i_frame_playlist, path["path"], path["track"], _clip(query)
        )
        return Text(text.encode(), MEDIA_TYPE, self.caching.playlists)

    async def i_frames(self, path: dict[str, str], _query: QueryParams) -> SegmentMedia:
        bounds = _bounds(path["bounds"]) if "bounds" in path else None
        find = partial(self._titles.open_i_frames, version=path.get("version"))
        opened = await self._titles.threads.opened(find, path["path"], path["track"], bounds)
        name = I_FRAMES if bounds is None else f"{I_FRAMES}-{path['bounds']}"
        metadata = metadata_of(opened, name, video=True, now=time.time())
        lifetime = self.lifetime(path.get("version"), version_of(opened.file.identity))
        return SegmentMedia(SegmentRepresentation(opened, metadata, opened.close), lifetime)


def _thumbnail_routes(thumbnails: SpriteMaker, vod: _Vod) -> list[BaseRoute]:
    """Make the routes of small pictures for the seek bar: where they are, and the sprites that hold them."""

    async def vtt(path: dict[str, str], _query: QueryParams) -> Text:
        text = await thumbnails.vtt(path["path"])
        return Text(text.encode(), webvtt.MEDIA_TYPE, vod.caching.playlists)

    async def playlist(path: dict[str, str], _query: QueryParams) -> Text:
        text = await thumbnails.playlist(path["path"])
        return Text(text.encode(), MEDIA_TYPE, vod.caching.playlists)

    async def sprite(path: dict[str, str], _query: QueryParams) -> SegmentMedia:
        if not _SPRITE.fullmatch(path["number"]):
            raise NotFoundError(path["number"])
        wanted = path.get("version")
        data = await thumbnails.sprite(path["path"], int(path["number"]), wanted)
        picture = BytesRepresentation(data, "image/jpeg", gzip_cache.tag((data,)))
        # Where the film has been replaced since, its version isn't settled.
        return SegmentMedia(picture, vod.lifetime(wanted, await thumbnails.version(path["path"])))

    return [
        Route("/vod/{path:path}/thumbnails.vtt", vod.answers(vtt)),
        Route("/vod/{path:path}/thumbnails.m3u8", vod.answers(playlist)),
        *_media_routes("/vod/{path:path}/thumbnails", "{number}.jpg", vod.answers(sprite)),
    ]


def _text_response(text: Text, *, coded: bool) -> Response:
    """Make the response with a text; it may take long, and is called in a thread."""
    lifetime = text.lifetime
    tag = gzip_cache.tag((text.data,)) if lifetime.is_immutable else None
    return text_response(
        (text.data,), text.media_type, lifetime.max_age, coded=coded, immutable_tag=tag, in_thread=True
    )


def _sequence_master(sequence: ClipSequence) -> bytes:
    return sequence.multivariant_playlist().render().encode()


def _sequence_manifest(sequence: ClipSequence) -> bytes:
    return sequence.manifest().render()


def _sequence_track(track: str, sequence: ClipSequence) -> bytes:
    playlist = sequence.media_playlist(track)
    if playlist is None:
        raise NotFoundError(track)
    return playlist.render().encode()


def _sequence_text(track: str, sequence: ClipSequence) -> bytes:
    playlist = sequence.text_playlist(track)
    if playlist is None:
        raise NotFoundError(track)
    return playlist.render().encode()


def _clip(query: QueryParams) -> Clip:
    """Read which part of a film is asked for.

    Raises:
        ClipError: that can't be told.
    """
    told: dict[str, str | None] = {}
    for name in ("start", "end"):
        values = query.getlist(name)
        if len(values) > 1:
            raise ClipError(f"{name} is there {len(values)} times")
        told[name] = values[0] if values else None
    return read_clip(told["start"], told["end"])


def _segment_name(text: str) -> tuple[int, tuple[int, int] | None]:
    """Read a segment's number, and of a trimmed one from when to when it lasts."""
    found = _SEGMENT.fullmatch(text)
    if found is None:
        raise NotFoundError(text)
    return int(found[1]), None if found[2] is None else (int(found[2]), int(found[3]))


def _bounds(text: str) -> tuple[int, int]:
    """Read when a clip begins and ends."""
    found = _BOUNDS.fullmatch(text)
    if found is None:
        raise NotFoundError(text)
    return int(found[1]), int(found[2])
