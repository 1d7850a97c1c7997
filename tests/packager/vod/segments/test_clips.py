"""Clips: playlists of a part of a film begin at the picture asked for, whatever key frames there are."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import m3u8
import numpy as np
import pytest

from packager.library.local_storage import Library
from packager.vod import Titles
from packager.vod.index.index_builder import read_index
from packager.vod.segments.clip import WHOLE, Clip, ClipError, clipped, read_clip
from packager.vod.segments.segment import make_segment
from tests.packager import films
from tests.packager.films import packets, run_ffmpeg
from tests.packager.vod.opened_media import open_segment

MPD = "{urn:mpeg:dash:schema:mpd:2011}"
FRAME = 1 / 30
"""Seconds of a picture of these films, at most."""


MOMENT = 0.011
"""Seconds that pictures take together which a clip has only for others to be decoded."""


def titles_of(path: Path) -> Titles:
    return Titles(Library(path.parent))


def numbers_of(name: str) -> tuple[int, tuple[int, int] | None]:
    """Give a segment's number, and from when to when it was trimmed."""
    number, *bounds = map(int, name.rpartition("/")[2].removesuffix(".m4s").split("-"))
    return number, (bounds[0], bounds[1]) if bounds else None


def write_clip(path: Path, track: str, clip: Clip, folder: Path) -> Path:
    """Write a clip's playlist, init segment and segments as a server would give them."""
    titles = titles_of(path)
    offered = titles.segments.track(path.name, track)
    (folder / offered.version.folder).mkdir(parents=True, exist_ok=True)
    text = titles.media_playlist(path.name, track, clip)
    (folder / "media.m3u8").write_text(text)
    (folder / offered.version.folder / "init.mp4").write_bytes(offered.init)
    for segment in m3u8.loads(text).segments:
        opened = open_segment(titles, path.name, track, *numbers_of(segment.uri))
        (folder / segment.uri).write_bytes(opened.read(0, opened.size))
        opened.close()
    return folder / "media.m3u8"


def pictures(source: Path, *words: str) -> list[str]:
    """Decode pictures to their hashes, by ffmpeg."""
    out = source.parent / "pictures.md5"
    run_ffmpeg(*words, "-i", source, "-map", "0:v:0", "-vsync", "passthrough", "-f", "framemd5", out)
    lines = out.read_text().splitlines()
    return [line.rpartition(",")[2].strip() for line in lines if not line.startswith("#")]


@pytest.mark.parametrize("name", ["bframes.mp4", "moovlast.mp4", "silent.mp4", "hevc.mp4", "longgop.mp4"])
@pytest.mark.parametrize(("start", "end"), [("0.5", "3.25"), ("3.3", None), ("0", "2.04"), ("1.5", "1.7")])
def test_a_clip_has_the_pictures_from_its_start_to_its_end_and_others_for_a_moment(
    name: str, start: str, end: str | None, tmp_path: Path
) -> None:
    path = films.film(name)
    source = packets(path, "v:0")
    begin, until = float(start), float(end or 1e9)
    first = max(packet.pts for packet in source if packet.pts <= begin + 1e-6)
    expected = [packet for packet in source if first <= packet.pts < until - 1e-6]
    found = packets(write_clip(path, "video", read_clip(start, end), tmp_path), "v")
    by_digest = {packet.digest: packet for packet in found}
    assert [packet.digest for packet in source if packet.digest in by_digest] == [
        packet.digest for packet in found
    ]
    assert found[0].key
    for packet in expected:
        assert by_digest[packet.digest].pts == pytest.approx(packet.pts, abs=2e-6)
    wanted = {packet.digest for packet in expected}
    last = max(packet.pts for packet in expected)
    for packet in found:
        assert packet.dts <= packet.pts
        if packet.digest not in wanted:  # there to be decoded, and shown for a moment
            assert first - MOMENT < packet.pts < first or max(last, until - MOMENT) < packet.pts < until


