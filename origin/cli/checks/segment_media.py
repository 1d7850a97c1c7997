"""Reads a segment's media by its own boxes or packets: when they are presented, and how decoding begins.

Nothing is decoded: durations are those of sample tables (ISO/IEC 14496-12 §8.8.8) and of PES packets
(ISO/IEC 13818-1 §2.4.3.7), and access points those of the coded pictures' headers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from media.errors import MalformedError, MediaError, UnsupportedError
from media.mp4.boxes import LARGEST_HEADER, Box, header
from media.mp4.codecs.bits import BitReader
from media.mp4.codecs.random_access import Access, sample_starts
from media.mp4.codecs.sample_entry import SampleEntry, parse_sample_entry
from media.mp4.fragments.moof import Defaults, FragmentLimits, Sample, TrackFragment, parse_moof, parse_trex
from media.mp4.movie.assembled_samples import AssembledSamples
from media.mp4.movie.movie import MovieLimits, Track, parse_movie
from media.mp4.movie.sample_table import SampleTable
from media.packets import TrackKind
from media.stream_reader import CLOCK_RATE
from media.ts.demuxer import TransportDemuxer
from media.ts.packed_audio import PackedAudio
from media.ts.tables import PACKET, payload_offset
from media.ts.timestamps import difference, read_timestamp
from packager.reader_guard import ReaderGuard
from packager.vod.movie.movie_reader import ContainerLimits, read_movie

LIMITS = FragmentLimits(
    movie=MovieLimits(moov_bytes=4 << 20), samples=1 << 18, empty_samples=1 << 16, boxes=1 << 14
)
LEADING_SAMPLES = 16
"""Samples behind the first one of which those are looked for that are presented before it."""

SHOWN_SECONDS = Fraction(1, 1000)
"""Duration of pictures that no screen shows, such as those before the beginning of a clip."""

VIDEO, SOUND, TEXT = "video", "sound", "text"
_KINDS = {b"vide": VIDEO, b"soun": SOUND, b"text": TEXT, b"subt": TEXT, b"sbtl": TEXT, b"clcp": TEXT}
_AVC_SLICES = (1, 5)
_INTRA_SLICES = (2, 7)
"""Types of slices with intra prediction alone (ISO/IEC 14496-10 table 7-6)."""

_DECODABLE_LEADING = (6, 7)
"""Leading pictures of HEVC that need nothing before the access point: RADL_N, RADL_R."""


@dataclass(frozen=True, slots=True)
class TrackMedia:
    """The samples of a track in a segment.

    Attributes:
        kind: video, sound or text.
        coding: the sample entry's type, such as ``avc1``.
        entry: None if it is encrypted, or of a codec that isn't known here.
        language: as the container has it; ``und`` if it hasn't.
        begin: presentation time of the first sample in seconds; None if the segment doesn't say.
        end: when the last presentation ends.
        duration: sum of the samples' durations in seconds.
        count: number of samples, also of those that are cut off.
        whole: number of samples of which all bytes are there.
        shown: number of samples that last longer than a millisecond; others are there for decoding alone.
        shortest: shortest duration of these in seconds; 0 if unknown.
        alone: whether all samples can be decoded without any before; None if unknown.
        is_turned: whether the picture is shown turned by 90 or 270 degrees.
    """

    kind: str
    coding: str
    entry: SampleEntry | None
    language: str
    begin: Fraction | None
    end: Fraction
    duration: Fraction
    count: int
    whole: int
    shown: int
    shortest: Fraction
    alone: bool | None
    is_turned: bool = False


@dataclass(frozen=True, slots=True)
class SegmentMedia:
    """The tracks of a segment that have samples, and the number of those that the init segment names.

    Attributes:
        problem: a rule that the segment breaks although its media can be read; or None.
    """

    tracks: tuple[TrackMedia, ...]
    problem: str | None = None

    @property
    def main(self) -> TrackMedia | None:
        """The track whose times are the segment's: video, or else sound, or text."""
        order = {VIDEO: 0, SOUND: 1, TEXT: 2}
        return min(self.tracks, key=lambda one: order[one.kind], default=None)

    def track(self, kind: str) -> TrackMedia | None:
        """Return the first track of a kind."""
        return next((one for one in self.tracks if one.kind == kind), None)


