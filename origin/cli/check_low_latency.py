"""What a media playlist of low latency has to say (RFC 8216bis), for ``headwater check``.

Pure: a playlist's text in, lines about what is wrong out. As in all of the judge, nothing is shared with what
it judges; and the m3u8 package keeps too little of these tags.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

TOLERANCE = 0.01
"""Seconds by which written durations of parts may miss that of their segment, and others their limits."""

_ATTRIBUTE = re.compile(r'([A-Z0-9-]+)=("[^"]*"|[^",]*)')
_NUMBER = re.compile(r"[0-9]{1,20}(?:\.[0-9]{0,20})?")


def attributes(text: str, tag: str) -> Mapping[str, str] | None:
    """Read the attributes of the first tag of a kind; None where there is none.

    Args:
        text: a playlist.
        tag: such as ``EXT-X-PART-INF``.
    """
    found = re.search(rf"^#{tag}:(.*)$", text, re.MULTILINE)
    return None if found is None else _attributes(found[1])


def progress(text: str) -> tuple[int, int]:
    """Tell the media sequence number and the part index that come next in a playlist."""
    first = re.search(r"^#EXT-X-MEDIA-SEQUENCE:([0-9]{1,20})$", text, re.MULTILINE)
    skipped = (attributes(text, "EXT-X-SKIP") or {}).get("SKIPPED-SEGMENTS", "0")
    number = int(first[1]) if first else 0
    parts = 0
    for line in text.splitlines():
        if line.startswith("#EXT-X-PART:"):
            parts += 1
        elif line and not line.startswith("#"):
            number, parts = number + 1, 0
    return number + (int(skipped) if skipped.isdecimal() else 0), parts


def control_problems(text: str) -> Iterator[str]:
    """Find what is missing or too little in a playlist that has parts, or promises delivery directives.

    Args:
        text: a media playlist.

    Yields:
        One line for each fault, with its clause.
    """
    ended = "\n#EXT-X-ENDLIST" in text
    has_parts, hint = "\n#EXT-X-PART:" in text, attributes(text, "EXT-X-PRELOAD-HINT")
    if ended and hint is not None:
        yield "has EXT-X-ENDLIST and EXT-X-PRELOAD-HINT (RFC 8216bis §4.4.5.3)"
    if has_parts and not ended:
        if hint is None:
            yield "has parts, but no EXT-X-PRELOAD-HINT (RFC 8216bis Appendix B.1)"
        if "\n#EXT-X-PROGRAM-DATE-TIME:" not in text:
            yield "has parts, but no EXT-X-PROGRAM-DATE-TIME (RFC 8216bis Appendix B.1)"
    yield from _bounds(text, has_parts=has_parts)


def _bounds(text: str, *, has_parts: bool) -> Iterator[str]:
    information = attributes(text, "EXT-X-PART-INF")
    control = attributes(text, "EXT-X-SERVER-CONTROL") or {}
    target = re.search(r"^#EXT-X-TARGETDURATION:([0-9]{1,20})$", text, re.MULTILINE)
    bounds: list[tuple[str, float, str]] = []
    if target is not None:
        bounds.append(("HOLD-BACK", 3 * float(target[1]), "three target durations"))
        bounds.append(("CAN-SKIP-UNTIL", 6 * float(target[1]), "six target durations"))
    if information is None:
        if has_parts:
            yield "has parts, but no EXT-X-PART-INF (RFC 8216bis §4.4.3.7)"
    elif (part := _number(information.get("PART-TARGET"))) is None:
        yield "has no number as PART-TARGET (RFC 8216bis §4.4.3.7)"
    else:
        if "PART-HOLD-BACK" not in control:
            yield "has no PART-HOLD-BACK (RFC 8216bis §4.4.3.8)"
        bounds.append(("PART-HOLD-BACK", 2 * part, "two part targets"))
    for name, least, words in bounds:
        if name in control:
            value = _number(control[name])
            if value is None or value < least - TOLERANCE:
                yield f"{name} is {control[name]}, less than {words} (RFC 8216bis §4.4.3.8)"


def part_problems(text: str) -> Iterator[str]:
    """Find parts that break RFC 8216bis §4.4.4.9: longer than the target, or shorter than 85 % of it.

    And segments that aren't as long as their parts.

    Args:
        text: a media playlist.

    Yields:
        One line for each part or segment that is wrong.
    """
    yield from _sum_problems(text)
    limit = _number((attributes(text, "EXT-X-PART-INF") or {}).get("PART-TARGET"))
    if limit is None:
        return
    lines = text.splitlines()
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if not line.startswith("#EXT-X-PART:"):
            continue
        part, after = _attributes(line), _attributes(following)
        duration = _number(part.get("DURATION"))
        if duration is None or "URI" not in part:
            yield f"a part has no number as DURATION, or no URI: {line[:80]} (RFC 8216bis §4.4.4.9)"
            continue
        if duration > limit:
            yield f"a part of {duration} s is above PART-TARGET {limit} (RFC 8216bis §4.4.4.9)"
        # Those that may be short: the last of a segment, independent ones, gaps, and what is before a gap.
        within = following.startswith("#EXT-X-PART:") and after.get("GAP") != "YES"
        excused = part.get("INDEPENDENT") == "YES" or part.get("GAP") == "YES"
        if within and not excused and duration < 0.85 * limit:
            yield f"a part of {duration} s is below 85 % of PART-TARGET {limit} (RFC 8216bis §4.4.4.9)"


def _sum_problems(text: str) -> Iterator[str]:
    total, lasts = 0.0, None
    for line in text.splitlines():
        if line.startswith("#EXT-X-PART:"):
            total += _number(_attributes(line).get("DURATION")) or 0.0
        elif line.startswith("#EXTINF:"):
            lasts = _number(line.removeprefix("#EXTINF:").partition(",")[0])
        elif line and not line.startswith("#"):
            if total and lasts is not None and abs(total - lasts) > TOLERANCE:
                yield f"the parts of {line[:80]} last {total:.3f} s, it {lasts:.3f} s (RFC 8216bis §3.2)"
            total, lasts = 0.0, None


def _attributes(line: str) -> dict[str, str]:
    return {name: value.strip('"') for name, value in _ATTRIBUTE.findall(line)}


def _number(value: str | None) -> float | None:
    return float(value) if value is not None and _NUMBER.fullmatch(value) else None
