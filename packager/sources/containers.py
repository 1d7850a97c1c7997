"""The containers of received streams: how each is recognised, read and demuxed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from media.flv.stream_reader import FlvReader
from media.matroska.demuxer import MatroskaDemuxer
from media.matroska.stream_reader import MatroskaStreamReader
from media.mp3.stream_reader import AudioStreamReader
from media.mp4.fragments.demuxer import FragmentDemuxer
from media.mp4.fragments.stream_reader import FragmentedStreamReader
from media.packets import Packet
from media.stream_reader import StreamReader
from media.ts.demuxer import TransportDemuxer
from media.ts.stream_reader import TransportReader
from packager.sources.limits import SourceLimits
from packager.step_budget import AUDIO_PORTION_BYTES, FLV_PORTION_BYTES, PORTION_BYTES

HEAD_BYTES = 4096
"""How many bytes of a stream are examined to recognise it."""

STRIDES = (188, 192, 204)
"""Bytes from one packet of MPEG-TS to the next: alone, with a time of arrival, or with parity."""

EBML = b"\x1aE\xdf\xa3"
"""How Matroska begins (RFC 9559 §4.4)."""

BOXES = (b"ftyp", b"styp", b"moov", b"moof", b"sidx", b"prft", b"emsg")
"""Boxes with which a segment may begin (ISO/IEC 23000-19 §7.3.2), and the first of ISO/IEC 14496-12 §4.3."""

PLAYLIST = b"#EXTM3U"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Demuxer(Protocol):
    """Demuxes a stream into packets, without I/O."""

    @property
    def has_sound(self) -> bool:
        """Whether the stream has said that it has sound."""

    def receive_data(self, data: bytes) -> list[Packet]:
        """Parse the next bytes; return the packets that they complete."""


@dataclass(frozen=True, kw_only=True)
class ReceivedContainer:
    """A container of received streams.

    Attributes:
        begins: returns whether a stream begins like this, by its first `HEAD_BYTES` bytes.
        reader: makes what finds headers and access points.
        demuxer: makes what demuxes a stream, with `needs_sound` of `demuxer_of`; None: there is none.
        has_packets: whether its reader makes packets by itself.
        has_fragments: whether publishers send some seconds of media at once.
        is_fetched: whether upstream servers may send it.
        is_published: whether publishers may send it.
        media_types: of upstream servers' streams that don't begin with a frame.
        portion_bytes: bytes that are parsed at once.
    """

    begins: Callable[[bytes], bool]
    reader: Callable[[SourceLimits], StreamReader]
    demuxer: Callable[[SourceLimits, bool], Demuxer] | None = None
    has_packets: bool = False
    has_fragments: bool = False
    is_fetched: bool = False
    is_published: bool = False
    media_types: tuple[str, ...] = ()
    portion_bytes: int = PORTION_BYTES


def _begins_transport(head: bytes) -> bool:
    """Return whether there is a packet at each stride (ISO/IEC 13818-1 §2.4.3.2)."""
    for stride in STRIDES:
        for start in range(min(stride, max(len(head) - 2 * stride, 0))):
            if head[start] == head[start + stride] == head[start + 2 * stride] == 0x47:
                return True
    return False


def _is_sync(head: bytes, mask: int, value: int) -> bool:
    return len(head) > 1 and head[0] == 0xFF and head[1] & mask == value


CONTAINERS: Mapping[str, ReceivedContainer] = {
    "flv": ReceivedContainer(
        begins=lambda head: head.startswith(b"FLV"),
        reader=lambda limits: FlvReader(limits.flv_tag_bytes),
        has_packets=True,
        is_fetched=True,
        is_published=True,
        media_types=("video/x-flv",),
        portion_bytes=FLV_PORTION_BYTES,
    ),
    "matroska": ReceivedContainer(
        begins=lambda head: head.startswith(EBML),
        reader=lambda limits: MatroskaStreamReader(limits.matroska_element_bytes),
        demuxer=lambda limits, _: MatroskaDemuxer(limits.matroska_element_bytes),
        has_fragments=True,
        is_published=True,
    ),
    "mp4": ReceivedContainer(
        begins=lambda head: head[4:8] in BOXES,
        reader=lambda limits: FragmentedStreamReader(limits.fragments),
        demuxer=lambda limits, _: FragmentDemuxer(limits.fragments),
        has_fragments=True,
        is_published=True,
    ),
    "mpegts": ReceivedContainer(
        begins=_begins_transport,
        reader=lambda limits: TransportReader(limits.transport_reader),
        demuxer=lambda limits, needs_sound: TransportDemuxer(
            limits.transport_reader, needs_sound=needs_sound
        ),
        is_fetched=True,
        is_published=True,
        media_types=("video/mp2t",),
    ),
    # ISO/IEC 13818-7 §6.2: layer 0 is ADTS.
    "aac": ReceivedContainer(
        begins=lambda head: _is_sync(head, 0xF6, 0xF0),
        reader=lambda _: AudioStreamReader(),
        is_fetched=True,
        media_types=("audio/aac", "audio/aacp"),
        portion_bytes=AUDIO_PORTION_BYTES,
    ),
    "mp3": ReceivedContainer(
        begins=lambda head: _is_sync(head, 0xE0, 0xE0),
        reader=lambda _: AudioStreamReader(),
        is_fetched=True,
        media_types=("audio/mpeg",),
        portion_bytes=AUDIO_PORTION_BYTES,
    ),
}
"""The containers by ffmpeg's names, in the order in which they are recognised."""


def may_be_demuxed(container: str) -> bool:
    """Return whether there is a demuxer of a container, by ffmpeg's name; of none if the name is empty."""
    return container in CONTAINERS and CONTAINERS[container].demuxer is not None


def demuxer_of(container: str, limits: SourceLimits, *, needs_sound: bool) -> Demuxer:
    """Make the demuxer of a container that has one, by ffmpeg's name.

    Args:
        needs_sound: whether sound that is listed and can't be copied is an error; ffmpeg reads such sound.
    """
    make = CONTAINERS[container].demuxer
    if make is None:
        raise ValueError(f"there is no demuxer of {container}")
    return make(limits, needs_sound)


def is_playlist(head: bytes) -> bool:
    """Return whether a stream is an HLS playlist (RFC 8216bis §4.4.1.1)."""
    return head.removeprefix(BYTE_ORDER_MARK).startswith(PLAYLIST)


def detect_container(head: bytes, media_type: str = "") -> str | None:
    """Detect the container of an upstream server's stream.

    Args:
        head: the first bytes, up to ``HEAD_BYTES``.
        media_type: the Content-Type of the response.

    Returns:
        ffmpeg's name of the container; None if it isn't one that can be pumped.
    """
    fetched = {name: one for name, one in CONTAINERS.items() if one.is_fetched}
    if (found := next((name for name, one in fetched.items() if one.begins(head)), None)) is not None:
        return found
    if head[:4] in (b"OggS", b"fLaC", EBML) or head[4:8] == b"ftyp" or head.lstrip()[:1] == b"#":
        return None
    kind = media_type.partition(";")[0].strip().lower()
    return next((name for name, one in fetched.items() if kind in one.media_types), None)


def detect_published_container(head: bytes) -> str | None:
    """Detect the container of a publisher's stream.

    Args:
        head: the first bytes, up to ``HEAD_BYTES``.

    Returns:
        ffmpeg's name of the container; None if more bytes are needed, or it is none that can be published.
    """
    published = (name for name, one in CONTAINERS.items() if one.is_published and one.begins(head))
    return next(published, None)
