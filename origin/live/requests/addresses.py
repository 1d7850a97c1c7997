"""The addresses of live channels: playlists, manifests, and the files of a rendition's folder."""

from __future__ import annotations

import functools
import re
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from typing import NamedTuple

from media.subtitles import webvtt
from origin.http.channel_patterns import LIVE_NAME
from origin.live.requests import directives
from origin.live.requests.directives import DirectiveError, Directives
from origin.live.requests.moments import Moment, MomentError, read_delay, read_moment
from origin.responses.channel_route import CHANNEL
from packager.past.i_frames import PLAYLIST_NAME
from packager.past.programmes import ID as PROGRAMME_ID
from packager.window.rendition import Rendition
from packager.window.window import Window

PATTERNS = (
    f"/live/{CHANNEL}/master.m3u8",
    f"/live/{CHANNEL}/manifest.mpd",
    f"/live/{CHANNEL}/clip.mp4",
    f"/live/{CHANNEL}/clip.m4a",
    f"/live/{CHANNEL}/clip.mp3",
    f"/live/{CHANNEL}/clip.ogg",
    f"/live/{CHANNEL}/snapshot.jpg",
    f"/live/{CHANNEL}/thumbnails.vtt",
    f"/live/{CHANNEL}/{{rendition}}/{{name}}",
)
"""Starlette's patterns of the paths."""

MULTIVARIANT = "master.m3u8"
"""Name of a channel's multivariant playlist."""

MANIFEST = "manifest.mpd"
"""Name of a channel's DASH manifest."""

CLIPS = ("clip.mp4", SOUND_CLIP := "clip.m4a")
"""Names of spans of a channel's past as one file, the second one of the sound alone."""

OTHER_CLIPS = ("clip.mp3", "clip.ogg")
"""Names of sound in formats that no segment has."""

SNAPSHOT = "snapshot.jpg"
"""Name of the picture of a moment."""

THUMBNAILS = "thumbnails.vtt"
"""Name of the list of a channel's small pictures."""

PAST_FILES = (SNAPSHOT, THUMBNAILS, *CLIPS, *OTHER_CLIPS)
"""Names of what is of a channel's past alone."""

PLAYLIST = "media.m3u8"
"""Name of a rendition's media playlist, in its folder."""

I_FRAMES = PLAYLIST_NAME
"""Name of the I-frame playlist of a span that is over, in a rendition's folder."""

NAMES_KEPT = 1024
"""Most parsed names that are cached."""

TARGETS_KEPT = 1024
"""Most parsed request targets that are cached: many clients ask for the same."""

LONGEST_KEPT = 4096
"""Most bytes of a request target that is cached."""

_CHANNEL = re.compile(LIVE_NAME)
_NUMBER = r"(0|[1-9][0-9]{0,14})"
_INIT = re.compile(rf"init-{_NUMBER}\.mp4")
_SEGMENT = re.compile(rf"{_NUMBER}(?:\.{_NUMBER})?\.(m4s|vtt)")


class RenditionFileKind(Enum):
    """The kinds of files in a rendition's folder."""

    INIT = "init"
    SEGMENT = "segment"
    PART = "part"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class RenditionFile:
    """A file in a rendition's folder, as its name says it.

    Attributes:
        number: media sequence number.
        index: of a part, else 0.
        extension: how names of such a rendition's media end.
    """

    kind: RenditionFileKind
    number: int = -1
    index: int = 0
    extension: str = "m4s"

    def of(self, window: Window) -> RenditionFile:
        """Return the file, or ``NOTHING`` where the rendition's media have another extension."""
        return self if self.extension == window.extension else NOTHING

    def in_memory(self, window: Window) -> bytes | memoryview | None:
        """Return the bytes of the file; None where it isn't in memory."""
        if self.kind is RenditionFileKind.PART:
            return window.part(self.number, self.index)
        if self.kind is RenditionFileKind.SEGMENT:
            return window.segment(self.number)
        return window.init(self.number) if self.kind is RenditionFileKind.INIT else None


NOTHING = RenditionFile(RenditionFileKind.NOTHING)


@functools.lru_cache(maxsize=NAMES_KEPT)
def read_name(name: str) -> RenditionFile:
    """Read a name; those of many players are the same."""
    if found := _SEGMENT.fullmatch(name):
        if found[2] is None:
            return RenditionFile(RenditionFileKind.SEGMENT, int(found[1]), extension=found[3])
        return RenditionFile(RenditionFileKind.PART, int(found[1]), int(found[2]), found[3])
    if found := _INIT.fullmatch(name):
        return RenditionFile(RenditionFileKind.INIT, int(found[1]))
    return NOTHING


def media_type(rendition: Rendition) -> str:
    """Return the Content-Type of a rendition's media."""
    if rendition.language is not None:
        return webvtt.MEDIA_TYPE
    return "video/mp4" if rendition.video else "audio/mp4"


def cache_control(window: Window) -> str:
    """Return how long caches may keep a rendition's media."""
    return f"public, max-age={int(window.finished.retention)}, immutable"


