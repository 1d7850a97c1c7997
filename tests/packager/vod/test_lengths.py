"""How long films and their playlists are: as ffprobe says, and with one target duration for all."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import m3u8
import pytest

from packager.export.export import export
from packager.vod import Titles
from packager.vod.index.index_builder import read_index
from packager.vod.segments.clip import Clip
from tests.packager import films
from tests.packager.vod.vod_titles import titles_of

H264 = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p"
STILL = "setpts='if(lt(N,50),N,N+500)/25/TB'"
STILLS = {
    "still.mp4": f"-vf {STILL} -vsync vfr {H264} -bf 2 -g 25",
    "without-b.mp4": f"-vf {STILL} -vsync vfr {H264} -bf 0 -g 25",
    "longer-group.mov": f"-vf {STILL} -vsync vfr {H264} -bf 3 -g 250",
    "still.mkv": f"-vf {STILL} -vsync vfr {H264} -bf 2 -g 25",
    "fragmented.mp4": f"-vf {STILL} -vsync vfr {H264} -bf 2 -g 25 -movflags +frag_keyframe+empty_moov",
    "still.flv": f"-vf {STILL} -vsync vfr {H264} -bf 2 -g 25",
}
"""Films of four seconds of pictures, which stand still for twenty seconds in the middle."""


def made(name: str, words: str, picture: str = "r=25:d=4") -> Path:
    """Make a film in a folder of this file's own: others have films of the same names."""
    folder = films.folder() / "lengths"
    folder.mkdir(exist_ok=True)
    path = folder / name
    if not path.exists():
        inputs = f"-f lavfi -i testsrc2=s=64x48:{picture} -f lavfi -i sine=440:r=48000:d=30"
        films.run_ffmpeg(*f"{inputs} {words}".split(), path)
    return path


@pytest.mark.parametrize("name", STILLS)
def test_a_picture_that_stands_still_is_as_long_as_ffprobe_says(name: str) -> None:
    path = made(name, f"{STILLS[name]} -an")
    # The end of the picture that ffprobe finds last: of some containers it knows no duration.
    packets = films.probe(path, "-select_streams", "v", "-show_packets")["packets"]
    last = max(packets, key=lambda one: float(one["pts_time"]))
    first = min(float(one["pts_time"]) for one in packets)
    data = path.read_bytes()
    (track,) = read_index(lambda at, length: data[at : at + length], len(data)).tracks
    begin = Fraction(int(track.times[0]), track.timescale)
    assert float(track.times[-1] / track.timescale - begin) == pytest.approx(
        float(last["pts_time"]) - first + 0.04, abs=0.02
    )
    told = m3u8.loads(titles_of(path).media_playlist(name, "video"))
    assert sum(one.duration for one in told.segments) == pytest.approx(24, abs=0.1)


def targets(titles: Titles, name: str, query: str = "", clip: Clip | None = None) -> list[int]:
    """Return the target durations of all playlists that a film's or a title's leads to."""
    more = () if clip is None else (clip,)
    master = m3u8.loads(titles.multivariant_playlist(name, *more))
    found = set[tuple[str, str]]()
    for uri in (*(one.uri for one in master.playlists), *(one.uri for one in master.media)):
        file, track = (("" if uri.startswith("../") else f"{name}/") + uri.removeprefix("../")).split("/")[:2]
        found.add((file, track))
    assert len(found) > 1
    written = [titles.media_playlist(file, track, *more) for file, track in sorted(found)]
    return [m3u8.loads(one).target_duration for one in written]


LONG_GROUPS = f"{H264} -bf 0 -x264-params keyint=389:min-keyint=389:scenecut=0"
RATE = "r=60000/1001:d=30"
"""Key frames each 6.49 s: rounded, the segments of the picture have 6 seconds, and of the sound 7."""


@pytest.mark.clause("RFC 8216bis §6.2.4")
def test_all_playlists_of_a_film_have_one_target_duration() -> None:
    path = made("long-groups.mp4", f"{LONG_GROUPS} -c:a aac", RATE)
    titles = titles_of(path)
    index = titles.files.find(path.name).index
    assert sorted(round(max(track.durations)) for track in index.tracks) == [6, 7]
    assert targets(titles, path.name) == [7, 7]
    assert set(targets(titles, path.name, clip=Clip(Fraction(8), Fraction(25)))) <= {6, 7}
    assert len(set(targets(titles, path.name, clip=Clip(Fraction(8), Fraction(25))))) == 1


@pytest.mark.clause("RFC 8216bis §6.2.4")
def test_all_renditions_of_a_title_have_one_target_duration(tmp_path: Path) -> None:
    path = made("long-groups.mp4", f"{LONG_GROUPS} -c:a aac", RATE)
    films.run_ffmpeg("-i", path, "-c", "copy", tmp_path / "film.720p.mp4")
    films.run_ffmpeg("-i", path, "-map", "0:v", "-c", "copy", tmp_path / "film.360p.mp4")
    titles = titles_of(tmp_path / "film.720p.mp4")
    assert m3u8.loads(titles.media_playlist("film.360p.mp4", "video")).target_duration == 7
    assert set(targets(titles, "film")) == {7}


def test_all_playlists_of_a_package_have_one_target_duration(tmp_path: Path) -> None:
    path = made("long-groups.mp4", f"{LONG_GROUPS} -c:a aac", RATE)
    export([path], tmp_path / "out")
    told = [m3u8.load(str(one)) for one in (tmp_path / "out").rglob("media.m3u8")]
    assert [one.target_duration for one in told] == [7, 7]
