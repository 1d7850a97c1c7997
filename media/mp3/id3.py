"""Titles in audio files: ID3v2.2 to 2.4, ID3v1 and APEv2 tags, read; ID3v2.4 tags of events, written.

Tags are hints, often broken ones, and no reason to refuse the audio behind them: the parsers here never
raise on bad content, they return what could be read. Each looks at no byte twice and follows no offset back,
so time is linear in the bytes given.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

ID3V2_HEADER = 10
ID3V1_SIZE = 128
ID3V1_ENHANCED_SIZE = 227
APE_HEADER = 32
TEXT_BYTES = 4096
"""Longest text field that is read; more than any player shows."""

MAX_FRAMES = 1024
"""Most frames or items of one tag that are looked at; one for each chapter of a book are some hundreds."""

MAX_TRIES = 4
"""Most fields with the same meaning that are read, until one of them has a text."""

_TITLES = frozenset({b"TIT2", b"TT2"})
_ARTISTS = frozenset({b"TPE1", b"TP1"})
_CHAPTER_TIMES = 16
"""Bytes of a chapter's start and end, each in milliseconds and in bytes."""

_IDENTIFIER = re.compile(rb"[A-Z0-9]+")
INVISIBLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
"""Control characters, and what separates lines and paragraphs (Unicode's categories Cc, Zl and Zp)."""

_ENCODINGS = ("latin-1", "utf-16", "utf-16-be", "utf-8")


@dataclass(frozen=True, slots=True)
class Tags:
    """The texts of a tag; empty where it has none."""

    title: str = ""
    artist: str = ""

    def __bool__(self) -> bool:
        return bool(self.title or self.artist)

    def or_else(self, other: Tags) -> Tags:
        """Fill what is empty here from another tag of the same file.

        Returns:
            Tags with this one's fields where it has them.
        """
        return Tags(self.title or other.title, self.artist or other.artist)


def id3v2_size(data: bytes) -> int | None:
    """Return the length of an ID3v2 tag by its header (ID3v2.4 §3.1).

    Args:
        data: at least 10 bytes from where the tag may begin.

    Returns:
        Bytes of the whole tag with header and footer; None when no tag begins here.
    """
    if len(data) < ID3V2_HEADER or data[:3] != b"ID3" or data[3] not in (2, 3, 4) or data[4] == 0xFF:
        return None
    if any(byte & 0x80 for byte in data[6:10]):
        return None
    footer = ID3V2_HEADER if data[3] == 4 and data[5] & 0x10 else 0
    return ID3V2_HEADER + _syncsafe(data[6:10]) + footer


def parse_chapters(data: bytes) -> tuple[tuple[int, int, str], ...]:
    """Read the chapters of an ID3v2 tag (ID3v2 Chapter Frame Addendum 1.0 §3.1).

    Args:
        data: as of `parse_id3v2`.

    Returns:
        Start and end in milliseconds, and title of each, in the order of their starts.
    """
    found: list[tuple[int, int, str]] = []
    for identifier, payload in _frames_of(data):
        times = payload.find(b"\0") + 1  # the name of the element comes first
        if identifier != b"CHAP" or not times or len(payload) < times + _CHAPTER_TIMES:
            continue
        start, end = struct.unpack_from(">II", payload, times)
        parts = _id3v2_frames(memoryview(payload)[times + _CHAPTER_TIMES :], data[3])
        found.append((start, end, _first_text([text for name, text in parts if name in _TITLES])))
    return tuple(sorted(found))


def parse_id3v2(data: bytes) -> Tags:
    """Read title and artist of an ID3v2 tag.

    Args:
        data: the tag from its header on; it may be cut short.

    Returns:
        The texts; empty where the tag has none or is broken.
    """
    titles, artists = list[bytes](), list[bytes]()
    for identifier, payload in _frames_of(data):
        if identifier in _TITLES:
            titles.append(payload)
        elif identifier in _ARTISTS:
            artists.append(payload)
    return Tags(_first_text(titles), _first_text(artists))


