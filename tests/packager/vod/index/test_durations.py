"""How long playlists and manifests say that a film is: as long as ffprobe says; or it is refused."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import m3u8
import pytest

from media.errors import MalformedError
from packager.export.export import export
from packager.library.local_storage import Library
from packager.vod import Titles
from tests.packager import films
from tests.packager.films import packets, probe, run_ffmpeg
from tests.packager.vod.movie.signalled_films import manifest
from tests.packager.vod.vod_titles import assert_same_packets, titles_of, without_fill, write_out

FRAME = 0.04

SHIFTS = {
    "both tracks": ("-itsoffset", "1", "-i", "FILM", "-map", "0"),
    "the picture": ("-itsoffset", "1", "-i", "FILM", "-i", "FILM", "-map", "0:v", "-map", "1:a"),
    "the sound": ("-i", "FILM", "-itsoffset", "1", "-i", "FILM", "-map", "0:v", "-map", "1:a"),
    "nothing": ("-i", "FILM", "-map", "0"),
}


@pytest.fixture(scope="module", params=SHIFTS)
def shifted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film in which an edit list lets some of it begin a second late."""
    path = tmp_path_factory.mktemp("shifted") / "film.mp4"
    source = str(films.film("bframes.mp4"))
    words = [source if word == "FILM" else word for word in SHIFTS[request.param]]
    run_ffmpeg(*words, "-c", "copy", path)
    return path


@pytest.mark.clause("RFC 8216bis §6.2.4")
def test_each_playlist_lasts_until_the_film_ends(shifted: Path, tmp_path: Path) -> None:
    titles, lengths = titles_of(shifted), []
    whole = float(probe(shifted, "-show_format")["format"]["duration"])
    for track, stream in (("video", "v:0"), ("audio", "a:0")):
        playlist = m3u8.loads(titles.media_playlist(shifted.name, track))
        lengths.append(sum(segment.duration for segment in playlist.segments))
        assert lengths[-1] == pytest.approx(whole, abs=FRAME)
        assert all(round(segment.duration) <= playlist.target_duration for segment in playlist.segments)
        theirs = packets(shifted, stream)
        ours = without_fill(packets(write_out(shifted, track, tmp_path), stream[0]), theirs)
        assert [packet.digest for packet in ours] == [packet.digest for packet in theirs]
        # Of a picture that begins late, the first one is shown before.
        assert ours[0].pts == pytest.approx(0 if track == "video" else theirs[0].pts, abs=1e-5)
        assert [one.pts for one in ours[1:]] == pytest.approx([one.pts for one in theirs[1:]], abs=1e-5)
    told = manifest(shifted).get("mediaPresentationDuration", "")
    assert float(told.removeprefix("PT").removesuffix("S")) == pytest.approx(whole, abs=FRAME)


def test_segments_of_one_number_begin_together_in_all_playlists(shifted: Path) -> None:
    titles = titles_of(shifted)
    starts = []
    for track in ("video", "audio"):
        offered = titles.segments.track(shifted.name, track)
        time, found = 0.0, []
        for duration in offered.durations:
            found.append(time)
            time += float(duration)
        starts.append(found)
        # where the playlist has them is where their media are
        media = [float(tick) / offered.timescale for tick in offered.times[1:-1]]
        assert found[1:] == pytest.approx(media, abs=1e-6)
    assert starts[0][:3] == pytest.approx(starts[1][:3], abs=0.1)


def test_a_film_that_was_not_loaded_to_its_end_is_refused_as_a_whole(tmp_path: Path) -> None:
    whole = films.film("bframes.mp4").read_bytes()  # its index is in front
    (tmp_path / "film.mp4").write_bytes(whole[: len(whole) // 2])
    titles = Titles(Library(tmp_path))
    for ask in (titles.multivariant_playlist, titles.manifest):
        with pytest.raises(MalformedError, match=f"cut short: it has {len(whole) // 2} of [0-9]+ bytes"):
            ask("film.mp4")
    assert "cut short" in str(titles.facts.obstacle("film.mp4"))
    with pytest.raises(MalformedError, match="cut short"):
        export([tmp_path / "film.mp4"], tmp_path / "out").require()
    (tmp_path / "film.mp4").write_bytes(whole)
    assert titles.multivariant_playlist("film.mp4")


@pytest.mark.parametrize("track", ["video", "audio"])
def test_a_film_of_which_a_part_in_the_middle_lies_behind_its_end_is_refused_as_a_whole(
    track: str, tmp_path: Path
) -> None:
    data = films.film("bframes.mp4").read_bytes()
    tables = [found.start() for found in re.finditer(b"stco", data)]
    table = tables[0 if track == "video" else 1]
    chunks = int.from_bytes(data[table + 8 : table + 12], "big")
    middle = table + 12 + 4 * (chunks // 2)
    lost = data[:middle] + len(data).to_bytes(4, "big") + data[middle + 4 :]
    (tmp_path / "film.mp4").write_bytes(lost)
    with pytest.raises(MalformedError, match=f"cut short: it has {len(data)} of [0-9]+ bytes"):
        titles_of(tmp_path / "film.mp4").multivariant_playlist("film.mp4")


def test_chunks_may_lie_in_any_order(tmp_path: Path) -> None:
    path, data = tmp_path / "film.mp4", films.film("moovlast.mp4").read_bytes()
    place = data.index(b"stco") + 12  # of the video's first chunk, which lies between the sound's first two
    (video,) = struct.unpack_from(">I", data, place)
    _, sound = struct.unpack_from(">II", data, data.rindex(b"stco") + 12)
    # A copy of that chunk is put behind everything else, and named in its place.
    moved = data[:place] + struct.pack(">I", len(data)) + data[place + 4 :] + data[video:sound]
    path.write_bytes(moved)
    assert_same_packets(path, tmp_path / "out", "video", "v:0")
    assert titles_of(path).multivariant_playlist("film.mp4")
    path.write_bytes(moved[:-1])
    with pytest.raises(MalformedError, match=f"cut short: it has {len(moved) - 1} of {len(moved)} bytes"):
        titles_of(path).multivariant_playlist("film.mp4")
