"""I-frames of clips: those within the clip, and from its beginning the one that the film showed last."""

from __future__ import annotations

import subprocess
from fractions import Fraction
from pathlib import Path
from xml.etree import ElementTree

import m3u8
import pytest

from media.mp4.boxes import walk
from packager.library.local_storage import Library, NotFoundError
from packager.vod import Titles
from packager.vod.index.file_index import OfferedTrack
from packager.vod.index.index_builder import read_index
from packager.vod.limits import TitleLimits
from packager.vod.movie.movie_reader import Read
from packager.vod.pictures.i_frame_file import IFrames, decodable_i_frames, marked_i_frames
from packager.vod.segments.clip import Clip, ClipError, clipped, read_clip, shown_bounds
from tests.packager import films
from tests.packager.films import FFMPEG, Packet, packets
from tests.packager.vod.opened_media import open_i_frames

DASH = "{urn:mpeg:dash:schema:mpd:2011}"
FILMS = ("bframes.mp4", "moovlast.mp4", "silent.mp4", "longgop.mp4", "hevc.mp4")
CLIPS = (("0.5", "3.25"), ("3.3", None), ("0", "2.04"), ("1.5", "1.7"), ("2", "6"))
FRAME = 1 / 24
"""Seconds of a picture of these films, at most."""


def titles_of(path: Path) -> Titles:
    return Titles(Library(path.parent))


def bounds_of(address: str) -> tuple[int, int]:
    """Give the times that the address of a clip's I-frames names."""
    _, begin, end = address.rpartition("/")[2].removesuffix(".mp4").split("-")
    return int(begin), int(end)


def i_frames(path: Path, clip: Clip) -> tuple[m3u8.M3U8, bytes]:
    """Give a clip's I-frame playlist and the resource of its byte ranges."""
    titles = titles_of(path)
    playlist = m3u8.loads(titles.i_frame_playlist(path.name, "video", clip))
    (address,) = {segment.uri for segment in playlist.segments}
    opened = open_i_frames(titles, path.name, "video", bounds_of(address))
    try:
        return playlist, opened.read(0, opened.size)
    finally:
        opened.close()


def byte_range(text: str) -> slice:
    length, _, offset = text.partition("@")
    return slice(int(offset), int(offset) + int(length))


def within(sync: list[Packet], clip: Clip) -> list[Packet]:
    """Choose the key frames of a clip by the times that ffprobe gives."""
    end = float("inf") if clip.end is None else float(clip.end)
    behind = [packet for packet in sync if float(clip.start) < packet.pts < end - 1e-6]
    before = [packet for packet in sync if packet.pts <= float(clip.start)]
    return [*before[-1:], *behind]


@pytest.mark.parametrize("name", FILMS)
@pytest.mark.parametrize(("start", "end"), CLIPS)
def test_a_clips_i_frames_are_the_films_within_it(
    name: str, start: str, end: str | None, tmp_path: Path
) -> None:
    path, clip = films.film(name), read_clip(start, end)
    wanted = within([packet for packet in packets(path, "v:0") if packet.key], clip)
    playlist, data = i_frames(path, clip)
    (tmp_path / "iframes.mp4").write_bytes(data)
    found = packets(tmp_path / "iframes.mp4", "v:0")
    assert [packet.digest for packet in found] == [packet.digest for packet in wanted]
    # The first one stands from the beginning of the clip, the others from their own times on.
    assert found[0].pts == pytest.approx(float(clip.start), abs=1e-3)
    for one, other in zip(found[1:], wanted[1:], strict=True):
        assert one.pts == pytest.approx(other.pts, abs=2e-6)
    assert playlist.is_i_frames_only
    assert len(playlist.segments) == len(wanted)
    for number, packet in enumerate(found[1:], 1):
        elapsed = sum(segment.duration for segment in playlist.segments[:number])
        # By the time of the clip's other segments, in which pictures may come first that are only decoded.
        assert elapsed - (packet.pts - float(clip.start)) == pytest.approx(0, abs=FRAME)


@pytest.mark.parametrize("name", FILMS)
@pytest.mark.parametrize(("start", "end"), CLIPS)
def test_a_clips_i_frames_last_as_long_as_its_video(name: str, start: str, end: str | None) -> None:
    path, clip = films.film(name), read_clip(start, end)
    playlist, data = i_frames(path, clip)
    video = m3u8.loads(titles_of(path).media_playlist(path.name, "video", clip))
    total = sum(segment.duration for segment in video.segments)
    assert sum(segment.duration for segment in playlist.segments) == pytest.approx(total, abs=1e-4)
    # RFC 8216bis §4.4.3.1
    assert playlist.target_duration == max(1, *(round(segment.duration) for segment in playlist.segments))
    assert len(data) == byte_range(playlist.segments[-1].byterange).stop


def test_each_byte_range_of_a_clips_i_frames_decodes_to_one_picture() -> None:
    playlist, data = i_frames(films.film("bframes.mp4"), read_clip("0.5", "3.25"))
    init = data[byte_range(playlist.segments[0].init_section.byterange)]
    for segment in playlist.segments:
        piece = data[byte_range(segment.byterange)]
        assert [box.kind for box in walk(piece)] == [b"moof", b"mdat"]
        argv = [FFMPEG, "-v", "error", "-i", "pipe:0", "-f", "framemd5", "-"]
        done = subprocess.run(argv, input=init + piece, capture_output=True, timeout=120, check=True)
        assert done.stderr == b""
        assert len([line for line in done.stdout.splitlines() if not line.startswith(b"#")]) == 1


