"""Playlists of several clips: ``NAME.playlist.json`` in the library, as one presentation in HLS and DASH.

The file is ``{"clips": [{"path": "film.mp4", "start": 90.5, "end": "00:02:00"}, …]}``; paths are relative to
its folder, and start and end may be left out. Each clip is a stretch behind a discontinuity, and a period of
its own, so that codecs and sizes may differ. Where one has a picture or sound, all have: silence isn't made.
Subtitles are those that any clip has, by language and purpose. Chapters are left out; a clip by itself has
them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any
from urllib.parse import quote, unquote

from media.dash.durations import rounded_up
from media.dash.mpd import Period, StaticManifest
from media.errors import MalformedError, TooLargeError, UnsupportedError
from media.hls.media_playlist import Map, MediaPlaylist, Segment, target_duration
from media.hls.multivariant import Media, MultivariantPlaylist, Variant
from packager.library.file_endings import PLAYLIST_ENDING
from packager.vod.index.chapters import NO_CHAPTERS
from packager.vod.index.file_index import FileIndex, OfferedTrack
from packager.vod.limits import TitleLimits
from packager.vod.manifest import manifest
from packager.vod.movie.versioned_addresses import VERSION_PREFIX
from packager.vod.playlists import INIT_NAME, SEGMENT_SUFFIX, OfferedFile
from packager.vod.segments.bandwidth import average_bandwidth, peak_bandwidth
from packager.vod.segments.clip import Clip, ClipError, clipped, read_clip
from packager.vod.sounds import main_sounds
from packager.vod.text.text_playlists import TEXT_FOLDER, TEXT_GROUP, TEXT_SUFFIX, text_media
from packager.vod.text.text_segment_list import TextSegments
from packager.vod.text.text_tracks import TextTrack

TRACKS = ("video", "audio")

_VERSION = re.compile(f"/{VERSION_PREFIX}[^/]+/")

MAX_PATH_BYTES = 4096
"""Longest path of a clip's film, as long as a system takes it (PATH_MAX)."""

MAX_CLIPS = 1000
"""Most clips of a sequence."""

MAX_TEXTS = 32
"""Most subtitles, of different languages and purposes."""


@dataclass(frozen=True, slots=True)
class SequenceClip:
    """A clip of a sequence: the path of its film, relative to the file that names it, and its times."""

    path: str
    clip: Clip


def read_sequence(data: bytes, limits: TitleLimits) -> list[SequenceClip]:
    """Read a playlist of clips.

    Raises:
        MalformedError: it isn't of the form that it has to have; the text says where.
        TooLargeError: there is more in it than the limits allow.
    """
    try:
        # Numbers stay text: a float would round them, and an integer may have any number of digits.
        told = json.loads(data, parse_float=_Number, parse_int=_Number, parse_constant=_Number)
    except (ValueError, RecursionError):
        raise MalformedError("it isn't JSON") from None
    if not isinstance(told, dict) or set(told) != {"clips"} or not isinstance(told["clips"], list):
        raise MalformedError('it isn\'t of the form {"clips": […]}')
    if not told["clips"]:
        raise MalformedError("there are no clips in it")
    if len(told["clips"]) > MAX_CLIPS:
        raise TooLargeError(f"{len(told['clips'])} clips: more than {MAX_CLIPS}")
    clips = [_clip(number, one) for number, one in enumerate(told["clips"], 1)]
    for number, one in enumerate(clips, 1):
        if len(one.path) > MAX_PATH_BYTES:
            raise MalformedError(f"clip {number}: its path is longer than {MAX_PATH_BYTES} bytes")
    files = len({one.path for one in clips})
    if files > limits.sequence_files:
        raise TooLargeError(f"clips of {files} films: more than {limits.sequence_files}")
    return clips


class _Number(str):
    """The digits of a number."""

    __slots__ = ()


def _clip(number: int, told: Any) -> SequenceClip:
    if not isinstance(told, dict) or not {"path"} <= set(told) <= {"path", "start", "end"}:
        raise MalformedError(f"clip {number} isn't of the form {{path, start, end}}")
    path, times = told["path"], (told.get("start"), told.get("end"))
    if type(path) is not str:
        raise MalformedError(f"clip {number}: its path isn't text")
    if path.lower().endswith(PLAYLIST_ENDING):  # so that no playlist includes itself
        raise MalformedError(f"clip {number}: a playlist of clips isn't one itself")
    if not all(one is None or isinstance(one, str) for one in times):
        raise MalformedError(f"clip {number}: its times are neither seconds nor timecodes")
    try:
        return SequenceClip(path, read_clip(*times))
    except ClipError as error:
        raise MalformedError(f"clip {number}: {error}") from None


