"""Ids of events of several channels: the position in each, such as ``a=EPOCH-3,room/1=EPOCH-7``. Pure.

The channel of the event is the first; so a client knows it by what is before the sign of equality.
"""

from __future__ import annotations

from collections.abc import Mapping

from origin.events.event_log import IDENTITY_CHARS, is_identity
from origin.http.channel_patterns import MOST_CHARACTERS, is_name

UNREADABLE = "?"
"""Stands for the position in each channel where an id can't be read: readers get the notice of a gap."""


def most_characters(channels: int) -> int:
    """Return the length of the longest id of so many channels."""
    return channels * (MOST_CHARACTERS + IDENTITY_CHARS + 2)


def write_positions(channel: str, positions: Mapping[str, str]) -> str:
    """Write the id of an event of a channel, given the ids of the positions in all channels."""
    others = [f"{name}={identity}" for name, identity in positions.items() if name != channel]
    return ",".join((f"{channel}={positions[channel]}", *others))


def read_positions(text: str, most: int) -> dict[str, str] | None:
    """Read an id of at most so many channels; return the positions by channel, None for another text."""
    if len(text) > most_characters(most) or text.count(",") >= most:
        return None
    found: dict[str, str] = {}
    for part in text.split(","):
        name, sign, identity = part.partition("=")
        if not sign or name in found or not is_name(name) or not is_identity(identity):
            return None
        found[name] = identity
    return found
