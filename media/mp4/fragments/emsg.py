"""Event message boxes (ISO/IEC 23009-1 §5.10.3.3): timed events beside the media.

ID3 tags are carried by "Carriage of ID3 Timed Metadata in CMAF" of the Alliance for Open Media.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from media.mp4.boxes import box, full_box, walk

ID3_SCHEME = "https://aomedia.org/emsg/ID3"
"""The scheme of messages that are ID3v2.4 tags (Carriage of ID3, "Semantics")."""

ID3_BRAND = b"aid3"
"""The compatible brand of files that may have such messages (Carriage of ID3, "Signaling")."""

UNKNOWN_DURATION = 0xFFFF_FFFF
"""§5.10.3.3.4: the duration isn't known, as for ID3 tags without one."""


@dataclass(frozen=True, slots=True)
class EventMessage:
    """An event that a fragment carries in an ``emsg`` box.

    Attributes:
        timescale: ticks per second; that of the track beside which it travels.
        presentation_time: start of the event, in ticks of the media's own time.
        duration: ticks, or None where it isn't known.
        id: names the event; messages with the same scheme, value and id are the same event.
        scheme: URI that defines the format of the data.
        value: further distinguishes within the scheme.
    """

    timescale: int
    presentation_time: int
    duration: int | None
    id: int
    data: bytes
    scheme: str = ID3_SCHEME
    value: str = ""

    def render(self) -> bytes:
        """Write the box in version 1, whose time doesn't depend on the segment it is in.

        Raises:
            ValueError: scheme or value has a NUL, which ends them.
        """
        names = f"{self.scheme}\0{self.value}\0".encode()
        if names.count(b"\0") != 2:
            raise ValueError("a NUL in an event's scheme or value")
        duration = UNKNOWN_DURATION if self.duration is None else min(self.duration, UNKNOWN_DURATION - 1)
        fields = struct.pack(">IQII", self.timescale, self.presentation_time, duration, self.id)
        return full_box(b"emsg", 1, 0, fields, names, self.data)


def has_brand(init: bytes, brand: bytes) -> bool:
    """Return whether an init segment has a compatible brand (ISO/IEC 14496-12 §4.3).

    Raises:
        MalformedError: it isn't made of boxes.
    """
    payloads = (init[found.payload : found.end] for found in walk(init) if found.kind == b"ftyp")
    # major_brand and minor_version come first, then the list.
    return any(one[at : at + 4] == brand for one in payloads for at in range(8, len(one), 4))


def with_brand(init: bytes, brand: bytes) -> bytes:
    """Add a compatible brand (ISO/IEC 14496-12 §4.3) to an init segment.

    Args:
        init: must not have absolute positions.

    Returns:
        The init segment with the brand; unchanged if it has the brand, or has no ``ftyp``.

    Raises:
        MalformedError: it isn't made of boxes.
    """
    for found in () if has_brand(init, brand) else walk(init):
        if found.kind == b"ftyp":
            payload = init[found.payload : found.end]
            return init[: found.start] + box(b"ftyp", payload, brand) + init[found.end :]
    return init
