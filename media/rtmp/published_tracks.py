"""Divides a published stream of several tracks (Enhanced RTMP v2) into its main stream and further pictures.

OBS's multitrack video and ffmpeg send the first picture and sound in tags of old, and each further track in
tags that say its number. Each further picture goes on as FLV of its own, in tags of old.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from media.flv import tags as flv_tags
from media.flv.packets import Packet, PacketKind, has_track_numbers, read_packets
from media.rtmp.published_stream import PublishedStream, PublishedStreamLimits

_INTER_FRAME = 2
_AAC_SOUND = flv_tags.AAC << 4 | 0x0F
"""FLV 10.1 §E.4.2.1: AAC is always said to be of 44 kHz, 16 bits and two channels."""


class PublishedTracks:
    """Divides one publisher's stream into its main stream and further pictures, without I/O.

    Of the sound the first track goes on, and of the pictures beside the first one those in H.264.

    Args:
        limits: of what is held back, and how many further pictures there may be; more are left out.
    """

    def __init__(self, limits: PublishedStreamLimits) -> None:
        self._most = limits.pictures
        self._main = PublishedStream(limits)
        self._begun = set[int]()
        self._pictures: dict[int, bytes] = {}

    def receive(self, kind: int, timestamp: int, body: bytes) -> bytes:
        """Take a message; return what is to be passed on of the main stream, perhaps nothing so far.

        The arguments are those of ``PublishedStream.receive``.

        Raises:
            MediaError: its codec isn't taken, or it is malformed.
        """
        if not has_track_numbers(kind, body):
            return self._main.receive(kind, timestamp, body)
        packets = read_packets(kind, body)
        for packet in packets:
            if kind == flv_tags.VIDEO and packet.track:
                self._pass_on(timestamp, packet)
        main = [packet for packet in packets if not packet.track]
        if any(packet.codec not in ("avc1", "mp4a") or packet.nanoseconds for packet in main):
            return self._main.receive(kind, timestamp, body)
        # What every ffmpeg reads, and is copied here, comes of it in tags of old.
        bodies = (_body(kind, packet) for packet in main)
        return b"".join(self._main.receive(kind, timestamp, one) for one in bodies if one)

    @property
    def plain(self) -> AbstractSet[tuple[int, int]]:
        """Kinds and first bytes of messages that are tags just as they are, and needn't be received here."""
        return self._main.plain

    def take_pictures(self) -> dict[int, bytes]:
        """Return what is to be passed on of further pictures, by the numbers of their tracks, once."""
        pictures, self._pictures = self._pictures, {}
        return pictures

    def _pass_on(self, timestamp: int, packet: Packet) -> None:
        body = _body(flv_tags.VIDEO, packet) if packet.codec == "avc1" else b""
        if not body:
            return
        beginning = b""
        if packet.track not in self._begun:
            if len(self._begun) >= self._most:
                return
            self._begun.add(packet.track)
            beginning = flv_tags.file_header()
        former = self._pictures.get(packet.track, b"")
        tag = flv_tags.write_tag(flv_tags.VIDEO, timestamp, body)
        self._pictures[packet.track] = former + beginning + tag


def _body(kind: int, packet: Packet) -> bytes:
    """Write a tag's body of old for H.264 or AAC; nothing where the packet has no media."""
    if packet.kind is PacketKind.OTHER:
        return b""
    packet_type = flv_tags.SEQUENCE_HEADER if packet.kind is PacketKind.CONFIGURATION else flv_tags.CODED
    if kind == flv_tags.AUDIO:
        return bytes((_AAC_SOUND, packet_type)) + packet.data
    frame_type = flv_tags.KEY_FRAME if packet.is_key else _INTER_FRAME
    composition = packet.composition_time.to_bytes(3, "big", signed=True)
    return bytes((frame_type << 4 | flv_tags.AVC, packet_type)) + composition + packet.data
