"""The addresses of VOD: `/vod/PATH/…` for a file of the library, `/vod/TITLE/…` for a title's renditions."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, unquote

from packager.encode.renditions import ENCODED_NAME
from packager.library.file_endings import PLAYLIST_ENDING
from packager.vod.movie.versioned_addresses import VERSION_PREFIX
from packager.vod.segments.clip import WHOLE, Clip, ClipError, read_clip

PREFIX = "/vod/"
"""Path prefix of all addresses of VOD."""

ADDRESSES_KEPT = 1024
"""Most addresses that are kept parsed."""

KEPT_BYTES = 512
"""Longest request target that is kept parsed."""


_NUMBER = "(?P<number>0|[1-9][0-9]{0,7})"
_BEGIN, _END = "(?P<begin>0|[1-9][0-9]{0,17})", "(?P<end>[1-9][0-9]{0,17})"
_NAMES = {
    # A segment has its number, and where it is trimmed for a clip, when it begins and ends.
    "segment": f"{_NUMBER}(?:-{_BEGIN}-{_END})?",
    # One of WebVTT says of a clip when it begins, and when it ends only where another one follows.
    "webvtt_segment": f"{_NUMBER}(?:-{_BEGIN}(?:-{_END})?)?",
    "bounds": f"{_BEGIN}-{_END}",
    "sprite": "(?P<number>0|[1-9][0-9]{0,4})",
    "track": "(?P<track>[^/]+)",
    "version": f"{VERSION_PREFIX}(?P<version>[^/]+)/",
    "no version": "",
}


class Kind(Enum):
    """The kinds of addresses, each with its pattern below a film; the first that matches counts."""

    THUMBNAILS = "thumbnails.vtt"
    THUMBNAIL_PLAYLIST = "thumbnails.m3u8"
    SPRITE = "thumbnails/{version}{sprite}.jpg"
    TEXT_PLAYLIST = "subtitles/{track}/media.m3u8"
    TEXT_INIT = "subtitles/{track}/{version}init.mp4"
    TEXT_MP4_SEGMENT = "subtitles/{track}/{version}{segment}.m4s"
    TEXT_SEGMENT = "subtitles/{track}/{version}{webvtt_segment}.vtt"
    WHOLE_TEXT = "subtitles/{track}.vtt"
    CHAPTERS = "chapters.json"
    COVER = "cover.jpg"
    POSTER = "poster.jpg"
    MULTIVARIANT_PLAYLIST = "master.m3u8"
    MANIFEST = "manifest.mpd"
    MEDIA_PLAYLIST = "{track}/media.m3u8"
    I_FRAME_PLAYLIST = "{track}/iframes.m3u8"
    I_FRAMES = "{track}/{version}iframes.mp4"
    CLIP_I_FRAMES = "{track}/{version}iframes-{bounds}.mp4"
    INIT = "{track}/{version}init.mp4"
    SEGMENT = "{track}/{version}{segment}.m4s"


def _patterns() -> Iterator[tuple[Kind, re.Pattern[str]]]:
    for kind in Kind:
        # A part that begins as a version is one, wherever it could also be the name of a track.
        for below in dict.fromkeys((kind.value, kind.value.replace("{version}", "{no version}"))):
            yield kind, re.compile(f"{PREFIX}(?P<film>.*)/" + below.replace(".", r"\.").format_map(_NAMES))


_PATTERNS = tuple(_patterns())

_CLIP = re.compile(f"(?P<sequence>.*{re.escape(PLAYLIST_ENDING)})/(?:0|[1-9][0-9]{{0,3}})", re.DOTALL)
"""The film's place in the address of a clip of a playlist: the playlist, and the clip's number."""

_ENCODED = re.compile(ENCODED_NAME)


CLIP_PARAMETERS = ("start", "end", "burn")
"""Names of the query parameters of a clip, the only ones on which contents depend."""

OF_CLIPS = frozenset(
    {
        Kind.MULTIVARIANT_PLAYLIST,
        Kind.MANIFEST,
        Kind.MEDIA_PLAYLIST,
        Kind.I_FRAME_PLAYLIST,
        Kind.TEXT_PLAYLIST,
        Kind.CHAPTERS,
    }
)
"""Kinds of contents that depend on a clip's parameters."""


