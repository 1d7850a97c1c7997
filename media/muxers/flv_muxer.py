"""Writes packets of H.264, AAC and older codecs as FLV (FLV 10.1), which every reader of FLV takes."""

from __future__ import annotations

from collections.abc import Iterable

from media.flv.audio_video_tags import is_older
from media.flv.tags import (
    AAC,
    AUDIO,
    AVC,
    CODED,
    KEY_FRAME,
    SCRIPT,
    SEQUENCE_HEADER,
    TICKS,
    VIDEO,
    Tag,
    file_header,
    write_tags,
)
from media.packets import Packet, StreamTrack, TrackKind

_WRAP = 1 << 32
_INTER_FRAME = 2
_AAC_SOUND = AAC << 4 | 0x0F
"""FLV 10.1 §E.4.2.1: AAC is always said to be of 44 kHz, 16 bits and two channels."""

_KINDS = {TrackKind.VIDEO: VIDEO, TrackKind.AUDIO: AUDIO, TrackKind.METADATA: SCRIPT}


class FlvMuxer:
    """Writes one stream as FLV, without I/O; times in milliseconds, modulo 2^32."""

    def __init__(self) -> None:
        self._beginning = file_header()
        self._written: dict[TrackKind, StreamTrack] = {}

    def push(self, packets: Iterable[Packet]) -> bytes:
        """Write the next packets, with the configuration of a track before its first one."""
        tags = list[Tag]()
        for packet in packets:
            track, kind = packet.track, _KINDS[packet.track.kind]
            time = packet.dts // TICKS % _WRAP
            if track is not self._written.get(track.kind):
                self._written[track.kind] = track
                if kind == SCRIPT:
                    # ffmpeg mistakes metadata at any other time for a stream of text.
                    tags.append((kind, 0, track.configuration or b""))
                elif track.configuration and not is_older(track):
                    tags.append((kind, time, _head(track, SEQUENCE_HEADER) + track.configuration))
            if packet.data:
                tags.append((kind, time, self._body(packet)))
        beginning, self._beginning = self._beginning, b""
        return beginning + write_tags(tags)

    @staticmethod
    def _body(packet: Packet) -> bytes:
        track = packet.track
        if is_older(track):
            (first,) = track.configuration or b"\0"
            if track.kind is TrackKind.VIDEO:
                first |= (KEY_FRAME if packet.is_key else _INTER_FRAME) << 4
            return bytes((first,)) + packet.data
        composition = (packet.pts - packet.dts) // TICKS
        return _head(track, CODED, composition, is_key=packet.is_key) + packet.data


def _head(track: StreamTrack, packet_type: int, composition: int = 0, *, is_key: bool = True) -> bytes:
    """Write what is in front of a configuration or frame (§E.4.2.2, §E.4.3.1)."""
    if track.kind is TrackKind.AUDIO:
        return bytes((_AAC_SOUND, packet_type))
    frame_type = KEY_FRAME if is_key else _INTER_FRAME
    return bytes((frame_type << 4 | AVC, packet_type)) + composition.to_bytes(3, "big", signed=True)