def read_segment(init: bytes, data: bytes) -> SegmentMedia:
    """Read a segment of fragmented MP4, MPEG-TS or packed audio; its last samples may be cut off.

    Args:
        init: its init segment; nothing without one.

    Raises:
        MediaError: the media can't be read; the text says why.
    """
    with ReaderGuard("check"):
        if (init or data)[:1] == b"G":
            return _read_packets(init + data[: len(data) - len(data) % PACKET])
        if init or data[4:8] in (b"styp", b"moof", b"ftyp", b"sidx", b"emsg", b"prft", b"free"):
            return _read_boxes(init, data)
        return _read_packed_audio(data)


# Fragmented MP4.


@dataclass(frozen=True, slots=True)
class _InitTracks:
    tracks: dict[int, tuple[Track, SampleEntry | None, str]]
    defaults: dict[int, Defaults]
    timescale: int


def _boxes(data: bytes) -> Iterator[Box]:
    """Yield the boxes of the top level; the last one may be cut off."""
    at = 0
    while len(data) - at >= 8:
        large = len(data) if data[at : at + 4] == bytes(4) else 1 << 62
        head = header(data[at : at + LARGEST_HEADER], 0, large - at)
        yield Box(head.kind, at, at + head.payload, at + head.end)
        at += head.end


@lru_cache(maxsize=4)
def _init_segment(init: bytes) -> _InitTracks:
    moov = next((one for one in _boxes(init) if one.kind == b"moov"), None)
    if moov is None:
        raise MalformedError("an init segment without moov")
    payload = init[moov.payload : moov.end]
    movie, given = parse_movie(payload, LIMITS.movie), parse_trex(payload)
    tracks = {
        one.track_id: (one, *_described(one.sample_entries)) for one in movie.tracks if one.handler in _KINDS
    }
    return _InitTracks(tracks, given, movie.timescale)


def _described(entries: Sequence[bytes]) -> tuple[SampleEntry | None, str]:
    """Return a track's sample entry, if it can be read, and its type."""
    if not entries:
        raise MalformedError("a track without sample entries")
    kind = entries[0][4:8].decode("latin-1")
    try:
        with ReaderGuard("sample entry"):
            return parse_sample_entry(entries[0]), kind
    except MediaError:
        return None, kind


def _read_boxes(init: bytes, data: bytes) -> SegmentMedia:
    known = _init_segment(init or data)
    found: dict[int, list[TrackFragment]] = {}
    for box in _boxes(data):
        if box.kind == b"moof":
            moof = data[box.start : box.end]
            _, fragments = parse_moof(moof, box.start, known.defaults, LIMITS)
            for fragment in fragments:
                found.setdefault(fragment.track_id, []).append(fragment)
    tracks = [
        _fragmented_track(*known.tracks[number], fragments, known.timescale, data)
        for number, fragments in found.items()
        if number in known.tracks and any(one.samples for one in fragments)
    ]
    if not tracks:
        raise MalformedError("fragments without samples")
    untimed = any(one.base_media_decode_time is None for some in found.values() for one in some)
    problem = "has a traf without tfdt, which each must have (RFC 8216bis §3.1.2)" if untimed else None
    return SegmentMedia(tuple(tracks), problem)


def _fragmented_track(
    track: Track,
    entry: SampleEntry | None,
    coding: str,
    fragments: Sequence[TrackFragment],
    movie_timescale: int,
    data: bytes,
) -> TrackMedia:
    samples: list[tuple[int, Sample]] = []
    time = fragments[0].base_media_decode_time
    next_time = time or 0
    for fragment in fragments:
        if fragment.base_media_decode_time is not None:
            next_time = fragment.base_media_decode_time
        for sample in fragment.samples:
            samples.append((next_time, sample))
            next_time += sample.duration
    shown = [at + sample.composition_offset for at, sample in samples]
    ends = [at + sample.duration for at, (_, sample) in zip(shown, samples, strict=True)]
    shift, scale = track.start_shift(movie_timescale), track.timescale
    durations = [sample.duration for _, sample in samples if sample.duration > SHOWN_SECONDS * scale]
    offset, size = fragments[0].spans[0][0] if fragments[0].spans else -1, samples[0][1].size
    bits = data[offset : offset + size] if 0 <= offset <= len(data) - size else b""
    leading = [
        data[place : place + length]
        for (place, length), at in zip(_places(fragments[0]), shown[: LEADING_SAMPLES + 1], strict=False)
        if at <= shown[0]
    ][1:]
    return TrackMedia(
        kind=_KINDS[track.handler],
        coding=coding,
        entry=entry,
        language=track.extended_language or track.language,
        begin=None if time is None else Fraction(min(shown) + shift, scale),
        end=Fraction(max(ends) + shift, scale),
        duration=Fraction(sum(sample.duration for _, sample in samples), scale),
        count=len(samples),
        whole=sum(offset + size <= len(data) for one in fragments for offset, size in _places(one)),
        shown=len(durations),
        shortest=Fraction(min(durations, default=0), scale),
        alone=None if entry is None or not bits else _is_alone(entry, bits, leading),
        is_turned=track.rotation in (90, 270),
    )


