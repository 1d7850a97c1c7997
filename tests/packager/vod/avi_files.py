"""AVI files in the manners of other programs, written from the chunks of one that ffmpeg has made."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

Chunk = tuple[bytes, bytes, bool]
"""The FourCC of a chunk, its content, and whether it is a key frame."""


def riff(kind: bytes, *content: bytes) -> bytes:
    """Write a chunk."""
    data = b"".join(content)
    return kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)


@dataclass(frozen=True)
class AviFile:
    """The headers of an AVI file by stream, and its chunks."""

    main: bytes
    streams: Sequence[bytes]
    chunks: Sequence[Chunk]

    def write(self, *, index: str = "first", absolute: bool = False, repeats: int = 1) -> bytes:
        """Write the file.

        Args:
            index: ``first`` for idx1, ``open`` for OpenDML, or none.
            absolute: whether the offsets of idx1 count from the file's begin.
            repeats: how often OpenDML names the index of each stream.
        """
        supers = 24 + 16 * repeats if index == "open" else 0
        header = 12 + 12 + len(riff(b"avih", self.main))
        header += sum(12 + len(stream) + (8 + supers if supers else 0) for stream in self.streams)
        movi = header + 8
        body, places = b"movi", list[tuple[int, int]]()
        for kind, data, _ in self.chunks:
            places.append((movi + len(body), len(data)))
            body += riff(kind, data)
        lists = []
        for number, stream in enumerate(self.streams):
            if not supers:
                lists.append(riff(b"LIST", b"strl", stream))
                continue
            own = [
                (place, size, key)
                for (place, size), (kind, _, key) in zip(places, self.chunks, strict=True)
                if int(kind[:2]) == number
            ]
            kind = next(kind for kind, _, _ in self.chunks if int(kind[:2]) == number)
            entries = b"".join(
                struct.pack("<II", place + 8, size | (not key) << 31) for place, size, key in own
            )
            standard = struct.pack("<HBBI4sQI", 2, 0, 1, len(own), kind, 0, 0) + entries
            place = movi + len(body)
            body += riff(b"ix%02d" % number, standard)
            one = struct.pack("<HBBI4s12x", 4, 0, 0, repeats, kind)
            one += struct.pack("<QII", place, len(standard) + 8, len(own)) * repeats
            lists.append(riff(b"LIST", b"strl", stream, riff(b"indx", one)))
        head = riff(b"LIST", b"hdrl", riff(b"avih", self.main), *lists)
        assert 12 + len(head) + 8 == movi
        base = 0 if absolute else movi
        rows = [
            struct.pack("<4sIII", kind, 0x10 * key, place - base, size)
            for (kind, _, key), (place, size) in zip(self.chunks, places, strict=True)
        ]
        tail = riff(b"idx1", *rows) if index == "first" else b""
        return riff(b"RIFF", b"AVI ", head, riff(b"LIST", body), tail)

    def sliced(self, stream: int, size: int) -> AviFile:
        """Return the file with a stream's bytes in chunks of one size, whatever is in them."""
        mine = b"%02d" % stream
        data = b"".join(data for kind, data, _ in self.chunks if kind[:2] == mine)
        others = [chunk for chunk in self.chunks if chunk[0][:2] != mine]
        slices = [(mine + b"wb", data[at : at + size], True) for at in range(0, len(data), size)]
        return replace(self, chunks=[*others, *slices])

    def packed(self) -> AviFile:
        """Return the file with each B picture of MPEG-4 behind the picture before it, in one chunk."""
        found: list[Chunk] = []
        for kind, data, key in self.chunks:
            plane = data.rfind(b"\0\0\1\xb6")
            if kind[2:] == b"dc" and plane >= 0 and data[plane + 4] >> 6 == 2:
                before = next(at for at in range(len(found) - 1, -1, -1) if found[at][0] == kind)
                found[before] = kind, found[before][1] + data, found[before][2]
                found.append((kind, b"\0\0\1\xb6\x40\0\0", False))
            elif kind[2:] == b"dc" and key:
                found.append((kind, data[:plane] + b"\0\0\1\xb2DivX503b1393p" + data[plane:], key))
            else:
                found.append((kind, data, key))
        return replace(self, chunks=found)


def read_avi_file(path: Path) -> AviFile:
    """Read a file of ffmpeg's."""
    data = path.read_bytes()

    def inside(start: int, end: int) -> list[tuple[bytes, int, int]]:
        found = []
        while start + 8 <= end:
            (size,) = struct.unpack_from("<I", data, start + 4)
            found.append((data[start : start + 4], start + 8, start + 8 + size))
            start += 8 + size + size % 2
        return found

    main, streams, chunks, keys = b"", list[bytes](), list[Chunk](), list[bool]()
    for kind, start, end in inside(12, len(data)):
        name = data[start : start + 4] if kind == b"LIST" else kind
        if name == b"hdrl":
            for part, at, stop in inside(start + 4, end):
                if part == b"avih":
                    main = data[at:stop]
                elif data[at : at + 4] == b"strl":
                    wanted = [one for one in inside(at + 4, stop) if one[0] in (b"strh", b"strf", b"vprp")]
                    streams.append(b"".join(riff(one, data[begin:until]) for one, begin, until in wanted))
        elif name == b"movi":
            chunks = [(part, data[at:stop], True) for part, at, stop in inside(start + 4, end)]
        elif name == b"idx1":
            keys = [bool(data[at + 4] & 0x10) for at in range(start, end, 16)]
    chunks = [(kind, data, key) for (kind, data, _), key in zip(chunks, keys, strict=True)]
    return AviFile(main, streams, chunks)
