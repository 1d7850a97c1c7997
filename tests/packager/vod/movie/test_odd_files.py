"""Files that other writers make otherwise than the standard says, and that players play all the same."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest

from media.mp4.boxes import box, walk
from tests.packager import films
from tests.packager.vod.movie.changed_boxes import Change, changed
from tests.packager.vod.vod_titles import assert_same_packets, titles_of

BOTH = {"video": "v:0", "audio": "a:0"}


def with_two_user_data(kind: bytes, payload: bytes) -> bytes:
    return box(kind, payload, *[box(b"udta"), box(b"udta")] * (kind == b"trak"))


def compressed(kind: bytes, payload: bytes) -> bytes:
    if kind != b"moov":
        return box(kind, payload)
    whole = box(kind, payload)
    data = len(whole).to_bytes(4, "big") + zlib.compress(whole)
    return box(kind, box(b"cmov", box(b"dcom", b"zlib"), box(b"cmvd", data)))


def without_sync_samples(kind: bytes, payload: bytes) -> bytes:
    return box(kind, bytes(8) if kind == b"stss" else payload)


def at_no_rate(kind: bytes, payload: bytes) -> bytes:
    if kind != b"trak":
        return box(kind, payload)
    kept = [payload[one.start : one.end] for one in walk(payload) if one.kind != b"edts"]
    elst = box(b"elst", struct.pack(">IIIiI", 0, 1, 14014, 0, 1))
    return box(kind, kept[0], box(b"edts", elst), *kept[1:])


def in_wide_places(kind: bytes, payload: bytes) -> bytes:
    if kind != b"stco":
        return box(kind, payload)
    count = int.from_bytes(payload[4:8], "big")
    places = struct.unpack(f">{count}I", payload[8:])
    return box(b"co64", payload[:8], struct.pack(f">{count}Q", *places))


def in_narrow_sizes(kind: bytes, payload: bytes) -> bytes:
    if kind != b"stsz" or payload[4:8] != bytes(4):
        return box(kind, payload)
    count = int.from_bytes(payload[8:12], "big")
    sizes = struct.unpack(f">{count}I", payload[12:])
    if max(sizes) >= 1 << 16:
        return box(kind, payload)
    return box(b"stz2", bytes(7), b"\x10", payload[8:12], struct.pack(f">{count}H", *sizes))


def without_last_run(kind: bytes, payload: bytes) -> bytes:
    """Write a table whose last samples are missing; ffmpeg and Chromium play these all the same."""
    count = int.from_bytes(payload[4:8], "big")
    if kind not in (b"stts", b"ctts") or not count:
        return box(kind, payload)
    samples, value = struct.unpack_from(">II", payload, 8 * count)
    last = struct.pack(">II", samples - 1, value) if samples > 1 else b""
    kept = count if last else count - 1
    return box(kind, payload[:4], struct.pack(">I", kept), payload[8 : 8 * count] + last)


def without_movie_clock(kind: bytes, payload: bytes) -> bytes:
    return box(kind, payload[:12] + bytes(4) + payload[16:] if kind == b"mvhd" else payload)


def with_an_entry_of_no_samples(kind: bytes, payload: bytes) -> bytes:
    """Write an entry of chunks that aren't there behind the others."""
    count = int.from_bytes(payload[4:8], "big")
    if kind != b"stsc":
        return box(kind, payload)
    return box(kind, payload[:4], struct.pack(">I", count + 1), payload[8:], struct.pack(">III", 1, 0, 0))


def with_fewer_samples_in_chunks(kind: bytes, payload: bytes) -> bytes:
    """Write that each chunk has one sample, where some have two."""
    if kind != b"stsc":
        return box(kind, payload)
    return box(kind, bytes(4), struct.pack(">IIII", 1, 1, 1, 1))


@pytest.mark.parametrize(
    "change",
    [
        with_an_entry_of_no_samples,
        with_fewer_samples_in_chunks,
        with_two_user_data,
        compressed,
        at_no_rate,
        in_wide_places,
        in_narrow_sizes,
        without_last_run,
        without_movie_clock,
    ],
)
def test_the_packets_are_those_of_the_file_however_its_moov_is_written(
    change: Change, tmp_path: Path
) -> None:
    path = tmp_path / f"{change.__name__}.mp4"
    path.write_bytes(changed(films.film("moovlast.mp4").read_bytes(), change))
    for track, stream in BOTH.items():
        assert_same_packets(path, tmp_path / "out", track, stream)
    assert titles_of(path).multivariant_playlist(path.name)


def test_a_film_that_marks_no_picture_to_begin_with_has_playlists(tmp_path: Path) -> None:
    path = tmp_path / "unmarked.mp4"
    path.write_bytes(changed(films.film("moovlast.mp4").read_bytes(), without_sync_samples))
    titles = titles_of(path)
    assert "#EXT-X-STREAM-INF" in titles.multivariant_playlist(path.name)
    assert titles.manifest(path.name)


@pytest.mark.parametrize("kind", [b"pdin", b"sidx", b"PICT", b"junk", b"meta", b"wide", b"mdat"])
def test_a_file_may_begin_with_other_boxes_than_ftyp(kind: bytes, tmp_path: Path) -> None:
    data = films.film("bframes.mp4").read_bytes()
    first = next(walk(data))
    path = tmp_path / "first.mp4"
    path.write_bytes(box(kind, bytes(first.size - 8)) + data[first.end :])
    assert titles_of(path).segments.track(path.name, "video").entry.codec.startswith("avc1")


def test_mp3_in_quicktime_is_carried_as_mp3(tmp_path: Path) -> None:
    path = tmp_path / "mp3.mov"
    films.run_ffmpeg("-i", films.film("mp3.mp4"), "-c", "copy", path)
    assert b".mp3" in path.read_bytes()
    assert_same_packets(path, tmp_path / "out", "audio", "a:0")
    assert titles_of(path).segments.track(path.name, "audio").entry.codec == "mp4a.6B"
