"""Recordings over HTTP: an event that is over as VOD, and as one MP4 that is put together as it is sent."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote

import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from media.dash import mpd
from media.hls.media_playlist import MEDIA_TYPE
from media.mp4 import wvtt
from origin.http.representation import SelectedRepresentation
from origin.http1.sendfile import TruncatedFileError
from origin.live.dvr_segments import media_tag
from origin.responses.media_responses import RequestTraits, text_response
from origin.responses.refusal import ABSENT_LIVE_SECONDS, READING_RETRY_SECONDS, absent, unavailable
from origin.responses.representation import FileRepresentation, RepresentationResponse, ThreadReader
from packager.library.local_storage import LocalFile, NotFoundError
from packager.library.storage_interface import LibraryFile
from packager.recordings.merged_recordings import AnyRecording, KeptRecordings
from packager.recordings.progressive_mp4 import MovieLayout
from packager.recordings.recording_writer import MANIFEST
from packager.window.model import TEXT_EXTENSION
from packager.window.rendition import extension_of

log = structlog.get_logger()

MOVIE = "event.mp4"

MAX_AGE = 3600
"""Seconds for which caches may keep what is of a recording: it never changes, but may be removed."""

_PLAYLIST = re.compile(r"master\.m3u8|[A-Za-z0-9-]+/media\.m3u8|manifest\.mpd")
_MEDIA = re.compile(r"([A-Za-z0-9-]+)/((?:init-)?(?:0|[1-9][0-9]{0,14})\.(?:m4s|mp4|vtt))")
_TYPES = {"m4s": "video/mp4", "mp4": "video/mp4", "vtt": "text/vtt"}


def describe(channel: str, recording: AnyRecording) -> dict[str, object]:
    """Describe a recording for scripts and the page."""
    metadata, base = recording.metadata, f"/live/{quote(channel)}/recordings/{recording.metadata.id}"
    return {
        "id": metadata.id,
        "start": metadata.start,
        "duration": metadata.duration,
        "size": metadata.size,
        "hls": f"{base}/master.m3u8",
        "dash": f"{base}/{MANIFEST}" if metadata.dash else None,
        "mp4": None if recording.obstacle else f"{base}/{MOVIE}",
    }


def describe_newest(recordings: Mapping[str, KeptRecordings], channel: str) -> Mapping[str, object] | None:
    """Describe a channel's newest recording; None where it has none."""
    newest = next(iter(recordings.get(channel) or ()), None)
    return None if newest is None else describe(channel, newest)


def routes(recordings: Mapping[str, KeptRecordings]) -> list[BaseRoute]:
    """Make the routes of recordings.

    Args:
        recordings: of each channel that has some, by its name.
    """

    async def endpoint(request: Request) -> Response:
        path = request.path_params
        kept = recordings.get(path["channel"])
        recording = None if kept is None else kept.get(path["id"])
        if recording is None:
            return absent(ABSENT_LIVE_SECONDS)
        try:
            return await _answer(request, path["channel"], recording, path["name"])
        except NotFoundError as error:
            return absent(ABSENT_LIVE_SECONDS, str(error) if path["name"] == MOVIE else "")
        except OSError as error:
            log.error("recording can't be read", recording=str(recording.path), reason=str(error))
            return unavailable(READING_RETRY_SECONDS)

    return [Route("/live/{channel}/recordings/{id}/{name:path}", endpoint)]


async def _answer(request: Request, channel: str, recording: AnyRecording, name: str) -> Response:
    """Answer with a file of a recording.

    Raises:
        NotFoundError: it has none of that name.
        OSError: it can't be read.
    """
    if name == MOVIE:
        with recording.reading():
            head, layout = await recording.threads.run(recording.movie)
        attachment = {"content-disposition": f'attachment; filename="{channel}-{recording.metadata.id}.mp4"'}
        return RecordedResponse(recording, MovieRepresentation(recording, head, layout), attachment)
    if _PLAYLIST.fullmatch(name):
        media_type = mpd.MEDIA_TYPE if name == MANIFEST else MEDIA_TYPE
        asked = RequestTraits.from_headers(request.scope["headers"])
        return await recording.threads.run(_text, recording, name, media_type, coded=asked.takes_gzip)
    found = _MEDIA.fullmatch(name)
    if found is None:
        raise NotFoundError(name)
    return await _answer_media(recording, found[1], found[2])


