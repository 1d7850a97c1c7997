"""The options of a mount."""

from __future__ import annotations

from dataclasses import dataclass, field

from media.mp3.icy import METAINT
from origin.events.limits import ChannelLimits
from origin.radio.mounts.limits import RadioLimits
from packager.radio.intro import Intro


@dataclass(frozen=True, slots=True)
class MountOptions:
    """The options of a mount: its description for listeners, and its limits.

    Attributes:
        title: the station's name; if empty, what the source says, or the mount's name.
        genre: of the station; if empty, what the source says.
        url: of the station's page; if empty, what the source says.
        public: whether directories may list it, whatever the source says.
        is_hidden: whether lists and the status leave it out.
        max_listeners: further ones get 503.
        listener_seconds: after which a listener is disconnected; 0: never.
        metaint: bytes of audio between two metadata blocks.
        hold_seconds: how long listeners are kept while the mount is silent.
        on_demand: whether the source plays only while somebody listens.
        lead_seconds: newest audio that a subscriber gets at once.
        is_in_hls: whether it is a live channel, too, in which its past can be heard.
        listener_password: which listeners need; empty for none.
        has_listener_webhook: whether another server is asked about each listener.
        intro: audio that listeners hear first, if the station's audio is of the same format.
        limits: how long it waits for its station and for listeners, and what these may cost.
    """

    title: str = ""
    genre: str = ""
    url: str = ""
    public: bool = False
    is_hidden: bool = False
    max_listeners: int = 5000
    listener_seconds: float = 0.0
    metaint: int = METAINT
    hold_seconds: float = 30.0
    on_demand: bool = False
    events: ChannelLimits = field(default_factory=ChannelLimits)
    lead_seconds: float = 0.0
    is_in_hls: bool = False
    listener_password: str = field(default="", repr=False)
    has_listener_webhook: bool = False
    intro: Intro | None = None
    limits: RadioLimits = field(default_factory=RadioLimits)
