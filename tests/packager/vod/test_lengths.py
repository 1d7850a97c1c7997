"""How long films and their playlists are: as ffprobe says, and with one target duration for all."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import m3u8
import pytest

from media.errors import UnsupportedError
from packager.export.export import export
from packager.library.local_storage import NotFoundError
from packager.vod import Titles
from packager.vod.index.index_builder import read_index
from packager.vod.segments.clip import Clip
from tests.packager import films
from tests.packager.vod.lengths import H264, spans, volumes
from tests.packager.vod.opened_media import open_segment
from tests.packager.vod.vod_titles import titles_of, write_out

STILL = "setpts='if(lt(N,50),N,N+500)/25/TB'"
STILLS = {
    "still.mp4": f"-vf {STILL} -vsync vfr {H264} -bf 2 -g 25",
    "without-b.mp4": f"-vf {STILL} -vsync vfr {H264} -bf 0 -g 25",
    "longer-group.mov": f"-vf {STILL} -vsync vfr {H264} -bf 3 -g 250",
    "still.mkv": f"-vf {STILL} -vsync vfr {H264} -bf 2 -g 25",
    "fragmented.mp4": f"-vf {STILL} -vsync vfr {H264} -bf 2 -g 25 -movflags +frag_keyframe+empty_moov",
    "still.flv": f"-vf {STILL} -vsync vfr {H264} -bf 2 -g 25",
    "still.ts": f"-vf {STILL} -vsync vfr {H264} -bf 2 -g 25",
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


SOUNDS = {
    "aac": "-c:a aac -ac 2",
    "aac 5.1": "-c:a aac -ac 6 -channel_layout 5.1",
    "mono": "-c:a aac -ac 1 -ar 44100",
    "mp3": "-c:a libmp3lame",
    "mp3 of MPEG-2": "-c:a libmp3lame -ar 22050 -ac 1",
    "opus": "-c:a libopus -ac 2",
    "flac": "-c:a flac -strict -2 -ac 2",
}


@pytest.mark.clause("RFC 8216bis §6.2.4")
@pytest.mark.parametrize("codec", SOUNDS)
def test_sound_that_ends_first_goes_on_with_silence_of_its_codec(codec: str, tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    inputs = "-f lavfi -i testsrc2=s=64x48:r=25:d=20 -f lavfi -i sine=440:r=48000:d=5"
    films.run_ffmpeg(*f"{inputs} {H264} -bf 2 -g 25 {SOUNDS[codec]}".split(), path)
    assert spans(path) == {"video": pytest.approx(20, abs=0.05), "audio": pytest.approx(20, abs=0.05)}
    offered, source = write_out(path, "audio", tmp_path / "out"), films.packets(path, "a:0")
    ours = films.packets(offered, "a")
    assert [one.digest for one in ours[: len(source)]] == [one.digest for one in source]
    assert ours[-1].pts == pytest.approx(20, abs=0.15)
    steps = [b.pts - a.pts for a, b in pairwise(ours)]
    assert max(steps) < 0.15
    # As ffmpeg decodes it: the tone is heard as long as before, and then nothing.
    loud = volumes(offered)
    assert all(loud[second] > -45 for second in range(1, 4))
    assert all(loud[second] < -85 for second in range(6, 19))
    assert len(loud) >= 19


@pytest.mark.clause("RFC 8216bis §6.2.4")
@pytest.mark.parametrize(
    "words", [f"{H264} -bf 2 -g 50", f"{H264} -bf 0 -g 250", "-c:v libx265 -x265-params log-level=none -g 25"]
)
def test_a_picture_that_ends_first_stays_until_the_sound_ends(words: str, tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    inputs = "-f lavfi -i testsrc2=s=64x48:r=25:d=4 -f lavfi -i sine=440:r=48000:d=30"
    films.run_ffmpeg(*f"{inputs} {words} -c:a aac".split(), path)
    assert spans(path) == {"video": pytest.approx(30, abs=0.05), "audio": pytest.approx(30, abs=0.05)}
    titles = titles_of(path)
    told = m3u8.loads(titles.media_playlist(path.name, "video"))
    assert told.target_duration <= 6
    offered = titles.segments.track(path.name, "video")
    last = digests(path)[-1]
    for number, segment in enumerate(told.segments):
        # Each segment is decoded by itself, and ends with the picture that ffmpeg finds last in the file.
        opened = open_segment(titles, path.name, "video", number)
        (tmp_path / "one.mp4").write_bytes(offered.init + opened.read(0, opened.size))
        opened.close()
        begin = float(offered.times[number] / offered.timescale)
        packets = films.packets(tmp_path / "one.mp4", "v:0")
        assert packets[0].key
        if begin > 4:
            assert min(one.pts for one in packets) == pytest.approx(begin, abs=0.001)
            assert digests(tmp_path / "one.mp4")[-1] == last
            assert max(one.pts for one in packets) == pytest.approx(begin, abs=0.1)
            assert segment.duration <= 6
    assert len(told.segments) >= 5


def digests(path: Path) -> list[str]:
    """Return what ffmpeg decodes of a file's pictures."""
    decoded = path.with_suffix(".framemd5")
    films.run_ffmpeg("-i", path, "-map", "0:v", "-vsync", "passthrough", "-f", "framemd5", decoded)
    return [line.rpartition(",")[2].strip() for line in decoded.read_text().splitlines() if line[0] != "#"]


