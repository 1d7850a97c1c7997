"""VOD: what ffmpeg finds in the segments is what it finds in the file they were made of."""

from __future__ import annotations

import os
import re
import threading
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import Any

import m3u8
import numpy as np
import pytest

from media.errors import MediaError, UnsupportedError
from packager.library.local_storage import Library, NotFoundError
from packager.vod import Titles
from packager.vod.limits import TitleLimits
from packager.vod.segments.segment import MAX_GAP, FilmSegment, ShortReadError
from tests.packager import films
from tests.packager.films import ZOO, packets, probe
from tests.packager.vod.opened_media import open_segment
from tests.packager.vod.vod_titles import assert_same_packets, titles_of, write_out, zoo


@pytest.mark.parametrize(
    ("name", "tracks"),
    [
        ("bframes.mp4", {"video": "v:0", "audio": "a:0"}),
        ("moovlast.mp4", {"video": "v:0", "audio": "a:0"}),
        ("silent.mp4", {"video": "v:0"}),
        ("sound.m4a", {"audio": "a:0"}),
        ("quicktime.mov", {"video": "v:0", "audio": "a:0"}),
        ("opus.mp4", {"audio": "a:0"}),
        ("hevc.mp4", {"video": "v:0"}),
        ("flac.mp4", {"audio": "a:0"}),
        ("mp3.mp4", {"audio": "a:0"}),
        ("languages.mp4", {"audio": "a:0", "audio-2": "a:1"}),
        ("late.mp4", {"video": "v:0", "audio": "a:0"}),
    ],
)
def test_the_segments_hold_the_packets_of_the_file_at_their_times(
    name: str, tracks: dict[str, str], tmp_path: Path
) -> None:
    for track, stream in tracks.items():
        assert_same_packets(films.film(name), tmp_path, track, stream)


def test_a_film_trimmed_without_encoding_starts_at_the_cut_and_stays_in_sync(
    tmp_path: Path,
) -> None:
    path = films.derived("trimmed.mp4", "bframes.mp4", before=("-ss", "3.32"))
    video, sound = packets(path, "v:0"), packets(path, "a:0")
    assert video[0].pts < -0.5  # the key frame at 2 s is there for decoding alone
    ours = packets(write_out(path, "video", tmp_path), "v:0")
    assert [packet.digest for packet in ours] == [packet.digest for packet in video]
    assert ours[0].pts == 0
    shown = [(a.pts, b.pts) for a, b in zip(ours, video, strict=True) if b.pts >= 0]
    (moved,) = {round(own - right, 4) for own, right in shown}
    # What is there for decoding alone lasts a tick each.
    hidden = sorted(a.pts for a, b in zip(ours, video, strict=True) if b.pts < 0)
    assert hidden[-1] == pytest.approx(moved, abs=1e-4)
    assert 0 < moved < 0.005
    shifted: dict[str, list[float]] = {}  # a tone has the same packet more than once
    for packet in packets(write_out(path, "audio", tmp_path), "a:0"):
        shifted.setdefault(packet.digest, []).append(packet.pts)
    for packet in sound:
        if packet.kept:
            assert pytest.approx(packet.pts + moved, abs=1e-4) in shifted[packet.digest]


def test_segments_begin_with_key_frames_and_last_up_to_six_seconds(tmp_path: Path) -> None:
    path = films.film("bframes.mp4")
    playlist = m3u8.load(str(write_out(path, "video", tmp_path)))
    assert [segment.duration for segment in playlist.segments] == [6, 6, 2]
    keys = [packet.pts for packet in packets(path, "v:0") if packet.key]
    for number, start in enumerate((0.0, 6.0, 12.0)):
        segment = tmp_path / f"{number}.mp4"
        folder = tmp_path / path.name / "video" / PurePosixPath(playlist.segments[number].uri).parent
        segment.write_bytes((folder / "init.mp4").read_bytes() + (folder / f"{number}.m4s").read_bytes())
        first = packets(segment, "v:0")[0]
        assert first.key
        assert first.pts == pytest.approx(start)
        assert start in keys


