"""Matroska and WebM as VOD: what ffprobe finds in the segments is what it finds in the file."""

from __future__ import annotations

import contextlib
import re
import struct
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media.errors import MediaError, UnsupportedError
from media.mp4.boxes import box
from media.mp4.codecs.sample_entry import without_parameter_sets
from packager.library.local_storage import Library
from packager.vod import Titles
from packager.vod.index.file_index import FileIndex
from packager.vod.index.index_builder import read_index
from packager.vod.index.limits import IndexCacheLimits
from packager.vod.segments.segment import make_segment
from tests.media.matroska.matroska_elements import (
    PACKET,
    block,
    cluster,
    element,
    number_of,
    opus,
    segment,
    tracks,
)
from tests.packager import films
from tests.packager.films import ZOO, packets, probe
from tests.packager.stripped_matroska import encoding, stripped
from tests.packager.vod.opened_media import open_i_frames, open_segment
from tests.packager.vod.vod_titles import titles_of, without_fill, write_out, zoo

MILLISECOND = 0.001
BOTH = {"video": "v:0", "audio": "a:0"}
SOUND = {"audio": "a:0"}
PICTURE = ("-f", "lavfi", "-i", "testsrc2=size=320x180:rate={}:duration=6")
VP9 = "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -c:a libopus"
NAMED = (
    "-c:v libx264 -preset ultrafast -vf setsar=4/3 -c:a aac"
    " -color_primaries bt709 -color_trc bt709 -colorspace bt709"
)
NAMES = ("-metadata:s:a:0", "language=ger", "-metadata:s:a:0", "title=Kommentar")
TONE = ("-f", "lavfi", "-i", "sine=440:sample_rate=48000:duration=6")


def made(name: str, words: str, *more: str, rate: str = "25") -> Path:
    """Encode a film of six seconds."""
    path = films.folder() / name
    if not path.exists():
        shown = [word.format(rate) for word in PICTURE]
        films.run_ffmpeg(*shown, *TONE, *words.split(), *more, path)
    return path


def assert_same_packets_within_a_millisecond(path: Path, folder: Path, tracks: dict[str, str]) -> None:
    for track, stream in tracks.items():
        source = packets(path, stream)
        ours = without_fill(packets(write_out(path, track, folder), stream[0]), source)
        assert [(one.digest, one.key) for one in ours] == [(one.digest, one.key) for one in source]
        for one, theirs in zip(ours, source, strict=True):
            assert one.pts == pytest.approx(theirs.pts, abs=MILLISECOND)
            assert one.dts <= one.pts + 1e-6
        assert all(a.dts < b.dts for a, b in pairwise(ours))


@pytest.mark.parametrize(
    ("source", "tracks"),
    [
        ("bframes.mp4", BOTH),
        ("moovlast.mp4", BOTH),
        ("hevc.mp4", BOTH),
        ("opus.mp4", BOTH),
        ("late.mp4", BOTH),
        ("languages.mp4", {**BOTH, "audio-2": "a:1"}),
        ("flac.mp4", SOUND),
        ("mp3.mp4", SOUND),
        ("ac3.mp4", SOUND),
    ],
)
def test_the_segments_hold_the_packets_of_a_matroska_file_at_their_times(
    source: str, tracks: dict[str, str], tmp_path: Path
) -> None:
    path = films.derived(f"{source}.mkv", source)
    assert_same_packets_within_a_millisecond(path, tmp_path, tracks)


@pytest.mark.parametrize(
    ("name", "words", "codecs"),
    [
        ("vp9.webm", VP9, "vp09.00.11.08"),
        ("av1.mkv", "-c:v libsvtav1 -preset 12 -g 50 -c:a eac3 -ac 6", "av01.0.00M.08"),
        ("live.mkv", "-c:v libx264 -bf 2 -g 50 -c:a aac -f matroska -live 1", "avc1.64000c"),
    ],
)
def test_codecs_of_the_web_are_carried_as_they_are(
    name: str, words: str, codecs: str, tmp_path: Path
) -> None:
    path = made(name, words)
    assert_same_packets_within_a_millisecond(path, tmp_path, BOTH)
    assert codecs in titles_of(path).multivariant_playlist(path.name)


def test_what_the_segments_decode_to_is_what_the_file_decodes_to(tmp_path: Path) -> None:
    path = made("vp9.webm", VP9)
    for track, stream in BOTH.items():
        playlist = write_out(path, track, tmp_path)
        sums: list[list[str]] = []
        for source, wanted in ((path, stream), (playlist, stream[0])):
            out = tmp_path / f"{track}-{len(sums)}.md5"
            films.run_ffmpeg("-i", source, "-map", f"0:{wanted}", "-f", "framemd5", out)
            lines = [line for line in out.read_text().splitlines() if not line.startswith("#")]
            sums.append([line.split(",")[-1] for line in lines])
        # What the encoder put before the sound isn't heard of either, but is counted another way at its ends.
        skipped = 0 if track == "video" else 1
        assert sums[0][skipped : len(sums[0]) - skipped] == sums[1][skipped : len(sums[0]) - skipped]


