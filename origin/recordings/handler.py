"""Recordings over HTTP: a past event as VOD, and as one MP4 that is assembled while it is sent."""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Callable, Coroutine, Mapping
from typing import Any
from urllib.parse import quote, unquote

import structlog

from media.dash import mpd
from media.hls.media_playlist import MEDIA_TYPE
from media.mp4.text import wvtt
from origin.answers.movie_source import MovieSource, movie_reply
from origin.answers.refusals import ABSENT_LIVE_SECONDS, READING_RETRY_SECONDS, refusal
from origin.answers.reply import Pending, PendingTask, Reply
from origin.answers.representation_replies import text_reply
from origin.answers.request import Request
from origin.http.channel_patterns import LIVE_NAME
from origin.http.client_limits import network_of
from origin.http.representation import RepresentationMetadata
from origin.live.past.spans import AT_ONCE, MOST_WAITING, REST
from origin.live.requests.dvr_segments import StoredFile, stored_reply
from origin.responses.channel_route import CHANNEL
from packager.fair_queue import FairSemaphore, TooManyWaitingError
from packager.library.local_storage import NotFoundError
from packager.library.storage_interface import LibraryFile
from packager.past.progressive_mp4 import MovieLayout, MoviePiece
from packager.recordings.kept_recordings import LAYOUTS, AllRecordings, AnyRecording, RecordingReader
from packager.recordings.recording_writer import MANIFEST
from packager.window.model import TEXT_EXTENSION
from packager.window.rendition import extension_of, segment_uri

log = structlog.get_logger()

_MOVIE = re.compile(r"event(?:-([1-9][0-9]{0,2}))?\.mp4")
"""Names of the MP4 of a whole recording, and of those of its stretches."""

PATTERN = f"/live/{CHANNEL}/recordings/{{id}}/{{name:path}}"
"""Starlette's pattern of the paths."""

MAX_AGE = 3600
"""Seconds for which caches may keep what is of a recording: it never changes, but may be removed."""

CACHING = f"public, max-age={MAX_AGE}"
"""Cache-Control of its media."""

_PATH = re.compile(rf"/live/({LIVE_NAME})/recordings/([^/]+)/(.*)", re.DOTALL)

_PLAYLIST = re.compile(r"master\.m3u8|[A-Za-z0-9-]+/(?:media|iframes)\.m3u8|manifest\.mpd")
_MEDIA = re.compile(r"([A-Za-z0-9-]+)/((?:init-)?(?:0|[1-9][0-9]{0,14})\.(?:m4s|mp4|vtt))")
_TYPES = {"m4s": "video/mp4", "mp4": "video/mp4", "vtt": "text/vtt"}


def describe(channel: str, recording: AnyRecording) -> dict[str, object]:
    """Describe a recording for scripts and the page."""
    metadata, base = recording.metadata, f"/live/{quote(channel)}/recordings/{recording.metadata.id}"
    return {
        "id": metadata.id,
        "title": metadata.title,
        "programme": metadata.programme or None,
        "pinned": metadata.pinned,
        "start": metadata.start,
        "duration": metadata.shown_duration,
        "size": metadata.size,
        "hls": f"{base}/master.m3u8",
        "dash": f"{base}/{MANIFEST}" if metadata.dash else None,
        "mp4": None if recording.obstacle else f"{base}/event.mp4",
        "mp4_reason": recording.obstacle or None,
        "mp4_stretches": [
            {"mp4": f"{base}/event-{one.number}.mp4", "start": one.start, "duration": one.duration}
            for one in recording.stretches
        ],
    }


def describe_newest(recordings: Mapping[str, AllRecordings], channel: str) -> Mapping[str, object] | None:
    """Describe a channel's newest recording; None where it has none."""
    newest = next(iter(recordings.get(channel) or ()), None)
    return None if newest is None else describe(channel, newest)


