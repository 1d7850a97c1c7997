"""AVI: ffmpeg decodes fragments of a film's samples as it decodes the film, whatever its index."""

from __future__ import annotations

import struct
import subprocess
from fractions import Fraction
from functools import partial
from pathlib import Path
from random import Random

import pytest

from media.avi.movie import AviLimits, read_avi
from media.errors import MediaError, TooLargeError
from packager.vod.index.index_builder import read_index
from tests.packager.vod.avi_files import AviFile, read_avi_file, riff
from tests.packager.vod.decoded_tracks import (
    assert_decodes_alike,
    assert_pictures_are_alike,
    encoded_film,
    fragmented,
    indexed,
    pictures,
    sound,
)
from tests.packager.vod.vod_titles import titles_of

XVID = "-c:v mpeg4 -vtag XVID -bf 1 -g 25"
TICK = Fraction(0)


@pytest.mark.parametrize(
    ("name", "words", "copied"),
    [
        ("xvid.avi", f"{XVID} -c:a libmp3lame", True),
        ("divx.avi", "-c:v mpeg4 -vtag DIVX -c:a ac3", True),
        ("msmpeg4.avi", "-c:v msmpeg4v3 -c:a pcm_s16le", False),
        ("mjpeg.avi", "-c:v mjpeg -c:a mp2", False),
        ("mpeg2.avi", "-c:v mpeg2video -bf 2 -c:a dca -strict -2", False),
        ("wmv2.avi", "-c:v wmv2 -c:a wmav2", False),
        ("huffyuv.avi", "-c:v huffyuv -c:a adpcm_ms", False),
        ("h264.avi", "-c:v libx264 -preset veryfast -bf 3 -c:a libmp3lame -q:a 5 -ar 44100", True),
        ("ffv1.avi", "-c:v ffv1 -c:a aac", True),
    ],
)
def test_avi_decodes_from_fragments(name: str, words: str, copied: bool, tmp_path: Path) -> None:
    index = assert_decodes_alike(encoded_film(name, words), tmp_path)
    assert [track.name for track in index.only_encoded] == (["video"] if copied else ["video", "audio"])
    assert [track.name for track in index.tracks] == (["audio"] if copied else [])


@pytest.mark.clause("ISO/IEC 14496-15 §5.3.3.1")
@pytest.mark.parametrize("index", ["first", "none"])
def test_pictures_of_h264_with_their_lengths_are_copied(index: str, tmp_path: Path) -> None:
    words = "-c:v libx264 -preset veryfast -bf 3 -g 25 -c:a libmp3lame -ar 44100"
    film = encoded_film("lengths.mp4", words)
    made = tmp_path / "made.avi"
    copied = ["-c", "copy", "-bsf:v", "null", "-vtag", "avc1"]
    subprocess.run(["ffmpeg", "-nostdin", "-v", "error", "-i", film, *copied, made], check=True)
    path = written("lengths.avi", read_avi_file(made).write(index=index), tmp_path)
    found = indexed(path)
    assert [track.name for track in found.tracks] == ["video", "audio"]
    ours = pictures(fragmented(path, found.tracks[0], tmp_path), "v:0")
    assert_pictures_are_alike(ours, pictures(film, "v:0"), TICK)


def test_the_sound_of_an_old_film_is_copied_and_its_picture_is_named() -> None:
    path = encoded_film("xvid.avi", f"{XVID} -c:a libmp3lame")
    with pytest.raises(MediaError, match=r"MPEG-4 Part 2 video \(XVID\).*sound alone is at audio"):
        titles_of(path).multivariant_playlist(path.name)
    assert "This is the sound alone" in titles_of(path).media_playlist(path.name, "audio")


def read_of(data: bytes, offset: int, length: int) -> bytes:
    return data[offset : offset + length]


def xvid() -> AviFile:
    return read_avi_file(encoded_film("xvid.avi", f"{XVID} -c:a libmp3lame"))