def parse_id3v1(data: bytes) -> Tags:
    """Read title and artist of the 128 bytes of an ID3v1 tag.

    Args:
        data: the tag, from ``TAG`` on.

    Returns:
        The texts; empty when this is no such tag.
    """
    if len(data) < ID3V1_SIZE or data[:3] != b"TAG":
        return Tags()
    return Tags(
        *(_clean(data[start : start + 30].partition(b"\0")[0].decode("latin-1")) for start in (3, 33))
    )


def ape_size(data: bytes) -> int | None:
    """Return the bytes from an APE tag's header or footer to the tag's end.

    Args:
        data: at least 32 bytes.

    Returns:
        Bytes from here to the tag's end; None when no APE tag is here.
    """
    if len(data) < APE_HEADER or data[:8] != b"APETAGEX":
        return None
    is_header = data[23] & 0x20
    # APEv2: the size counts items and footer, never the header
    return APE_HEADER + (int.from_bytes(data[12:16], "little") if is_header else 0)


def parse_ape(data: bytes) -> Tags:
    """Read title and artist of an APEv2 tag that begins with a header.

    Args:
        data: the tag from ``APETAGEX`` on; it may be cut short.

    Returns:
        The texts; empty where there are none.
    """
    return _ape_items(data[APE_HEADER:])


def parse_trailer(tail: bytes) -> Tags:
    """Read the tags at a file's end: ID3v1, and APEv2 before it.

    Args:
        tail: the last bytes of the file; an APE tag that begins before them isn't found.

    Returns:
        The texts, APEv2's (which aren't cut at 30 characters) first.
    """
    older = parse_id3v1(tail[-ID3V1_SIZE:])
    end = len(tail) - (ID3V1_SIZE if tail[-ID3V1_SIZE:].startswith(b"TAG") else 0)
    footer = tail[max(end - APE_HEADER, 0) : end]
    if ape_size(footer) != APE_HEADER:
        return older
    start = end - int.from_bytes(footer[12:16], "little")
    return _ape_items(tail[start:end]).or_else(older) if 0 <= start < end else older


def _syncsafe(data: bytes) -> int:
    """Convert between a number and seven bits a byte (ID3v2.4 §6.2)."""
    value = 0
    for byte in data:
        value = value << 7 | byte & 0x7F
    return value


def _extended_header(body: bytes, version: int) -> int:
    # ID3v2.3 §3.2 leaves the size field out of its count, ID3v2.4 §3.2 counts it
    return int.from_bytes(body[:4], "big") + 4 if version == 3 else _syncsafe(body[:4])


