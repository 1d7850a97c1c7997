"""Delivery directives of low-latency HLS (RFC 8216bis §6.2.5): a query in, a decision out."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from urllib.parse import urlencode

from packager.window.cadence import Cadence

PREFIX = "_HLS_"
"""§6.2.5: names of query parameters that begin so are reserved for directives; unknown ones are ignored."""

BLOCKING = frozenset((f"{PREFIX}msn", f"{PREFIX}part"))
"""§6.2.5.2: the directives for which a request may wait."""

DIRECTIVES = BLOCKING | {f"{PREFIX}skip"}
"""The delivery directives of §6.2.5.1 and §6.2.5.2."""

CARRIED = ("token",)
"""Names of the query parameters that are repeated on every URI of a playlist, unless configured."""

MAX_SUFFIX = 2048 + 256
"""Most characters of those with their names, percent-encoded: a token may have 2,048."""

MAX_AHEAD = 2
"""§6.2.5.2: how many media sequence numbers beyond the last one may be asked for."""

LEAST_PARTS_AHEAD = 3
"""§6.2.5.2: how many parts beyond the last one may be asked for, however long parts are."""

_INTEGER = re.compile(r"[0-9]{1,20}", re.ASCII)


class DirectiveError(Exception):
    """The query can't be obeyed: the answer is 400 with this text."""


@dataclass(frozen=True, slots=True)
class Directives:
    """The delivery directives of a playlist request, parsed.

    Attributes:
        number: ``_HLS_msn``, or None.
        part: ``_HLS_part``, or None.
        skip: whether a delta update will do.
        skip_date_ranges: whether it may also skip the date ranges that the player has (``v2``).
        suffix: the query parameters that go onto URIs: ``?…`` percent-encoded, or "".
    """

    number: int | None = None
    part: int | None = None
    skip: bool = False
    suffix: str = ""
    skip_date_ranges: bool = False


def parse(query: Iterable[tuple[str, str]], carried: Collection[str] = CARRIED) -> Directives:
    """Read the directives of a request.

    A parameter that is neither a directive nor carried changes nothing, or anybody could have playlists of
    his own made.

    Args:
        query: its query parameters, decoded, in order.
        carried: names of those that go onto URIs.

    Returns:
        The directives.

    Raises:
        DirectiveError: a value isn't a decimal integer, a directive comes twice, or a part is asked for
            without a segment.
    """
    given: dict[str, str] = {}
    others: list[tuple[str, str]] = []
    for name, value in query:
        if name in DIRECTIVES:
            if name in given:
                raise DirectiveError(f"{name} is there twice")
            given[name] = value
        elif name in carried:
            others.append((name, value))
    number, part = _integer(given, "_HLS_msn"), _integer(given, "_HLS_part")
    if part is not None and number is None:  # §6.2.5.2: _HLS_part without _HLS_msn is a bad request
        raise DirectiveError("_HLS_part without _HLS_msn")
    suffix = f"?{urlencode(others)}" if others else ""
    if len(suffix) > MAX_SUFFIX:
        raise DirectiveError("the query is too long")
    # §6.2.5.1: YES and v2 ask for a delta update; what else may come is ignored.
    skip = given.get("_HLS_skip")
    return Directives(number, part, skip in ("YES", "v2"), suffix, skip_date_ranges=skip == "v2")


def _integer(given: dict[str, str], name: str) -> int | None:
    value = given.get(name)
    if value is None:
        return None
    if not _INTEGER.fullmatch(value):
        raise DirectiveError(f"{name} is no decimal integer")
    return int(value)


def check(directives: Directives, last: tuple[int, int], cadence: Cadence) -> None:
    """Refuse what lies too far in the future to be waited for (§6.2.5.2).

    Args:
        last: media sequence number and part index of the newest part.

    Raises:
        DirectiveError: it does.
    """
    if directives.number is None:
        return
    last_number, last_part = last
    if directives.number > last_number + MAX_AHEAD:
        raise DirectiveError(f"_HLS_msn is more than {MAX_AHEAD} beyond {last_number}")
    if directives.part is None or directives.number < last_number:
        return
    # A cadence with short parts allows more than these.
    if directives.part <= LEAST_PARTS_AHEAD + (last_part if directives.number == last_number else 0):
        return
    # Of a segment that hasn't begun, any part that it may come to have can be waited for: players ask for
    # the index that was the last one's in the segment before.
    furthest = last_part
    if directives.number > last_number:
        furthest = math.ceil(cadence.target_duration / cadence.part_target)
    if directives.part > furthest + cadence.advance_part_limit:
        raise DirectiveError(f"_HLS_part is more than {cadence.advance_part_limit} beyond the last part")