def test_segments_of_ntsc_rates_are_whole_groups_and_their_durations_exact() -> None:
    text = titles_of(films.film("moovlast.mp4")).media_playlist("moovlast.mp4", "video")
    assert [segment.duration for segment in m3u8.loads(text).segments] == [6.006, 6.006, 2.002]
    assert m3u8.loads(text).target_duration == 6


def test_sound_is_cut_where_the_video_is_to_the_frame() -> None:
    path = films.film("moovlast.mp4")
    titles = titles_of(path)
    video, sound = titles.segments.track(path.name, "video"), titles.segments.track(path.name, "audio")
    assert len(sound.durations) == len(video.durations) == 3
    for ours, theirs in zip(sound.times[1:-1], video.times[1:-1], strict=True):
        late = Fraction(int(ours), 44100) - Fraction(int(theirs), video.timescale)
        assert 0 <= late < Fraction(1024, 44100)


def test_sound_alone_is_cut_every_six_seconds() -> None:
    text = titles_of(films.film("sound.m4a")).media_playlist("sound.m4a", "audio")
    durations = [segment.duration for segment in m3u8.loads(text).segments]
    assert durations[:-1] == pytest.approx([6, 6, 6], abs=1024 / 48000)
    assert sum(durations) == pytest.approx(20, abs=0.03)


def test_a_film_without_key_frames_is_one_segment() -> None:
    text = titles_of(films.film("longgop.mp4")).media_playlist("longgop.mp4", "video")
    playlist = m3u8.loads(text)
    assert [segment.duration for segment in playlist.segments] == [12]
    assert playlist.target_duration == 12


def test_sound_that_begins_late_has_one_long_first_segment(tmp_path: Path) -> None:
    path = films.film("late.mp4")
    playlist = m3u8.load(str(write_out(path, "audio", tmp_path)))
    # A playlist begins with the film: ffprobe says of the file that it lasts so long.
    whole = float(probe(path, "-show_format")["format"]["duration"])
    assert whole == pytest.approx(21.5, abs=0.05)
    assert sum(segment.duration for segment in playlist.segments) == pytest.approx(whole, abs=0.05)


def test_a_media_playlist_says_what_rfc_8216bis_asks_of_vod() -> None:
    playlist = m3u8.loads(titles_of(films.film("bframes.mp4")).media_playlist("bframes.mp4", "video"))
    assert playlist.version == "6" or playlist.version == 6
    assert playlist.playlist_type == "vod"
    # §4.4.2.1: the multivariant playlist has the tag, so the media playlists should not
    assert not playlist.is_independent_segments
    assert playlist.is_endlist
    assert re.fullmatch("v_[0-9a-f]{12}/init.mp4", playlist.segment_map[0].uri)
    assert all(round(segment.duration) <= playlist.target_duration for segment in playlist.segments)


def test_a_multivariant_playlist_names_codecs_size_rate_and_sound() -> None:
    playlist = m3u8.loads(titles_of(films.film("bframes.mp4")).multivariant_playlist("bframes.mp4"))
    (variant,) = playlist.playlists
    info = variant.stream_info
    assert variant.uri == "video/media.m3u8"
    assert info.resolution == (320, 180)
    assert info.frame_rate == 25
    assert info.audio == "audio"
    video, sound = info.codecs.split(",")
    assert video.startswith("avc1.")
    assert sound == "mp4a.40.2"
    (media,) = playlist.media
    assert (media.group_id, media.uri, media.default, media.channels) == (
        "audio",
        "audio/media.m3u8",
        "YES",
        "1",
    )


def test_the_bandwidths_cover_the_segments_and_stay_close(tmp_path: Path) -> None:
    path = films.film("bframes.mp4")
    info = m3u8.loads(titles_of(path).multivariant_playlist(path.name)).playlists[0].stream_info
    peak, total = 0.0, 0.0
    for track in ("video", "audio"):
        playlist = m3u8.load(str(write_out(path, track, tmp_path)))
        sizes = [(tmp_path / path.name / track / segment.uri).stat().st_size for segment in playlist.segments]
        rates = [
            size * 8 / segment.duration
            for size, segment in zip(sizes, playlist.segments, strict=True)
            if segment.duration >= playlist.target_duration / 2
        ]
        peak += max(rates)
        total += sum(sizes) * 8 / sum(segment.duration for segment in playlist.segments)
    assert peak <= info.bandwidth <= peak * 1.1
    assert total <= info.average_bandwidth <= total * 1.1
    assert info.average_bandwidth <= info.bandwidth


