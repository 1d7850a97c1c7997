"""Compares what playlists and manifests declare of renditions with the media of their segments."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction

from media.mp4.codecs.sample_entry import SampleEntry
from media.mp4.languages import language_tag
from origin.cli.checks.report import Finding
from origin.cli.checks.segment_media import SOUND, VIDEO, TrackMedia
from origin.cli.checks.segments import Reading

BANDWIDTH_SHARE = 1.1
"""By how much measured bit rates may be above declared ones, as in Apple's HLS authoring specification."""

RATE_SHARE = 0.05
"""By how much a frame rate may differ, since the times of containers are rounded."""

PIXELS_APART = 2
"""Pixels by which a size may differ, since encoders round to even numbers."""

LEAST_WINDOW, LARGEST_WINDOW = 0.5, 1.5
"""Target durations that the segments last of which a peak is measured (RFC 8216bis §4.1)."""

MAX_WINDOW = 64
"""Most segments in such a window."""

_TRANSFER_HLG_BASE = 14
"""Transfer characteristics of HLG whose base layer looks right on SDR screens, which an SEI message tells."""

_AAC = re.compile(r"mp4a\.40\.(?:2|02|5|05|29)")
_MP3 = ("mp4a.6b", "mp4a.69", "mp4a.40.34", "mp3", ".mp3")
_ALIASES = {"opus": "Opus", "flac": "fLaC", "ec+3": "ec-3"}
_TAGGED = ("avc1", "hvc1")
"""Sample entries whose colours are in their parameter sets, if anywhere."""


def tracks_of(readings: Iterable[Reading]) -> list[TrackMedia]:
    """List the tracks of all segments that were read."""
    return [
        track
        for one in readings
        for segment in one.segments
        if segment.media
        for track in segment.media.tracks
    ]


def codec_findings(codecs: str, tracks: Sequence[TrackMedia], clause: str) -> Iterator[Finding]:
    """Compare a list of codecs (RFC 6381) with tracks, all that it is about."""
    declared = [one.strip() for one in codecs.split(",") if one.strip()]
    media = {_codec(track): track for track in tracks}
    if not media or "" in media:
        return
    for codec, track in media.items():
        if not any(_fits(one, codec, track.entry is not None) for one in declared):
            said = f"CODECS={codecs!r} has none that fits the {track.kind}, where {codec} is right"
            yield Finding(f"{said} ({clause})")
    if any(track.entry is None for track in tracks):
        return
    for one in declared:
        if not any(_fits(one, codec, is_known=True) for codec in media):
            listed = ", ".join(media)
            yield Finding(f"CODECS={codecs!r} has {one}, but the media are {listed} ({clause})")


def _codec(track: TrackMedia) -> str:
    return track.coding if track.entry is None else track.entry.codec


def _fits(declared: str, codec: str, is_known: bool) -> bool:
    """Return whether a declared codec describes media: the same profile, and no lower level."""
    one, other = _parts(declared), _parts(codec)
    if not is_known:  # of a codec that isn't read here only the sample entry's type is known
        return one[0] == other[0] or other[0] in ("encv", "enca", "enct")
    if _AAC.fullmatch(declared) and _AAC.fullmatch(codec):
        return True
    if declared.lower() in _MP3 and codec.lower() in _MP3:
        return True
    if one[0] != other[0]:
        return False
    if len(one) == 1 or len(other) == 1:
        return len(one) == 1 and one[0] not in ("mp4a", "avc1", "avc3", "hvc1", "hev1")
    if one[0] in ("avc1", "avc3"):
        return _hex_fits(one[1], other[1])
    if one[0] in ("hvc1", "hev1"):
        return one[1].lstrip("ABC") == other[1].lstrip("ABC") and _level(one) >= _level(other)
    return one[1] == other[1]


def _parts(codec: str) -> list[str]:
    kind, *rest = codec.split(".")
    return [_ALIASES.get(kind.lower(), kind), *rest]


def _hex_fits(one: str, other: str) -> bool:
    """Compare profile and level of H.264 (RFC 6381 §3.3)."""
    try:
        declared, media = bytes.fromhex(one), bytes.fromhex(other)
    except ValueError:
        return False
    return len(declared) == len(media) == 3 and declared[0] == media[0] and declared[2] >= media[2]


