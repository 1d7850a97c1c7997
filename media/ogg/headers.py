"""Parses the headers of logical Ogg streams: codec, format and title.

Vorbis I §4.2 and §5, OggOpus (RFC 7845 §5) and Ogg FLAC (RFC 9639 §10.1, with VORBIS_COMMENT of §8.6).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace

from media.errors import MalformedError, TooLargeError, UnsupportedError
from media.mp3.id3 import Tags

HEADER_BYTES = 4 << 20
"""Most bytes of a stream's headers that are read, pictures included."""

MAX_HEADER_PACKETS = 64
"""Most header packets; each metadata block of FLAC is one."""

COMMENT_BYTES = 4096
"""Longest comment that is passed on: longer than a title, shorter than a picture."""

MAX_COMMENTS = 1024
"""Most comments that are parsed."""

KEPT_BYTES = 48 * 1024
"""Most bytes of headers that are sent to each listener; those of Vorbis have about 4,000."""

_VORBIS, _OPUS_HEAD, _OPUS_TAGS, _FLAC = b"vorbis", b"OpusHead", b"OpusTags", b"\x7fFLAC"
_VORBIS_COMMENTS, _VORBIS_SETUP = b"\x03vorbis", b"\x05vorbis"
_FLAC_COMMENTS, _FLAC_LAST = 4, 0x80
_STREAMINFO_AT, _STREAMINFO_BYTES = 17, 34
_VENDOR = b"Headwater"
_SHOWN = frozenset((b"TITLE", b"ARTIST"))
OTHER_CODECS = {
    b"\x80theora": "Theora",
    b"Speex   ": "Speex",
    b"BBCD\0": "Dirac",
    b"OVP80": "VP8",
    b"\x80kate\0\0\0": "Kate",
    b"PCM     ": "PCM",
    b"CELT    ": "CELT",
}
"""Names of codecs by the first bytes of their streams, beside those that are supported."""

SKELETON = b"fishead\0"
"""First bytes of a stream that only describes others."""


@dataclass(frozen=True, slots=True)
class Link:
    """A logical stream of a chain, described by its headers.

    Attributes:
        codec: ``vorbis``, ``opus`` or ``flac``.
        sample_rate: Hz of granule positions.
        bitrate: nominal bit/s; 0 if unknown.
        pre_skip: samples to discard at the start (RFC 7845 §4.2).
        decoder: configuration that must be equal for a decoder to continue.
        packets: header packets to be sent, without pictures and properties of a whole file.
    """

    codec: str
    sample_rate: int
    channels: int
    bitrate: int
    pre_skip: int
    decoder: bytes
    tags: Tags
    packets: tuple[bytes, ...]

    @property
    def title(self) -> str:
        """Artist and title in one line."""
        return " - ".join(filter(None, (self.tags.artist, self.tags.title)))

    def retitled(self, title: str) -> Link:
        """Copy the link with another title."""
        title = title.encode("utf-8", "replace")[: COMMENT_BYTES - 6].decode("utf-8", "ignore")
        comments = _written_comments(self.codec, [f"TITLE={title}".encode()])
        return replace(self, tags=Tags(title), packets=(self.packets[0], comments, *self.packets[2:]))


class HeaderReader:
    """Collects the header packets of a logical stream.

    Args:
        first: first packet of the stream, in which the codec is recognized.

    Raises:
        UnsupportedError: the codec isn't supported.
        MalformedError: the packet is malformed.
    """

    def __init__(self, first: bytes) -> None:
        self._codec = _codec_of(first)
        _CHECKS[self._codec](first)
        self._packets = [first]
        self._size = len(first)

    def push(self, packet: bytes) -> Link | None:
        """Push the next packet; return the link after the last header, else None.

        Raises:
            MalformedError: the packet isn't the expected header.
            TooLargeError: the headers are too large, or those of them that are to be sent.
        """
        self._packets.append(packet)
        self._size += len(packet)
        if self._size > HEADER_BYTES or len(self._packets) > MAX_HEADER_PACKETS:
            raise TooLargeError(f"headers of more than {HEADER_BYTES} bytes or {MAX_HEADER_PACKETS} packets")
        link = _LINKS[self._codec](self._packets)
        if link is not None and sum(map(len, link.packets)) > KEPT_BYTES:
            raise TooLargeError(f"headers of more than {KEPT_BYTES} bytes without pictures")
        return link


def is_skeleton(first: bytes) -> bool:
    """Return whether a stream's first packet is a skeleton's, which only describes other streams."""
    return first.startswith(SKELETON)


def _codec_of(first: bytes) -> str:
    if first[:1] == b"\x01" and first[1:7] == _VORBIS:
        return "vorbis"
    if first.startswith(_OPUS_HEAD):
        return "opus"
    if first.startswith(_FLAC):
        return "flac"
    name = next((name for magic, name in OTHER_CODECS.items() if first.startswith(magic)), "an unknown codec")
    raise UnsupportedError(f"Ogg with {name}; Vorbis, Opus and FLAC are supported")


def _check_vorbis(first: bytes) -> None:
    # Vorbis I §4.2.2: version 0, channels and rate above 0, the framing bit set.
    if len(first) < 30 or first[7:11] != bytes(4) or not first[11] or first[12:16] == bytes(4):
        raise MalformedError("no identification header of Vorbis I")