Offered = Callable[[str], OfferedFile]
"""Returns a film's tracks by its path."""

NO_TEXT = "none"
"""The name of text that says nothing, for clips that have none."""


@dataclass(frozen=True, slots=True)
class _ClipStretch:
    """The entries of one clip's track in a playlist, kept apart from the film's index.

    Attributes:
        segments: the segments, whose addresses are relative to those of the sequence's tracks, and beneath
            the sequence: who may fetch its playlists may fetch what they name, and no more of the films.
        bandwidth: bit/s at most.
        average: bit/s; None where it is encoded on request.
        codec: RFC 6381 string.
        resolution: width and height in pixels, of a picture.
        frame_rate: frames per second at most, of a picture.
    """

    segments: Sequence[Segment]
    bandwidth: int
    average: int | None
    codec: str
    resolution: tuple[int, int]
    frame_rate: Fraction


@dataclass(frozen=True, slots=True)
class _SequenceText:
    """The subtitles of one language and purpose.

    Attributes:
        track: the first clip's that has them; its name is a number.
        bandwidth: bit/s at most.
    """

    track: TextTrack
    segments: Sequence[Segment]
    bandwidth: int


@dataclass(frozen=True, slots=True)
class ClipSequence:
    """Several clips as one presentation.

    Attributes:
        stretches: by track, one of each clip.
        periods: of DASH, one of each clip.
        longest: seconds of the longest segment.
        independent: whether each segment can be decoded without any other.
        members: of each clip, the path of its film, and the addresses beneath the film that the clip has, of
            any version.
    """

    stretches: dict[str, list[_ClipStretch]]
    texts: Sequence[_SequenceText]
    periods: Sequence[Period]
    longest: Fraction
    independent: bool
    members: Sequence[tuple[str, Sequence[str]]]

    def addresses(self) -> bytes:
        """Return a line for each clip, with its number and film, and for each address beneath it."""
        lines = [""]
        for number, (path, names) in enumerate(self.members):
            lines += [f"{number}={quote(path)}", *(f"{number}/{name}" for name in names), ""]
        return "\n".join(lines).encode()

    def multivariant_playlist(self) -> MultivariantPlaylist:
        """Offer the picture with the sound, or either alone."""
        listed = [self.stretches[track] for track in TRACKS if track in self.stretches]
        main, codecs = listed[0], [one.codec for stretches in listed for one in stretches]
        picture = "video" in self.stretches
        sound = picture and "audio" in self.stretches
        averages = [[one.average for one in stretches if one.average is not None] for stretches in listed]
        is_known = all(len(known) == len(main) for known in averages)
        variant = Variant(
            f"{TRACKS[not picture]}/media.m3u8",
            bandwidth=sum(max(one.bandwidth for one in stretches) for stretches in listed),
            average_bandwidth=sum(map(max, averages)) if is_known else None,
            codecs=",".join(dict.fromkeys(codecs)),
            resolution=max(one.resolution for one in main) if picture else None,
            frame_rate=max(one.frame_rate for one in main) if picture else None,
            audio="audio" if sound else None,
            subtitles=TEXT_GROUP if self.texts else None,
        )
        variant = replace(
            variant, bandwidth=variant.bandwidth + max((one.bandwidth for one in self.texts), default=0)
        )
        media = [Media("AUDIO", "audio", "audio", "audio/media.m3u8", default=True)] if sound else []
        media += text_media("", [one.track for one in self.texts])
        comments = ["Left out: chapters, which each clip by itself has"]
        return MultivariantPlaylist([variant], media, comments=comments, independent=self.independent)

    def media_playlist(self, track: str) -> MediaPlaylist | None:
        """Return the playlist of a track, or None where there is no such."""
        if track not in self.stretches:
            return None
        return self._playlist([one for stretch in self.stretches[track] for one in stretch.segments])

    def text_playlist(self, track: str) -> MediaPlaylist | None:
        """Return the playlist of a text track, or None where there is no such."""
        found = (self._playlist(one.segments) for one in self.texts if one.track.name == track)
        return next(found, None)

    def _playlist(self, segments: Sequence[Segment]) -> MediaPlaylist:
        """Return a playlist with the target duration of all (RFC 8216bis §6.2.4)."""
        tracks = (one.segments for stretches in self.stretches.values() for one in stretches)
        lists = (*tracks, *(one.segments for one in self.texts))
        target = target_duration(one.duration for listed in lists for one in listed)
        return MediaPlaylist(target, segments, playlist_type="VOD", ended=True)

    def manifest(self) -> StaticManifest:
        """Return the manifest."""
        last = self.periods[-1]
        duration = last.start + (last.duration or 0)
        return StaticManifest(duration, self.longest, self.periods)


