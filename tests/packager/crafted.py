"""MP4 files put together by hand: ordinary ones of any length, and such as nobody makes in earnest.

Their media are a hole in the file: who indexes them doesn't look at it.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from media.mp4.boxes import box, full_box
from packager.vod.index.file_index import FileIndex
from packager.vod.index.index_builder import read_index
from packager.vod.index.limits import IndexCacheLimits

AVCC = bytes.fromhex("0164001effe1001967640c1eacd940a02ff9610000030001000003003c8f162d9601000668ebe3cb22c0")
VIDEO_ENTRY = box(
    b"avc1",
    bytes(6) + b"\0\1" + bytes(16) + struct.pack(">HH", 320, 180) + bytes(50),
    box(b"avcC", AVCC),
)
ESDS = bytes.fromhex("0380808022000200048080801440150000000001f4000001f40005808080021190068080800102")
SOUND_ENTRY = box(
    b"mp4a",
    bytes(6) + b"\0\1" + bytes(8) + struct.pack(">HHII", 2, 16, 0, 48000 << 16),
    full_box(b"esds", 0, 0, ESDS),
)


def rows(values: NDArray[np.integer] | Sequence[Sequence[int]] | Sequence[int]) -> bytes:
    """Version, flags, a count and so many rows of 32 bits."""
    array = np.atleast_1d(np.asarray(values))
    return struct.pack(">II", 0, len(array)) + array.astype(">i8").astype(">u4").tobytes()


def sizes(values: NDArray[np.integer]) -> bytes:
    return struct.pack(">III", 0, 0, len(values)) + values.astype(">u4").tobytes()


def constant(size: int, count: int) -> bytes:
    return struct.pack(">III", 0, size, count)


@dataclass(frozen=True)
class Track:
    """A track: its tables' payloads by type, and what else of it matters."""

    tables: Mapping[str, bytes]
    video: bool = False
    timescale: int = 48000
    edits: Sequence[tuple[int, int]] = ()
    entries: Sequence[bytes] = ()
    more: bytes = field(default=b"")

    def render(self, track_id: int) -> bytes:
        tkhd = full_box(b"tkhd", 0, 7, struct.pack(">III", 0, 0, track_id), bytes(24), _MATRIX, bytes(8))
        edits = b"".join(struct.pack(">Iii", *edit, 1 << 16) for edit in self.edits)
        elst = full_box(b"elst", 0, 0, struct.pack(">I", len(self.edits)), edits)
        mdhd = full_box(b"mdhd", 0, 0, struct.pack(">IIIIHH", 0, 0, self.timescale, 0, 0x55C4, 0))
        hdlr = full_box(b"hdlr", 0, 0, bytes(4), b"vide" if self.video else b"soun", bytes(12), b"\0")
        dref = full_box(b"dref", 0, 0, struct.pack(">I", 1), full_box(b"url ", 0, 1))
        entries = self.entries or [VIDEO_ENTRY if self.video else SOUND_ENTRY]
        stsd = full_box(b"stsd", 0, 0, struct.pack(">I", len(entries)), *entries)
        tables = [box(kind.encode(), payload) for kind, payload in self.tables.items()]
        header = full_box(b"vmhd", 0, 1, bytes(8)) if self.video else full_box(b"smhd", 0, 0, bytes(4))
        minf = box(b"minf", header, box(b"dinf", dref), box(b"stbl", stsd, *tables))
        edts = box(b"edts", elst) if self.edits else b""
        return box(b"trak", tkhd, edts, box(b"mdia", mdhd, hdlr, minf), self.more)


_MATRIX = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
FTYP = box(b"ftyp", b"isom\0\0\2\0isomiso2avc1mp41")


def moov(*tracks: Track, more: bytes = b"") -> bytes:
    mvhd = full_box(
        *(b"mvhd", 0, 0, struct.pack(">IIIIIH10x", 0, 0, 1000, 0, 1 << 16, 256)),
        *(_MATRIX, bytes(24), struct.pack(">I", len(tracks) + 1)),
    )
    return box(b"moov", mvhd, *(track.render(number) for number, track in enumerate(tracks, 1)), more)