def _level(parts: Sequence[str]) -> int:
    """Return the level of HEVC (ISO/IEC 14496-15 §E.3), such as 93 of ``L93``."""
    digits = parts[3][1:] if len(parts) > 3 else ""
    return int(digits) if digits.isdecimal() else 0


def size_findings(
    declared: tuple[int, int], tracks: Sequence[TrackMedia], name: str, clause: str
) -> Iterator[Finding]:
    """Compare a size in pixels with that of the pictures, coded or shown."""
    sizes = {size for track in tracks if track.entry for size in _sizes(track.entry)}
    if any(track.is_turned for track in tracks):
        sizes |= {(height, width) for width, height in sizes}
    if sizes and not any(
        abs(declared[0] - width) <= PIXELS_APART and abs(declared[1] - height) <= PIXELS_APART
        for width, height in sizes
    ):
        right = " or ".join(f"{width}x{height}" for width, height in sorted(sizes))
        yield Finding(f"{name} is {declared[0]}x{declared[1]}, where {right} is right ({clause})")


def _sizes(entry: SampleEntry) -> Iterator[tuple[int, int]]:
    """Yield the sizes of pictures that may be declared: coded, cropped, and with square pixels."""
    if not entry.width:
        return
    width, height = entry.shown_pixels
    across, down = entry.pixel_aspect
    found = {(entry.width, entry.height), (width, height)}
    found |= {(round(width * across / down), height), (width, round(height * down / across))}
    yield from found


def rate_findings(
    declared: Fraction, tracks: Sequence[TrackMedia], name: str, clause: str
) -> Iterator[Finding]:
    """Compare a frame rate with the pictures': no less than their mean, no more than the fastest of them."""
    video = [track for track in tracks if track.kind == VIDEO and track.shortest and track.duration]
    count, seconds = sum(track.shown for track in video), sum(track.duration for track in video)
    if not seconds or count < 2 * len(video):
        return
    mean, fastest = count / seconds, 1 / min(track.shortest for track in video)
    if not float(mean) * (1 - RATE_SHARE) <= declared <= float(fastest) * (1 + RATE_SHARE):
        right = f"{float(mean):.3f}" if mean == fastest else f"{float(mean):.3f} to {float(fastest):.3f}"
        yield Finding(f"{name} is {float(declared):.3f}, where {right} is right ({clause})")


def channel_findings(declared: str, tracks: Sequence[TrackMedia], clause: str) -> Iterator[Finding]:
    """Compare CHANNELS with the sound's; objects and virtual speakers aren't counted in sample entries."""
    number, _, special = declared.partition("/")
    counts = {track.entry.channels for track in tracks if track.kind == SOUND and track.entry}
    if special or not number.isdecimal() or not counts or 0 in counts:
        return
    # Parametric stereo may be one channel in the sample entry and two of sound (ISO/IEC 14496-3 §1.6.5).
    if int(number) not in counts | (
        {2} if 1 in counts and any(_may_be_stereo(one) for one in tracks) else set()
    ):
        right = " or ".join(map(str, sorted(counts)))
        yield Finding(f'CHANNELS="{declared}", where {right} is right ({clause})')


def _may_be_stereo(track: TrackMedia) -> bool:
    return track.entry is not None and track.entry.codec in ("mp4a.40.5", "mp4a.40.29")


def range_findings(declared: str | None, tracks: Sequence[TrackMedia], clause: str) -> Iterator[Finding]:
    """Compare VIDEO-RANGE, which is SDR where nothing is declared, with the pictures' transfer."""
    said = "SDR" if declared is None else declared
    for entry in {track.entry for track in tracks if track.kind == VIDEO and track.entry}:
        colour = entry.colour
        if colour is None and entry.kind.decode("latin-1") not in _TAGGED:
            continue
        if said == "HLG" and colour is not None and colour.transfer == _TRANSFER_HLG_BASE:
            continue
        if entry.video_range != said:
            written = f"VIDEO-RANGE={declared}" if declared is not None else "no VIDEO-RANGE, which means SDR"
            yield Finding(f"{written}, where {entry.video_range} is right ({clause})")
            return