class RecordingHandler:
    """Answers requests for files of recordings.

    Args:
        recordings: of each channel that has some, by its name.
    """

    def __init__(self, recordings: Mapping[str, AllRecordings]) -> None:
        self._recordings = recordings
        # MP4s of many recordings are laid out anew each time, so networks take turns.
        self._turns = FairSemaphore(AT_ONCE, 1, MOST_WAITING, REST)

    def handle(self, request: Request) -> Reply | Pending | None:
        """Return the reply with a file, which comes later; see `Handler`."""
        path = unquote(request.target.partition(b"?")[0].decode("latin-1"))
        found = _PATH.fullmatch(path)
        kept = None if found is None else self._recordings.get(found[1])
        recording = None if found is None or kept is None else kept.get(found[2])
        if found is None or recording is None:
            return None
        return PendingTask(self._reply(request, found[1], recording, found[3]))

    def absent(self, request: Request) -> Reply:
        """Return the refusal of a request for a recording that there isn't."""
        return refusal(request, 404, ABSENT_LIVE_SECONDS)

    async def _reply(self, request: Request, channel: str, recording: AnyRecording, name: str) -> Reply:
        """Reply with a file of a recording, or that there is none of that name."""
        movie = _MOVIE.fullmatch(name)
        try:
            if movie is not None:
                return await self._movie_reply(request, channel, recording, int(movie[1] or 0))
            if _PLAYLIST.fullmatch(name):
                threads = recording.threads.of(network_of(request.client))
                return await threads.run(_text_reply, request, recording, name)
            found = _MEDIA.fullmatch(name)
            if found is None:
                raise NotFoundError(name)
            return await _media_reply(request, recording, found[1], found[2])
        except NotFoundError as error:
            return refusal(request, 404, ABSENT_LIVE_SECONDS, "" if movie is None else str(error))
        except TooManyWaitingError:
            return refusal(request, 503, 0, retry_after=READING_RETRY_SECONDS)
        except OSError as error:
            log.error("recording can't be read", recording=str(recording.path), reason=str(error))
            return refusal(request, 503, 0, retry_after=READING_RETRY_SECONDS)

    async def measure(self, recording: AnyRecording, network: str) -> tuple[int, str]:
        """Find out the size and the media type of the MP4 of a whole recording.

        Raises:
            NotFoundError, TooManyWaitingError, OSError: they can't be found out now.
        """
        with recording.reading():
            movie = await self._movie(recording, 0, network)
            await recording.threads.of(network).run(movie[0].close)
        return _size_and_type(recording, movie)

    async def _movie(
        self, recording: AnyRecording, stretch: int, network: str
    ) -> tuple[LibraryFile, MovieLayout]:
        """Open the MP4 of a recording, in the turn of a network where it has to be laid out."""
        is_quick = LAYOUTS.find(recording) is not None
        async with contextlib.nullcontext() if is_quick else self._turns.held(network):
            return await recording.threads.of(network).run(recording.movie, stretch)

    async def _movie_reply(
        self, request: Request, channel: str, recording: AnyRecording, stretch: int
    ) -> Reply:
        """Reply with the MP4 of a recording, or of one of its stretches; 0 is the whole."""
        network = network_of(request.client)
        with contextlib.ExitStack() as held:
            reader = held.enter_context(recording.reading())
            movie = await self._movie(recording, stretch, network)
            release = held.pop_all().close
        source = movie_source(recording, movie, reader, release, network)
        metadata = recording.metadata
        size, media_type = _size_and_type(recording, movie)
        name = f"{metadata.id}-{stretch}" if stretch else metadata.id
        described = RepresentationMetadata(size, media_type, f'"{name}-{size:x}"', metadata.end)
        return await movie_reply(request, source, described, CACHING, f"{channel}-{name}.mp4")


def _size_and_type(recording: AnyRecording, movie: tuple[LibraryFile, MovieLayout]) -> tuple[int, str]:
    head, layout = movie
    media_type = "video/mp4" if recording.metadata.video in layout.names else "audio/mp4"
    return head.size + layout.size, media_type


def find_live_file(
    recordings: Mapping[str, AllRecordings],
    is_hidden: Callable[[str], bool],
    channel: str,
    rendition: str,
    name: str,
    number: int,
) -> Callable[[Request], Coroutine[Any, Any, Reply | None]] | None:
    """Find a segment of an event that is over, by the address that it had when it was live.

    Args:
        recordings: of each channel that has some, by its name.
        is_hidden: returns whether a channel's recordings need a token, and its live addresses none.
        name: in that one's folder.
        number: the media sequence number for which it stands.

    Returns:
        What replies with the segment, unless the recording hasn't it; None where no recording has the number.
    """
    kept = None if is_hidden(channel) else recordings.get(channel)
    recording = None if kept is None else kept.having(number)
    if recording is None:
        return None

    async def reply(request: Request) -> Reply | None:
        try:
            return await _media_reply(request, recording, rendition, name)
        except NotFoundError:
            return None

    return reply


async def _media_reply(request: Request, recording: AnyRecording, rendition: str, name: str) -> Reply:
    """Reply with a segment or an init segment of a recording, as when it was live.

    Raises:
        NotFoundError: the recording has no such file.
        OSError: the file can't be opened.
    """
    # An open file is read to its end, even if the recording is removed meanwhile.
    threads = recording.threads.of(network_of(request.client))
    file = await threads.opened(recording.open, f"{rendition}/{name}")
    sound = rendition != recording.metadata.video and name.endswith((".m4s", ".mp4"))
    media_type = "audio/mp4" if sound and rendition == recording.metadata.audio else _TYPES[name[-3:]]
    if sound and extension_of(rendition) == TEXT_EXTENSION:
        media_type = wvtt.MEDIA_TYPE
    return await stored_reply(request, StoredFile(file, name, media_type, CACHING), file.close)


def _text_reply(request: Request, recording: AnyRecording, name: str) -> Reply:
    """Read a playlist or a manifest and reply with it; of a day it has megabytes, which take a while."""
    media_type = mpd.MEDIA_TYPE if name == MANIFEST else MEDIA_TYPE
    with recording.open(name) as file:
        data = file.pread(0, file.size)
    coded = request.takes_gzip
    return text_reply(request, (data,), media_type, MAX_AGE, coded=coded, in_thread=True)


def movie_source(
    recording: AnyRecording,
    movie: tuple[LibraryFile, MovieLayout],
    reader: RecordingReader,
    on_closed: Callable[[], None],
    network: str,
) -> MovieSource:
    """Make the source of a recording's MP4.

    Args:
        movie: the open file of the head, and the files behind it.
        reader: notes how much is read.
        on_closed: called when the files are closed.
        network: the client's, which takes turns with others.
    """

    def locate(piece: MoviePiece) -> Callable[[], LibraryFile]:
        return functools.partial(recording.open, f"{piece.rendition}/{segment_uri(piece.number)}")

    return MovieSource(movie, locate, on_closed, recording.threads.of(network), reader.note)