@pytest.mark.parametrize("rate", ["24000/1001", "30000/1001", "24", "50", "60000/1001"])
def test_a_constant_rate_is_found_again_behind_timestamps_of_milliseconds(rate: str, tmp_path: Path) -> None:
    words = "-c:v libx264 -preset ultrafast -bf 2 -g 48 -c:a libmp3lame -ar 44100"
    path = made(f"rate-{rate.replace('/', '-')}.mkv", words, rate=rate)
    assert_same_packets_within_a_millisecond(path, tmp_path, BOTH)
    index = indexed(path)
    for track, each in zip(index.tracks, (1 / Fraction(rate), Fraction(1152, 44100)), strict=True):
        times = track.samples.samples(0, len(track.samples)).decode_time
        assert {Fraction(int(gap), track.timescale) for gap in np.diff(times)} == {each}


def test_a_rate_that_changes_stays_as_its_timestamps_have_it(tmp_path: Path) -> None:
    changing = "select='not(mod(n\\,3))+gt(n\\,60)'"
    path = made("varying.mkv", "-vsync vfr -c:v libx264 -an", "-vf", changing)
    assert_same_packets_within_a_millisecond(path, tmp_path, {"video": "v:0"})


def indexed(path: Path, limits: IndexCacheLimits | None = None) -> FileIndex:
    with Library(path.parent).open(path.name) as file:
        return read_index(file.pread, file.size, limits or IndexCacheLimits())


def test_names_languages_shape_and_colour_come_from_the_tracks() -> None:
    index = indexed(made("named.mkv", NAMED, *NAMES))
    (sound,) = index.sounds
    assert (sound.language, sound.title) == ("de", "Kommentar")
    assert index.video is not None
    assert index.video.entry.colour is not None
    assert b"pasp" in index.video.init
    init = films.folder() / "named.init.mp4"
    init.write_bytes(index.video.init)
    (stream,) = probe(init, "-show_streams")["streams"]
    assert stream["sample_aspect_ratio"] == "4:3"


def test_a_picture_is_shown_at_the_size_that_ffmpeg_gives_it_in_mp4() -> None:
    """QuickTime's players go by this size, whatever the shape of the pixels is."""
    path = made("wide.mkv", "-map 0 -c:v libx264 -preset ultrafast -vf setsar=4/3")
    copy = films.folder() / "wide.copy.mp4"
    films.run_ffmpeg("-i", path, "-c", "copy", copy)
    video = indexed(path).video
    assert video is not None
    assert shown_size(video.init) == shown_size(copy.read_bytes())


def shown_size(data: bytes) -> tuple[int, int]:
    """Read width and height at the end of the first ``tkhd`` (ISO/IEC 14496-12 §8.3.2.2), in whole pixels."""
    start = data.index(b"tkhd") - 4
    end = start + int.from_bytes(data[start : start + 4], "big")
    width, height = struct.unpack(">II", data[end - 8 : end])
    return width >> 16, height >> 16


@pytest.mark.parametrize(
    ("element_of_language", "tag"),
    [
        (element(0x22B59C, b"ger"), "de"),
        (element(0x22B59C, b"en"), "en"),
        (element(0x22B59C, b"fre-ca"), "fr-ca"),
        (element(0x22B59C, b"ger") + element(0x22B59D, b"de-CH"), "de-CH"),
        (element(0x22B59C, b"en") + element(0x22B59D, b"en-GB"), "en-GB"),
        (element(0x22B59C, b"und"), None),
        (element(0x22B59C, b""), None),
        (element(0x22B59C, b"\xff~{"), None),
        (element(0x22B59C, b"x" * 5000), None),
    ],
    ids=["bibliographic", "short", "country", "tag", "both", "unknown", "empty", "garbage", "long"],
)
def test_a_language_is_understood_in_every_form_that_muxers_have_written(
    element_of_language: bytes, tag: str | None
) -> None:
    data = segment(tracks(opus(1, element_of_language)), cluster(0, block(0, PACKET), block(20, PACKET)))
    (sound,) = index_of(data).sounds
    assert sound.language == tag


def index_of(data: bytes) -> FileIndex:
    return read_index(lambda at, length: data[at : at + length], len(data))


