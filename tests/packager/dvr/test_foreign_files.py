"""A data folder in which things lie that aren't ours: links, other people's files, pipes. All survive."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from packager.data_lock import DataLock
from packager.dvr.disk_rendition import DvrFolder
from packager.dvr.index import INDEX
from packager.dvr.own_files import erase_in
from packager.live.event_lifecycle import _forget
from packager.process.ffmpeg_discovery import Tools
from packager.recordings.disk_recordings import Recordings, Retention
from packager.safe_files import MAX_ASIDE_FOLDERS, DataFolder, NotOursError
from packager.window.model import LiveSegment
from packager.window.sequence_numbers import SequenceNumbers
from tests.conformance.handfed import NUMBER, Track
from tests.packager.recordings.recorded_channel import record
from tests.packager.station import PARTS, on_air
from tests.packager.stored_segments import contents, make_segments, store
from tests.patience import DVR

pytestmark = pytest.mark.timeout(300)

CANARIES = 200
NOBODY = 65534


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """Somebody's folder, with files that are named as ours are and others."""
    return make_outside(tmp_path / "outside")


def make_outside(folder: Path) -> Path:
    folder.mkdir()
    for number in range(CANARIES):
        (folder / f"{NUMBER + number}.m4s").write_bytes(b"\0\0\0\x10moof" + os.urandom(30))
    (folder / "init-1.mp4").write_bytes(b"\0\0\0\x10ftypiso5" + os.urandom(30))
    (folder / "letter.txt").write_text("dear")
    (folder / f"{NUMBER}.m4s.tmp").write_bytes(b"mine")
    (folder / "holiday.tmp").write_bytes(b"mine too")
    (folder / "inner").mkdir()
    (folder / "inner" / "photo.jpg").write_bytes(b"jpeg")
    return folder