def test_the_multivariant_playlist_of_a_clip_names_its_i_frames() -> None:
    path = films.film("bframes.mp4")
    clip = read_clip("1.5", "4")
    (listed,) = m3u8.loads(titles_of(path).multivariant_playlist(path.name, clip)).iframe_playlists
    assert listed.uri == "video/iframes.m3u8?start=1.5&end=4"
    playlist, _ = i_frames(path, clip)
    sizes = [int(segment.byterange.split("@")[0]) for segment in playlist.segments]
    seconds = [segment.duration for segment in playlist.segments]
    info = listed.iframe_stream_info
    assert info.average_bandwidth == pytest.approx(8 * sum(sizes) / sum(seconds), rel=0.02)
    assert info.bandwidth >= info.average_bandwidth


def test_the_trick_mode_set_of_a_clip_begins_with_it() -> None:
    path = films.film("bframes.mp4")
    clip = read_clip("1.5", "4")
    period = ElementTree.fromstring(titles_of(path).manifest(path.name, clip)).find(f"{DASH}Period")
    assert period is not None
    normal, *_, trick = period.findall(f"{DASH}AdaptationSet")
    essential = trick.find(f"{DASH}EssentialProperty")
    assert essential is not None
    assert essential.get("value") == normal.get("id")
    base, shown = next(trick.iter(f"{DASH}SegmentBase")), next(normal.iter(f"{DASH}SegmentList"))
    for attribute in ("presentationTimeOffset", "timescale"):
        assert base.get(attribute) == shown.get(attribute)
    playlist, data = i_frames(path, clip)
    assert trick.findtext(f".//{DASH}BaseURL") == f"video/{playlist.segments[0].uri}"
    first, _, last = (base.get("indexRange") or "").partition("-")
    assert [box.kind for box in walk(data[int(first) : int(last) + 1])] == [b"sidx", b"free"]
    assert byte_range(playlist.segments[0].byterange).start == int(last) + 1


def test_renditions_of_a_title_have_the_same_clips_i_frames(tmp_path: Path) -> None:
    for height in (180, 360):
        (tmp_path / f"film.{height}p.mp4").write_bytes(films.film("bframes.mp4").read_bytes())
    titles = Titles(Library(tmp_path))
    master = m3u8.loads(titles.multivariant_playlist("film", read_clip("1", "2")))
    assert [one.uri for one in master.iframe_playlists] == [
        f"../film.{height}p.mp4/video/iframes.m3u8?start=1&end=2" for height in (180, 360)
    ]


@pytest.mark.parametrize("bounds", [(0, 1 << 60), (5, 5), (9, 3), (1 << 59, 1 << 60)])
def test_a_stretch_that_the_film_does_not_have_has_no_i_frames(bounds: tuple[int, int]) -> None:
    path = films.film("bframes.mp4")
    titles = titles_of(path)
    with pytest.raises(NotFoundError):
        open_i_frames(titles, path.name, "video", bounds)
    with pytest.raises(NotFoundError):
        open_i_frames(titles, path.name, "audio", bounds)
    with pytest.raises(ClipError):
        titles.i_frame_playlist(path.name, "video", read_clip("99999", None))


def test_many_clips_leave_the_look_at_the_film_and_only_so_many_of_themselves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks: list[IFrames] = []

    def counted(track: OfferedTrack, marked: IFrames, read: Read) -> IFrames:
        looks.append(marked)
        return decodable_i_frames(track, marked, read)

    monkeypatch.setattr("packager.vod.film_pictures.decodable_i_frames", counted)
    path = films.film("bframes.mp4")
    titles = Titles(Library(path.parent), TitleLimits(i_frame_files=2))
    for end in range(10, 30):
        titles.i_frame_playlist(path.name, "video", Clip(Fraction(1, 2), Fraction(end, 10)))
    assert len(looks) == 1


def test_any_clip_of_any_film_has_i_frames_from_its_beginning_to_its_end() -> None:
    """Times at, before and behind each key frame, and clips that are shorter than a picture."""
    for name in ("bframes.mp4", "hevc.mp4", "late.mp4", "quicktime.mov"):
        films.film(name)
        with Library(films.folder()).open(name) as file:
            index = read_index(file.pread, file.size)
        assert index.video is not None
        frames = marked_i_frames(index.video)
        assert frames is not None
        boundaries = [float(time) / index.video.timescale for time in index.video.times]
        times = sorted({max(0.0, at + nudge) for at in boundaries for nudge in (-0.05, -1e-6, 0.0, 0.05)})
        for start, end in zip(times, times[1:] + times[:1], strict=True):
            clip = Clip(Fraction(round(start * 10**6), 10**6), Fraction(round(end * 10**6) + 1, 10**6))
            try:
                video = clipped(index, clip).video
            except ClipError:
                continue
            if video is None:
                continue
            begin, end = shown_bounds(video, clip)
            found = frames.within(begin, end)
            assert found is not None
            assert video.times[0] <= found.times[0] == begin
            asked = float(clip.start) * video.timescale
            assert begin == video.times[0] or begin == pytest.approx(asked, abs=1)
            assert found.times[-1] == end == video.times[-1]
            assert (found.times[1:] > found.times[:-1]).all()
