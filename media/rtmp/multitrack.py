"""Divides a published stream into its main stream and its further video tracks, each as FLV.

OBS's multitrack video and ffmpeg send the first video and audio track in tags without a number, and each
further track in tags with its number (Enhanced RTMP v2). The output has each track in tags without a number.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from media.flv import tags as flv_tags
from media.flv.audio_video_tags import (
    Packet,
    PacketKind,
    has_enhanced_header,
    has_track_numbers,
    read_packets,
    write_packet,
)
from media.flv.flv_to_matroska import VIDEO_CODECS, check_taken


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedTracksLimits:
    """Limits of a published stream.

    Attributes:
        further_video_tracks: Video tracks beside the first one that are passed on; OBS sends nine at most.
    """

    further_video_tracks: int = 9


class PublishedTracks:
    """Divides one publisher's stream into its main stream and further video tracks, without I/O.

    Only the first audio track is passed on, in the main stream.

    Args:
        limits: the number of further video tracks; tracks beyond it are dropped.

    Attributes:
        plain: kinds and first bytes of messages that are passed on unchanged: the caller needn't push them.
    """

    def __init__(self, limits: PublishedTracksLimits) -> None:
        self._most = limits.further_video_tracks
        self._has_begun = False
        self._further = set[int]()
        self._video: dict[int, bytes] = {}
        self.plain = set[tuple[int, int]]()

    def push(self, kind: int, timestamp: int, body: bytes) -> bytes:
        """Push a message; return the bytes that it adds to the main stream, perhaps none.

        Args:
            kind: type of the FLV tag.
            timestamp: milliseconds, modulo 2^32.

        Raises:
            MediaError: the codec isn't supported, or the message is malformed.
        """
        if kind == flv_tags.SCRIPT:
            bodies = [body] if body.startswith(flv_tags.ON_METADATA) else []
        else:
            bodies = list(self._main(kind, timestamp, body))
        tags = flv_tags.write_tags((kind, timestamp, one) for one in bodies)
        if not tags or self._has_begun:
            return tags
        self._has_begun = True
        return flv_tags.file_header() + tags

    def _main(self, kind: int, timestamp: int, body: bytes) -> Iterator[bytes]:
        """Yield the bodies of the main stream's tags, and pass on further video tracks."""
        has_numbers = has_track_numbers(kind, body)
        is_enhanced = bool(body) and has_enhanced_header(kind, body[0])
        for packet in read_packets(kind, body):
            if packet.kind is PacketKind.OTHER:
                continue
            if not packet.track:
                # Legacy tags go to ffmpeg unchanged.
                is_checked = is_enhanced and packet.kind is PacketKind.CONFIGURATION
                check_taken(kind, packet.codec, packet.data if is_checked else b"")
                if has_numbers:
                    yield write_packet(kind, packet)
            elif kind == flv_tags.VIDEO:
                self._pass_on(timestamp, packet)
        if body and not has_numbers:
            self.plain.add((kind, body[0]))
            yield body

    def take_further_video_tracks(self) -> dict[int, bytes]:
        """Return the new bytes of further video tracks by track number, once."""
        tracks, self._video = self._video, {}
        return tracks

    def _pass_on(self, timestamp: int, packet: Packet) -> None:
        if packet.codec not in VIDEO_CODECS:
            return
        beginning = b""
        if packet.track not in self._further:
            if len(self._further) >= self._most:
                return
            self._further.add(packet.track)
            beginning = flv_tags.file_header()
        tag = flv_tags.write_tag(flv_tags.VIDEO, timestamp, write_packet(flv_tags.VIDEO, packet))
        self._video[packet.track] = self._video.get(packet.track, b"") + beginning + tag