def _frames_of(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the frames of a tag; none where it is broken."""
    if id3v2_size(data) is None:
        return
    version, flags = data[3], data[5]
    body = data[ID3V2_HEADER : ID3V2_HEADER + _syncsafe(data[6:10])]
    if flags & 0x80 and version < 4:
        body = body.replace(b"\xff\x00", b"\xff")  # ID3v2.3 §5: unsynchronisation of the tag as a whole
    start = _extended_header(body, version) if flags & 0x40 and version > 2 else 0
    yield from _id3v2_frames(memoryview(body)[start:], version)


def _id3v2_frames(body: memoryview, version: int) -> Iterator[tuple[bytes, bytes]]:
    width, header = (3, 6) if version == 2 else (4, 10)
    position = 0
    for _ in range(MAX_FRAMES):
        if position + header > len(body):
            return
        identifier = bytes(body[position : position + width])
        if not _IDENTIFIER.fullmatch(identifier):
            return  # padding, or an unknown structure
        field = bytes(body[position + width : position + 2 * width])
        size = _syncsafe(field) if version == 4 else int.from_bytes(field, "big")
        start = position + header
        flags = body[position + 9] if version > 2 else 0
        position = start + size
        payload = _unwrapped(bytes(body[start : start + min(size, TEXT_BYTES)]), flags, version)
        if payload:
            yield identifier, payload


def _unwrapped(payload: bytes, flags: int, version: int) -> bytes:
    """Undo the encodings of the frame's format flags; return nothing for unsupported ones."""
    if version == 3:  # ID3v2.3 §3.3.1: i compression, j encryption, k grouping
        return b"" if flags & 0xC0 else payload[1 if flags & 0x20 else 0 :]
    if (
        version == 4
    ):  # ID3v2.4 §4.1.2: h grouping, k compression, m encryption, n unsynchronised, p data length
        if flags & 0x0C:
            return b""
        payload = payload[(1 if flags & 0x40 else 0) + (4 if flags & 0x01 else 0) :]
        return payload.replace(b"\xff\x00", b"\xff") if flags & 0x02 else payload
    return payload


def _first_text(payloads: list[bytes]) -> str:
    return next(filter(None, map(_text, payloads[:MAX_TRIES])), "")


def _text(payload: bytes) -> str:
    """Decode a text frame: one byte of encoding, then one or more texts with NUL between (ID3v2.4 §4.2)."""
    if payload[0] >= len(_ENCODINGS):
        return ""
    text = payload[1:].decode(_ENCODINGS[payload[0]], "replace")
    return " / ".join(filter(None, (_clean(part) for part in text.split("\0"))))


def _ape_items(body: bytes) -> Tags:
    found: dict[bytes, str] = {}
    position = 0
    for _ in range(MAX_FRAMES):
        if position + 8 >= len(body) or body[position : position + 8] == b"APETAGEX":
            break
        size = int.from_bytes(body[position : position + 4], "little")
        end_of_key = body.find(b"\0", position + 8, position + 8 + 256)
        if end_of_key < 0:
            break
        key = body[position + 8 : end_of_key].lower()
        is_text = body[position + 4] & 0x06 == 0
        if key in (b"title", b"artist") and is_text and key not in found:
            value = body[end_of_key + 1 : end_of_key + 1 + min(size, TEXT_BYTES)].decode("utf-8", "replace")
            found[key] = " / ".join(filter(None, (_clean(part) for part in value.split("\0"))))
        position = end_of_key + 1 + size
    return Tags(found.get(b"title", ""), found.get(b"artist", ""))


def _clean(text: str) -> str:
    """Return a text as one line, without control characters, byte order marks and replacement characters."""
    return " ".join(INVISIBLE.sub(" ", text).replace("\ufeff", "").replace("\ufffd", "").split())


FRAME_NAME = re.compile(r"T(?!XXX)[A-Z0-9]{3}|W(?!XXX)[A-Z0-9]{3}|(?:TXXX|WXXX):[^\0]{1,256}", re.ASCII)
"""Frames that can be written: text, addresses, and user-defined ones as ``TXXX:description``."""

_UTF_8 = b"\x03"
_LARGEST = 1 << 28


def write_id3v2(frames: Iterable[tuple[str, str]]) -> bytes:
    """Write an ID3v2.4 tag.

    Args:
        frames: name (see ``FRAME_NAME``) and text of each, in order.

    Returns:
        The tag, without padding.

    Raises:
        ValueError: an invalid name, a NUL in a text, an address beyond Latin-1, or too many bytes.
    """
    body = b"".join(_frame(name, text) for name, text in frames)
    return b"ID3\x04\x00\x00" + _as_syncsafe(len(body)) + body


def is_whole_id3v2(data: bytes) -> bool:
    """Return whether the bytes are exactly one ID3v2.4 tag."""
    return data[3:4] == b"\x04" and id3v2_size(data) == len(data)


def _frame(name: str, text: str) -> bytes:
    if not FRAME_NAME.fullmatch(name) or "\0" in text:
        raise ValueError(f"no ID3 frame of text or address: {name!r}")
    identifier, _, description = name.partition(":")
    # ID3v2.4 §4.3: addresses are ISO-8859-1, whatever a description's encoding is
    value = text.encode() if identifier.startswith("T") else text.encode("latin-1")
    if description:  # §4.2.6, §4.3.2
        value = _UTF_8 + description.encode() + b"\0" + value
    elif identifier.startswith("T"):
        value = _UTF_8 + value
    return identifier.encode() + _as_syncsafe(len(value)) + b"\0\0" + value


def _as_syncsafe(number: int) -> bytes:
    """Convert between a number and seven bits a byte (ID3v2.4 §6.2)."""
    if number >= _LARGEST:
        raise ValueError(f"{number} bytes don't fit into an ID3 tag")
    return bytes(number >> shift & 0x7F for shift in (21, 14, 7, 0))