def _places(fragment: TrackFragment) -> Iterator[tuple[int, int]]:
    """Yield offset and size of the samples of a fragment's first run, and of those that follow it."""
    place = fragment.spans[0][0] if fragment.spans else 0
    for sample in fragment.samples:
        yield place, sample.size
        place += sample.size


# How decoding begins.


def _is_alone(entry: SampleEntry, first: bytes, leading: Sequence[bytes]) -> bool | None:
    """Return whether decoding can begin with a sample of video, so that `leading` pictures are right, too."""
    if not entry.width:
        return True
    names = {one[4:8] for one in entry.boxes}
    if not names & {b"avcC", b"hvcC", b"av1C", b"vpcC"}:
        return None
    access = sample_starts(entry)(len(first), lambda offset, size: first[offset : offset + size])
    if access.access is Access.CLOSED:
        return True
    if b"hvcC" in names and access.access is Access.OPEN:
        kinds = [
            next((unit[0] >> 1 & 63 for unit in _units(one, entry) if unit[0] >> 1 < 32), 0)
            for one in leading
        ]
        return all(kind in _DECODABLE_LEADING for kind in kinds)
    # ISO/IEC 14496-10 §7.4.1.2.1: an I picture at a recovery point; only what is shown behind it is right
    return b"avcC" in names and _is_intra(first, entry) and not leading


def _units(sample: bytes, entry: SampleEntry) -> Iterator[bytes]:
    """Yield the NAL units of a sample (ISO/IEC 14496-15 §4.3), of each the first bytes."""
    name, place = (b"avcC", 4) if any(one[4:8] == b"avcC" for one in entry.boxes) else (b"hvcC", 21)
    length_size, at = (entry.payload(name)[place] & 3) + 1, 0
    while at + length_size < len(sample):
        unit = at + length_size
        yield sample[unit : unit + 64]
        at = unit + int.from_bytes(sample[at:unit], "big")


def _is_intra(sample: bytes, entry: SampleEntry) -> bool:
    """Return whether all slices of an H.264 picture are intra ones."""
    kinds = list[int]()
    for unit in _units(sample, entry):
        if unit[0] & 31 in _AVC_SLICES:
            bits = BitReader(unit[1:].replace(b"\0\0\3", b"\0\0"), "slice header")
            bits.golomb()
            kinds.append(bits.golomb())
    return bool(kinds) and all(kind in _INTRA_SLICES for kind in kinds)


# MPEG-TS.


def _read_packets(data: bytes) -> SegmentMedia:
    def read(offset: int, length: int) -> bytes:
        return data[offset : offset + length]

    times, found = _presentation_times(data), dict[str, TrackMedia]()
    try:
        with ReaderGuard("segment"):
            film = read_movie(read, len(data), LIMITS.movie, ContainerLimits())
    except UnsupportedError:
        film = None
    for track in () if film is None else film.movie.tracks:
        kind = _KINDS.get(track.handler, "")
        assembled = None if film is None else film.assembled
        if kind in (VIDEO, SOUND) and kind not in found and not track.obstacle and assembled is not None:

            def own(offset: int, length: int, assembled: AssembledSamples = assembled) -> bytes:
                return assembled.read(read, offset, length)

            if (media := _packet_track(track, kind, times.get(kind, ()), own)) is not None:
                found[kind] = media
    for kind in (VIDEO, SOUND):
        if kind in times and kind not in found:
            found[kind] = _timed_track(kind, times[kind], data)
    if not found:
        raise MalformedError("no pictures and no sound in its packets")
    return SegmentMedia(tuple(found.values()))


