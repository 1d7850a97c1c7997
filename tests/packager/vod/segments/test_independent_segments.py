"""That segments can be decoded alone is said where it is so, as ffmpeg finds that decodes each alone."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import m3u8
import pytest

from media.errors import UnsupportedError
from origin.server.endpoints.library_list import describe_title
from packager.concurrency import background_task
from packager.export.export import export
from packager.library.catalogue import Catalogue, LibraryTitle, PackagingFacts
from packager.library.file_listing import ListedFolder
from packager.library.local_storage import Library
from packager.vod import Titles
from packager.vod.index.index_builder import read_index
from packager.vod.segments.independent_segments import READS_PER_SEGMENT, segment_starts
from tests.packager.films import FFMPEG, FFPROBE, run_ffmpeg
from tests.packager.vod.vod_titles import titles_of, write_out

MPD = "{urn:mpeg:dash:schema:mpd:2011}"
X264 = ("-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-g", "20", "-bf", "3")
X265 = ("-c:v", "libx265", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "20", "-tag:v", "hvc1")

FILMS: dict[str, tuple[tuple[str, ...], int]] = {
    "closed.mp4": ((*X264, "-x264-params", "scenecut=0"), 1),
    "open.mp4": ((*X264, "-x264-params", "open-gop=1:scenecut=0"), 0),
    "refresh.mp4": ((*X264, "-x264-params", "intra-refresh=1:scenecut=0"), 0),
    "hevc-open.mp4": ((*X265, "-x265-params", "open-gop=1:scenecut=0:log-level=none"), 0),
    "hevc-closed.mp4": ((*X265, "-x265-params", "open-gop=0:scenecut=0:log-level=none"), 1),
    "radl.mp4": ((*X265, "-x265-params", "open-gop=0:radl=2:min-keyint=20:scenecut=0:log-level=none"), 2),
    "hevc-no-b.mp4": ((*X265, "-x265-params", "open-gop=1:bframes=0:scenecut=0:log-level=none"), 1),
    "vp9.mp4": (("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-g", "20"), 1),
    "av1.mp4": (("-c:v", "libaom-av1", "-cpu-used", "8", "-usage", "realtime", "-g", "20"), 1),
}  # fmt: skip
"""What ffmpeg makes them by, and the type of stream access point that segments begin with; 0 for none."""


def make(path: Path, *words: str, seconds: int = 14, rate: int = 10) -> Path:
    picture = f"testsrc2=size=160x90:rate={rate}:duration={seconds}"
    run_ffmpeg("-f", "lavfi", "-i", picture, *words, path)
    return path


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("starts")

    def made(name: str) -> Path:
        path = folder / name
        return path if path.exists() else make(path, *FILMS[name][0])

    return made


def frames(path: Path) -> list[str]:
    """The digests of all pictures that ffmpeg decodes, as they are shown."""
    argv = [FFMPEG, "-nostdin", "-v", "fatal", "-i", str(path)]
    argv += ["-f", "framemd5", "-vsync", "passthrough", "-"]
    said = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=True).stdout
    return [line.rpartition(",")[2].strip() for line in said.splitlines() if not line.startswith("#")]


def decodes_alone(path: Path, folder: Path) -> bool:
    """Decode each segment alone, as if it were the first, and compare with the whole."""
    playlist = write_out(path, "video", folder)
    alone: list[str] = []
    for segment in m3u8.load(str(playlist)).segments:
        joined = playlist.parent / "alone.mp4"
        init = (playlist.parent / segment.init_section.uri).read_bytes()
        joined.write_bytes(init + (playlist.parent / segment.uri).read_bytes())
        alone += frames(joined)
    return alone == frames(path)


@pytest.mark.parametrize("name", FILMS)
def test_what_is_said_of_segments_is_what_ffmpeg_finds(
    name: str, film: Callable[[str], Path], tmp_path: Path
) -> None:
    path, expected = film(name), FILMS[name][1]
    titles = titles_of(path)
    text = titles.multivariant_playlist(name)
    assert m3u8.loads(text).is_independent_segments is (expected > 0)
    shown = next(ElementTree.fromstring(titles.manifest(name)).iter(f"{MPD}AdaptationSet"))
    assert shown.get("startWithSAP") == (str(expected) if expected else None)
    assert decodes_alone(path, tmp_path) is (expected > 0)


def test_the_same_is_said_ahead_of_time(film: Callable[[str], Path], tmp_path: Path) -> None:
    for name, independent in (("closed.mp4", True), ("open.mp4", False)):
        (master,) = export([film(name)], tmp_path).require()
        assert ("#EXT-X-INDEPENDENT-SEGMENTS" in master.read_text()) is independent


def test_only_a_few_bytes_of_each_segment_are_read_and_only_once(film: Callable[[str], Path]) -> None:
    path = film("closed.mp4")
    data, calls = path.read_bytes(), list[int]()

    def read(offset: int, length: int) -> bytes:
        calls.append(length)
        return data[offset : offset + length]

    index = read_index(read, len(data))
    calls.clear()
    assert segment_starts(index, read).independent
    assert index.video is not None
    assert len(calls) <= READS_PER_SEGMENT * len(index.video.sizes)
    assert max(calls) <= 256


def test_samples_of_something_else_make_no_claim_and_soon_end(film: Callable[[str], Path]) -> None:
    path = film("closed.mp4")
    data = path.read_bytes()
    index = read_index(lambda offset, length: data[offset : offset + length], len(data))
    for filling in (b"\0", b"\xff", b"\0\0\0\2", b""):
        calls = 0

        def read(offset: int, length: int, filling: bytes = filling) -> bytes:
            nonlocal calls
            calls += 1
            return (filling * length)[:length]

        assert not segment_starts(index, read).independent
        assert calls <= READS_PER_SEGMENT * 4


def renditions(folder: Path, *settings: tuple[int, int, int]) -> Titles:
    """Make a title's files: height, distance of key frames, frames per second."""
    for height, distance, rate in settings:
        words = ("-g", str(distance), "-x264-params", "scenecut=0", "-vf", f"scale=-2:{height}")
        make(folder / f"film.{height}p.mp4", *X264, *words, rate=rate)
    return Titles(Library(folder))