class LiveAddress(NamedTuple):
    """The parsed target of a request for a live channel.

    Attributes:
        rendition: the rendition's name; empty for what describes the whole channel.
        name: the last part of the path.
        file: the file of a rendition that the name stands for.
        directives: the delivery directives of a playlist or a manifest.
        error: the reason why the directives can't be obeyed; empty where they can be.
        is_blocking: whether the directives name a segment or a part, rightly or wrongly.
        span: the span of the channel's past that is wanted; None: the channel as it is now.
        chosen: the rendition that a clip or a picture is of; empty: the best one.
        moment: the moment whose picture is wanted.
        delay: seconds by which the channel is wanted later than it is.
        width: pixels of the picture that is wanted, as the query has them; empty: its own.
        programme: the name of the programme whose span is wanted; empty for none.
        is_strict: whether a span that begins before all that is kept is wanted not at all.
        is_followed: whether a player goes on with a manifest that the span had before its end.
    """

    channel: str
    rendition: str
    name: str
    file: RenditionFile
    directives: Directives
    error: str = ""
    is_blocking: bool = False
    span: Span | None = None
    chosen: str = ""
    moment: Moment | None = None
    delay: Fraction | None = None
    width: str = ""
    programme: str = ""
    is_strict: bool = False
    is_followed: bool = False

    @property
    def is_of_past(self) -> bool:
        """Whether something of the channel's past is wanted."""
        is_past_file = self.name in PAST_FILES and not self.rendition
        return is_past_file or self.span is not None or self.delay is not None or self.programme != ""


class Span(NamedTuple):
    """A span of a channel's past; None where it has no bound."""

    start: Moment | None
    end: Moment | None


def read_address(target: bytes, carried: tuple[str, ...] = directives.CARRIED) -> LiveAddress | None:
    """Read a request target.

    Args:
        carried: names of the query parameters that go onto the addresses in playlists.

    Returns:
        None where the target has no path of a playlist, a manifest or a file of a rendition.
    """
    if len(target) > LONGEST_KEPT:
        return _parsed(target, carried)
    return _cached(target, carried)


def _parsed(target: bytes, carried: tuple[str, ...]) -> LiveAddress | None:
    path, _, query = target.partition(b"?")
    # The whole path is decoded before it is split, as ASGI's `path` is.
    area, *names = urllib.parse.unquote(path.decode("latin-1")).removeprefix("/").split("/")
    if area != "live" or not names or not all(names):
        return None
    *own, name = names
    channel, rendition = "/".join(own), ""
    if name not in (MULTIVARIANT, MANIFEST, *PAST_FILES):
        channel, _, rendition = channel.rpartition("/")
    if not _CHANNEL.fullmatch(channel):
        return None
    if rendition and name not in (PLAYLIST, I_FRAMES):
        return LiveAddress(channel, rendition, name, read_name(name), _NO_DIRECTIVES)
    parameters = urllib.parse.parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    span, moment, delay, programme = None, None, None, ""
    try:
        wanted, error = directives.parse(parameters, carried), ""
        found = _moments(parameters, ("at",) if name == SNAPSHOT else Span._fields)
        span = Span(found.get("start"), found.get("end")) if {"start", "end"} & found.keys() else None
        moment = found.get("at")
        delay = _delay(parameters)
        programme = "" if name == SNAPSHOT else _programme(parameters)
        if programme and (span is not None or delay is not None):
            raise MomentError("programme: it has a start and an end of its own")
    except (DirectiveError, MomentError) as refused:
        wanted, error = _NO_DIRECTIVES, str(refused)
    is_blocking = any(key in directives.BLOCKING for key, _ in parameters)
    chosen = width = ""
    if name in PAST_FILES:
        chosen = next((value for key, value in parameters if key == "rendition"), "")
        width = next((value for key, value in parameters if key == "width"), "")
    return LiveAddress(
        channel,
        rendition,
        name,
        NOTHING,
        wanted,
        error,
        is_blocking,
        span,
        chosen,
        moment,
        delay,
        width,
        programme,
        ("strict", "1") in parameters,
        ("follow", "1") in parameters,
    )


def _programme(parameters: list[tuple[str, str]]) -> str:
    """Read the name of the programme that a query wants; empty for none.

    Raises:
        MomentError: no programme can have the name, or the query has two.
    """
    found = [value for name, value in parameters if name == "programme"]
    if len(found) > 1:
        raise MomentError("programme is there twice")
    # In a query that isn't percent-encoded, a plus sign is a space.
    name = found[0].replace(" ", "+") if found else ""
    if found and not PROGRAMME_ID.fullmatch(name):
        raise MomentError("programme: no name of a programme")
    return name


def _delay(parameters: list[tuple[str, str]]) -> Fraction | None:
    """Read how much later than it is a query wants a channel.

    Raises:
        MomentError: it is no time, or is there twice.
    """
    found = [value for name, value in parameters if name == "delay"]
    if len(found) > 1:
        raise MomentError("delay is there twice")
    try:
        return read_delay(found[0]) if found else None
    except MomentError as error:
        raise MomentError(f"delay: {error}") from None


def _moments(parameters: list[tuple[str, str]], names: Sequence[str]) -> dict[str, Moment]:
    """Read the parameters of a query that are moments, by their names.

    Raises:
        MomentError: one is no time, or is there twice.
    """
    found: dict[str, Moment] = {}
    for name, value in parameters:
        if name in names:
            if name in found:
                raise MomentError(f"{name} is there twice")
            try:
                found[name] = read_moment(value)
            except MomentError as error:
                raise MomentError(f"{name}: {error}") from None
    return found


_NO_DIRECTIVES = Directives()

_cached = functools.lru_cache(maxsize=TARGETS_KEPT)(_parsed)
