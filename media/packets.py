"""Packets: the frames of a stream's tracks, whatever container brought them."""

from __future__ import annotations

import enum
import functools
from dataclasses import dataclass
from typing import NamedTuple

PACKET_BYTES = 200
"""Approximate bytes of memory that a packet takes beside its data."""


class TrackKind(enum.Enum):
    """The kinds of tracks."""

    VIDEO = enum.auto()
    AUDIO = enum.auto()
    METADATA = enum.auto()
    """The stream's metadata, which are a track's configuration and have no packets."""


@dataclass(frozen=True, slots=True)
class StreamTrack:
    """A track as decoders must know it; another configuration is another track.

    Attributes:
        codec: FourCC of MP4's sample entry or of Enhanced RTMP; the name of an older codec without one.
        configuration: the decoder's, empty if the codec has none; None if frames come without it.
        number: the publisher's number; 0 for the main track of the kind.
        pixels: width and height of video, as the stream's metadata say; zero if they don't.
        channels: of audio, if the container says how many; 2 otherwise.
        frame_rate: pictures per second, as the metadata say; zero if they don't.
        pixel_aspect: proportion of a pixel's width to its height, as the container says; None if it doesn't.
        matrix: 36 bytes of an MP4 track header's matrix, which turns the picture; empty if it isn't turned.
    """

    kind: TrackKind
    codec: str
    configuration: bytes | None = b""
    number: int = 0
    channels: int = 2
    pixels: tuple[int, int] = (0, 0)
    frame_rate: float = 0.0
    pixel_aspect: tuple[int, int] | None = None
    matrix: bytes = b""


class Packet(NamedTuple):
    """A frame, or the announcement of a track whose frames follow, which has no data.

    Attributes:
        dts: decode time in ticks of ``CLOCK_RATE``, without wrapping.
        pts: presentation time in these ticks.
        is_key: whether decoding can begin with the frame, as the publisher says.
    """

    track: StreamTrack
    dts: int
    pts: int
    is_key: bool
    data: bytes


class EventKind(enum.Enum):
    """The kinds of timed events beside the tracks of a stream."""

    SPLICE = enum.auto()
    """A section of SCTE 35."""
    ID3 = enum.auto()
    """A tag of ID3."""
    CUE = enum.auto()
    """The AMF0 values of ``onCuePoint`` or ``onAdCue``."""


class StreamEvent(NamedTuple):
    """An event at a time of a stream.

    Attributes:
        time: in ticks of ``CLOCK_RATE``, by the clock of the stream's packets.
    """

    kind: EventKind
    time: int
    data: bytes


EVENTS_KEPT = 64
"""Most events that wait until somebody takes them; the oldest are dropped."""

EVENT_BYTES = 64 << 10
"""Most bytes of an event; a longer one is left out."""

packet_of = functools.partial(tuple.__new__, Packet)
"""Makes a packet of a tuple of its fields, without the cost of the constructor's arguments."""