class Address(NamedTuple):
    """The parsed target of a request.

    Attributes:
        is_of_film: whether there are samples at the address, which are read from the film as they are sent.
        film: name of the film or title, relative to the library.
        target: the path, which is the same however the client has encoded it.
        film_target: the film's own address, which is the same however the client has encoded it.
        track: name of a track; empty where the address has none.
        version: the wanted version of the film or of its track; None: any.
        numbers: the number of a segment or of a sprite, and begin and end of a clip.
        query: the query as it was sent.
    """

    kind: Kind
    is_of_film: bool
    target: bytes
    film: str
    film_target: bytes
    track: str
    version: str | None
    numbers: tuple[int, ...]
    query: bytes

    @property
    def is_encoded(self) -> bool:
        """Whether there are media at the address that are encoded on request."""
        return self.kind in (Kind.INIT, Kind.SEGMENT) and is_encoded(self.track)

    @property
    def bounds(self) -> tuple[int, int] | None:
        """The begin and end of a clip, in whose segment or I-frames nothing else is."""
        return None if len(self.numbers) < 2 else (self.numbers[-2], self.numbers[-1])

    @property
    def content_target(self) -> bytes:
        """The address with what its content depends on, however a client spells and varies the query.

        Raises:
            ClipError: the query doesn't name a clip.
        """
        clip = self.clip
        return self.target if clip == WHOLE else self.target + clip.query.encode()

    @property
    def clip(self) -> Clip:
        """The wanted part of the film; all of it at addresses whose content depends on no clip.

        Raises:
            ClipError: the query doesn't name one.
        """
        if not self.query or self.kind not in OF_CLIPS or self.film.endswith(PLAYLIST_ENDING):
            return WHOLE
        told: dict[str, str | None] = dict.fromkeys(CLIP_PARAMETERS)
        fields = parse_qsl(self.query.decode("latin-1"), keep_blank_values=True)
        for name in told:
            values = [value for field, value in fields if field == name]
            if len(values) > 1:
                raise ClipError(f"{name} is there {len(values)} times")
            told[name] = values[0] if values else None
        return read_clip(told["start"], told["end"], told["burn"])


def find_address(target: bytes) -> Address | None:
    """Parse the target of a request; None where it is no address of VOD."""
    return (_kept_address if len(target) <= KEPT_BYTES else _address)(target)


def clip_of(address: Address) -> tuple[str, str] | None:
    """Return the playlist of clips that an address is beneath, and the rest of it; None of any other."""
    if PLAYLIST_ENDING not in address.film or (found := _CLIP.fullmatch(address.film)) is None:
        return None
    return found["sequence"], unquote(address.target.decode())[len(f"{PREFIX}{found['sequence']}/") :]


def is_encoded(track: str) -> bool:
    """Return whether a track has the name of a rendition that is encoded on request."""
    return _ENCODED.fullmatch(track) is not None


def _address(target: bytes) -> Address | None:
    path, _, query = target.partition(b"?")
    text = unquote(path.decode("ascii"))
    for kind, pattern in _PATTERNS:
        if found := pattern.fullmatch(text):
            parts = found.groupdict()
            track = parts.get("track", "")
            film, told = found["film"], map(parts.get, ("number", "begin", "end"))
            return Address(
                kind,
                kind in (Kind.SEGMENT, Kind.I_FRAMES, Kind.CLIP_I_FRAMES) and not is_encoded(track),
                quote(text).encode(),
                film,
                f"{PREFIX}{quote(film)}".encode(),
                track,
                parts.get("version"),
                tuple(int(one) for one in told if one is not None),
                query,
            )
    return None


_kept_address = functools.lru_cache(maxsize=ADDRESSES_KEPT)(_address)
