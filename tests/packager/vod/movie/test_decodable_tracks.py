"""Tracks that can't be copied: ffmpeg decodes them from fragments as it decodes the files that have them."""

from __future__ import annotations

import re
import struct
import subprocess
from functools import partial
from pathlib import Path
from random import Random

import pytest

from media.errors import MediaError, TooLargeError, UnsupportedError
from media.mp4.boxes import box
from media.mp4.codecs.decodable_entry import FixedPacking, decodable_picture, decodable_sound, fixed_packing
from media.mp4.movie.packed_sound import packed_tables
from media.mp4.movie.sample_table import SampleTable
from media.mp4.movie.sample_table_writer import TableRoom
from packager.library.local_storage import Library, NotFoundError
from tests.media.matroska.matroska_elements import block, cluster, element, number_of, segment, tracks
from tests.packager.films import FFMPEG
from tests.packager.vod.decoded_tracks import assert_decodes_alike, encoded_film, fragmented, indexed, sound
from tests.packager.vod.vod_titles import titles_of

VIDEO_AND_SOUND = ["video", "audio"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mpeg2.mkv", "-c:v mpeg2video -bf 2 -g 15 -c:a mp2"),
        ("mpeg1.mkv", "-c:v mpeg1video -bf 2 -c:a pcm_s16le"),
        ("mpeg4.mkv", "-c:v mpeg4 -bf 2 -g 50 -c:a libvorbis"),
        ("vp8.mkv", "-c:v libvpx -deadline realtime -cpu-used 8 -c:a dca -strict -2"),
        ("mjpeg.mkv", "-c:v mjpeg -c:a pcm_s24le"),
        ("prores.mkv", "-c:v prores -c:a pcm_f32le"),
        ("theora.mkv", "-c:v libtheora -c:a truehd -strict -2"),
        ("ffv1.mkv", "-c:v ffv1 -c:a pcm_s16be"),
        ("msmpeg4.mkv", "-c:v msmpeg4v3 -c:a wmav2"),
        ("wmv2.mkv", "-c:v wmv2 -c:a adpcm_ms"),
        ("spark.mkv", "-c:v flv1 -c:a pcm_u8"),
    ],
)
def test_matroska_of_other_codecs_decodes_from_fragments(name: str, words: str, tmp_path: Path) -> None:
    index = assert_decodes_alike(encoded_film(name, words), tmp_path)
    assert [track.name for track in index.only_encoded] == VIDEO_AND_SOUND
    assert [(track.entry.width, track.entry.height) for track in index.only_encoded[:1]] == [(176, 144)]
    assert [track.entry.codec for track in index.only_encoded] == ["", ""]
    assert index.tracks == ()
    assert len(index.left_out) == 2


def read_of(data: bytes, offset: int, length: int) -> bytes:
    return data[offset : offset + length]


@pytest.mark.parametrize("words", ["-ac 1", "-ac 2 -sample_fmt s32p", "-ac 6 -sample_fmt fltp"])
def test_wavpack_gets_the_headers_that_matroska_leaves_out(words: str, tmp_path: Path) -> None:
    path = encoded_film(f"wavpack-{words.split()[1]}.mka", f"-vn -c:a wavpack {words}")
    (track,) = indexed(path).only_encoded
    # MP4 has no name of WavPack's that ffmpeg knows.
    command = [FFMPEG, "-v", "error", "-c:a", "wavpack", "-i", str(fragmented(path, track, tmp_path))]
    ours = subprocess.run([*command, "-f", "s32le", "-"], capture_output=True, check=True).stdout
    assert ours == sound(path, "a:0") != b""


def test_damaged_frames_of_wavpack_are_as_long_as_the_others(tmp_path: Path) -> None:
    path = encoded_film("wavpack-6.mka", "-vn -c:a wavpack -ac 6 -sample_fmt fltp")
    data, random = path.read_bytes(), Random(37)
    for _ in range(20):
        broken = bytearray(data)
        for _ in range(40):
            broken[random.randrange(2000, len(broken))] = random.randrange(256)
        (tmp_path / "broken.mka").write_bytes(broken)
        try:
            index = indexed(tmp_path / "broken.mka")
        except MediaError:
            continue
        assert index.assembled is not None
        (samples,) = index.assembled.tracks
        assert len(samples.read(partial(read_of, bytes(broken)), 0, samples.size)) == samples.size