def peak_bits(reading: Reading, target: float) -> float:
    """Return the peak segment bit rate of a playlist (RFC 8216bis §4.1), of the segments that were read."""
    rows = [(one.size * 8, one.expected.duration or 0.0, one.expected.start) for one in reading.segments]
    peak = 0.0
    for first in range(len(rows)):
        bits = seconds = 0.0
        for size, duration, start in rows[first : first + MAX_WINDOW]:
            if seconds and start is not None and abs((rows[first][2] or 0.0) + seconds - start) > 0.01:
                break  # a segment between them wasn't read
            bits, seconds = bits + size, seconds + duration
            if seconds > LARGEST_WINDOW * target:
                break
            if seconds >= LEAST_WINDOW * target and seconds:
                peak = max(peak, bits / seconds)
    return peak


def average_bits(reading: Reading) -> float:
    """Return the average bit rate of a playlist whose segments were all read; 0 of others."""
    seconds = sum(one.expected.duration or 0.0 for one in reading.segments)
    return sum(one.size for one in reading.segments) * 8 / seconds if reading.is_whole and seconds else 0.0


def bandwidth_finding(name: str, declared: int, measured: float, clause: str) -> Iterator[Finding]:
    """Compare a bit rate with that of the segments, of which it is an upper bound."""
    if declared and measured > declared * BANDWIDTH_SHARE:
        yield Finding(f"{name} is {declared}, where its segments have {round(measured)} ({clause})")


def dash_bandwidth_finding(reading: Reading, bandwidth: int, buffer_seconds: float) -> Iterator[Finding]:
    """Hold a representation's bandwidth against its bytes (ISO/IEC 23009-1 §5.3.5.2).

    Sent at this rate, and buffered for the minimal time, the media last until the end of each segment.

    Args:
        buffer_seconds: the manifest's minBufferTime, which players buffer at least before they play.
    """
    lead, worst = 0.0, 0.0
    for one in reading.segments:
        if one.expected.duration is None:
            lead = 0.0
            continue
        # The bits of a run of segments beyond those that are sent while it lasts.
        lead = max(lead, 0.0) + one.size * 8 - bandwidth * BANDWIDTH_SHARE * one.expected.duration
        worst = max(worst, lead)
    if bandwidth and reading.is_whole and worst > bandwidth * BANDWIDTH_SHARE * buffer_seconds:
        seconds = worst / bandwidth
        found = f"bandwidth is {bandwidth}, by which a player waits after {seconds:.1f} s of buffer"
        right = f"minBufferTime is {buffer_seconds:g} s, and its segments have {round(average_bits(reading))}"
        yield Finding(f"{found}: {right} (ISO/IEC 23009-1 §5.3.5.2)")


def sampling_findings(declared: int, tracks: Sequence[TrackMedia], clause: str) -> Iterator[Finding]:
    """Compare a sampling rate with the sound's, which of SBR is also half of it."""
    rates = {track.entry.sample_rate for track in tracks if track.kind == SOUND and track.entry}
    if rates and 0 not in rates and not {declared, declared * 2, declared // 2} & rates:
        right = " or ".join(map(str, sorted(rates)))
        yield Finding(f"audioSamplingRate is {declared}, where {right} is right ({clause})")


def language_findings(declared: str, tracks: Sequence[TrackMedia], clause: str) -> Iterator[Finding]:
    """Compare a language with the container's, of which files beside it may know better."""
    tags = {language_tag(track.language) or "" for track in tracks if track.kind == SOUND}
    primary = {tag.partition("-")[0].lower() for tag in tags}
    said = (language_tag(declared) or declared).partition("-")[0].lower()
    if primary and "" not in primary and said not in primary and said not in ("mul", "zxx", "und", "mis"):
        right = " or ".join(sorted(tags))
        yield Finding(f"LANGUAGE is {declared}, where the media say {right} ({clause})", is_must=False)


def decimal(text: str) -> Fraction | None:
    """Read a number such as ``23.976`` or ``30000/1001``; None if it is none."""
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(?:/([0-9]{1,9}))?", text)
    if found is None or (found[2] is not None and not int(found[2])):
        return None
    return Fraction(found[1]) / int(found[2] or 1)