def test_video_without_sound_has_no_group() -> None:
    playlist = m3u8.loads(titles_of(films.film("silent.mp4")).multivariant_playlist("silent.mp4"))
    assert playlist.media == []
    assert playlist.playlists[0].stream_info.audio is None
    assert "," not in playlist.playlists[0].stream_info.codecs


def test_sound_without_video_is_a_variant_itself() -> None:
    playlist = m3u8.loads(titles_of(films.film("sound.m4a")).multivariant_playlist("sound.m4a"))
    assert playlist.playlists[0].uri == "audio/media.m3u8"
    assert playlist.playlists[0].stream_info.codecs == "mp4a.40.2"


def test_each_language_is_a_rendition_and_the_first_is_the_default() -> None:
    playlist = m3u8.loads(titles_of(films.film("languages.mp4")).multivariant_playlist("languages.mp4"))
    assert [(media.language, media.default, media.uri) for media in playlist.media] == [
        ("de", "YES", "audio/media.m3u8"),
        ("fr", "NO", "audio-2/media.m3u8"),
    ]
    assert len({media.name for media in playlist.media}) == 2


def test_a_turned_picture_stays_turned_and_its_size_is_as_seen(tmp_path: Path) -> None:
    path = films.derived("turned.mp4", "silent.mp4", "-metadata:s:v:0", "rotate=90")
    expected = probe(path, "-show_streams")["streams"][0]["side_data_list"][0]["rotation"]
    playlist = write_out(path, "video", tmp_path)
    assert probe(playlist, "-show_streams")["streams"][0]["side_data_list"][0]["rotation"] == expected
    master = m3u8.loads(titles_of(path).multivariant_playlist(path.name))
    assert master.playlists[0].stream_info.resolution == (180, 320)


def test_renditions_in_one_folder_make_one_title(tmp_path: Path) -> None:
    folder = tmp_path / "a folder"
    folder.mkdir()
    for height in (720, 1080, 240):
        os.link(
            films.film("silent.mp4" if height == 240 else "bframes.mp4"), folder / f"my film.{height}p.mp4"
        )
    (folder / "my film.480p.mp4").write_bytes(b"not a film at all")
    (folder / "my film two.480p.mp4").write_bytes(b"another title")
    text = Titles(Library(tmp_path)).multivariant_playlist("a folder/my film")
    playlist = m3u8.loads(text)
    assert [variant.uri for variant in playlist.playlists] == [
        f"../my%20film.{height}p.mp4/video/media.m3u8" for height in (240, 720, 1080)
    ]
    assert {variant.stream_info.audio for variant in playlist.playlists} == {"audio"}
    assert [media.uri for media in playlist.media] == ["../my%20film.720p.mp4/audio/media.m3u8"]


@pytest.mark.parametrize(
    "name", ["", "..", "../films", "/etc/passwd", "no\0title", ".hidden", "x/../y", "absent"]
)
def test_names_that_name_nothing_are_not_found(name: str) -> None:
    with pytest.raises(NotFoundError):
        Titles(Library(films.folder())).multivariant_playlist(name)


def test_tracks_and_segments_that_are_not_there_are_not_found() -> None:
    titles = titles_of(films.film("silent.mp4"))
    for track, number in (("audio", 0), ("video", 99), ("video", -1), ("", 0)):
        with pytest.raises(NotFoundError):
            open_segment(titles, "silent.mp4", track, number)


@pytest.mark.parametrize(("name", "reason"), [("raw.mov", "codec"), ("notes.txt", "not an MP4")])
def test_what_can_not_be_packaged_says_why_in_one_line(name: str, reason: str) -> None:
    if name == "notes.txt":
        (films.folder() / name).write_text("this is no film, but it is long enough to look at")
    else:
        films.film(name)
    titles = Titles(Library(films.folder()))
    for _ in range(2):  # the refusal is remembered, and given anew
        with pytest.raises(UnsupportedError, match=reason) as refusal:
            titles.multivariant_playlist(name)
        assert "\n" not in str(refusal.value)


