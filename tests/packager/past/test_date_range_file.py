"""The file with the date ranges of a DVR: what it has of a span, whatever happens to it."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from media.hls.date_range import DateRange
from packager.past.date_range_file import MAX_BYTES, MOST_LINES, NAME, DateRangeFile

SONG = DateRange("song", Fraction(1000), "c", client_attributes={"X-TITLE": "A"})
SHOW = DateRange("show", Fraction(900), planned_duration=Fraction(500))
JINGLE = DateRange("jingle", Fraction(1100), duration=Fraction(5))


def lines(file: DateRangeFile, begin: int, end: int) -> list[str]:
    return file.within(Fraction(begin), Fraction(end)).lines_within(Fraction(begin), Fraction(end))


def test_ranges_of_a_span_are_those_that_touch_it_with_all_their_tags(tmp_path: Path) -> None:
    writer, reader = DateRangeFile(tmp_path / "dvr"), DateRangeFile(tmp_path / "dvr")
    assert lines(reader, 0, 10**6) == []
    writer.add([SHOW, SONG], Fraction(0))
    assert lines(reader, 1050, 1060) == [str(SHOW), str(SONG)]
    assert [one.id for one in reader.going_on()] == ["show", "song"]
    end = replace(SONG, duration=Fraction(40), client_attributes={})
    writer.add([JINGLE, end, SONG], Fraction(0))
    assert lines(reader, 1050, 1060) == [str(SHOW)], "it was over"
    assert lines(reader, 1030, 1200) == [str(SHOW), str(SONG), str(JINGLE), str(end)]
    assert lines(reader, 0, 900) == []


def test_a_line_that_was_cut_off_or_damaged_takes_no_other_with_it(tmp_path: Path) -> None:
    written = DateRangeFile(tmp_path / "dvr")
    written.add([SHOW], Fraction(0))
    path = tmp_path / "dvr" / NAME
    path.write_bytes(b"\xff\n#EXT-X-DATERANGE:ID=\n" + path.read_bytes() + b'#EXT-X-DATERANGE:ID="so')
    written.add([JINGLE], Fraction(0))
    assert lines(DateRangeFile(tmp_path / "dvr"), 0, 2000) == [str(SHOW), str(JINGLE)]


def test_a_range_with_too_many_tags_has_its_first_ones_and_its_end(tmp_path: Path) -> None:
    written = DateRangeFile(tmp_path / "dvr")
    changes = [replace(SONG, client_attributes={"X-N": str(number)}) for number in range(3 * MOST_LINES)]
    end = replace(SONG, duration=Fraction(40), client_attributes={})
    written.add([*changes, end], Fraction(0))
    for one in (written, DateRangeFile(tmp_path / "dvr")):
        assert lines(one, 1030, 1031) == [*map(str, changes[: MOST_LINES - 1]), str(end)]


def test_the_oldest_ranges_give_way_where_the_file_becomes_too_long(tmp_path: Path) -> None:
    written = DateRangeFile(tmp_path / "dvr")
    text = "x" * 1000
    count = MAX_BYTES // 1000
    tags = [
        DateRange(f"r{number}", Fraction(number), duration=Fraction(1), client_attributes={"X-T": text})
        for number in range(count + count // 2)
    ]
    for begin in range(0, len(tags), 1000):
        written.add(tags[begin : begin + 1000], Fraction(begin - 100))
    assert (tmp_path / "dvr" / NAME).stat().st_size <= MAX_BYTES
    reader = DateRangeFile(tmp_path / "dvr")
    newest = len(tags) - 1
    assert lines(reader, newest, newest + 5)[-1] == str(tags[-1])
    assert lines(reader, 0, 1) == []