def written(name: str, data: bytes, folder: Path) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def assert_like_the_original(path: Path, folder: Path) -> None:
    """Assert that a rewritten film decodes to the pictures and the sound of ffmpeg's."""
    original = encoded_film("xvid.avi", f"{XVID} -c:a libmp3lame")
    index = indexed(path)
    (video,), (audio,) = index.only_encoded, index.tracks
    ours = pictures(fragmented(path, video, folder), "v:0")
    assert_pictures_are_alike(ours, pictures(original, "v:0"), TICK)
    assert sound(fragmented(path, audio, folder), "a:0") == sound(original, "a:0")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("relative.avi", {}),
        ("absolute.avi", {"absolute": True}),
        ("open.avi", {"index": "open"}),
        ("none.avi", {"index": "none"}),
    ],
)
def test_each_kind_of_index_gives_the_same_film(
    name: str, options: dict[str, object], tmp_path: Path
) -> None:
    path = written(name, xvid().write(**options), tmp_path)  # type: ignore[arg-type]
    assert_like_the_original(path, tmp_path)


def test_sound_of_a_constant_rate_is_cut_at_its_frames_and_not_at_chunks(tmp_path: Path) -> None:
    path = written("sliced.avi", xvid().sliced(1, 1000).write(), tmp_path)
    assert_like_the_original(path, tmp_path)


def test_pictures_of_a_packed_bitstream_have_their_own_times(tmp_path: Path) -> None:
    path = written("packed.avi", xvid().packed().write(), tmp_path)
    (video,) = indexed(path).only_encoded
    ours = pictures(fragmented(path, video, tmp_path), "v:0")
    assert_pictures_are_alike(ours, pictures(path, "v:0"), TICK)


def test_empty_chunks_are_pictures_that_stay(tmp_path: Path) -> None:
    film = xvid()
    first = next(chunk for chunk in film.chunks if chunk[0] == b"00dc")
    chunks = [first, *[(b"00dc", b"", False)] * 9, *film.chunks]
    path = written("stays.avi", AviFile(film.main, film.streams, chunks).write(), tmp_path)
    (video,) = indexed(path).only_encoded
    times = video.samples.samples(0, 2).decode_time
    assert times[1] - times[0] >= 9 * video.timescale // 25 - 1


def test_a_download_that_was_cut_off_is_played_as_far_as_it_goes(tmp_path: Path) -> None:
    data = xvid().write()
    path = written("cut.avi", data[: len(data) * 2 // 3], tmp_path)
    index = indexed(path)
    assert any("which the file lacks" in line for line in index.left_out)
    (video,) = index.only_encoded
    found = pictures(fragmented(path, video, tmp_path), "v:0")
    assert 30 < len(found) < 75


def test_an_index_is_read_without_the_media(tmp_path: Path) -> None:
    film = read_avi_file(encoded_film("mjpeg.avi", "-c:v mjpeg -c:a mp2"))
    for kind in ("first", "open"):
        data = AviFile(film.main, film.streams[:1], [one for one in film.chunks if one[0] == b"00dc"]).write(
            index=kind
        )
        count = 0

        def read(offset: int, length: int, data: bytes = data) -> bytes:
            nonlocal count
            count += min(length, len(data) - offset)
            return data[offset : offset + length]

        read_index(read, len(data))
        assert count < len(data) // 8


def test_crafted_indexes_are_refused_before_they_cost_much() -> None:
    film = xvid()
    head = film.write(index="none")
    rows = struct.pack("<4sIII", b"00dc", 0x10, 4, 100) * 5000
    bombs = [
        AviFile(film.main, film.streams, [(b"00dc", b"", False)] * 5000).write(index="none"),
        head[:12] + head[12:] + riff(b"idx1", rows),
    ]
    for data in bombs:
        with pytest.raises(TooLargeError):
            read_avi(partial(read_of, data), len(data), AviLimits(chunks=4000))


def test_damaged_files_are_indexed_or_refused() -> None:
    random = Random(37)
    outcomes = set()
    for kind in ("first", "open", "none"):
        data = xvid().write(index=kind)
        for number in range(60):
            broken = bytearray(data)
            for _ in range(random.choice((1, 5, 50))):
                head = random.random() < 0.7
                place = random.randrange(1000) if head else random.randrange(len(broken))
                broken[place if number % 3 else -place - 1] = random.randrange(256)
            whole = bytes(broken)
            try:
                read_index(partial(read_of, whole), len(whole))
                outcomes.add("indexed")
            except MediaError as error:
                outcomes.add(type(error).__name__)
    assert "indexed" in outcomes
