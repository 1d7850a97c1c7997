"""The order in which the answers of one connection are sent (RFC 9218, Extensible Prioritization Scheme)."""

from __future__ import annotations

import re
from typing import NamedTuple

URGENCY = 3
"""RFC 9218 §4.1: the urgency of a request that doesn't say another one; 0 is the most urgent, 7 the least."""

_URGENCY = re.compile(rb"(?:^|,)[ \t]*u=([0-7])[ \t]*(?:;[^,]*)?(?=,|$)")
_INCREMENTAL = re.compile(rb"(?:^|,)[ \t]*i(=\?[01])?[ \t]*(?:;[^,]*)?(?=,|$)")
_PART = re.compile(rb"/\d+\.\d+\.m4s$")
_LISTS = (b"mpegurl", b"dash+xml", b"text/event-stream", b"application/json", b"vtt")


class Priority(NamedTuple):
    """The priority that a client asks for (RFC 9218 §4).

    Attributes:
        urgency: from 0, the most urgent, to 7.
        is_incremental: whether parts of the answer are of use, so that it may be sent in turns with others.
    """

    urgency: int = URGENCY
    is_incremental: bool = False


def read_priority(value: bytes) -> Priority:
    """Read a Priority field, or that of a PRIORITY_UPDATE frame; what isn't understood is left out (§4)."""
    urgencies, incrementals = _URGENCY.findall(value), _INCREMENTAL.findall(value)
    return Priority(
        int(urgencies[-1]) if urgencies else URGENCY,
        bool(incrementals) and incrementals[-1] != b"=?0",
    )


def goes_first(path: bytes, content_type: bytes) -> bool:
    """Return whether an answer goes before others of its urgency, as playlists, parts and events do.

    Browsers ask for all of them with the same urgency.
    """
    return any(kind in content_type for kind in _LISTS) or _PART.search(path) is not None