def test_renditions_whose_cuts_differ_are_no_title_and_it_is_said_where(tmp_path: Path) -> None:
    titles = renditions(tmp_path, (90, 20, 10), (180, 24, 10))
    for ask in (titles.multivariant_playlist, titles.manifest):
        with pytest.raises(UnsupportedError) as refusal:
            ask("film")
        said = str(refusal.value)
        assert "film.90p.mp4 and film.180p.mp4 aren't renditions of one title" in said
        assert "segment 1 at 6.000 s and segment 1 at 4.800 s" in said
    with pytest.raises(UnsupportedError, match=r"film\.90p\.mp4 and film\.180p\.mp4"):
        export(sorted(tmp_path.glob("*.mp4")), tmp_path / "out").require()


async def test_the_library_knows_of_each_title_that_is_asked_for_whether_it_is_one(tmp_path: Path) -> None:
    asked: list[str] = []
    for name, distance in (("one", 20), ("other", 24)):
        (tmp_path / name).mkdir()
        titles = renditions(tmp_path / name, (90, 20, 10), (180, distance, 10))
    titles = Titles(Library(tmp_path))

    def obstacle(path: str) -> str | None:
        found = titles.facts.obstacle(path)  # which is repeated once the film has its index
        asked.append(path)
        return found

    catalogue = Catalogue(ListedFolder(tmp_path), None, PackagingFacts(obstacle))
    (unknown, *_) = (await catalogue.page(count=1, patience=0)).items
    assert isinstance(unknown, LibraryTitle)
    told = describe_title(unknown)
    assert (told["hls"], told["obstacle"], told["playable"]) == (None, None, None)
    async with background_task(catalogue.run()):
        for _ in range(2):
            (one,) = (await catalogue.page(count=1, patience=None)).items
            assert isinstance(one, LibraryTitle)
            told = describe_title(one)
            assert (told["hls"], told["obstacle"]) == ("/vod/one/film/master.m3u8", None)
        # It and its files once, in the order of their indexes, and nothing of what is on other pages.
        assert sorted(asked) == ["one/film", "one/film.180p.mp4", "one/film.90p.mp4"]
        (other, *_) = (await catalogue.named("other/film", patience=None)).items
    assert isinstance(other, LibraryTitle)
    told = describe_title(other)
    assert told["hls"] is None
    assert "aren't renditions of one title" in str(told["obstacle"])
    assert told["media"] == "/media/other/film.180p.mp4", "which plays as a file"


def test_renditions_of_several_rates_and_clocks_whose_cuts_agree_are_one_title(tmp_path: Path) -> None:
    titles = renditions(tmp_path, (90, 20, 10), (180, 40, 20))
    shown = next(ElementTree.fromstring(titles.manifest("film")).iter(f"{MPD}AdaptationSet"))
    assert (shown.get("segmentAlignment"), len(list(shown.iter(f"{MPD}Representation")))) == ("true", 2)
    starts = [key_times(tmp_path / f"film.{height}p.mp4") for height in (90, 180)]
    assert starts[0] == pytest.approx(starts[1], abs=0.001)
    assert len(m3u8.loads(titles.multivariant_playlist("film")).playlists) == 2


def key_times(path: Path) -> list[float]:
    argv = [FFPROBE, "-v", "error", "-skip_frame", "nokey", "-select_streams", "v", "-show_entries"]
    argv += ["frame=pts_time", "-of", "csv=p=0", str(path)]
    said = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=True).stdout
    return [float(line.strip(",")) for line in said.split()]


def test_a_title_of_which_one_file_has_open_groups_claims_nothing(tmp_path: Path) -> None:
    make(tmp_path / "film.90p.mp4", *X264, "-x264-params", "scenecut=0")
    make(tmp_path / "film.180p.mp4", *X264, "-x264-params", "scenecut=0:open-gop=1")
    titles = Titles(Library(tmp_path))
    assert len(m3u8.loads(titles.multivariant_playlist("film")).playlists) == 2
    assert "INDEPENDENT" not in titles.multivariant_playlist("film")
    shown = next(ElementTree.fromstring(titles.manifest("film")).iter(f"{MPD}AdaptationSet"))
    assert shown.get("startWithSAP") is None
