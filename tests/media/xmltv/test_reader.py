"""XMLTV: a guide has what the standard library's tree of it has, and hostile guides are refused."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree

import pytest

from media.errors import MalformedError, MediaError, TooLargeError
from media.xmltv.reader import XmltvLimits, XmltvProgramme, XmltvReader, read_date, read_xmltv

BEGIN = datetime(2026, 11, 26, 20, 0, tzinfo=UTC)


def guide(count: int, *, extra: str = "") -> bytes:
    rows = []
    for index in range(count):
        start, stop = (BEGIN + timedelta(minutes=5 * one) for one in (index, index + 1))
        times = f'start="{start:%Y%m%d%H%M%S} +0000" stop="{stop:%Y%m%d%H%M%S} +0000"'
        title = f'<title lang="de">Nr. {index} &amp; &lt;b&gt; Ü</title><title lang="en">No. {index}</title>'
        rows.append(f'<programme {times} channel="one">{title}<desc>{extra or "about it"}</desc></programme>')
    head = '<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE tv SYSTEM "xmltv.dtd">\n<tv><channel id="one"/>'
    return f"{head}{''.join(rows)}</tv>".encode()


def expected(data: bytes) -> list[tuple[str, float, float, str]]:
    """Return what the standard library's tree has of a guide whose dates are in UTC."""
    found = []
    for one in ElementTree.fromstring(data).iter("programme"):
        dates = [
            datetime.strptime(one.attrib[name], "%Y%m%d%H%M%S %z").timestamp() for name in ("start", "stop")
        ]
        found.append((one.attrib["channel"], dates[0], dates[1], one.findtext("title", "")))
    return found


def test_a_guide_has_the_programmes_that_a_tree_of_it_has() -> None:
    data = guide(50)
    found = [(one.channel, one.start, one.stop, one.title) for one in read_xmltv(data)]
    assert found == expected(data)


@pytest.mark.parametrize("size", [1, 7, 4096])
def test_a_guide_that_is_cut_anywhere_has_the_same_programmes(size: int) -> None:
    data, reader = guide(20), XmltvReader()
    found: list[XmltvProgramme] = []
    for begin in range(0, len(data), size):
        reader.receive_data(data[begin : begin + size])
        found += reader.events()
    reader.receive_eof()
    assert [*found, *reader.events()] == read_xmltv(data)


@pytest.mark.parametrize(
    ("text", "date"),
    [
        ("20261126201400 +0100", "2026-11-26T20:14:00+01:00"),
        ("20261126201400 -0930", "2026-11-26T20:14:00-09:30"),
        ("20261126201400", "2026-11-26T20:14:00+00:00"),
        ("202611262014 UTC", "2026-11-26T20:14:00+00:00"),
        ("20261126", "2026-11-26T00:00:00+00:00"),
    ],
)
def test_dates_are_those_of_the_calendar(text: str, date: str) -> None:
    assert read_date(text) == datetime.fromisoformat(date).timestamp()


@pytest.mark.parametrize(
    "text",
    ["", "2026", "20261326201400 +0000", "99991231235959 -2359", "2026-11-26", "+" * 99, "0" * 14, "٢" * 8],
)
def test_what_is_no_date_is_refused(text: str) -> None:
    with pytest.raises(MalformedError):
        read_date(text)


def test_a_programme_without_an_end_lasts_until_the_next_one_of_its_channel() -> None:
    rows = "".join(
        f'<programme start="2026112620{minute}00" channel="{channel}"><title>t</title></programme>'
        for minute, channel in (("00", "a"), ("10", "b"), ("30", "a"), ("40", "b"))
    )
    found = read_xmltv(f"<tv>{rows}</tv>".encode())
    lengths = [(one.channel, (one.stop or 0) - one.start) for one in found]
    assert lengths == [("a", 1800), ("b", 1800)]


BOMB = "".join(f'<!ENTITY l{one + 1} "{f"&l{one};" * 10}">' for one in range(9))


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (f'<!DOCTYPE tv [<!ENTITY l0 "ha">{BOMB}]><tv>&l9;</tv>'.encode(), MalformedError),
        (b'<!DOCTYPE tv [<!ENTITY x SYSTEM "file:///etc/passwd">]><tv>&x;</tv>', MalformedError),
        (b'<!DOCTYPE tv [<!ATTLIST tv a CDATA "x">]><tv/>', MalformedError),
        (b"<tv>" + b"<a>" * 100_000, TooLargeError),
        (b"<tv a='" + b"x" * (8 << 20), TooLargeError),
        (b"<tv><!--" + b"x" * (8 << 20), TooLargeError),
        (b"<html><programme/></html>", MalformedError),
        (b"<tv><programme start='20261126200000' stop='x'/></tv>", MalformedError),
        (b"<tv>", MalformedError),
        (b"", MalformedError),
        (b"\x00\xff\xfe", MalformedError),
        (b'<?xml version="1.0" encoding="zlib"?><tv/>', MalformedError),
        (b'<?xml version="1.0" encoding="utf-7"?><tv/>', MalformedError),
        (b'<?xml version="1.0" encoding="shift_jis"?><tv>\x83</tv>', MalformedError),
    ],
)
def test_a_hostile_guide_is_refused_soon(data: bytes, error: type[MediaError]) -> None:
    begun = time.process_time()
    with pytest.raises(error):
        read_xmltv(data)
    assert time.process_time() - begun < 2.0


def test_more_programmes_than_the_limit_are_refused() -> None:
    with pytest.raises(TooLargeError):
        read_xmltv(guide(11), XmltvLimits(programmes=10))


def test_a_title_is_one_line_of_bounded_length() -> None:
    row = '<programme start="20261126200000" stop="20261126210000" channel="a"><title>{}</title></programme>'
    (one,) = read_xmltv(f"<tv>{row.format('  a&#10;b&#x85;c  ' + 'x' * 5000)}</tv>".encode())
    assert one.title.startswith("a b c xxx")
    assert 200 < len(one.title) <= XmltvLimits().title_characters


def test_ten_times_the_programmes_take_about_ten_times_as_long() -> None:
    seconds: dict[int, list[float]] = {1000: [], 10_000: []}
    # In turns: what else a machine does comes and goes, and threads of earlier tests may have work left.
    for _ in range(3):
        for count, taken in seconds.items():
            data = guide(count, extra="x" * 500)
            begun = time.thread_time()
            assert len(read_xmltv(data)) == count
            taken.append(time.thread_time() - begun)
    assert min(seconds[10_000]) < 40 * min(seconds[1000])


@pytest.mark.parametrize(
    ("date", "seconds"),
    [
        # The example of xmltv.dtd: "BST == +0100".
        ("200007281733 BST", 964_801_980),
        ("20261130120000 EST", 1_796_058_000),
        ("20261130180000 cet", 1_796_058_000),
        ("20261130170000 UTC", 1_796_058_000),
    ],
)
def test_zones_have_names(date: str, seconds: int) -> None:
    assert read_date(date) == seconds


def test_a_date_that_cannot_be_read_costs_its_programme_alone() -> None:
    good = (
        '<programme start="20261130120000" stop="20261130130000" channel="a"><title>Good</title></programme>'
    )
    odd = '<programme start="20261130130000 XYZ" channel="a"><title>Odd</title></programme>'
    assert [one.title for one in read_xmltv(f"<tv>{odd}{good}</tv>".encode())] == ["Good"]
    with pytest.raises(MalformedError, match="zone"):
        read_xmltv(f"<tv>{odd}</tv>".encode())