def _timed_track(kind: str, times: Sequence[int], data: bytes) -> TrackMedia:
    """Describe a stream by its PES packets alone: of another codec, or without a picture to begin with."""
    begin, count = Fraction(min(times), CLOCK_RATE), len(times)
    lasts = Fraction(max(times) - min(times), CLOCK_RATE) * Fraction(count, max(count - 1, 1))
    alone = _has_access_point(data) if kind == VIDEO else None
    return TrackMedia(
        kind, "", None, "und", begin, begin + lasts, lasts, count, count, count, Fraction(0), alone
    )


def _has_access_point(data: bytes) -> bool | None:
    """Return whether H.264 or HEVC has a picture with which decoding can begin; None of other codecs."""
    demuxer = TransportDemuxer(needs_sound=False)
    try:
        with ReaderGuard("segment"):
            packets = demuxer.receive_data(data)
            if not demuxer.has_begun_picture:
                return None
            packets += demuxer.finish()
    except MediaError:
        return None
    return None if any(one.track.kind is TrackKind.VIDEO for one in packets) else False


def _presentation_times(data: bytes) -> dict[str, list[int]]:
    """Return the PTS of the PES packets of video and of sound, without their wrap, in their order."""
    found: dict[str, list[int]] = {}
    for at in range(0, len(data) - PACKET + 1, PACKET):
        if not data[at + 1] & 0x40:
            continue
        packet = data[at : at + PACKET]
        pes = packet[payload_offset(packet) :][:14]
        # §2.4.3.7: stream IDs of video, audio, and of private streams, which have AC-3 and the like
        if len(pes) < 14 or pes[:3] != b"\0\0\1" or pes[7] >> 6 < 2:
            continue
        kind = (
            VIDEO
            if pes[3] & 0xF0 == 0xE0
            else SOUND
            if pes[3] & 0xE0 == 0xC0 or pes[3] in (0xBD, 0xFD)
            else ""
        )
        told = read_timestamp(pes[9:14])
        times = found.setdefault(kind, [])
        times.append(told if not times else times[0] + difference(told, times[0] % (1 << 33)))
    return found


def _packet_track(
    track: Track, kind: str, times: Sequence[int], read: Callable[[int, int], bytes]
) -> TrackMedia | None:
    table = SampleTable(track.tables, len(track.sample_entries))
    if not len(table):
        return None
    samples = table.samples(0, len(table))
    entry, coding = _described(track.sample_entries)
    shown = samples.composition_time.tolist()
    steps = (samples.decode_time[1:] - samples.decode_time[:-1]).tolist()
    scale, lasts = track.timescale, Fraction(table.duration, track.timescale)
    begin = Fraction(min(times), CLOCK_RATE) if times else None
    count = len(table)
    if kind == VIDEO and len(times) > count:
        # Pictures before the first access point, which the reader of whole films leaves out.
        count = len(times)
        lasts = Fraction(max(times) - min(times), CLOCK_RATE) * Fraction(count, count - 1)
    leading = [
        read(int(samples.offset[at]), int(samples.size[at]))
        for at in range(1, min(LEADING_SAMPLES + 1, len(shown)))
        if shown[at] <= shown[0]
    ]
    first = read(int(samples.offset[0]), int(samples.size[0]))
    alone = None if entry is None else _is_alone(entry, first, leading)
    return TrackMedia(
        kind=kind,
        coding=coding,
        entry=entry,
        language=track.language,
        begin=begin,
        end=(begin or Fraction(0)) + lasts,
        duration=lasts,
        count=count,
        whole=count,
        shown=count - sum(step <= SHOWN_SECONDS * scale for step in steps),
        shortest=Fraction(min((step for step in steps if step > SHOWN_SECONDS * scale), default=0), scale),
        alone=alone if count == len(table) else False,
        is_turned=track.rotation in (90, 270),
    )


# Packed audio.


def _read_packed_audio(data: bytes) -> SegmentMedia:
    reader = PackedAudio(0x100)
    times = sorted({time for time, _ in reader.receive_data(data)})
    if len(times) < 2:
        raise MalformedError("packed audio of fewer than two frames")
    # The reader is a frame behind: it waits for the next one's header.
    step = Fraction(times[-1] - times[0], CLOCK_RATE * (len(times) - 1))
    begin, count = Fraction(times[0], CLOCK_RATE), len(times) + 1
    coding = "mp4a"
    end = begin + count * step
    return SegmentMedia(
        (
            TrackMedia(
                SOUND, coding, None, "und", begin, end, count * step, count, count, count, step, alone=True
            ),
        )
    )