@pytest.mark.parametrize("level", ["live", "live/test", "live/test/dvr", "live/test/dvr/240p"])
async def test_what_a_link_leads_to_is_not_touched_and_the_channel_goes_on(
    level: str,
    tmp_path: Path,
    outside: Path,
    material: dict[str, Track],
    tools: Tools,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data, before = tmp_path / "data", contents(outside)
    link = data / level
    link.parent.mkdir(parents=True)
    link.symlink_to(outside)
    place = DataFolder(data) / "live" / "test"
    limits = DVR if level.endswith("240p") else replace(DVR, drain_seconds=0.01)
    with capture_logs() as logs:
        async with on_air(place, material, tools, monkeypatch, limits=limits) as station:
            await station.segment(3, stored=False)
            assert len(station.window.listed) == 3
            assert (
                f"{link}: a link or no folder is where a folder of ours is to be" in station.archive.trouble
            )
            if level.endswith("240p"):
                # Only this rendition has no DVR.
                await station.archive.settle()
                assert len(list((data / "live/test/dvr/audio").glob("*.m4s"))) == 3
    assert contents(outside) == before
    assert link.readlink() == outside
    assert len([line for line in logs if line["log_level"] == "warning"]) == 1


async def test_the_configured_folder_itself_may_be_a_link(
    tmp_path: Path, material: dict[str, Track], tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "data").symlink_to(tmp_path / "disk")
    place = DataFolder(tmp_path / "data") / "live" / "test"
    async with on_air(place, material, tools, monkeypatch) as station:
        await station.segment(2)
        before = station.bytes_of("240p")
    async with on_air(place, material, tools, monkeypatch, number=NUMBER + 2) as station:
        assert station.bytes_of("240p") == before
    assert len(list((tmp_path / "disk/live/test/dvr/240p").glob("*.m4s"))) == 2


@pytest.fixture
def segments(material: dict[str, Track]) -> list[LiveSegment]:
    return make_segments(material["240p"], 12)


@pytest.mark.parametrize("is_index_linked", [False, True])
def test_a_segment_or_an_index_that_leads_elsewhere_is_neither_read_nor_written_nor_removed(
    is_index_linked: bool, tmp_path: Path, outside: Path, segments: list[LiveSegment]
) -> None:
    path = tmp_path / "240p"
    store(path, segments[:6])
    precious = outside / "precious"
    precious.write_bytes(segments[2].data)
    before = contents(outside)
    replace_by(path / f"{NUMBER + 2}.m4s", lambda place: place.symlink_to(precious))
    replace_by(path / f"{NUMBER + 3}.m4s", lambda place: os.link(outside / "letter.txt", place))
    if is_index_linked:
        replace_by(path / INDEX, lambda place: os.link(outside / "letter.txt", place))
    (path / f"{NUMBER + 6}.m4s").symlink_to(precious)
    (path / f"init-{NUMBER}.mp4.tmp").symlink_to(precious)
    folder = DvrFolder(path)
    left = set() if is_index_linked else {NUMBER, NUMBER + 1, NUMBER + 4, NUMBER + 5}
    assert set(folder.load().lines) == left
    for segment in segments[6:]:
        folder.store(segment, 0)
    for segment in segments:
        folder.remove(segment.number, len(segment.data))
    folder.tidy([NUMBER])
    assert contents(outside) == before
    assert os.readlink(path / "aside" / "1" / f"{NUMBER + 2}.m4s") == str(precious)


def replace_by(place: Path, make: Callable[[Path], object]) -> None:
    place.unlink()
    make(place)


def test_only_files_of_the_length_that_we_wrote_are_removed(
    tmp_path: Path, segments: list[LiveSegment]
) -> None:
    path = tmp_path / "240p"
    store(path, segments)
    folder = DvrFolder(path)
    folder.load()
    for segment in segments[:3]:
        (path / f"{segment.number}.m4s").write_bytes(b"mine now")
    (path / f"{segments[3].number}.m4s").unlink()
    (path / f"{segments[3].number}.m4s").mkdir()
    for segment in segments:
        folder.remove(segment.number, len(segment.data))
    left = {path.name: path.is_dir() or path.read_bytes() for path in path.glob("*.m4s")}
    assert left == {f"{one.number}.m4s": b"mine now" for one in segments[:3]} | {
        f"{segments[3].number}.m4s": True
    }


def test_with_a_folder_only_files_of_the_length_that_we_wrote_are_removed(
    tmp_path: Path, segments: list[LiveSegment]
) -> None:
    path = tmp_path / "240p"
    store(path, segments)
    mine = path / f"{segments[1].number}.m4s"
    mine.write_bytes(b"mine now")
    with DataFolder(tmp_path).open() as folder:
        assert not erase_in(folder, "240p")
    assert contents(path) == {mine.name: ("file", b"mine now")}


def test_a_folder_that_holds_other_peoples_files_keeps_them_all(
    tmp_path: Path, segments: list[LiveSegment]
) -> None:
    """Not one of them is deleted, at no start; and no number that they have is in the way."""
    path = make_outside(tmp_path / "240p")
    kinds = sorted(contents(path).values())
    for start in range(MAX_ASIDE_FOLDERS + 4):
        (path / f"{start}.m4s").write_bytes(b"%d" % start)
        kinds = sorted([*kinds, ("file", b"%d" % start)])
        folder = DvrFolder(path)
        assert not folder.load().lines or start > 0
        if start == 0:
            for segment in segments:
                folder.store(segment, 0)
    after = [one for one in contents(path).values() if one[0] != "d"]
    for one in kinds:
        assert one[0] == "d" or one in after
    assert len(list((path / "aside").iterdir())) == MAX_ASIDE_FOLDERS
    assert folder.faults.stuck
    assert "look into them" in folder.faults.places[0]
    assert list(folder.load().lines) == [one.number for one in segments]


def test_a_file_that_comes_under_a_name_of_ours_later_is_moved_out_of_the_way(
    tmp_path: Path, segments: list[LiveSegment]
) -> None:
    path = tmp_path / "240p"
    folder = DvrFolder(path)
    folder.load()
    (path / f"{NUMBER}.m4s").write_bytes(b"mine")
    (path / f"init-{NUMBER}.mp4").write_bytes(b"mine, too")
    folder.store(segments[0], 0)
    assert (path / f"{NUMBER}.m4s").read_bytes() == segments[0].data
    kept = {place.name: place.read_bytes() for place in path.glob("aside/*/*")}
    assert kept == {f"{NUMBER}.m4s": b"mine", f"init-{NUMBER}.mp4": b"mine, too"}


KINDS: dict[str, Callable[[Path], object]] = {
    "pipe": os.mkfifo,
    "folder": lambda place: (place / "mine").mkdir(parents=True),
    "link": lambda place: place.symlink_to("/etc/passwd"),
    "dangling link": lambda place: place.symlink_to(place.parent / "nothing"),
}


@pytest.mark.parametrize("kind", KINDS)
async def test_whatever_lies_where_a_file_of_ours_should_be_a_channel_starts(
    kind: str, tmp_path: Path, material: dict[str, Track], tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with on_air(tmp_path, material, tools, monkeypatch) as station:
        await station.segment(3)
        before = {name: station.bytes_of(name) for name in PARTS}
    names = ("dvr/240p/index", "dvr/audio/index", "dvr/cadence", "number", "ended")
    for name in names:
        (tmp_path / name).unlink(missing_ok=True)
        KINDS[kind](tmp_path / name)
    things = {contents(tmp_path)[name] for name in names}
    async with on_air(tmp_path, material, tools, monkeypatch, number=NUMBER + 3) as station:
        await station.channel._gap_schedule.load_numbers()
        assert await station.channel.live_event.load_ending() is None
        await station.segment()
        # Without their indexes the segments before are aside.
        assert {name: set(station.bytes_of(name)) for name in PARTS} == {name: {NUMBER + 3} for name in PARTS}
        await asyncio.to_thread(station.channel._numbers.reserve, NUMBER + 9)
    after = contents(tmp_path)
    aside = [name for name in after if "/aside/" in f"/{name}" and name.count("/") - name.count("dvr/") < 5]
    assert things <= {after[name] for name in aside}
    stored = {("file", data) for segments in before.values() for data in segments.values()}
    assert stored <= {after[name] for name in after if "/aside/1/" in name}
    again = SequenceNumbers(tmp_path)
    await asyncio.to_thread(again.load)
    assert again.reserved > NUMBER + 9


@pytest.mark.parametrize("kind", KINDS)
def test_a_lock_that_is_no_file_is_told_in_one_line(kind: str, tmp_path: Path) -> None:
    KINDS[kind](tmp_path / "lock")
    before = contents(tmp_path)
    with pytest.raises(
        NotOursError, match=r"lock: there is no regular file here, where one is needed; move it away"
    ):
        DataLock(tmp_path).acquire()
    assert contents(tmp_path) == before
    assert not (tmp_path / "nothing").exists()


async def test_an_event_that_is_forgotten_takes_nobody_elses_files_with_it(
    tmp_path: Path, material: dict[str, Track], tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        async with on_air(tmp_path, material, tools, monkeypatch) as station:
            await station.segment(2)
        (tmp_path / "dvr" / "240p" / "letter.txt").write_text("dear")
        (tmp_path / "dvr" / "240p" / "7.m4s").write_text("7")
        make_outside(tmp_path / "dvr" / "backup")
        (tmp_path / "dvr" / "more").symlink_to(tmp_path / "dvr" / "backup")
        backup = contents(tmp_path / "dvr" / "backup")
        await asyncio.to_thread(_forget, DataFolder(tmp_path), 16)
        assert contents(tmp_path / "dvr" / "backup") == backup
        assert not (tmp_path / "dvr" / "240p").exists()
        for thing in (tmp_path / "dvr" / "backup", tmp_path / "dvr" / "more"):
            thing.rename(tmp_path / f"{thing.name}-{time.monotonic_ns()}")
    left = [name for name, (kind, _) in contents(tmp_path / ".gone").items() if kind == "file"]
    assert left == [f"240p{end}/{name}" for end in ("", "-1", "-2") for name in ("7.m4s", "letter.txt")]


async def test_a_recording_that_is_removed_takes_nobody_elses_files_with_it(
    tmp_path: Path, material: dict[str, Track], tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = await record(tmp_path, material, tools, monkeypatch)
    outside = make_outside(tmp_path / "outside")
    (recording.path / "letter.txt").write_text("dear")
    (recording.path / "240p" / "notes").mkdir()
    (recording.path / "240p" / "notes" / "mine.m4s").write_text("mine")
    (recording.path / "more").symlink_to(outside)
    (recording.path / "audio" / "5.m4s").symlink_to(outside / "letter.txt")
    for name in (".cache", ".Trash-1000", "20260101T000000Z"):
        (tmp_path / "recordings" / name).mkdir()
        (tmp_path / "recordings" / name / "mine").write_text("mine")
    (tmp_path / "recordings" / ".20270101T000000Z").symlink_to(outside)
    (tmp_path / "recordings" / "20270101T000000Z").symlink_to(recording.path)
    before = contents(outside)
    recordings = Recordings(tmp_path / "recordings", "test", Retention(seconds=3600))
    await recordings.load()
    assert [one.metadata.id for one in recordings] == [recording.metadata.id]
    await recordings.expire(recording.metadata.end + 3601)
    assert not recording.path.exists()
    again = Recordings(tmp_path / "recordings", "test", Retention(seconds=3600))
    await again.load()
    assert contents(outside) == before
    left = contents(tmp_path / "recordings")
    assert sorted(name for name, (kind, _) in left.items() if kind != "d") == [
        f".{recording.metadata.id}/240p/notes/mine.m4s",
        f".{recording.metadata.id}/audio/5.m4s",
        f".{recording.metadata.id}/letter.txt",
        f".{recording.metadata.id}/more",
        ".20270101T000000Z",
        ".Trash-1000/mine",
        ".cache/mine",
        "20260101T000000Z/mine",
        "20270101T000000Z",
    ]


async def test_what_was_cut_for_other_times_before_that_is_removed_only_as_far_as_it_is_ours(
    tmp_path: Path, material: dict[str, Track], tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    for start, duration in enumerate((0.25, 0.5, 0.25)):
        async with on_air(
            tmp_path, material, tools, monkeypatch, number=NUMBER + 9 * start, part_duration=duration
        ) as station:
            await station.segment(2) if duration == 0.25 else None
            assert station.window.next_number == NUMBER + 9 * start + 2 * (duration == 0.25)
        (tmp_path / "dvr" / "240p" / f"letter{start}.txt").write_text("dear")
    former = contents(tmp_path / "dvr" / "former")
    assert former["240p/letter0.txt"] == ("file", b"dear")
    assert former["240p-1/letter1.txt"] == ("file", b"dear")
    assert not [name for name in former if name.endswith((".m4s", ".mp4"))], "of that there is one generation"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_as_another_user_the_same_holds(segments: list[LiveSegment]) -> None:
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        base.chmod(0o777)
        outside = make_outside(base / "outside")
        for place in (outside, *outside.rglob("*")):
            os.chown(place, NOBODY, NOBODY)
        before = contents(outside)

        def work() -> None:
            (base / "data").mkdir()
            (base / "data" / "240p").symlink_to(outside)
            try:
                DvrFolder(DataFolder(base / "data") / "240p").load()
            except NotOursError:
                pass
            else:
                raise AssertionError
            path = base / "data" / "360p"
            store(path, segments)
            (path / f"{NUMBER + 2}.m4s").unlink()
            (path / f"{NUMBER + 2}.m4s").symlink_to(outside / "letter.txt")
            assert len(DvrFolder(path).load().lines) == len(segments) - 1

        assert as_nobody(work) == 0
        assert contents(outside) == before


def as_nobody(work: Callable[[], None]) -> int:
    """Do something in a process of another user; give its exit status."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            work()
            status = 0
        except BaseException as error:  # noqa: BLE001
            sys.stderr.write(repr(error))
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