@pytest.mark.parametrize("stripped", [b"", b"\0\0\1"])
def test_pictures_in_the_manner_of_avi_have_times_of_decoding(stripped: bytes, tmp_path: Path) -> None:
    """Matroska by tools that copy AVI: ffmpeg takes the times of such blocks as those of decoding."""
    avi = encoded_film("asp.avi", "-c:v mpeg4 -vtag XVID -bf 2 -g 50 -c:a pcm_s16le")
    data = avi.read_bytes()
    header = data[data.index(b"strf") + 8 :][:40]
    assert header[16:20] == b"XVID"
    chunks = [
        data[at.end() + 4 : at.end() + 4 + int.from_bytes(data[at.end() : at.end() + 4], "little")]
        for at in re.finditer(b"00dc(?=...\0\0\0\1)", data, re.DOTALL)
    ]
    assert len(chunks) == 75
    strip = element(0x5034, number_of(0x4254, 3) + element(0x4255, stripped))
    encodings = element(0x6D80, element(0x6240, strip)) if stripped else b""
    video = element(0xE0, number_of(0xB0, 176) + number_of(0xBA, 144))
    head = number_of(0xD7, 1) + number_of(0x83, 1) + element(0x86, b"V_MS/VFW/FOURCC")
    entry = element(0xAE, head + element(0x63A2, header) + video + encodings)
    blocks = [
        block(40 * number, chunk[len(stripped) :], flags=0x80 if b"\0\0\1\xb0" in chunk else 0)
        for number, chunk in enumerate(chunks)
    ]
    path = tmp_path / "asp.mkv"
    path.write_bytes(segment(tracks(entry), cluster(0, *blocks)))
    index = assert_decodes_alike(path, tmp_path)
    (found,) = index.only_encoded
    assert found.is_reordered


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mpeg2.mov", "-c:v mpeg2video -bf 2 -g 15 -c:a pcm_s16le"),
        ("mpeg2.mp4", "-c:v mpeg2video -bf 2 -c:a libvorbis"),
        ("xvid.mov", "-c:v mpeg4 -vtag XVID -c:a pcm_s16be"),
        ("prores.mov", "-c:v prores -c:a pcm_s24le"),
        ("mjpeg.mov", "-c:v mjpeg -c:a pcm_f32le -ac 2"),
        ("png.mov", "-c:v png -c:a adpcm_ima_qt"),
        ("dnxhr.mov", "-c:v dnxhd -profile:v dnxhr_sq -s 320x180 -c:a pcm_mulaw"),
        ("dv.mov", "-c:v dvvideo -s 720x576 -pix_fmt yuv420p -t 1 -c:a pcm_s8"),
        ("cinepak.mov", "-c:v cinepak -t 0.4 -c:a pcm_u8"),
        ("mpeg1.mp4", "-c:v mpeg1video -bf 2 -c:a dca -strict -2"),
        ("truehd.mp4", "-c:v mpeg4 -bf 2 -c:a truehd -strict -2"),
    ],
)
def test_mp4_of_other_codecs_decodes_from_fragments(name: str, words: str, tmp_path: Path) -> None:
    index = assert_decodes_alike(encoded_film(name, words), tmp_path)
    assert [track.name for track in index.only_encoded] == VIDEO_AND_SOUND
    assert index.tracks == ()


def test_a_track_that_is_copied_keeps_its_place_beside_one_that_is_not(tmp_path: Path) -> None:
    index = assert_decodes_alike(encoded_film("beside.mkv", "-c:v mpeg2video -bf 2 -c:a aac"), tmp_path)
    assert [track.name for track in index.tracks] == ["audio"]
    assert [track.name for track in index.only_encoded] == ["video"]
    assert index.lost_picture is not None