def test_what_is_decoded_of_a_clip_is_what_the_film_shows(tmp_path: Path) -> None:
    path = films.film("bframes.mp4")
    (tmp_path / "film").mkdir()
    (tmp_path / "film" / "film.mp4").write_bytes(path.read_bytes())
    whole = pictures(tmp_path / "film" / "film.mp4")
    clip = pictures(write_clip(path, "video", read_clip("1", "3"), tmp_path), "-allowed_extensions", "ALL")
    wanted = [packet.pts for packet in packets(path, "v:0")]
    shown = [digest for digest, at in zip(whole, sorted(wanted), strict=True) if 1 - 1e-6 <= at < 3 - 1e-6]
    at = clip.index(shown[0])
    assert clip[at : at + len(shown)] == shown


@pytest.mark.parametrize("name", ["bframes.mp4", "opus.mp4", "languages.mp4", "sound.m4a"])
def test_a_clips_sound_is_that_of_its_time(name: str, tmp_path: Path) -> None:
    path = films.film(name)
    source = packets(path, "a:0")
    found = packets(write_clip(path, "audio", read_clip("1.5", "4"), tmp_path), "a")
    expected = [packet for packet in source if 1.5 <= packet.pts < 4]
    digests = [packet.digest for packet in found]
    assert digests[-len(expected) + 1 :] == [packet.digest for packet in expected][1:]
    assert len(digests) <= len(expected) + 2
    assert abs(found[0].pts - 1.5) < 0.05


def test_a_clip_that_begins_between_two_frames_of_sound_at_a_boundary_has_sound() -> None:
    path = films.film("bframes.mp4")
    titles = titles_of(path)
    (_, boundary, *_) = titles.segments.track(path.name, "video").times.tolist()
    at = Fraction(boundary, titles.segments.track(path.name, "video").timescale)
    listed = m3u8.loads(titles.media_playlist(path.name, "audio", Clip(at, at + 2))).segments
    assert sum(one.duration for one in listed) == pytest.approx(2, abs=0.06)


def test_the_segments_within_a_clip_are_the_films_own(tmp_path: Path) -> None:
    path = films.film("bframes.mp4")
    titles = titles_of(path)
    whole = [one.uri for one in m3u8.loads(titles.media_playlist(path.name, "video")).segments]
    assert len(whole) >= 2
    clip = m3u8.loads(titles.media_playlist(path.name, "video", read_clip("0.5", None)))
    assert [one.uri for one in clip.segments][1:] == whole[1:]
    folder, _, name = whole[0].rpartition("/")
    assert name == "0.m4s"
    assert clip.segments[0].uri.startswith(f"{folder}/0-")
    assert clip.segments[0].init_section.uri == f"{folder}/init.mp4"
    for kind in ("video", "audio"):
        listed = m3u8.loads(titles.media_playlist(path.name, kind, read_clip("0.5", "3.5"))).segments
        assert sum(one.duration for one in listed) == pytest.approx(3, abs=0.06)


def test_a_clip_from_0_is_the_film() -> None:
    path = films.film("bframes.mp4")
    titles = titles_of(path)
    assert read_clip("0", None) == WHOLE
    assert titles.multivariant_playlist(path.name, read_clip("00:00", None)) == titles.multivariant_playlist(
        path.name
    )


def test_playlists_and_manifests_say_which_clip_they_are_of() -> None:
    path = films.film("bframes.mp4")
    titles = titles_of(path)
    clip = read_clip("00:00:01.500", "3.0")
    master = m3u8.loads(titles.multivariant_playlist(path.name, clip))
    addresses = [master.playlists[0].uri, *(media.uri for media in master.media)]
    assert addresses == ["video/media.m3u8?start=1.5&end=3", "audio/media.m3u8?start=1.5&end=3"]
    root = ElementTree.fromstring(titles.manifest(path.name, clip))
    assert float(root.attrib["mediaPresentationDuration"][2:-1]) == pytest.approx(1.5, abs=0.05)
    *played, frames = root.iter(f"{MPD}Representation")
    assert frames.get("id") == "video-0-iframes"
    for offered, kind in zip(played, ("video", "audio"), strict=True):
        (listed,) = offered.iter(f"{MPD}SegmentList")
        timescale = int(listed.attrib["timescale"])
        assert int(listed.attrib["presentationTimeOffset"]) / timescale == pytest.approx(1.5, abs=FRAME)
        folder = offered.findtext(f"{MPD}BaseURL", "").removeprefix(f"{kind}/")
        media = [f"{folder}{one.get('media')}" for one in listed.iter(f"{MPD}SegmentURL")]
        text = titles.media_playlist(path.name, kind, clip)
        assert media == [one.uri for one in m3u8.loads(text).segments]
        assert len(media) == sum(1 + int(one.get("r", "0")) for one in listed.iter(f"{MPD}S"))


