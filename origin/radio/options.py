"""The options of a mount, and the interface of the source that it plays."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Protocol

from media.mp3.icy import METAINT
from origin.events.limits import ChannelLimits
from origin.radio.limits import MountLimits
from packager.radio.audio_blocks import AudioBlock
from packager.radio.intro import Intro
from packager.radio.station_info import StationInfo


class AudioSource(Protocol):
    """The interface of a mount's source of audio: a folder, a source client or a relay."""

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
        """False when it is known to have no audio now."""
        ...

    @property
    def is_idle(self) -> bool:
        """Whether it only waits for a source client to connect, which is no fault."""
        ...

    @property
    def trouble(self) -> str:
        """Why it gives no audio, in one line without a URL; empty where that isn't known."""
        ...

    @property
    def station_info(self) -> StationInfo:
        """The station's description by its source."""
        ...

    def blocks(self) -> AsyncGenerator[AudioBlock]:
        """Yield audio at real time."""
        ...


@dataclass(frozen=True, slots=True)
class MountOptions:
    """How a mount presents itself, and its limits.

    Attributes:
        title: the station's name; if empty, what the source says, or the mount's name.
        genre: of the station; if empty, what the source says.
        url: of the station's page; if empty, what the source says.
        public: whether directories may list it, whatever the source says.
        burst_bytes: newest audio that a listener gets at once.
        queue_bytes: how far a listener may fall behind before it is dropped.
        skips: whether such a listener skips ahead instead.
        max_listeners: further ones get 503.
        listener_seconds: after which a listener is disconnected; 0: never.
        metaint: bytes of audio between two metadata blocks.
        hold_seconds: how long listeners are kept while the mount is silent.
        on_demand: whether the source plays only while somebody listens.
        events: limits of its event channel.
        lead_seconds: newest audio that a subscriber gets at once.
        listener_password: which listeners need; empty for none.
        has_listener_webhook: whether another server is asked about each listener.
        intro: what listeners hear first, where the audio behind it is like it.
        limits: how long it waits for its station and for listeners, and what these may cost.
    """

    title: str = ""
    genre: str = ""
    url: str = ""
    public: bool = False
    max_listeners: int = 5000
    listener_seconds: float = 0.0
    metaint: int = METAINT
    hold_seconds: float = 30.0
    on_demand: bool = False
    events: ChannelLimits = field(default_factory=ChannelLimits)
    lead_seconds: float = 0.0
    listener_password: str = field(default="", repr=False)
    has_listener_webhook: bool = False
    intro: Intro | None = None
    limits: MountLimits = field(default_factory=MountLimits)