def test_an_index_is_made_once_for_many_askers_and_again_when_the_file_changes(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(films.film("silent.mp4").read_bytes())
    titles = Titles(Library(tmp_path))
    threads = [threading.Thread(target=titles.media_playlist, args=(path.name, "video")) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(titles.files) == 1
    assert titles.segments.track(path.name, "video") is titles.segments.track(path.name, "video")
    before = titles.segments.track(path.name, "video")
    path.write_bytes(films.film("sound.m4a").read_bytes())
    with pytest.raises(NotFoundError):
        titles.segments.track(path.name, "video")
    assert before.video
    assert not titles.segments.track(path.name, "audio").video


@pytest.mark.clause("What is kept and what runs at once is bounded, however much is asked for")
def test_indexes_are_dropped_when_they_take_more_than_their_share() -> None:
    names = ("silent.mp4", "bframes.mp4", "sound.m4a")
    for name in names:
        films.film(name)
    titles = Titles(Library(films.folder()), TitleLimits(index_bytes=1))
    for name in names:
        titles.multivariant_playlist(name)
    assert len(titles.files) == 1


def test_any_range_of_a_segment_is_the_same_as_that_range_of_the_whole() -> None:
    path = films.film("bframes.mp4")
    opened = open_segment(titles_of(path), path.name, "audio", 1)
    whole = opened.read(0, opened.size)
    assert len(whole) == opened.size
    for offset, length in (
        (0, 1),
        (0, 100),
        (opened.size - 1, 10),
        (700, 5000),
        (opened.size, 5),
        (33, 1 << 20),
    ):
        assert opened.read(offset, length) == whole[offset : offset + length]
    step = 997
    assert b"".join(opened.read(at, step) for at in range(0, opened.size, step)) == whole
    opened.close()


def test_neighbouring_data_are_read_at_once_and_distant_data_apart() -> None:
    calls: list[tuple[int, int]] = []

    def read(offset: int, length: int) -> bytes:
        calls.append((offset, length))
        return bytes(length)

    offsets = np.array([1000, 1500, 1500 + 100 + MAX_GAP + 1])
    segment = FilmSegment(b"head", offsets, np.array([100, 200, 300]), video=True)
    assert len(segment.read(read, 0, 1000)) == 304
    assert calls == [(1000, 600), (1600 + MAX_GAP + 1, 100)]


def test_a_file_that_became_shorter_gives_an_error_and_no_padding() -> None:
    segment = FilmSegment(b"head", np.array([1000]), np.array([100]), video=True)
    with pytest.raises(ShortReadError):
        segment.read(lambda offset, length: bytes(length - 1), 0, 104)


# Real files that others made


@pytest.mark.skipif(not zoo(), reason=f"the folder of others' files ({ZOO}) isn't here")
@pytest.mark.parametrize(
    "entry",
    # The listing was made when nothing but MP4 was packaged; tests of their containers have the others.
    [pytest.param(one, id=one["file"]) for one in zoo() if not one["file"].endswith((".webm", ".ts"))],
)
def test_real_files_are_packaged_as_they_are_or_refused(entry: dict[str, Any], tmp_path: Path) -> None:
    path, expected = ZOO / "files" / entry["file"], entry["expect"]
    titles = titles_of(path)
    # The listing takes sound alone for enough; a film without its picture isn't what somebody asked for.
    if not expected["hls_jit"].startswith("ok") or "h263" in expected["codecs"]:
        with pytest.raises(MediaError):
            titles.multivariant_playlist(path.name)
        if "h263" in expected["codecs"]:
            assert_same_packets(path, tmp_path, "audio", "a:0")
        return
    info = m3u8.loads(titles.multivariant_playlist(path.name)).playlists[0].stream_info
    # One file has MPEG-2 layer 3 (object type 0x69) where the listing guesses MPEG-1 (0x6B).
    wanted = {codec.replace("mp4a.6B or mp3", "mp4a.69") for codec in expected["codecs"].split(",")}
    assert set(info.codecs.split(",")) == wanted
    if any(codec.startswith("avc1") for codec in wanted):
        assert_same_packets(path, tmp_path, "video", "v:0")
    if not all(codec.startswith("avc1") for codec in wanted):
        assert_same_packets(path, tmp_path, "audio", "a:0")