def film_of(addresses: bytes, wanted: str) -> str | None:
    """Return the path of the film that has what is at an address beneath a sequence; None where nothing is.

    Args:
        addresses: the lines of ``ClipSequence.addresses``.
        wanted: the address, which begins with the clip's number.
    """
    if f"\n{_VERSION.sub('/', wanted)}\n".encode() not in addresses:
        return None
    begin = f"\n{wanted.partition('/')[0]}=".encode()
    return unquote(addresses.partition(begin)[2].partition(b"\n")[0].decode())


def make_sequence(clips: Sequence[SequenceClip], offered: Offered, limits: TitleLimits) -> ClipSequence:
    """Make one presentation of clips, one behind the other.

    Args:
        clips: the clips, at least one.
        offered: returns the tracks and texts of a film.
        limits: how many segments there may be.

    Raises:
        MediaError: a clip lies beyond its film, or the clips don't fit together; the text says which, and
            why.
        NotFoundError: a film isn't there.
    """
    stretches: dict[str, list[_ClipStretch]] = {}
    periods: list[Period] = []
    texts: list[_ClipText] = []
    members: list[tuple[str, Sequence[str]]] = []
    start, longest, independent, count = Fraction(0), Fraction(0), True, 0
    for number, one in enumerate(clips):
        film = offered(one.path)
        try:
            index = _main_tracks(clipped(film.index, one.clip))
        except ClipError as error:
            raise MalformedError(f"clip {number + 1}, {one.path}: {error}") from None
        kinds = {TRACKS[not track.video]: track for track in (*index.pictures, *index.all_sounds)}
        if number and set(kinds) != set(stretches):
            raise UnsupportedError(
                f"clip {number + 1}, {one.path}, has {' and '.join(kinds)}, clip 1 {' and '.join(stretches)}:"
                " silence and black pictures aren't made up"
            )
        count += sum(len(track.sizes) for track in kinds.values())
        count += len(film.text_tracks) * len(index.text.whole)
        if count > limits.sequence_segments:
            raise TooLargeError(f"more than {limits.sequence_segments} segments of all clips")
        lasts = next(iter(kinds.values())).duration
        for kind, track in kinds.items():
            stretches.setdefault(kind, []).append(_stretch(number, track, lasts))
        texts.append(_ClipText(number, film.text_tracks, index.text, lasts))
        members.append((one.path, [*_media_names(kinds.values()), *texts[-1].names]))
        made = manifest([replace(film, index=index, prefix=f"{number}/")])
        lasts = rounded_up(made.duration)
        periods.append(Period(str(number), start, lasts, made.periods[0].adaptation_sets))
        start, longest = start + lasts, max(longest, made.max_segment_duration)
        independent = independent and film.starts.independent
    return ClipSequence(stretches, _joined_texts(texts), periods, longest, independent, members)


def _media_names(tracks: Iterable[OfferedTrack]) -> Iterator[str]:
    """Yield the addresses of tracks beneath their film, with an edit list or without, of any version."""
    for track in tracks:
        for one in (track, track.without_edit_list) if track.video else (track,):
            yield f"{one.name}/{INIT_NAME}"
            yield from (f"{one.name}/{name}{SEGMENT_SUFFIX}" for name in track.segment_names)


