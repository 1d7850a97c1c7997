"""Tracks that are offered only after encoding, decoded by ffmpeg from fragments of their samples."""

from __future__ import annotations

import subprocess
from fractions import Fraction
from itertools import count
from pathlib import Path

from packager.library.local_storage import Library
from packager.vod.index.file_index import FileIndex, OfferedTrack
from packager.vod.index.index_builder import read_index
from packager.vod.movie.movie_reader import Read
from packager.vod.segments.segment import make_segment
from tests.packager import films
from tests.packager.films import FFMPEG

PICTURE = ("-f", "lavfi", "-i", "testsrc2=size=176x144:rate=25:duration=3")
TONE = ("-f", "lavfi", "-i", "sine=440:sample_rate=48000:duration=3")

Picture = tuple[Fraction, str]
"""When a decoded picture is presented, in seconds since the first one, and its checksum."""


def encoded_film(name: str, words: str) -> Path:
    """Encode a film of three seconds."""
    path = films.folder() / f"decoded-{name}"  # other tests' films have the same names
    if not path.exists():
        films.run_ffmpeg(*PICTURE, *TONE, *words.split(), "-flags", "+bitexact", path)
    return path


def indexed(path: Path) -> FileIndex:
    """Index a file."""
    with Library(path.parent).open(path.name) as file:
        return read_index(file.pread, file.size)


def fragments(index: FileIndex, track: OfferedTrack, read: Read) -> bytes:
    """Write a track's init segment and all of its samples in fragments."""
    segments = (make_segment(index, track, number) for number in count())
    parts: list[bytes] = []
    for segment in segments:
        if segment is None:
            return track.init + b"".join(parts)
        parts.append(segment.read(index.reading(read), 0, segment.size))
    raise AssertionError


def fragmented(path: Path, track: OfferedTrack, folder: Path) -> Path:
    """Write a track of a file as a fragmented MP4."""
    out = folder / f"{path.name}.{track.name}.mp4"
    with Library(path.parent).open(path.name) as file:
        out.write_bytes(fragments(read_index(file.pread, file.size), track, file.pread))
    return out


def pictures(path: Path, stream: str, *options: str) -> list[Picture]:
    """Decode a file's video; list its pictures."""
    words = [FFMPEG, "-v", "error", *options, "-i", str(path), "-map", f"0:{stream}"]
    words += ["-fps_mode", "passthrough", "-f", "framemd5", "-"]
    return listed_pictures(subprocess.run(words, capture_output=True, text=True, check=True).stdout)


def listed_pictures(output: str) -> list[Picture]:
    """Read what ffmpeg's muxer ``framemd5`` writes."""
    lines = [line for line in output.splitlines() if line]
    base = next(Fraction(line.split()[-1]) for line in lines if line.startswith("#tb"))
    rows = [line.split(",") for line in lines if not line.startswith("#")]
    first = int(rows[0][2]) if rows else 0
    return [((int(row[2]) - first) * base, row[5].strip()) for row in rows]


def sound(path: Path, stream: str) -> bytes:
    """Decode a file's sound to samples of 32 bits."""
    words = [FFMPEG, "-v", "error", "-i", str(path), "-map", f"0:{stream}", "-f", "s32le", "-"]
    return subprocess.run(words, capture_output=True, check=True).stdout


def assert_pictures_are_alike(ours: list[Picture], theirs: list[Picture], tick: Fraction) -> None:
    """Assert that two decodings have the same pictures at the same times."""
    assert len(ours) == len(theirs) > 0
    assert [digest for _, digest in ours] == [digest for _, digest in theirs]
    assert all(abs(one - other) <= tick for (one, _), (other, _) in zip(ours, theirs, strict=True))


def assert_decodes_alike(path: Path, folder: Path, tick: Fraction = Fraction(1, 1000)) -> FileIndex:
    """Assert that ffmpeg decodes a file's tracks from fragments as it decodes the file.

    Args:
        folder: for the fragments.
        tick: seconds by which times may differ.
    """
    index = indexed(path)
    videos = [track for track in index.only_encoded if track.video]
    tracks = [*videos, *(track for track in index.only_encoded if not track.video)]
    inputs, outputs = ["-i", str(path)], list[str]()
    for place, track in enumerate(tracks):
        inputs += ["-i", str(fragmented(path, track, folder))]
        kind, number = ("v", place) if track.video else ("a", place - len(videos))
        shape = ["-fps_mode", "passthrough", "-f", "framemd5"] if track.video else ["-f", "s32le"]
        for whose, stream in (("ours", f"{place + 1}:{kind}:0"), ("theirs", f"0:{kind}:{number}")):
            outputs += ["-map", stream, *shape, str(folder / f"{whose}-{place}")]
    # One process decodes all, since to start one costs more than that.
    subprocess.run([FFMPEG, "-nostdin", "-v", "error", "-y", *inputs, *outputs], check=True)
    for place, track in enumerate(tracks):
        ours, theirs = (folder / f"{whose}-{place}" for whose in ("ours", "theirs"))
        if track.video:
            shown = listed_pictures(ours.read_text())
            assert_pictures_are_alike(shown, listed_pictures(theirs.read_text()), tick)
        else:
            assert ours.read_bytes() == theirs.read_bytes() != b""
    return index
