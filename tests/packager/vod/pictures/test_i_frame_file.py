"""I-frame playlists and trick mode sets: which pictures they have, where, and for how long each stands."""

from __future__ import annotations

import hashlib
import subprocess
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import m3u8
import numpy as np
import pytest

from media.errors import MalformedError
from media.mp4.boxes import walk
from packager.library.local_storage import Library, NotFoundError
from packager.vod import Titles
from packager.vod.pictures.i_frame_file import MAX_I_FRAMES, marked_i_frames
from tests.packager import crafted, films
from tests.packager.films import FFMPEG, packets
from tests.packager.vod.opened_media import open_i_frames

DASH = "{urn:mpeg:dash:schema:mpd:2011}"
OPEN_GOP = ("-x264-params", "open-gop=1:keyint=25:bframes=3:log-level=none")


def titles_of(path: Path) -> Titles:
    return Titles(Library(path.parent))


def i_frames(path: Path) -> tuple[m3u8.M3U8, bytes]:
    """Give a film's I-frame playlist and the resource of its byte ranges, read in odd steps."""
    titles = titles_of(path)
    playlist = m3u8.loads(titles.i_frame_playlist(path.name, "video"))
    opened = open_i_frames(titles, path.name, "video")
    try:
        data = b"".join(opened.read(at, 4099) for at in range(0, opened.size, 4099))
    finally:
        opened.close()
    assert len(data) == opened.size
    return playlist, data


def made(name: str, *arguments: str) -> Path:
    path = films.folder() / name
    if not path.exists():
        source = ("-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25:duration=8")
        films.run_ffmpeg(*source, *arguments, "-pix_fmt", "yuv420p", path)
    return path


def byte_range(text: str) -> slice:
    length, _, offset = text.partition("@")
    return slice(int(offset), int(offset) + int(length))


@pytest.mark.parametrize(
    "name", ["bframes.mp4", "moovlast.mp4", "silent.mp4", "longgop.mp4", "hevc.mp4", "quicktime.mov"]
)
def test_an_i_frame_playlist_has_exactly_the_sync_samples_of_the_film(name: str, tmp_path: Path) -> None:
    path = films.film(name)
    sync = [packet for packet in packets(path, "v:0") if packet.key]
    playlist, data = i_frames(path)
    (tmp_path / "iframes.mp4").write_bytes(data)
    found = packets(tmp_path / "iframes.mp4", "v:0")
    assert [packet.digest for packet in found] == [packet.digest for packet in sync]
    for one, other in zip(found, sync, strict=True):
        assert one.pts == pytest.approx(other.pts, abs=2e-6)
    assert playlist.is_i_frames_only
    assert len(playlist.segments) == len(sync)


@pytest.mark.parametrize("name", ["bframes.mp4", "longgop.mp4", "hevc.mp4"])
def test_each_byte_range_of_an_i_frame_playlist_decodes_to_one_picture(name: str) -> None:
    playlist, data = i_frames(films.film(name))
    init = data[byte_range(playlist.segments[0].init_section.byterange)]
    for segment in playlist.segments:
        piece = data[byte_range(segment.byterange)]
        assert [box.kind for box in walk(piece)] == [b"moof", b"mdat"]
        argv = [FFMPEG, "-v", "error", "-i", "pipe:0", "-f", "framemd5", "-"]
        done = subprocess.run(argv, input=init + piece, capture_output=True, timeout=120, check=True)
        assert done.stderr == b""
        assert len([line for line in done.stdout.splitlines() if not line.startswith(b"#")]) == 1


def with_late_picture() -> Path:
    """Copy a film so that its sound begins a second before its picture."""
    path, source = films.folder() / "latepicture.mp4", films.film("bframes.mp4")
    if not path.exists():
        late = ("-itsoffset", "1", "-i", source, "-i", source, "-map", "0:v", "-map", "1:a")
        films.run_ffmpeg(*late, "-c", "copy", path)
    return path


@pytest.mark.parametrize("name", ["bframes.mp4", "moovlast.mp4", "longgop.mp4", "latepicture.mp4"])
def test_the_durations_of_i_frames_add_up_to_the_films(name: str) -> None:
    titles = titles_of(with_late_picture() if name == "latepicture.mp4" else films.film(name))
    whole = m3u8.loads(titles.media_playlist(name, "video"))
    playlist = m3u8.loads(titles.i_frame_playlist(name, "video"))
    total = sum(segment.duration for segment in whole.segments)
    assert sum(segment.duration for segment in playlist.segments) == pytest.approx(total, abs=1e-4)
    # RFC 8216bis §4.4.3.1
    assert max(round(segment.duration) for segment in playlist.segments) == playlist.target_duration


def test_a_multivariant_playlist_names_the_i_frames_with_the_rates_that_they_have() -> None:
    titles = titles_of(films.film("bframes.mp4"))
    master = m3u8.loads(titles.multivariant_playlist("bframes.mp4"))
    (listed,) = master.iframe_playlists
    assert listed.uri == "video/iframes.m3u8"
    info, variant = listed.iframe_stream_info, master.playlists[0].stream_info
    assert info.resolution == variant.resolution
    assert info.codecs == variant.codecs.split(",")[0]
    assert info.video_range == variant.video_range == "SDR"
    playlist = m3u8.loads(titles.i_frame_playlist("bframes.mp4", "video"))
    sizes = [int(segment.byterange.split("@")[0]) for segment in playlist.segments]
    seconds = [segment.duration for segment in playlist.segments]
    assert info.average_bandwidth == pytest.approx(8 * sum(sizes) / sum(seconds), abs=1)
    assert info.bandwidth >= info.average_bandwidth
    assert info.bandwidth <= max(8 * size / each for size, each in zip(sizes, seconds, strict=True)) + 1