def write(path: Path, index: bytes, media: int = 1 << 20) -> Path:
    """Write a file whose index comes first, and whose media are a hole of so many bytes."""
    with path.open("wb") as file:
        file.write(FTYP + index + struct.pack(">I4sQ", 1, b"mdat", media + 16))
        file.truncate(file.tell() + media)
    return path


def film(hours: float, rate: int = 30, sounds: int = 1, total: int = 0) -> tuple[bytes, int]:
    """Make the index of an ordinary film as ffmpeg writes it, B-frames and a chunk per frame; and its media's
    length. Two hours at 30 frames a second have 554,000 samples."""
    frames = int(hours * 3600 * rate)
    random = np.random.default_rng(7)
    picture = random.integers(500, 5000, frames)
    picture[:: 2 * rate] += 60_000
    if total:
        picture = picture * total // int(picture.sum())
    ends = np.arange(frames + 1) * 48_000 // (rate * 1024)  # sound frames that begin before each picture
    per_chunk = np.diff(ends)
    sound = random.integers(300, 420, (sounds, int(per_chunk.sum())))
    cumulative = np.concatenate((np.zeros((sounds, 1), np.int64), np.cumsum(sound, axis=1)), axis=1)
    of_chunk = cumulative[:, ends[1:]] - cumulative[:, ends[:-1]]
    lengths = np.vstack((picture[None, :], of_chunk)).T.ravel()
    begins = (np.cumsum(lengths) - lengths).reshape(frames, 1 + sounds) + (1 << 25)
    offsets = np.tile([1024, 2560, 1024, 0], frames // 4 + 1)[:frames]
    chunks = "co64" if int(lengths.sum()) + (1 << 25) > 0xFFFFFFFF else "stco"
    runs = np.flatnonzero(np.diff(offsets, prepend=-1))
    video = Track(
        {
            "stts": rows([[frames, 512]]),
            "stss": rows(np.arange(0, frames, 2 * rate) + 1),
            "ctts": rows(np.stack((np.diff(runs, append=frames), offsets[runs]), axis=1)),
            "stsc": rows([[1, 1, 1]]),
            "stsz": sizes(picture),
            chunks: places(begins[:, 0], chunks),
        },
        video=True,
        timescale=512 * rate,
        edits=[(int(hours * 3_600_000), 1024)],
    )
    having = np.flatnonzero(per_chunk)
    changes = np.flatnonzero(np.diff(per_chunk[having], prepend=-1))
    stsc = np.stack((changes + 1, per_chunk[having][changes], np.ones(len(changes), np.int64)), axis=1)
    tracks = [
        Track(
            {
                "stts": rows([[sound.shape[1], 1024]]),
                "stsc": rows(stsc),
                "stsz": sizes(sound[number]),
                chunks: places(begins[having, 1 + number], chunks),
            },
            edits=[(int(hours * 3_600_000), 1024)],
        )
        for number in range(sounds)
    ]
    return moov(video, *tracks), int(lengths.sum()) + (1 << 25)


def places(values: NDArray[np.integer], kind: str) -> bytes:
    return struct.pack(">II", 0, len(values)) + values.astype(">u8" if kind == "co64" else ">u4").tobytes()


def bomb(tracks: int = 32, samples: int = 1 << 24) -> bytes:
    """Make an index of some 17 kB that says of every track that it has millions of samples of one size."""
    sound = Track(
        {
            "stts": rows([[samples, 1024]]),
            "ctts": rows([[samples, 0]]),
            "stsc": rows([[1, samples, 1]]),
            "stsz": constant(1, samples),
            "stco": rows([4096]),
        }
    )
    return moov(*[sound] * tracks)


def sound(samples: int, **tables: bytes) -> Track:
    """A sound track of so many samples of a byte, with some tables otherwise."""
    whole = {
        "stts": rows([[samples, 1024]]),
        "stsc": rows([[1, samples, 1]]),
        "stsz": constant(1, samples),
        "stco": rows([4096]),
    }
    return Track({**whole, **tables})


def indexed(data: bytes, limits: IndexCacheLimits) -> FileIndex:
    """Read the index of a film of these boxes."""
    whole = FTYP + data
    return read_index(lambda offset, length: whole[offset : offset + length], len(whole), limits)
