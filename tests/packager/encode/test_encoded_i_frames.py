"""I-frames of encoded pictures: the first one of each segment by itself, also with subtitles in it."""

from __future__ import annotations

import asyncio
from fractions import Fraction
from pathlib import Path
from xml.etree import ElementTree

import m3u8
import numpy as np
import pytest

from packager.encode.renditions import EncodedRenditions
from packager.library.local_storage import Library
from packager.process.ffmpeg_discovery import Tools
from packager.vod import Titles
from packager.vod.segments.clip import WHOLE, Clip
from tests.packager.encode.encoded_library import decoded, encoding, picture_times
from tests.packager.encode.subtitle_pictures import colours, display_set, film_with_subtitles
from tests.packager.films import run_ffmpeg

DASH = "{urn:mpeg:dash:schema:mpd:2011}"
BURNED = Clip(subtitles=1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make a library of a film with subtitles from 3.9 s to 5 s, and of one that no browser plays."""
    folder = tmp_path / "library"
    folder.mkdir()
    shown, cleared = display_set(shown=True), display_set(shown=False)
    film_with_subtitles(folder / "film.mkv", [(3.9, shown), (5, cleared)])
    picture = ("-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25:duration=9")
    run_ffmpeg(*picture, "-c:v", "mpeg4", "-vtag", "XVID", "-bf", "2", "-g", "75", folder / "tape.avi")
    return folder


def titles_of(folder: Path) -> Titles:
    return Titles(Library(folder), encoded=EncodedRenditions("auto", "x").tracks)


@pytest.mark.parametrize(
    ("name", "clip", "track"),
    [
        ("film.mkv", BURNED, "video-180p-subtitles-1-iframes"),
        ("film.mkv", Clip(Fraction(3), Fraction(11, 2), 1), "video-180p-subtitles-1-iframes"),
        ("tape.avi", WHOLE, "video-180p-iframes"),
    ],
)
async def test_each_segment_of_an_i_frame_playlist_is_the_picture_that_is_shown_then(
    name: str, clip: Clip, track: str, folder: Path, tools: Tools, tmp_path: Path
) -> None:
    titles = Titles(Library(folder), encoded=EncodedRenditions("all", tools.version).tracks)
    master = m3u8.loads(await asyncio.to_thread(titles.multivariant_playlist, name, clip))
    listed = next(one for one in master.iframe_playlists if one.uri.startswith(track))
    playlist = m3u8.loads(await asyncio.to_thread(titles.media_playlist, name, track, clip))
    variant = next(one for one in master.playlists if one.uri.startswith(track.removesuffix("-iframes")))
    assert playlist.is_i_frames_only
    assert listed.iframe_stream_info.resolution == variant.stream_info.resolution
    picture = track.removesuffix("-iframes")
    plain = m3u8.loads(await asyncio.to_thread(titles.media_playlist, name, picture, clip))
    assert [one.duration for one in playlist.segments] == [one.duration for one in plain.segments]
    whole = colours(folder / name, *(("-filter_complex", "[0:v][0:s]overlay") if clip.subtitles else ()))
    own = (await asyncio.to_thread(titles.files.find, name)).index.pictures[-1]
    first = Fraction(int(own.times[0]), own.timescale)
    async with encoding(folder, tools) as media:
        init, _ = await media.init(name, track)
        made = []
        for one in playlist.segments:
            number, *bounds = map(int, one.uri.rpartition("/")[2].removesuffix(".m4s").split("-"))
            segment, version = await media.segment(name, track, number, tuple(bounds) or None)  # type: ignore[arg-type]
            assert one.uri.startswith(version.folder)
            assert len(segment) * 8 <= listed.iframe_stream_info.bandwidth * one.duration
            path = tmp_path / f"{number}.mp4"
            path.write_bytes(init + segment)
            decoded(path, "-f", "framemd5")
            (time,), (shown,) = picture_times(path), colours(path)
            place = round((time - first) * 25)
            errors = [np.abs(shown - one).mean() for one in whole[max(place - 3, 0) : place + 4]]
            assert errors[min(place, 3)] == min(errors) < 6
            made.append(init + segment)
    joined = tmp_path / "joined.mp4"
    joined.write_bytes(made[0] + b"".join(one[len(init) :] for one in made[1:]))
    begin = float(max(clip.start, first))
    before = begin + np.cumsum([0, *(one.duration for one in plain.segments)])[:-1]
    assert [float(time) for time in picture_times(joined)] == pytest.approx(list(before), abs=0.002)


def test_they_are_offered_where_browsers_cant_show_the_films_own(folder: Path) -> None:
    """A film's own are its key frames; a film in pieces of H.264 needs no others."""
    titles = titles_of(folder)
    uris = [one.uri for one in m3u8.loads(titles.multivariant_playlist("film.mkv")).iframe_playlists]
    assert uris == ["video/iframes.m3u8"]
    burned = m3u8.loads(Titles(Library(folder), encoded=EncodedRenditions("all", "x").tracks)
                        .multivariant_playlist("film.mkv", BURNED))  # fmt: skip
    assert [one.uri for one in burned.iframe_playlists] == [
        "video-180p-subtitles-1-iframes/media.m3u8?start=0&burn=1"
    ]
    uris = [one.uri for one in m3u8.loads(titles.multivariant_playlist("tape.avi")).iframe_playlists]
    assert uris == ["video-180p-iframes/media.m3u8"]


def test_a_trick_mode_set_has_them_in_dash(folder: Path) -> None:
    root = ElementTree.fromstring(titles_of(folder).manifest("tape.avi"))
    sets = root.findall(f".//{DASH}AdaptationSet")
    trick = [one for one in sets if one.find(f"{DASH}EssentialProperty") is not None]
    (representation,) = trick[0].findall(f"{DASH}Representation")
    assert representation.get("maxPlayoutRate")
    base = representation.findtext(f"{DASH}BaseURL") or ""
    assert base.startswith("video-180p-iframes/v_")
    assert representation.find(f"{DASH}SegmentTemplate") is not None