async def answer_live_address(
    recordings: Mapping[str, KeptRecordings], channel: str, rendition: str, name: str, number: int
) -> Response | None:
    """Answer with a segment of an event that is over, at the address that it had when it was live.

    Args:
        recordings: of each channel that has some, by its name.
        name: in that one's folder.
        number: the media sequence number for which it stands.

    Returns:
        None where no recording has it.
    """
    kept = recordings.get(channel)
    recording = None if kept is None else kept.having(number)
    try:
        return None if recording is None else await _answer_media(recording, rendition, name)
    except NotFoundError:
        return None


async def _answer_media(recording: AnyRecording, rendition: str, name: str) -> Response:
    """Answer with a segment or an init segment of a recording, as it was answered when it was live.

    Raises:
        NotFoundError: it has none of that name.
        OSError: it can't be read.
    """
    file = await recording.threads.run(recording.open, f"{rendition}/{name}")
    sound = rendition != recording.metadata.video and name.endswith((".m4s", ".mp4"))
    media_type = "audio/mp4" if sound and rendition == recording.metadata.audio else _TYPES[name[-3:]]
    if sound and extension_of(rendition) == TEXT_EXTENSION:
        media_type = wvtt.MEDIA_TYPE
    representation = FileRepresentation(file, media_type)
    representation.etag, representation.last_modified = media_tag(name, file.size), None
    return RecordedResponse(recording, representation)


def _text(recording: AnyRecording, name: str, media_type: str, *, coded: bool) -> Response:
    """Read a playlist or a manifest and answer with it; of a day it has megabytes, which take a while."""
    with recording.open(name) as file:
        data = file.pread(0, file.size)
    return text_response((data,), media_type, MAX_AGE, coded=coded, in_thread=True)


class RecordedResponse(RepresentationResponse):
    """An answer whose files aren't removed before its end.

    Args:
        recording: what is read from.
    """

    def __init__(
        self,
        recording: AnyRecording,
        representation: SelectedRepresentation,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(representation, cache_control=f"public, max-age={MAX_AGE}", headers=headers)
        self._recording = recording

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        with self._recording.reading():
            await super().__call__(scope, receive, send)


class MovieRepresentation(ThreadReader):
    """The MP4 of a recording: its head, then the segments' files one behind the other.

    Args:
        head: the open file of the head, which it owns and closes.
        layout: the files behind it.
    """

    def __init__(self, recording: AnyRecording, head: LocalFile, layout: MovieLayout) -> None:
        super().__init__(self._read_at, self._close_files, recording.threads)
        self.size = head.size + layout.size
        self.etag: str | None = f'"{recording.metadata.id}-{self.size:x}"'
        self.last_modified: float | None = recording.metadata.end
        self.media_type = "video/mp4" if recording.metadata.video else "audio/mp4"
        self._recording = recording
        self._head = head
        self._layout = layout
        self._open: tuple[int, int, LibraryFile] | None = None

    def descriptor(self) -> int | None:
        """Return None: no file holds exactly these bytes."""
        return None

    def _read_at(self, offset: int, length: int) -> bytes:
        """Read up to `length` bytes from `offset`, of one file."""
        if offset < self._head.size:
            return self._head.pread(offset, min(length, self._head.size - offset))
        offset -= self._head.size
        if offset >= self._layout.size:
            return b""
        begin, end, file = self._file_at(offset)
        if file.size != end - begin:
            raise TruncatedFileError(f"{file.path} has {file.size} bytes, not {end - begin}")
        return file.pread(offset - begin, min(length, end - offset))

    def _file_at(self, offset: int) -> tuple[int, int, LibraryFile]:
        """Open the file at an offset behind the head, or give the one that is open."""
        if self._open is not None:
            if self._open[0] <= offset < self._open[1]:
                return self._open
            self._open[2].close()
            self._open = None
        name, begin, end = self._layout.at(offset)
        self._open = (begin, end, self._recording.open(name))
        return self._open

    def _close_files(self) -> None:
        self._head.close()
        if self._open is not None:
            self._open[2].close()
