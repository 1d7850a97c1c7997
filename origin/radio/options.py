"""What a mount plays, and how it presents itself: what is decided before it runs."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Protocol

from media.mp3.icy import METAINT
from origin.events.channel import ChannelLimits
from origin.radio.limits import MountLimits
from packager.radio.audio_blocks import AudioBlock
from packager.radio.station_info import Announcement


class Source(Protocol):
    """What a mount plays: a station of a folder, a source client, another server's stream."""

    @property
    def media_type(self) -> str:
        """Such as ``audio/mpeg``."""
        ...

    @property
    def bitrate(self) -> int:
        """In kbit/s."""
        ...

    @property
    def available(self) -> bool:
        """False when it is known to have nothing to give now."""
        ...

    @property
    def announced(self) -> Announcement:
        """What it says of itself."""
        ...

    def blocks(self) -> AsyncGenerator[AudioBlock]:
        """Give audio at real time."""
        ...


@dataclass(frozen=True, slots=True)
class MountOptions:
    """How a mount presents itself, and its limits.

    Attributes:
        title: the station's name; when empty, what the source says, or the mount's name.
        genre: of the station; when empty, what the source says.
        url: of the station's page; when empty, what the source says.
        public: whether directories may list it, whatever the source says.
        max_listeners: connections beyond get 503.
        metaint: bytes of audio between two metadata blocks.
        hold_seconds: how long listeners are kept when there is nothing to hear.
        on_demand: whether the source is only asked while somebody listens.
        events: what its event channel may cost.
        lead_seconds: newest audio that who taps the mount gets at once.
        listener_password: what listeners need; empty for none.
        limits: how long it waits for its station and for listeners, and what these may cost.
    """

    title: str = ""
    genre: str = ""
    url: str = ""
    public: bool = False
    max_listeners: int = 5000
    metaint: int = METAINT
    hold_seconds: float = 30.0
    on_demand: bool = False
    events: ChannelLimits = field(default_factory=ChannelLimits)
    lead_seconds: float = 0.0
    listener_password: str = field(default="", repr=False)
    limits: MountLimits = field(default_factory=MountLimits)