def entry_of(codec: bytes, *more: bytes) -> bytes:
    """Write a file of a track of sound, with frames of nothing."""
    entry = element(0xAE, b"".join((number_of(0xD7, 1), number_of(0x83, 2), element(0x86, codec), *more)))
    return segment(tracks(entry), cluster(0, *[block(20 * n, b"\x0b\x77" + bytes(60)) for n in range(3)]))


@pytest.mark.parametrize(
    "data",
    [
        entry_of(b"A_AC3", element(0xE1, element(0xB5, struct.pack(">f", 0.25)))),
        entry_of(b"A_FLAC", element(0x63A2, b"fLaC" + bytes(38))),
    ],
    ids=["ac3", "flac"],
)
def test_impossible_sound_is_refused(data: bytes) -> None:
    with pytest.raises(MediaError):
        index_of(data)


@pytest.mark.parametrize("codec", [b"A_AAC", b"A_AAC/MPEG4", b"A_AAC/MPEG2/LC"])
def test_aac_of_old_is_of_low_complexity_where_it_names_nothing_else(codec: bytes) -> None:
    """So ffmpeg reads it, too, where there is no configuration."""
    (sound,) = index_of(entry_of(codec)).sounds
    assert sound.entry.codec == "mp4a.40.2"


@pytest.mark.parametrize(
    "behind", [b"\x27\xff\xff", b"\x27\0\1\xff\xff", b"\x27"], ids=["count", "length", "header"]
)
def test_a_configuration_of_hevc_that_ends_too_early_is_carried_as_it_is(behind: bytes) -> None:
    """What can't be read to its end isn't said to be complete (ISO/IEC 14496-15 §8.3.3.1)."""
    video = indexed(made("hevc.mkv", "-map 0 -c:v libx265 -preset ultrafast")).video
    assert video is not None
    arrays = b"".join(bytes((kind, 0, 1, 0, 2, kind << 1, 1)) for kind in (32, 33, 34))
    whole = box(b"hvcC", bytes(22), b"\3", arrays)
    cut = box(b"hvcC", bytes(22), b"\4", arrays, behind)
    found = [without_parameter_sets(replace(video.entry, kind=b"hev1", boxes=(one,))) for one in (whole, cut)]
    assert found[0] is not None
    assert found[0].kind == b"hvc1"
    assert found[1] is None


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_damage_of_what_a_file_says_of_its_tracks_is_refused_or_packaged(data: st.DataObject) -> None:
    whole = bytearray(made("named.mkv", NAMED, *NAMES).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, 1000))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(MediaError):
        index = index_of(bytes(whole))
        for track in index.tracks:
            with contextlib.suppress(MediaError):
                make_segment(index, track, 0)


@pytest.mark.parametrize(
    ("name", "words", "reason"),
    [
        ("vorbis.mkv", "-map 1 -c:a libvorbis", "Vorbis"),
        ("vp8.webm", "-c:v libvpx -deadline realtime -cpu-used 8 -t 1 -c:a libopus", "VP8"),
        ("mpeg4.mkv", "-c:v mpeg4 -c:a aac", "MPEG-4 Part 2"),
        ("pcm.mka", "-map 1 -c:a pcm_s16le", "PCM"),
    ],
)
def test_what_mp4_does_not_carry_is_refused_by_its_name(name: str, words: str, reason: str) -> None:
    path = made(name, words)
    with pytest.raises(UnsupportedError, match=reason):
        titles_of(path).multivariant_playlist(path.name)


@pytest.mark.parametrize("share", [0.4, 0.8])
def test_of_a_file_that_is_cut_short_all_that_is_there_is_offered(share: float, tmp_path: Path) -> None:
    data = films.derived("bframes.mp4.mkv", "bframes.mp4").read_bytes()
    path = tmp_path / "cut.mkv"
    path.write_bytes(data[: int(len(data) * share)])
    titles = Titles(Library(tmp_path))
    assert "Left out: the rest of its last cluster" in titles.multivariant_playlist(path.name)
    count = len(packets(write_out(path, "video", tmp_path / "out"), "v:0"))
    assert count == len(packets(path, "v:0"))