def test_further_sounds_are_named_behind_the_copied_ones() -> None:
    words = "-map 0 -map 1 -map 1 -map 1 -c:v libx264 -c:a:0 aac -c:a:1 pcm_s16le -c:a:2 mp2"
    index = indexed(encoded_film("sounds.mkv", words))
    assert [track.name for track in index.tracks] == VIDEO_AND_SOUND
    assert [track.name for track in index.only_encoded] == ["audio-2", "audio-3"]
    assert [track.track_id for track in index.only_encoded] == [3, 4]
    copied, decoded = index.tracks[1], index.only_encoded[0]
    assert len(copied.cuts) == len(decoded.cuts)  # all sounds are cut where the picture is


def test_a_film_of_which_nothing_is_copied_is_refused_as_before() -> None:
    path = encoded_film("mpeg2.mkv", "-c:v mpeg2video -bf 2 -g 15 -c:a mp2")
    titles = titles_of(path)
    for ask in (
        titles.multivariant_playlist,
        titles.manifest,
        titles.storyboard,
        lambda name: titles.media_playlist(name, "video"),
        lambda name: titles.text_playlist(name, "text"),
    ):
        with pytest.raises(UnsupportedError, match="nothing in it can be packaged: track 1: codec MPEG-2"):
            ask(path.name)
    assert "nothing in it can be packaged" in str(titles.facts.obstacle(path.name))
    with Library(path.parent).open(path.name) as file:
        titles.files.known(file, None)
    with pytest.raises(NotFoundError):
        titles.multivariant_playlist("absent.mkv")


def picture_entry(kind: bytes, *boxes: bytes) -> bytes:
    return box(kind, struct.pack(">6xH16xHH50x", 1, 640, 480), *boxes)


def sound_entry(kind: bytes, channels: int, bits: int) -> bytes:
    return box(kind, struct.pack(">6xH8xHH4xI", 1, channels, bits, 48000 << 16))


def test_encrypted_and_unknown_sample_entries_are_not_decoded() -> None:
    for kind in (b"encv", b"drmi", b"text"):
        with pytest.raises(UnsupportedError):
            decodable_picture(picture_entry(kind))
    assert decodable_picture(picture_entry(b"mp4v")).width == 640


def test_zeros_behind_the_boxes_of_a_sample_entry_are_left_out() -> None:
    aspect = box(b"pasp", struct.pack(">II", 4, 3))
    entry = decodable_picture(picture_entry(b"apcn", aspect, bytes(4)))
    assert entry.pixel_aspect == (4, 3)
    assert entry.render() == picture_entry(b"apcn", aspect)


def table_of(samples: int, size: int, chunks: list[tuple[int, int]]) -> SampleTable:
    """A table of samples of one size, with (offset, samples) of its chunks."""
    runs = b"".join(struct.pack(">III", number, count, 1) for number, (_, count) in enumerate(chunks, 1))
    return SampleTable(
        {
            b"stts": struct.pack(">4xIII", 1, samples, 1),
            b"stsz": struct.pack(">4xII", size, samples),
            b"stsc": struct.pack(">4xI", len(chunks)) + runs,
            b"stco": struct.pack(">4xI", len(chunks)) + b"".join(struct.pack(">I", at) for at, _ in chunks),
        },
        1,
        1 << 32,
    )


def test_uncompressed_sound_is_grouped_within_its_chunks() -> None:
    packing = fixed_packing(decodable_sound(sound_entry(b"sowt", 2, 16)))
    assert packing == FixedPacking(1, 4)
    table = table_of(10_000, 4, [(100, 5000), (90_000, 5000)])
    grouped = SampleTable(packed_tables(table, packing, TableRoom(1 << 20)), 1)
    samples = grouped.samples(0, len(grouped))
    assert samples.offset.tolist() == [100, 100 + 4 * 4096, 90_000, 90_000 + 4 * 4096]
    assert samples.size.tolist() == [4 * 4096, 4 * 904, 4 * 4096, 4 * 904]
    assert samples.decode_time.tolist() == [0, 4096, 5000, 9096, 10_000]


def test_a_table_that_declares_billions_of_instants_costs_nothing() -> None:
    table = table_of((1 << 32) - 1, 4, [(0, (1 << 32) - 1)])
    with pytest.raises(TooLargeError, match="of uncompressed sound"):
        packed_tables(table, FixedPacking(1, 4), TableRoom(1 << 20))
