"""Demuxes live fragmented MP4 (ISO/IEC 14496-12 §8.8), such as CMAF, into packets, without I/O.

The first video and the first audio track are demuxed: H.264, HEVC, AV1 or VP9, and AAC, Opus, FLAC, AC-3 or
E-AC-3. Packets have ticks of 90 kHz, whatever the track's timescale: each time is converted by itself, so
that nothing drifts, and rounded up. So a time of sound, which the muxer converts back and rounds down, is
that of the same sample again; a picture's time is late by less than a tick.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping

from media.errors import MalformedError, UnsupportedError
from media.mp4.codecs.sample_entry import SampleEntry, audio_decoder_configuration, parse_sample_entry
from media.mp4.fragments.fragments import Fragment, FragmentReader, InitSegment
from media.mp4.fragments.moof import DEFAULT_LIMITS, FragmentLimits
from media.mp4.movie.movie import Track
from media.mp4.movie.track_box import IDENTITY
from media.packets import Packet, StreamTrack, TrackKind, packet_of
from media.stream_reader import CLOCK_RATE

_KINDS = {b"vide": TrackKind.VIDEO, b"soun": TrackKind.AUDIO}


class FragmentDemuxer:
    """Demuxes one live stream, without I/O."""

    def __init__(self, limits: FragmentLimits = DEFAULT_LIMITS) -> None:
        self._reader = FragmentReader(limits)
        self._init = b""
        self._tracks: Mapping[int, _DemuxedTrack] = {}

    @property
    def has_sound(self) -> bool:
        """Whether the stream has said that it has sound."""
        return any(one.kind is TrackKind.AUDIO for one in self._tracks.values())

    def receive_data(self, data: bytes) -> list[Packet]:
        """Parse the next bytes.

        Returns:
            The packets of the fragments that they complete, of each track in the order of decoding.

        Raises:
            MalformedError: the bytes are no such stream.
            UnsupportedError: it has other codecs, or no video, or is encrypted.
            TooLargeError: a limit is exceeded.
        """
        found = list[Packet]()
        self._reader.receive_data(data)
        for event in self._reader.events():
            if isinstance(event, Fragment):
                track = self._tracks.get(event.track_id)
                if track is not None:
                    track.push(event, found)
            elif event.data != self._init:
                self._init = event.data
                self._tracks = _chosen(event)
        return found


def _chosen(init: InitSegment) -> Mapping[int, _DemuxedTrack]:
    """Return the tracks that are demuxed, by track ID."""
    chosen = [next((one for one in init.tracks if one.handler == handler), None) for handler in _KINDS]
    if chosen[0] is None:
        raise UnsupportedError("no video")
    return {one.track_id: _DemuxedTrack(one, init.movie_timescale) for one in chosen if one is not None}


class _DemuxedTrack:
    """The packets of one track, of ``kind``."""

    def __init__(self, described: Track, movie_timescale: int) -> None:
        if len(described.sample_entries) != 1:
            raise UnsupportedError("a track of several configurations")
        entry = parse_sample_entry(described.sample_entries[0])
        if entry.kind not in _CODECS:
            raise UnsupportedError(f"codec {entry.codec!r} isn't one that can be demuxed")
        self._timescale, self.kind = described.timescale, _KINDS[described.handler]
        codec, configuration = _CODECS[entry.kind]
        self._track = StreamTrack(
            self.kind,
            codec,
            configuration(entry),
            channels=entry.channels or 2,
            pixels=(entry.width, entry.height),
            pixel_aspect=None if entry.pixel_aspect == (1, 1) else entry.pixel_aspect,
            matrix=b"" if described.matrix == IDENTITY else described.matrix,
        )
        self._shift = described.start_shift(movie_timescale)

    def push(self, fragment: Fragment, found: list[Packet]) -> None:
        """Append the packets of a fragment."""
        track, timescale, data = self._track, self._timescale, fragment.data
        time, at = fragment.base_media_decode_time + self._shift, 0
        for duration, size, is_sync, offset in fragment.samples:
            if size:
                dts, pts = -(-time * CLOCK_RATE // timescale), -(-(time + offset) * CLOCK_RATE // timescale)
                found.append(packet_of((track, dts, pts, is_sync, bytes(data[at : at + size]))))
            time, at = time + duration, at + size


def _opus(entry: SampleEntry) -> bytes:
    # "Encapsulation of Opus in ISO Base Media File Format" §4.3.2: dOps is RFC 7845's header, big-endian.
    payload = entry.payload(b"dOps")
    if len(payload) < 11 or payload[0]:
        raise MalformedError("Opus without its header")
    channels, skip, rate, gain = struct.unpack_from(">BHIh", payload, 1)
    return b"OpusHead\1" + struct.pack("<BHIh", channels, skip, rate, gain) + payload[10:]


_CODECS: Mapping[bytes, tuple[str, Callable[[SampleEntry], bytes]]] = {
    # Samples of avc3 and hev1 may have parameter sets of their own (ISO/IEC 14496-15 §5.3.2, §8.3.2).
    b"avc1": ("avc1", lambda entry: entry.payload(b"avcC")),
    b"avc3": ("avc1", lambda entry: entry.payload(b"avcC")),
    b"hvc1": ("hvc1", lambda entry: entry.payload(b"hvcC")),
    b"hev1": ("hvc1", lambda entry: entry.payload(b"hvcC")),
    b"av01": ("av01", lambda entry: entry.payload(b"av1C")),
    b"vp09": ("vp09", lambda entry: entry.payload(b"vpcC")),
    b"mp4a": ("mp4a", audio_decoder_configuration),
    b"Opus": ("Opus", _opus),
    # "Encapsulation of FLAC in ISO Base Media File Format" §3.3.2: the blocks follow version and flags.
    b"fLaC": ("fLaC", lambda entry: b"fLaC" + entry.payload(b"dfLa")[4:]),
    b"ac-3": ("ac-3", lambda _: b""),
    b"ec-3": ("ec-3", lambda _: b""),
}
"""FourCCs of packets and their decoders' configurations, by the type of the sample entry."""