@pytest.mark.parametrize("damage", [b"", b"\0" * 999, b"\xa3\x1f\xff\xff\xff"])
def test_behind_damage_a_film_goes_on_with_the_next_cluster(damage: bytes, tmp_path: Path) -> None:
    path = tmp_path / "damaged.mkv"
    films.run_ffmpeg("-i", films.film("bframes.mp4"), "-c", "copy", "-cluster_time_limit", "1000", path)
    whole, data = packets(path, "v:0"), path.read_bytes()
    clusters = [found.start() for found in re.finditer(b"\x1f\x43\xb6\x75", data)]
    middle = clusters[len(clusters) // 2]
    # What the cluster has from a few bytes behind its beginning on is replaced, up to within the next one.
    path.write_bytes(data[: middle + 40] + damage + data[clusters[len(clusters) // 2 + 1] - 2000 :])
    titles = Titles(Library(tmp_path))
    assert "Left out: what lies between damage and the next cluster" in titles.multivariant_playlist(
        path.name
    )
    ours = packets(write_out(path, "video", tmp_path / "out"), "v:0")
    assert len(whole) - 60 < len(ours) < len(whole)
    last = [packet.digest for packet in ours][-50:]
    assert last == [packet.digest for packet in whole][-50:]
    assert ours[-1].pts == pytest.approx(whole[-1].pts - whole[0].pts, abs=0.05)


def test_a_segment_of_hours_from_its_beginning_begins_at_zero(tmp_path: Path) -> None:
    path = tmp_path / "hours.mkv"
    films.run_ffmpeg("-i", films.film("bframes.mp4"), "-c", "copy", "-output_ts_offset", "7200", path)
    assert packets(path, "v:0")[0].pts > 7000
    index = indexed(path)
    assert all(float(track.times[0]) / track.timescale < 1 for track in index.tracks)


def test_playlists_and_manifest_of_a_webm_name_its_codecs() -> None:
    path = made("vp9.webm", VP9)
    titles = titles_of(path)
    assert 'CODECS="vp09.00.11.08,' in titles.multivariant_playlist(path.name)
    assert b'codecs="vp09.00.11.08"' in titles.manifest(path.name)


@pytest.mark.parametrize(("number", "stream", "prefix"), [(1, "v:0", b"\0\0"), (2, "a:0", b"\x0b\x77")])
def test_frames_without_their_first_bytes_get_them_back(
    number: int, stream: str, prefix: bytes, tmp_path: Path
) -> None:
    words = "-c:v libx264 -preset ultrafast -bf 2 -g 50 -c:a ac3"
    whole = made("whole.mkv", words)
    path = tmp_path / f"stripped-{number}.mkv"
    path.write_bytes(stripped(whole.read_bytes(), number, prefix, encoding(prefix)))
    expected = packets(whole, stream)
    # ffmpeg, which reads such files, too, finds them whole
    assert [one.digest for one in packets(path, stream)] == [one.digest for one in expected]
    assert_same_packets_within_a_millisecond(path, tmp_path / "out", BOTH)
    titles = titles_of(path)
    opened = open_segment(titles, path.name, "video" if number == 1 else "audio", 0)
    data = opened.read(0, opened.size)
    assert b"".join(opened.read(at, 1000) for at in range(0, opened.size, 1000)) == data
    opened.close()
    if number == 1:
        frames = open_i_frames(titles, path.name, "video")
        (tmp_path / "iframes.mp4").write_bytes(frames.read(0, frames.size))
        frames.close()
        keys = [one.digest for one in expected if one.key]
        assert [one.digest for one in packets(tmp_path / "iframes.mp4", "v:0")] == keys


@pytest.mark.parametrize(
    ("encodings", "reason"),
    [
        (encoding(bytes(1000)), "first 1000 bytes"),
        (encoding(b"\x0b") + encoding(b"\x77"), "manner 3"),
        (encoding(b"", 0), "zlib"),
        (encoding(b"\x0b") + encoding(b"", 2), "manner 2"),
    ],
)
def test_compression_that_is_not_just_a_few_bytes_is_refused(
    encodings: bytes, reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "tone.mka"
    path.write_bytes(stripped(made("tone.mka", "-map 1 -c:a ac3").read_bytes(), 1, b"", encodings))
    with pytest.raises(UnsupportedError, match=reason):
        titles_of(path).multivariant_playlist(path.name)


def test_encodings_of_the_configuration_alone_change_no_frame(tmp_path: Path) -> None:
    whole = made("tone.mka", "-map 1 -c:a ac3")
    path = tmp_path / "scope.mka"
    path.write_bytes(stripped(whole.read_bytes(), 1, b"", encoding(b"\1", scope=2)))
    ours, theirs = (packets(write_out(one, "audio", tmp_path / "out"), "a:0") for one in (path, whole))
    assert [one.digest for one in ours] == [one.digest for one in theirs]


@pytest.mark.skipif(not zoo(), reason="the folder of others' files isn't here")
@pytest.mark.parametrize("name", [one["file"] for one in zoo() if one["file"].endswith(".webm")])
def test_real_files_are_packaged_as_they_are(name: str, tmp_path: Path) -> None:
    assert_same_packets_within_a_millisecond(ZOO / "files" / name, tmp_path, BOTH)
