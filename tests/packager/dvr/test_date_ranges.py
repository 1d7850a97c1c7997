"""The date ranges of a DVR on disk and in S3: what all processes know of a span, and whatever happens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import obstore
import pytest
from obstore.store import S3Store

from media.hls.date_range import DateRange
from packager.dvr.date_ranges.date_range_objects import (
    DISK_FOLDER,
    FOLDER,
    FULL_BYTES,
    LOOK_SECONDS,
    TAGS_BEGIN,
    TAGS_TYPE,
    DateRangeObjects,
)
from packager.dvr.stores.file_stores import BucketStore, FileStore, FolderStore
from packager.past.stored_ranges import MAX_BYTES, MOST_LINES
from packager.s3.client import S3Client, UnavailableError
from packager.safe_files import DataFolder
from tests.packager.dvr.rendition_in_bucket import S3, MortalClient
from tests.s3_server import BUCKET, S3Proxy, S3Server

pytestmark = pytest.mark.timeout(300)

PLACE = "live/one/dvr"
SONG = DateRange("song", Fraction(1000), "c", client_attributes={"X-TITLE": "A"})
SHOW = DateRange("show", Fraction(900), planned_duration=Fraction(500))
JINGLE = DateRange("jingle", Fraction(1100), duration=Fraction(5))
END = replace(SONG, duration=Fraction(40), client_attributes={})


class Processes:
    """Opens the date ranges of one place as different processes do.

    Attributes:
        folder: of a DVR on disk.
        seconds: of their clock.
    """

    def __init__(self, folder: Path, address: str, store: S3Store | None) -> None:
        self.folder = folder
        self.address = address
        self.store = store
        self.seconds = 0.0

    def open(self, client: S3Client | None = None) -> DateRangeObjects:
        return DateRangeObjects(self.files(client), LOOK_SECONDS, self._clock, self._clock)

    def files(self, client: S3Client | None = None) -> FileStore:
        if self.store is None:
            return FolderStore(DataFolder(self.folder) / DISK_FOLDER, TAGS_BEGIN)
        return BucketStore(client or S3Client(self.address, S3), f"{PLACE}/{FOLDER}", TAGS_TYPE)

    def _clock(self) -> float:
        return self.seconds

    def sizes(self) -> dict[str, int]:
        return {one.name: one.size for page in self.files().list() for one in page}

    def put(self, name: str, data: bytes) -> None:
        if self.store is None:
            (self.folder / DISK_FOLDER).mkdir(exist_ok=True)
            (self.folder / DISK_FOLDER / name).write_bytes(data)
        else:
            obstore.put(self.store, f"{PLACE}/{FOLDER}/{name}", data)

    def later(self) -> None:
        self.seconds += LOOK_SECONDS


@pytest.fixture
def in_bucket(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    s3_server: S3Server,
    s3_proxy: S3Proxy,
    monkeypatch: pytest.MonkeyPatch,
) -> Processes:
    for name, value in s3_server.environment(s3_proxy.url).items():
        monkeypatch.setenv(name, value)
    place = f"ranges/{request.node.name}"
    return Processes(tmp_path, f"s3://{BUCKET}/{place}", s3_server.store(place))


@pytest.fixture(params=["disk", "S3"])
def processes(request: pytest.FixtureRequest, tmp_path: Path) -> Processes:
    if request.param == "disk":
        return Processes(tmp_path, "", None)
    found: Processes = request.getfixturevalue("in_bucket")
    return found


def lines(ranges: DateRangeObjects, begin: int, end: int) -> list[str]:
    return ranges.within(Fraction(begin), Fraction(end)).lines_within(Fraction(begin), Fraction(end))


def test_ranges_are_those_of_all_who_stored_in_the_order_in_which_they_began(processes: Processes) -> None:
    first, reader = processes.open(), processes.open()
    assert lines(reader, 0, 10**6) == []
    first.add([SHOW, SONG], Fraction(0))
    first.add([SONG], Fraction(0))
    assert lines(reader, 0, 10**6) == [], "it has looked just before"
    processes.later()
    assert lines(reader, 1050, 1060) == [str(SHOW), str(SONG)]
    assert [one.id for one in reader.going_on()] == ["show", "song"]
    second = processes.open()
    second.add([SONG, JINGLE, END], Fraction(0))
    first.add([SONG], Fraction(0))
    processes.later()
    for one in (first, second, reader, processes.open()):
        assert lines(one, 1050, 1060) == [str(SHOW)], "the song was over"
        assert lines(one, 1030, 1200) == [str(SHOW), str(SONG), str(JINGLE), str(END)]
        assert lines(one, 0, 900) == []
    assert len(processes.sizes()) == 2


def test_what_a_process_stored_before_it_was_killed_is_there_and_the_next_one_stores_the_rest(
    in_bucket: Processes,
) -> None:
    processes, client = in_bucket, MortalClient(in_bucket.address, S3)
    client.changes = 1
    dying = processes.open(client)
    dying.add([SHOW], Fraction(0))
    with pytest.raises(UnavailableError):
        dying.add([SONG], Fraction(0))
    following = processes.open()
    assert lines(following, 0, 10**6) == [str(SHOW)]
    following.add([SHOW, SONG], Fraction(0))
    assert lines(processes.open(), 0, 10**6) == [str(SHOW), str(SONG)]


def test_what_isnt_a_tag_takes_no_other_with_it_and_is_never_removed(processes: Processes) -> None:
    foreign: dict[str, Callable[[], bytes]] = {
        f"{7:015d}-7": lambda: b"\xff\n#EXT-X-DATERANGE:ID=\n" + f"{JINGLE}\n".encode(),
        f"{8:015d}-7": lambda: f"{JINGLE}\n#EXT-X-DATERANGE:ID=".encode(),
        f"{9:015d}-0": lambda: f"{SONG}\n".encode(),
        "holiday.jpg": lambda: b"not ours",
    }
    for name, data in foreign.items():
        processes.put(name, data())
    processes.put(f"{6:015d}-7", f"{JINGLE}\n".encode())
    one = processes.open()
    assert lines(one, 0, 10**6) == [str(JINGLE)]
    one.add([SHOW], Fraction(2000))
    assert lines(one, 0, 10**6) == [str(JINGLE), str(SHOW)]
    own = list(processes.sizes())
    assert {*foreign} == {*own} - {own[3]}
    assert f"{6:015d}-7" not in own


def test_ranges_that_are_over_give_way_and_the_oldest_where_there_are_too_many(processes: Processes) -> None:
    text = "x" * 30_000
    one = processes.open()

    def add(number: int, before: int) -> None:
        tag = DateRange(f"r{number}", Fraction(number), duration=Fraction(1), client_attributes={"X-T": text})
        one.add([tag], Fraction(before))

    one.add([SHOW], Fraction(0))
    for number in range(10):
        add(number, 0)
    assert len(processes.sizes()) == 5
    add(10, 8)
    add(11, 8)
    found = lines(processes.open(), 0, 10**6)
    assert found[0] == str(SHOW), "it goes on"
    assert [line.split('"')[1] for line in found[1:]] == [
        "r0",
        "r1",
        "r6",
        *(f"r{at}" for at in range(7, 12)),
    ]
    for number in range(12, 12 + MAX_BYTES // len(text) + 20):
        add(number, 0)
    kept = sum(processes.sizes().values())
    assert MAX_BYTES - 3 * FULL_BYTES < kept <= MAX_BYTES
    found = lines(processes.open(), 0, 10**6)
    assert found == lines(one, 0, 10**6)
    assert found[-1].split('"')[1] == f"r{number}"
    assert str(SHOW) not in found


def test_while_s3_is_away_what_is_known_is_still_found(in_bucket: Processes, s3_proxy: S3Proxy) -> None:
    processes = in_bucket
    writer, reader = processes.open(), processes.open()
    writer.add([SHOW], Fraction(0))
    assert lines(reader, 0, 10**6) == [str(SHOW)]
    with s3_proxy.refusing():
        processes.later()
        assert lines(reader, 0, 10**6) == [str(SHOW)]
        with pytest.raises(OSError, match="S3"):
            lines(processes.open(), 0, 10**6)
        with pytest.raises(OSError, match="S3"):
            writer.add([SONG], Fraction(0))
    processes.later()
    writer.add([SONG], Fraction(0))
    assert lines(writer, 0, 10**6) == [str(SHOW), str(SONG)]


def test_a_range_with_too_many_tags_has_its_first_ones_and_its_end(processes: Processes) -> None:
    written = processes.open()
    changes = [replace(SONG, client_attributes={"X-N": str(number)}) for number in range(3 * MOST_LINES)]
    written.add([*changes, END], Fraction(0))
    for one in (written, processes.open()):
        assert lines(one, 1030, 1031) == [*map(str, changes[: MOST_LINES - 1]), str(END)]


def test_the_file_of_an_earlier_version_has_its_ranges_still(tmp_path: Path) -> None:
    tags = [DateRange(f"r{at}", Fraction(at), duration=Fraction(1)) for at in range(300)]
    earlier = "".join(f"{one}\n" for one in tags).encode()
    (tmp_path / FOLDER).write_bytes(earlier + b'#EXT-X-DATERANGE:ID="so')
    reader, writer = DateRangeObjects.on_disk(tmp_path), DateRangeObjects.on_disk(tmp_path)
    assert lines(reader, 0, 1000) == [*map(str, tags)]
    writer.add([SHOW], Fraction(0))
    for one in (reader, writer, DateRangeObjects.on_disk(tmp_path)):
        assert lines(one, 0, 1000) == [*map(str, [*tags, SHOW])]
    assert not (tmp_path / FOLDER).exists()


def test_on_disk_what_a_crash_has_left_goes_and_what_others_have_put_there_stays(tmp_path: Path) -> None:
    folder = tmp_path / DISK_FOLDER
    folder.mkdir()
    (folder / f"{7:015d}-7.0123abcd.tmp").write_bytes(TAGS_BEGIN)
    (folder / "mine.tmp").write_bytes(b"not ours")
    files = FolderStore(DataFolder(tmp_path) / DISK_FOLDER, TAGS_BEGIN)
    files.tidy()
    assert [one.name for one in folder.iterdir()] == ["mine.tmp"]
    files.put("mine.tmp", TAGS_BEGIN)
    assert (folder / "aside" / "1" / "mine.tmp").read_bytes() == b"not ours"
    assert not files.delete("mine.tmp", 5)
    assert files.get("mine.tmp", 5) == b""
    assert files.get("mine.tmp", 99) == TAGS_BEGIN
    assert files.delete("mine.tmp", len(TAGS_BEGIN))
