"""Rules for the text of playlists (RFC 8216bis §4.1, §4.2, §8): encoding, attribute lists, versions, ranges.

Texts go in, and findings come out.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from media.errors import MalformedError
from media.hls.playlist_reader import BYTE_ORDER_MARK, attribute_pairs
from origin.cli.checks.report import Finding

FIRST_TAG = "#EXTM3U"
MAX_LINES = 500_000
QUOTED = 60
"""Characters of a line that a finding quotes."""

LISTS = frozenset(
    f"#EXT-X-{name}"
    for name in (
        *("STREAM-INF", "I-FRAME-STREAM-INF", "MEDIA", "SESSION-DATA", "SESSION-KEY", "CONTENT-STEERING"),
        *("MAP", "KEY", "DATERANGE", "PART", "PART-INF", "SERVER-CONTROL", "PRELOAD-HINT", "SKIP"),
        *("RENDITION-REPORT", "START", "DEFINE"),
    )
)
"""Tags whose value is an attribute list."""

_DECIMAL = re.compile(r"#EXTINF:\s*\d+\.\d")


@dataclass(frozen=True, slots=True)
class TagLine:
    """A line of a playlist.

    Attributes:
        number: from 1.
        name: of the tag, such as ``#EXTINF``; empty for a URI.
        value: the text after the colon, or the URI.
    """

    number: int
    name: str
    value: str

    @property
    def attributes(self) -> dict[str, str]:
        """The attribute list as far as it can be read, without quotes; of two of a name the last."""
        return {name: value.strip('"') for name, value in _pairs(self.value)}


def _pairs(text: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    with suppress(MalformedError):  # which is a finding of `text_findings`
        found.extend(attribute_pairs(text))
    return found


def tag_lines(text: str) -> list[TagLine]:
    """Read the lines that have a meaning: tags and URIs."""
    found: list[TagLine] = []
    for number, written in enumerate(text.splitlines()[:MAX_LINES], 1):
        line = written.strip()
        if line.startswith("#EXT"):
            name, _, value = line.partition(":")
            found.append(TagLine(number, name, value))
        elif line and not line.startswith("#"):
            found.append(TagLine(number, "", line))
    return found


def encoding_findings(data: bytes) -> Iterator[Finding]:
    """Find bytes that no playlist may have (§4.1)."""
    if data.startswith(BYTE_ORDER_MARK.encode()):
        yield Finding("begins with a byte order mark, where #EXTM3U is right (RFC 8216bis §4.1)")
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        found = f"line {line} has the byte 0x{data[error.start]:02x}, which isn't UTF-8"
        yield Finding(f"{found}: UTF-8 is right (RFC 8216bis §4.1)")


def text_findings(lines: Sequence[TagLine]) -> Iterator[Finding]:
    """Find faults of attribute lists, of the version, and of byte ranges."""
    for line in lines:
        if line.name in LISTS:
            yield from _list_findings(line)
    yield from _version_findings(lines)
    yield from _range_findings(lines)


def _list_findings(line: TagLine) -> Iterator[Finding]:
    """Find faults of an attribute list (§4.2)."""
    where = f"line {line.number}: {line.name}"
    pairs = _pairs(line.value)
    counts = Counter(name for name, _ in pairs)
    for name in (name for name, count in counts.items() if count > 1):
        yield Finding(f"{where} has {name} twice, once is right (RFC 8216bis §4.2)")
    written = ",".join(f"{name}={value}" for name, value in pairs)
    if written != line.value:
        without_spaces = re.sub(r",[ \t]+(?=[A-Z])", ",", line.value).strip().rstrip(",")
        if without_spaces == written:
            yield Finding(f"{where} has a space or an empty place beside a comma (RFC 8216bis §4.2)")
        else:
            said = line.value[len(written) :][:QUOTED]
            yield Finding(f"{where} isn't NAME=VALUE,… at {said!r} (RFC 8216bis §4.2)")


def _version_findings(lines: Sequence[TagLine]) -> Iterator[Finding]:
    """Find features that need another version than EXT-X-VERSION says (§8)."""
    said = [line for line in lines if line.name == "#EXT-X-VERSION"]
    if len(said) > 1:
        yield Finding(f"line {said[1].number}: has EXT-X-VERSION twice (RFC 8216bis §4.4.1.2)")
    version = int(said[0].value) if said and said[0].value.isdecimal() and len(said[0].value) < 4 else 1
    needs: dict[int, TagLine] = {}
    is_frames = any(line.name == "#EXT-X-I-FRAMES-ONLY" for line in lines)
    for line in lines:
        needs.setdefault(_version_of(line, is_frames=is_frames), line)
    needed = max(needs, default=1)
    if needed > version:
        line = needs[needed]
        found = f"has EXT-X-VERSION {version}, where {line.name.removeprefix('#')} in line {line.number}"
        yield Finding(f"{found} needs {needed} (RFC 8216bis §8)")


def _version_of(line: TagLine, *, is_frames: bool) -> int:
    """Return the version from which on there is what a line has (§8)."""
    match line.name:
        case "#EXTINF":
            return 3 if _DECIMAL.match(f"{line.name}:{line.value}") else 1
        case "#EXT-X-BYTERANGE" | "#EXT-X-I-FRAMES-ONLY":
            return 4
        case "#EXT-X-MAP":
            return 5 if is_frames else 6
        case "#EXT-X-KEY":
            told = line.attributes
            newer = "KEYFORMAT" in told or "KEYFORMATVERSIONS" in told or told.get("METHOD") == "SAMPLE-AES"
            return 5 if newer else 2 if "IV" in told else 1
        case "#EXT-X-MEDIA":
            return 7 if line.attributes.get("INSTREAM-ID", "").startswith("SERVICE") else 1
        case "#EXT-X-DEFINE":
            return 11 if "QUERYPARAM" in line.attributes else 8
        case "#EXT-X-SKIP":
            return 10 if "RECENTLY-REMOVED-DATERANGES" in line.attributes else 9
        case "#EXT-X-STREAM-INF":
            return 12 if "REQ-VIDEO-LAYOUT" in line.attributes else 1
    return 1


def _range_findings(lines: Sequence[TagLine]) -> Iterator[Finding]:
    """Find ranges without an offset that follow no range of the same resource (§4.4.4.2)."""
    pending: TagLine | None = None
    before = ""
    for line in lines:
        if line.name == "#EXT-X-BYTERANGE":
            pending = line
        elif not line.name:
            if pending is not None and "@" not in pending.value and before != line.value:
                found = f"line {pending.number}: EXT-X-BYTERANGE:{pending.value[:QUOTED]} has no offset"
                said = f"{found}, and no range of {line.value[:QUOTED]} is before it"
                yield Finding(f"{said}: N@OFFSET is right (RFC 8216bis §4.4.4.2)")
            before, pending = line.value if pending is not None else "", None