def test_a_trick_mode_set_points_at_the_index_of_the_same_frames() -> None:
    path = films.film("bframes.mp4")
    _, data = i_frames(path)
    period = ElementTree.fromstring(titles_of(path).manifest(path.name)).find(f"{DASH}Period")
    assert period is not None
    normal, *_, trick = period.findall(f"{DASH}AdaptationSet")
    essential = trick.find(f"{DASH}EssentialProperty")
    assert essential is not None
    assert essential.get("schemeIdUri") == "http://dashif.org/guidelines/trickmode"
    assert essential.get("value") == normal.get("id")
    representation = trick.find(f"{DASH}Representation")
    assert representation is not None
    assert representation.get("codingDependency") == "false"
    assert int(representation.get("maxPlayoutRate", "0")) > 1
    folder = titles_of(path).segments.track(path.name, "video").version.folder
    assert representation.findtext(f"{DASH}BaseURL") == f"video/{folder}iframes.mp4"
    base = representation.find(f"{DASH}SegmentBase")
    assert base is not None
    first, _, last = base.get("indexRange", "").partition("-")
    index = data[int(first) : int(last) + 1]
    assert [box.kind for box in walk(index)] == [b"sidx", b"free"]
    # ISO/IEC 14496-12 §8.16.3.2: the first subsegment is so far behind the box, and they follow each other.
    sidx, free = walk(index)
    cells = index[sidx.payload + 4 : sidx.end]
    timescale, count = int.from_bytes(cells[4:8], "big"), int.from_bytes(cells[26:28], "big")
    assert int.from_bytes(cells[16:24], "big") == free.end - sidx.end
    entries = [cells[at : at + 12] for at in range(28, 28 + 12 * count, 12)]
    assert sum(int.from_bytes(entry[:4], "big") for entry in entries) == len(data) - int(last) - 1
    assert Fraction(sum(int.from_bytes(entry[4:8], "big") for entry in entries), timescale) == 14


def test_pictures_that_only_recover_from_what_was_before_are_no_i_frames() -> None:
    path = made("open.mp4", "-c:v", "libx264", "-preset", "ultrafast", *OPEN_GOP)
    titles = titles_of(path)
    text = titles.multivariant_playlist(path.name)
    assert "I-FRAME" not in text
    assert "\n# No I-frame playlist: not every segment of video begins with a picture that can be" in text
    assert "No I-frame" not in titles_of(films.film("bframes.mp4")).multivariant_playlist("bframes.mp4")
    assert b"trickmode" not in titles.manifest(path.name)


def test_of_a_film_of_nothing_but_i_frames_only_so_many_are_listed() -> None:
    path = made("intra.mp4", "-c:v", "libx264", "-preset", "ultrafast", "-g", "1")
    titles = titles_of(path)
    track = titles.segments.track(path.name, "video")
    whole = marked_i_frames(track)
    assert whole is not None
    assert len(whole) == 200
    thinned = marked_i_frames(track, most=60)
    assert thinned is not None
    assert len(thinned) == 50  # every fourth
    gaps = {later - earlier for earlier, later in pairwise(thinned.times.tolist())}
    assert gaps == {4 * track.timescale // 25}
    assert thinned.duration == whole.duration
    assert len(whole) < MAX_I_FRAMES


def test_a_million_sync_samples_that_a_small_file_names_are_no_million_lines(tmp_path: Path) -> None:
    samples = 1_100_000
    tables = {
        "stts": crafted.rows([[samples, 512]]),
        "stsc": crafted.rows([[1, samples, 1]]),
        "stsz": crafted.constant(10, samples),
        "stco": crafted.places(np.array([2000]), "stco"),
    }
    index = crafted.moov(crafted.Track(tables, video=True, timescale=15_360))
    titles = Titles(Library(tmp_path), thumbnails=True)
    path = crafted.write(tmp_path / "film.mp4", index, samples * 10 + 10_000)
    marked = marked_i_frames(titles.segments.track(path.name, "video"))
    assert marked is not None
    assert len(marked) <= MAX_I_FRAMES
    with pytest.raises(MalformedError, match="no picture"):
        titles.i_frame_playlist(path.name, "video")
    assert "I-FRAME" not in titles.multivariant_playlist(path.name)
    assert len(titles.storyboard(path.name).sizes) == -(-samples * 512 // 15_360 // 10)


def test_a_film_without_a_picture_has_no_i_frames() -> None:
    titles = titles_of(films.film("sound.m4a"))
    assert "I-FRAME" not in titles.multivariant_playlist("sound.m4a")
    for track in ("video", "audio"):
        with pytest.raises(NotFoundError):
            titles.i_frame_playlist("sound.m4a", track)
    with pytest.raises(NotFoundError):
        open_i_frames(titles_of(films.film("bframes.mp4")), "bframes.mp4", "audio")


def test_any_range_of_the_i_frames_is_what_the_whole_has_there() -> None:
    path = films.film("silent.mp4")
    _, data = i_frames(path)
    opened = open_i_frames(titles_of(path), path.name, "video")
    try:
        for offset, length in ((0, 1), (700, 600), (len(data) - 5, 100), (1200, 1), (1100, 30_000)):
            assert opened.read(offset, length) == data[offset : offset + length]
        whole = hashlib.sha256(opened.read(0, len(data) + 10)).digest()
        assert whole == hashlib.sha256(data).digest()
    finally:
        opened.close()
