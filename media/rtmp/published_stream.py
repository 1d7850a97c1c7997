"""Writes a published stream as a container that every ffmpeg reads: FLV, or Matroska for newer codecs."""

from __future__ import annotations

from dataclasses import dataclass, field

from media.errors import UnsupportedError
from media.flv import tags as flv_tags
from media.flv.flv_to_matroska import FlvToMatroska, RemuxLimits
from media.flv.packets import PacketKind, is_read_in_flv, read_packets


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedStreamLimits:
    """Limits of what is held back until the container is known.

    Attributes:
        held_messages: How many.
        held_milliseconds: Of the stream's time.
        held_bytes: Of all of them.
        pictures: Pictures beside the first one that are passed on; OBS sends nine at most.
        remux: The same until all tracks are known.
    """

    held_messages: int = 128
    held_milliseconds: int = 1000
    held_bytes: int = 8 << 20
    pictures: int = 9
    remux: RemuxLimits = field(default_factory=RemuxLimits)


class PublishedStream:
    """Writes one publisher's stream as FLV or Matroska, without I/O.

    Args:
        limits: of what is held back.

    Attributes:
        plain: kinds and first bytes of messages that are passed on as tags just as they are: those needn't be
            received here any more.
    """

    def __init__(self, limits: PublishedStreamLimits) -> None:
        self._limits = limits
        self._held: list[tuple[int, int, bytes]] = []
        self._held_bytes = 0
        self._is_flv = False
        self._remux: FlvToMatroska | None = None
        self._known = set[tuple[int, int]]()
        self.plain = set[tuple[int, int]]()

    def receive(self, kind: int, timestamp: int, body: bytes) -> bytes:
        """Take a message; return what is to be passed on, perhaps nothing so far.

        Args:
            kind: type of an FLV tag.
            timestamp: milliseconds, modulo 2^32.
            body: of that tag.

        Raises:
            MediaError: its codec isn't taken, or it is malformed.
        """
        if kind == flv_tags.SCRIPT and not body.startswith(flv_tags.ON_METADATA):
            return b""
        if self._remux is not None:
            return self._remux.receive(kind, timestamp, body)
        is_newer = self._is_newer(kind, body)
        if self._is_flv:
            if is_newer:
                raise UnsupportedError("the codec changed; connect anew to go on with another one")
            if body and kind in flv_tags.CODEC_BITS:
                self.plain.add((kind, body[0]))
            return flv_tags.write_tag(kind, timestamp, body)
        self._held.append((kind, timestamp, body))
        self._held_bytes += len(body)
        if is_newer:
            remux = self._remux = FlvToMatroska(self._limits.remux)
            return b"".join(remux.receive(*one) for one in self._let_go())
        if self._is_decided(kind, timestamp, body):
            self._is_flv = True
            return flv_tags.file_header() + b"".join(flv_tags.write_tag(*one) for one in self._let_go())
        return b""

    def _is_newer(self, kind: int, body: bytes) -> bool:
        """Tell whether a message has a codec that some ffmpegs misread in FLV."""
        if not body or kind not in flv_tags.CODEC_BITS:
            return False
        sign = kind, body[0] & flv_tags.CODEC_BITS[kind]
        if sign in self._known:
            return False
        if not is_read_in_flv(kind, body):
            return True
        self._known.add(sign)
        return False

    def _is_decided(self, kind: int, timestamp: int, body: bytes) -> bool:
        """Tell whether it is FLV: pictures come, behind all configurations, or no others come for long."""
        if kind == flv_tags.VIDEO and any(one.kind is PacketKind.FRAMES for one in read_packets(kind, body)):
            return True
        limits = self._limits
        first = next((time for one, time, _ in self._held if one != flv_tags.SCRIPT), timestamp)
        since = (timestamp - first) % (1 << 32)
        is_long = limits.held_milliseconds <= since < 1 << 31
        return is_long or len(self._held) >= limits.held_messages or self._held_bytes >= limits.held_bytes

    def _let_go(self) -> list[tuple[int, int, bytes]]:
        held, self._held = self._held, []
        return held