@dataclass(frozen=True, slots=True)
class _ClipText:
    """The text of one clip.

    Attributes:
        number: the place of the clip in the sequence, from 0.
        text: which segments of them are the clip's.
        lasts: seconds of the clip.
    """

    number: int
    tracks: Sequence[TextTrack]
    text: TextSegments
    lasts: Fraction

    def segments(self, track: TextTrack | None) -> list[Segment]:
        """List those of a track, or what says nothing for as long."""
        if track is None:
            return [Segment(f"../{NO_TEXT}{TEXT_SUFFIX}", self.lasts)]
        folder = f"../../{self.number}/{TEXT_FOLDER}/{track.name}/{track.version.folder}"
        durations = self.text.durations
        durations[-1] = max(durations[-1] + self.lasts - sum(durations), Fraction(1, 1000))
        named = zip(self.text.ending_webvtt_names, durations, strict=True)
        return [Segment(f"{folder}{name}{TEXT_SUFFIX}", duration) for name, duration in named]

    @property
    def names(self) -> Iterator[str]:
        """The addresses of all tracks beneath the film, as WebVTT and in MP4, of any version."""
        text = self.text
        numbers = range(text.first, text.first + len(text.ending_webvtt_names))
        media = [f"{text.mp4_name.replace('$Number$', str(number))}{SEGMENT_SUFFIX}" for number in numbers]
        for track in self.tracks:
            names = (INIT_NAME, *media, *(f"{one}{TEXT_SUFFIX}" for one in text.ending_webvtt_names))
            yield from (f"{TEXT_FOLDER}/{track.name}/{name}" for name in names)


def _joined_texts(clips: Sequence[_ClipText]) -> list[_SequenceText]:
    """Join the subtitle tracks of each language and purpose over all clips."""
    wanted: dict[tuple[str | None, bool, bool], TextTrack] = {}
    for clip in clips:
        for track in clip.tracks:
            wanted.setdefault(_purpose(track), track)
    found: list[_SequenceText] = []
    for number, (purpose, first) in enumerate(list(wanted.items())[:MAX_TEXTS]):
        segments: list[Segment] = []
        rates = [0]
        for clip in clips:
            own = next((one for one in clip.tracks if _purpose(one) == purpose), None)
            begin, *rest = clip.segments(own)
            segments += [replace(begin, discontinuity=bool(segments)), *rest]
            rates += [] if own is None else [own.cues.bandwidth(clip.text.whole)]
        joined = replace(first, name=str(number), title="", file="")
        found.append(_SequenceText(joined, segments, max(rates)))
    return found


def _purpose(track: TextTrack) -> tuple[str | None, bool, bool]:
    return track.language, track.forced, track.sdh


def _main_tracks(index: FileIndex) -> FileIndex:
    """Keep the picture and the first sound track; encoded ones where browsers lack the film's own codecs."""
    offered = index.pictures, main_sounds(index.all_sounds)
    chosen = [_played(tracks) for tracks in offered if tracks]
    return replace(
        index,
        tracks=tuple(one for one in chosen if not one.is_encoded),
        encoded=tuple(one for one in chosen if one.is_encoded),
        chapters=NO_CHAPTERS,
    )


def _played(tracks: Sequence[OfferedTrack]) -> OfferedTrack:
    """Return the first track that all browsers play, else the first one."""
    return next((one for one in tracks if one.plays_everywhere), tracks[0])


def _stretch(clip: int, track: OfferedTrack, lasts: Fraction) -> _ClipStretch:
    """Return the facts about a clip's track that playlists need.

    Args:
        clip: the place of the clip in the sequence, from 0.
        lasts: seconds of the clip, which all its tracks fill: else what follows would drift apart.
    """
    # hls.js takes what is behind a discontinuity to begin with its first decode time and to be shown when its
    # composition times say, edit list or not.
    has_edit_list = track.video and track.is_reordered and not track.is_encoded
    name = track.without_edit_list.name if has_edit_list else track.name
    folder = f"../{clip}/{name}/{track.version.folder}"
    init = Map(folder + INIT_NAME)
    durations = track.durations
    durations[-1] = max(durations[-1] + lasts - track.duration, Fraction(1, 1000))
    segments = [
        Segment(f"{folder}{name}{SEGMENT_SUFFIX}", duration, init, discontinuity=clip > 0 and not at)
        for at, (name, duration) in enumerate(zip(track.segment_names, durations, strict=True))
    ]
    return _ClipStretch(
        segments,
        peak_bandwidth(track),
        None if track.is_bounded else average_bandwidth(track),
        track.entry.codec,
        track.resolution if track.video else (0, 0),
        track.frame_rate if track.video else Fraction(0),
    )