def test_renditions_of_a_title_are_clipped_alike(tmp_path: Path) -> None:
    for height, name in ((180, "silent.mp4"), (360, "bframes.mp4")):
        (tmp_path / f"film.{height}p.mp4").write_bytes(films.film(name).read_bytes())
    titles = Titles(Library(tmp_path))
    master = m3u8.loads(titles.multivariant_playlist("film", read_clip("1", "2")))
    assert [one.uri for one in master.playlists] == [
        f"../film.{height}p.mp4/video/media.m3u8?start=1&end=2" for height in (180, 360)
    ]


@pytest.mark.parametrize(
    ("told", "seconds"),
    [
        ("0", "0"),
        ("90.5", "90.5"),
        ("7.", "7"),
        ("1:02:03.5", "3723.5"),
        ("00:01:02.500", "62.5"),
        ("01:30", "90"),
        ("99999:59:59", "359999999/1000"),
        ("0.000000001", "1e-9"),
    ],
)
def test_times_are_seconds_or_timecodes(told: str, seconds: str) -> None:
    expected = Fraction(359_999_999 if told.startswith("99999") else Fraction(seconds))
    if told.startswith("99999"):
        expected = Fraction(99_999 * 3600 + 59 * 60 + 59)
    assert read_clip(told, None).start == expected


@pytest.mark.parametrize(
    "told",
    [
        "",
        "nan",
        "inf",
        "-1",
        "+1",
        "1e3",
        "1_0",
        " 1",
        "1 ",
        "٣",
        "1:60",
        "60:00:61",
        "1:2:3:4",
        "0x10",
        "1" * 21,
        "." * 9,
        ".5",
        "1.0000000000",
        "1,5",
        "1;2",
        "\x00",
        "1\n",
        "9" * 10000,
    ],
)
def test_what_is_no_time_is_refused(told: str) -> None:
    for start, end in ((told, None), (None, told)):
        with pytest.raises(ClipError):
            read_clip(start, end)


@pytest.mark.parametrize(("start", "end"), [("2", "2"), ("3", "2"), (None, "0"), ("0", "0.0")])
def test_an_end_that_is_not_behind_the_start_is_refused(start: str | None, end: str) -> None:
    with pytest.raises(ClipError, match="behind its start"):
        read_clip(start, end)


@pytest.mark.parametrize("start", ["10000", "1" + "0" * 18, "9" * 20, "99999:00:00"])
def test_a_clip_behind_the_films_end_is_refused_and_an_end_there_is_the_films(start: str) -> None:
    path = films.film("bframes.mp4")
    titles = titles_of(path)
    for ask in (titles.multivariant_playlist, titles.manifest):
        with pytest.raises(ClipError, match="where the film lasts"):
            ask(path.name, read_clip(start, None))
    to_end = titles.media_playlist(path.name, "video", read_clip("1", start))
    assert to_end == titles.media_playlist(path.name, "video", read_clip("1", None))


def test_any_clip_of_any_film_has_segments_that_can_be_made() -> None:
    """Times at, before and behind each boundary, and clips that are shorter than a picture."""
    for name in ("bframes.mp4", "hevc.mp4", "late.mp4", "sound.m4a", "quicktime.mov"):
        films.film(name)
        with Library(films.folder()).open(name) as file:
            index = read_index(file.pread, file.size)
        boundaries = [float(time) / index.tracks[0].timescale for time in index.tracks[0].times]
        nudges = (-0.05, -1e-6, 0.0, 1e-6, 0.05)
        times = sorted({max(0.0, at + nudge) for at in boundaries for nudge in nudges})
        for start, end in pairwise(times):
            clip = Clip(Fraction(round(start * 10**6), 10**6), Fraction(round(end * 10**6) + 1, 10**6))
            try:
                cut = clipped(index, clip)
            except ClipError:
                continue
            for track in cut.tracks:
                whole = index.track(track.name)
                assert whole is not None
                assert np.all(np.diff(track.times) >= 0)
                assert track.duration > 0
                for segment in track.segment_names:
                    made = make_segment(index, whole, *numbers_of(segment))
                    assert made is not None
                    assert made.size > 0