def _check_opus(first: bytes) -> None:
    # RFC 7845 §5.1: versions that differ in the lower four bits can be read.
    if len(first) < 19 or first[8] & 0xF0 or not first[9]:
        raise MalformedError("no identification header of Opus")


def _check_flac(first: bytes) -> None:
    # RFC 9639 §10.1: mapping version 1, then "fLaC" and STREAMINFO.
    whole = len(first) >= _STREAMINFO_AT + _STREAMINFO_BYTES
    if not whole or first[5] != 1 or first[9:13] != b"fLaC" or first[13] & 0x7F or not _flac_rate(first):
        raise MalformedError("no first packet of Ogg FLAC")


def _vorbis(packets: Sequence[bytes]) -> Link | None:
    if not packets[1].startswith(_VORBIS_COMMENTS):
        raise MalformedError("no comment header of Vorbis behind the first")
    if len(packets) < 3:
        return None
    if not packets[2].startswith(_VORBIS_SETUP):
        raise MalformedError("no set-up header of Vorbis behind the comments")
    first = packets[0]
    channels, sample_rate, nominal = first[11], *struct.unpack_from("<I4xi", first, 12)
    kept, tags = read_comments(packets[1][7:])
    headers = (first, _written_comments("vorbis", kept), packets[2])
    return Link("vorbis", sample_rate, channels, max(nominal, 0), 0, first + packets[2], tags, headers)


def _opus(packets: Sequence[bytes]) -> Link:
    if not packets[1].startswith(_OPUS_TAGS):
        raise MalformedError("no comment header of Opus behind the first")
    first = packets[0]
    (pre_skip,) = struct.unpack_from("<H", first, 10)
    kept, tags = read_comments(packets[1][8:])
    headers = (first, _written_comments("opus", kept))
    # Neither the pre-skip nor the rate of what was encoded matters to a decoder that runs (RFC 7845 §5.1).
    return Link("opus", 48000, first[9], 0, pre_skip, first[9:10] + first[16:], tags, headers)


def _flac(packets: Sequence[bytes]) -> Link | None:
    blocks = packets[1:]
    # RFC 9639 §10.1: the first of them is the comments; §8.1: the last one has its bit set.
    if len(blocks[0]) < 4 or blocks[0][0] & 0x7F != _FLAC_COMMENTS:
        raise MalformedError("no comments behind the first packet of Ogg FLAC")
    if not blocks[-1][:1] or not blocks[-1][0] & _FLAC_LAST:
        return None
    first = packets[0]
    info = first[_STREAMINFO_AT : _STREAMINFO_AT + _STREAMINFO_BYTES]
    channels = (info[12] >> 1 & 7) + 1
    kept, tags = read_comments(blocks[0][4:])
    # Pictures and seek tables fall away; and a stream has neither a length nor a sum of all (§8.2).
    open_end = info[:13] + bytes([info[13] & 0xF0]) + bytes(20)
    head = first[:7] + b"\0\1" + first[9:_STREAMINFO_AT] + open_end
    headers = (head, _written_comments("flac", kept))
    decoder = info[:4] + info[10:13] + bytes([info[13] & 0xF0])
    return Link("flac", _flac_rate(first), channels, 0, 0, decoder, tags, headers)


def _flac_rate(first: bytes) -> int:
    return int.from_bytes(first[_STREAMINFO_AT + 10 : _STREAMINFO_AT + 13], "big") >> 4


def read_comments(data: bytes) -> tuple[list[bytes], Tags]:
    """Parse comments (Vorbis I §5.2.1) up to the first malformed one."""
    kept: list[bytes] = []
    texts: dict[str, str] = {}
    at = 4 + int.from_bytes(data[:4], "little")
    count = int.from_bytes(data[at : at + 4], "little")
    at += 4
    for _ in range(min(count, MAX_COMMENTS)):
        start, end = at + 4, at + 4 + int.from_bytes(data[at : at + 4], "little")
        if end > len(data) or start > len(data):
            break
        at = end
        if end - start > COMMENT_BYTES:
            continue
        kept.append(data[start:end])
        name, _, value = kept[-1].partition(b"=")
        if name.upper() in _SHOWN:
            texts.setdefault(name.decode("ascii").upper(), value.decode("utf-8", "replace").strip())
    return kept, Tags(texts.get("TITLE", ""), texts.get("ARTIST", ""))


def _written_comments(codec: str, comments: Sequence[bytes]) -> bytes:
    parts = [_sized(_VENDOR), struct.pack("<I", len(comments)), *map(_sized, comments)]
    data = b"".join(parts)
    if codec == "vorbis":
        return _VORBIS_COMMENTS + data + b"\x01"
    if codec == "opus":
        return _OPUS_TAGS + data
    return bytes([_FLAC_LAST | _FLAC_COMMENTS]) + len(data).to_bytes(3, "big") + data


def _sized(data: bytes) -> bytes:
    return struct.pack("<I", len(data)) + data


_CHECKS = {"vorbis": _check_vorbis, "opus": _check_opus, "flac": _check_flac}
_LINKS = {"vorbis": _vorbis, "opus": _opus, "flac": _flac}
