"""Entries of a station's log beside the audio, for other processes with listeners of their own. Pure."""

from __future__ import annotations

from msgspec import Struct

from origin.radio.mounts.icy_headers import StationDescription


class StationFacts(Struct, frozen=True, tag="facts"):
    """The facts about a station by which listeners are admitted and answered.

    Attributes:
        is_live: whether it sounds; else the process that makes it answers.
        bitrate: in kbit/s.
        has_intro: whether the intro fits the audio.
        listeners: number in all processes, not only in that of the station.
    """

    is_live: bool
    media_type: str
    description: StationDescription
    bitrate: int
    has_intro: bool
    listeners: int


class ListenersDisconnected(Struct, frozen=True, tag="disconnected"):
    """All listeners are disconnected.

    Attributes:
        clears: whether the audio so far is dropped, too: what comes is of another type.
    """

    clears: bool


class ListenerDismissed(Struct, frozen=True, tag="dismissed"):
    """One listener is disconnected.

    Attributes:
        number: by which the administrator names it.
    """

    number: int


class ListenersMoved(Struct, frozen=True, tag="moved"):
    """All listeners go on with another station, of the same type.

    Attributes:
        link: the newest link of a chain of Ogg.
        ending: ends it for those that have begun with it.
    """

    destination: str
    link: int
    ending: bytes


StationEntry = StationFacts | ListenersDisconnected | ListenerDismissed | ListenersMoved