def test_one_picture_with_a_song_is_as_long_as_the_song(tmp_path: Path) -> None:
    path = made("one picture.mp4", f"{H264} -c:a aac", "r=25:d=0.04")
    assert spans(path) == {"video": pytest.approx(30, abs=0.05), "audio": pytest.approx(30, abs=0.05)}
    packets = films.packets(write_out(path, "video", tmp_path), "v")
    assert [one.pts for one in packets] == pytest.approx([0.75 * at for at in range(40)], abs=0.001)
    assert len({one.digest for one in packets}) == 1


@pytest.mark.parametrize("name", STILLS)
def test_a_picture_that_stands_still_has_a_key_frame_each_six_seconds(name: str, tmp_path: Path) -> None:
    path = made(name, f"{STILLS[name]} -an")
    told = m3u8.loads(titles_of(path).media_playlist(name, "video"))
    assert max(one.duration for one in told.segments) <= 8
    packets = films.packets(write_out(path, "video", tmp_path), "v")
    keys = [one.pts for one in packets if one.key]
    assert max(b - a for a, b in pairwise(keys)) <= 8
    theirs = {one.digest for one in films.packets(path, "v:0")}
    if path.suffix == ".ts":  # pictures of MP4 have lengths in place of start codes, and no parameter sets
        assert len({one.digest for one in packets}) == len(theirs) == 100
    else:
        assert {one.digest for one in packets} == theirs


def test_a_pause_of_the_sound_is_filled_with_silence(tmp_path: Path) -> None:
    inputs = "-f lavfi -i testsrc2=s=64x48:r=25:d=24 -f lavfi -i sine=440:r=48000:d=16"
    later = "asetpts='PTS+if(gte(T,4),8/TB,0)'"
    films.run_ffmpeg(*f"{inputs} {H264} -g 25 -af {later} -c:a aac".split(), tmp_path / "film.mkv")
    path = tmp_path / "film.mkv"
    source = films.packets(path, "a:0")
    assert max(b.pts - a.pts for a, b in pairwise(source)) > 7
    ours = films.packets(write_out(path, "audio", tmp_path / "out"), "a")
    assert max(b.pts - a.pts for a, b in pairwise(ours)) < 0.06
    loud = volumes(tmp_path / "out" / "film.mkv" / "audio" / "media.m3u8")
    assert min(loud[2], loud[14]) > -30
    assert all(one < -85 for one in loud[6:11])


@pytest.mark.parametrize("seconds", [4, 15])
def test_a_pause_of_the_sound_of_a_recording_is_as_long_as_it_is(seconds: int, tmp_path: Path) -> None:
    """The clock of MPEG-TS may jump; where the picture goes on, it hasn't."""
    inputs = f"-f lavfi -i testsrc2=s=64x48:r=25:d={seconds + 8} -f lavfi -i sine=440:r=48000:d=8"
    later = f"asetpts='PTS+if(gte(T,4),{seconds}/TB,0)'"
    path = tmp_path / "film.ts"
    films.run_ffmpeg(*f"{inputs} {H264} -g 25 -af {later} -c:a aac".split(), path)
    assert spans(path) == {name: pytest.approx(seconds + 8, abs=0.1) for name in ("video", "audio")}
    loud = volumes(write_out(path, "audio", tmp_path / "out"))
    assert min(*loud[1:3], *loud[5 + seconds : 7 + seconds]) > -30
    assert max(loud[5 : 3 + seconds]) < -70


def late(path: Path, picture: float, sound: float) -> Path:
    """Make a film of twenty seconds whose picture and sound begin so many seconds after its begin."""
    inputs = "-f lavfi -i testsrc2=s=64x48:r=25:d=20 -f lavfi -i sine=440:r=48000:d=20"
    films.run_ffmpeg(*f"{inputs} {H264} -bf 2 -g 50 -c:a aac".split(), path.with_name("whole.mkv"))
    whole = path.with_name("whole.mkv")
    offsets = ("-itsoffset", str(picture), "-i", whole, "-itsoffset", str(sound), "-i", whole)
    films.run_ffmpeg(*offsets, *["-map", "0:v", "-map", "1:a", "-c", "copy"], path)
    return path


@pytest.mark.parametrize("name", ["film.mp4", "film.mkv"])
def test_sound_that_begins_late_begins_with_silence(name: str, tmp_path: Path) -> None:
    path = late(tmp_path / name, 0, 7)
    assert spans(path) == {"video": pytest.approx(27, abs=0.1), "audio": pytest.approx(27, abs=0.1)}
    packets = films.packets(write_out(path, "audio", tmp_path / "out"), "a")
    assert packets[0].pts == pytest.approx(0, abs=0.001)
    assert max(b.pts - a.pts for a, b in pairwise(packets)) < 0.06
    # The file's packets are where ffprobe finds them.
    ours = {one.digest: one.pts for one in packets}
    source = films.packets(path, "a:0")[5:]
    assert max(abs(ours[one.digest] - one.pts) for one in source) < 0.002
    loud = volumes(tmp_path / "out" / name / "audio" / "media.m3u8")
    assert max(loud[:6]) < -85
    assert min(loud[8:26]) > -30


