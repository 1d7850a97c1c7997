"""Finds the channels of CEA-608 and the services of CEA-708 in user data (ANSI/SCTE 128-1 §8.1)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import pairwise

CAPTIONS = b"\xb5\x00\x31GA94"
"""First bytes of user data with captions: country, provider, identifier."""

_PLACES = re.compile(re.escape(CAPTIONS))
_LONGEST = 160
"""Bytes that user data with captions have at most, with emulation prevention."""

_CC_DATA = 3
"""Type of the user data that have captions (ATSC A/53 Part 4 §6.2.3)."""

_BEGINNINGS = (0x20, 0x25, 0x26, 0x27, 0x29)
"""Second bytes of the codes that begin pop-on, roll-up and paint-on captions (CEA-608 §B.5)."""


def services_of(data: bytes) -> frozenset[str]:
    """Return the captions in user data by their INSTREAM-ID in HLS (RFC 8216bis §4.4.6.1).

    Args:
        data: a NAL unit of SEI, which may be cut off.
    """
    data = data.replace(b"\0\0\3", b"\0\0")  # emulation prevention (ISO/IEC 14496-10 §7.4.1)
    at = data.find(CAPTIONS) + len(CAPTIONS)
    if at < len(CAPTIONS) or data[at : at + 1] != bytes([_CC_DATA]):
        return frozenset()
    count = data[at + 1] & 31 if len(data) > at + 1 else 0
    triples = [data[place : place + 3] for place in range(at + 3, at + 3 + 3 * count, 3)]
    # CEA-708-E §4.3: a flag says whether the construct has data, and two bits what data.
    valid = [(one[0] & 3, one[1], one[2]) for one in triples if len(one) == 3 and one[0] & 4]
    return frozenset((*_channels(valid), *_services(valid)))


def services_within(data: bytes | memoryview) -> frozenset[str]:
    """Return the captions in the user data of a fragment's pictures, as `services_of` names them."""
    places = (match.start() for match in _PLACES.finditer(data))
    return frozenset().union(*(services_of(bytes(data[place : place + _LONGEST])) for place in places))


def in_order(groups: Iterable[frozenset[str]]) -> tuple[str, ...]:
    """Join the captions of several pictures as playlists list them: channels, then services, by number."""
    return tuple(sorted(frozenset().union(*groups), key=lambda name: (len(name), name)))


def _channels(triples: list[tuple[int, int, int]]) -> Iterator[str]:
    for field, first, second in triples:
        code = first & 0x7F  # without parity
        if field < 2 and code in (0x14, 0x15, 0x1C, 0x1D) and second & 0x7F in _BEGINNINGS:
            yield f"CC{1 + 2 * field + (code >= 0x18)}"


def _services(triples: list[tuple[int, int, int]]) -> Iterator[str]:
    """Yield the services of the packets that begin in some triples (CEA-708-E §5, §6.2)."""
    begins = [number for number, one in enumerate(triples) if one[0] == 3]
    for begin, end in pairwise([*begins, len(triples)]):
        packet = bytes(byte for kind, *two in triples[begin:end] if kind >= 2 for byte in two)
        at, end_of_packet = 1, min(len(packet), 2 * (packet[0] & 63) or 128)
        while at < end_of_packet:
            service, size = packet[at] >> 5, packet[at] & 31
            at += 1
            if service == 7 and size:
                service = packet[at] & 63 if at < end_of_packet else 0
                at += 1
            if service and size:
                yield f"SERVICE{service}"
            at += size