@pytest.mark.parametrize("name", ["film.mp4", "film.mkv"])
def test_a_picture_that_begins_late_is_shown_from_the_begin(name: str, tmp_path: Path) -> None:
    path = late(tmp_path / name, 15, 0)
    assert spans(path) == {"video": pytest.approx(35, abs=0.1), "audio": pytest.approx(35, abs=0.1)}
    out = write_out(path, "video", tmp_path / "out")
    packets, source = films.packets(out, "v"), films.packets(path, "v:0")
    assert {one.digest for one in packets} == {one.digest for one in source}
    assert min(one.pts for one in packets) == pytest.approx(0, abs=0.001)
    # Until its own time the first picture is there, in key frames of six seconds at most.
    keys = [one.pts for one in packets if one.key]
    assert max(b - a for a, b in pairwise(keys)) <= 8
    shown = sorted(packets, key=lambda one: one.pts)
    assert {one.digest for one in shown if one.pts < 14.9} == {source[0].digest}
    theirs = sorted(source, key=lambda one: one.pts)[60:]
    ours = shown[-len(theirs) :]
    assert [one.digest for one in ours] == [one.digest for one in theirs]
    assert max(abs(a.pts - b.pts) for a, b in zip(ours, theirs, strict=True)) < 0.002


@pytest.mark.clause("RFC 8216bis §6.2.4")
@pytest.mark.parametrize("longer", [1, 5, 13])
def test_renditions_of_different_length_are_one_title_that_lasts_as_long_as_the_longest(
    longer: int, tmp_path: Path
) -> None:
    for size, seconds in (("64x48", 20), ("128x96", 20 + longer)):
        inputs = f"-f lavfi -i testsrc2=s={size}:r=25:d={seconds} -f lavfi -i sine=440:r=48000:d={seconds}"
        name = f"film.{size.partition('x')[2]}p.mp4"
        films.run_ffmpeg(*f"{inputs} {H264} -bf 2 -g 50 -sc_threshold 0 -c:a aac".split(), tmp_path / name)
    short, long = tmp_path / "film.48p.mp4", tmp_path / "film.96p.mp4"
    titles = titles_of(short)
    master = m3u8.loads(titles.multivariant_playlist("film"))
    copied = [one.uri for one in master.playlists if "-" not in one.uri.split("/")[2].split("-until-")[0]]
    names = [uri.removeprefix("../").split("/")[:2] for uri in copied]
    assert len(names) == 2
    assert names[1] == [long.name, "video"]
    told = [m3u8.loads(titles.media_playlist(*one)) for one in names]
    for one, other in zip(*(one.segments for one in told), strict=True):
        assert one.duration == pytest.approx(other.duration, abs=0.002)
    assert sum(one.duration for one in told[0].segments) == pytest.approx(20 + longer, abs=0.05)
    (sound,) = {one.uri for one in master.media if "aac" not in one.uri}
    assert sound.startswith(f"../{long.name}/")
    # The shorter one's own pictures, and then the last of them until the end.
    packets = films.packets(write_out(short, names[0][1], tmp_path / "out"), "v")
    source = films.packets(short, "v:0")
    assert {one.digest for one in packets} == {one.digest for one in source}
    last = max(source, key=lambda one: one.pts)
    held = [one for one in packets if one.pts > 20.3]
    assert max(one.pts for one in packets) <= 20 + longer
    if longer > 2:
        assert last.digest in {one.digest for one in held}
    assert spans(short)["video"] == pytest.approx(20, abs=0.05)
    manifest = titles.manifest("film").decode()
    assert f'mediaPresentationDuration="PT{20 + longer}' in manifest
    assert f"{short.name}/{names[0][1]}/" in manifest


def test_renditions_with_other_key_frames_are_refused_whatever_their_length(tmp_path: Path) -> None:
    for name, words in {"film.48p.mp4": "-t 20 -g 50", "film.96p.mp4": "-t 22 -g 40"}.items():
        inputs = "-f lavfi -i testsrc2=s=64x48:r=25:d=30"
        films.run_ffmpeg(*f"{inputs} {words} {H264} -sc_threshold 0".split(), tmp_path / name)
    with pytest.raises(UnsupportedError, match="their key frames aren't at the same times"):
        titles_of(tmp_path / "film.48p.mp4").multivariant_playlist("film")


@pytest.mark.parametrize(
    "told",
    ["", "0", "20000", "19000", "21000-20500", "999999999", "21000-", "-1", "a", "-".join(["21000"] * 99)],
)
def test_no_track_is_found_by_times_that_are_none_of_its(told: str) -> None:
    path = made("until.mp4", f"{H264} -g 50 -an", "r=25:d=20")
    with pytest.raises(NotFoundError):
        titles_of(path).media_playlist(path.name, f"video-until-{told}")
