"""A live playlist that lists much less than the DVR has: what goes on behind its edge, as players get it."""

from __future__ import annotations

import functools
import subprocess
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import httpx
import m3u8
import pytest

from tests.conftest import ServerProcess, start_server
from tests.copied_channel import copied_channel
from tests.patience import CLIENT_SECONDS
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(600)

MPD = "{urn:mpeg:dash:schema:mpd:2011}"
TARGET_DURATION = 1
LISTED = 6 * TARGET_DURATION
OPTIONS = 'dvr = "1h"', 'playlist_window = "1s"', "segment_duration = 1.0", "part_duration = 0.25"
DELAY = 24.0
"""Seconds beyond what the live playlist lists."""


@dataclass(frozen=True)
class Period:
    """What players know of a period."""

    id: str
    start: float
    first: int
    offset: int


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("behind")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[ServerProcess]:
    """Serve a channel that was restarted twice, so that it has discontinuities behind its list."""
    (folder / "headwater.toml").write_text(
        f'[server]\nport = 0\ndata = "data"\n{copied_channel("a", *OPTIONS)}'
    )
    for _ in range(2):
        before = start_server(cwd=folder)
        wait_for(functools.partial(has_segments, before), "some segments")
        assert before.stop() == 0
    with start_server(cwd=folder) as running:
        wait_for(
            lambda: first_listed(running) > last_break(folder) + DELAY, "what is listed has left the breaks"
        )
        yield running


def get(server: ServerProcess, name: str) -> httpx.Response:
    return httpx.get(f"{server.url}/live/a/{name}", timeout=CLIENT_SECONDS, follow_redirects=True)


def playlist(server: ServerProcess, query: str = "", rendition: str = "source") -> m3u8.M3U8:
    answer = get(server, f"{rendition}/media.m3u8{query}")
    return m3u8.loads(answer.text if answer.status_code == 200 else "#EXTM3U\n")


def has_segments(server: ServerProcess) -> bool:
    return len(numbers_of(playlist(server))) > 4


def first_listed(server: ServerProcess) -> int:
    return int(playlist(server).media_sequence or 0)


def last_break(folder: Path) -> int:
    """Return the number of the first segment of the latest start."""
    inits = folder.glob("data/live/a/dvr/source/**/init-*.mp4")
    return max(int(one.stem.partition("-")[2]) for one in inits)


def numbers_of(found: m3u8.M3U8) -> list[int]:
    return [int(one.uri.partition(".")[0]) for one in found.segments if one.uri]


def end_of(segment: m3u8.Segment) -> float:
    return float(segment.program_date_time.timestamp() + segment.duration)


def all_of(server: ServerProcess, folder: Path) -> m3u8.M3U8:
    """Return all that there is as one span."""
    oldest = min(int(one.stem) for one in folder.glob("data/live/a/dvr/source/**/*.m4s"))
    query = f"?start={oldest * TARGET_DURATION - 60}&end={time.time() - 1:.3f}"
    # On a slow machine its last segment may still be open.
    wait_for(lambda: playlist(server, query).is_endlist, "the end of the span")
    return playlist(server, query)


def manifest(server: ServerProcess, query: str) -> ElementTree.Element:
    answer = httpx.get(f"{server.url}/live/a/manifest.mpd{query}", timeout=CLIENT_SECONDS)
    assert answer.status_code == 200, answer.text
    return ElementTree.fromstring(answer.content)


def periods(found: ElementTree.Element) -> list[Period]:
    return [
        Period(
            one.get("id", ""),
            float(one.get("start", "PT0S")[2:-1]),
            int(template.get("startNumber", "0")),
            int(template.get("presentationTimeOffset", "0")),
        )
        for one in found.findall(f"{MPD}Period")
        if (template := one.find(f".//{MPD}SegmentTemplate")) is not None
    ]


def seconds(found: ElementTree.Element, name: str) -> float:
    return float(found.get(name, "PT0S")[2:-1])


@pytest.mark.parametrize("delay", [4.0, 9.0, 12.0, DELAY])
def test_a_delayed_playlist_is_the_same_on_both_sides_of_the_lists_edge(
    server: ServerProcess, folder: Path, delay: float
) -> None:
    whole = all_of(server, folder)
    dates = dict(zip(numbers_of(whole), (one.program_date_time for one in whole.segments), strict=True))
    before = time.time()
    found = playlist(server, f"?delay={delay:g}")
    after = time.time()
    listed = numbers_of(found)
    assert found.media_sequence == listed[0]
    assert listed == list(range(listed[0], listed[0] + len(listed)))
    assert LISTED <= sum(one.duration for one in found.segments) <= LISTED + 2 * TARGET_DURATION
    own = {number: one.program_date_time for number, one in zip(listed, found.segments, strict=True)}
    assert own.items() & dates.items() == {(one, date) for one, date in own.items() if one in dates}
    assert all(one.gap_tag for one in found.segments if numbers_of(found)[0] not in dates)
    assert before - delay - 2 * TARGET_DURATION < end_of(found.segments[-1]) <= after - delay
    assert (found.playlist_type, found.is_endlist, "EXT-X-PART" in found.dumps()) == (None, False, False)
    passed = sum(
        one.discontinuity for number, one in zip(dates, whole.segments, strict=True) if number < listed[0]
    )
    assert found.discontinuity_sequence == passed
    assert playlist(server, f"?delay={delay:g}", "audio").discontinuity_sequence == passed


def test_a_delayed_playlist_moves_on_steadily_with_nothing_missing_or_twice(server: ServerProcess) -> None:
    seen: dict[int, str] = {}
    first = last = first_listed(server)
    began = time.monotonic()
    while last < first + 5 or time.monotonic() - began < 6:
        found = playlist(server, f"?delay={DELAY:g}")
        listed = numbers_of(found)
        assert found.media_sequence == listed[0]
        assert not seen or listed[0] - 1 in seen or listed[0] in seen, "no number is passed over"
        for number, one in zip(listed, found.segments, strict=True):
            assert (
                seen.setdefault(number, one.program_date_time.isoformat())
                == one.program_date_time.isoformat()
            )
        first, last = min(first, listed[0]), listed[-1]
        time.sleep(0.2)
    assert sorted(seen) == list(range(min(seen), max(seen) + 1))
    assert get(server, f"source/{last}.m4s").status_code == 200


def test_ffmpeg_plays_what_was_before_the_list(server: ServerProcess) -> None:
    url = f"{server.url}/live/a/master.m3u8?delay={DELAY:g}s&token=mine"
    words = ["ffmpeg", "-nostdin", "-v", "error", "-i", url, "-t", "3", "-f", "null", "-"]
    assert subprocess.run(words, capture_output=True, check=True, timeout=CLIENT_SECONDS).stderr == b""


@pytest.mark.clause("ISO/IEC 23009-1 §5.3.1.2")
def test_a_delayed_manifest_makes_the_segments_of_then_available_now(server: ServerProcess) -> None:
    found = manifest(server, f"?delay={DELAY:g}&token=mine")
    assert found.get("type") == "dynamic"
    assert found.get("availabilityStartTime") == f"1970-01-01T00:00:{DELAY:06.3f}Z"
    assert seconds(found, "timeShiftBufferDepth") == LISTED
    period = periods(found)[-1]
    until = time.time() - DELAY
    number = period.first + int((until - period.start) // TARGET_DURATION) - 1
    answer = get(server, f"source/{number}.m4s")
    assert answer.status_code == 200
    later = wait_for(lambda: changed(server, found), "another manifest")
    assert later is not None
    assert set(periods(found)) & set(periods(later)), "periods stay what they are"


def changed(server: ServerProcess, before: ElementTree.Element) -> ElementTree.Element | None:
    found = manifest(server, f"?delay={DELAY:g}&token=mine")
    return found if found.get("publishTime") != before.get("publishTime") else None


def test_a_delay_beyond_all_that_is_kept_is_refused_with_the_reason(server: ServerProcess) -> None:
    for name in ("master.m3u8", "source/media.m3u8", "manifest.mpd"):
        answer = get(server, f"{name}?delay=20h")
        assert (answer.status_code, "nothing of this time" in answer.text) == (404, True)


def spans_of(found: ElementTree.Element) -> Sequence[Period]:
    assert found.get("type") == "dynamic"
    assert found.get("minimumUpdatePeriod")
    return periods(found)


def test_a_growing_manifest_stays_what_it_is_while_its_beginning_leaves_the_list(
    server: ServerProcess,
) -> None:
    start = playlist(server).segments[-3].program_date_time.timestamp() + 0.5
    query = f"?start={start:.3f}"
    first = spans_of(manifest(server, query))
    number = first[0].first
    assert (first[0].id, number >= first_listed(server)) == (f"p{number}", True)
    wait_for(lambda: first_listed(server) > number + 2, "the beginning has left the list")
    later = manifest(server, query)
    assert spans_of(later)[: len(first)] == first
    assert manifest(server, f"{query}&follow=1").find(f"{MPD}Location") is None
    # Nobody has asked for this one: its periods are found from the disk.
    assert spans_of(manifest(server, f"?start={start + 0.1:.3f}")) == spans_of(later)
    length = time.time() - start
    assert (
        length - 3 * TARGET_DURATION < seconds(later, "timeShiftBufferDepth") < length + 8 * TARGET_DURATION
    )
    assert seconds(later, "suggestedPresentationDelay") == pytest.approx(length, abs=3 * TARGET_DURATION)


@pytest.mark.promise("/live/CHANNEL/manifest.mpd?…")
def test_a_growing_manifest_has_the_breaks_and_all_segments_that_are_on_the_disk(
    server: ServerProcess, folder: Path
) -> None:
    whole = all_of(server, folder)
    start = whole.segments[1].program_date_time.timestamp() + 0.5
    found = manifest(server, f"?start={start:.3f}")
    begun = spans_of(found)
    numbers = [
        number
        for number, one in zip(numbers_of(whole), whole.segments, strict=True)
        if one.discontinuity and number > begun[0].first
    ]
    assert [one.first for one in begun] == [numbers_of(whole)[1], *numbers]
    dates = dict(zip(numbers_of(whole), whole.segments, strict=True))
    for one in begun:
        assert one.start == pytest.approx(dates[one.first].program_date_time.timestamp(), abs=0.002)
        assert get(server, f"source/{one.first}.m4s").status_code == 200
    ends = [template.get("endNumber") for template in found.iter(f"{MPD}SegmentTemplate")]
    assert None in ends, "the last period goes on"


def test_many_who_watch_from_the_same_beginning_get_the_same_manifest(
    server: ServerProcess, folder: Path
) -> None:
    start = all_of(server, folder).segments[2].program_date_time.timestamp()
    query = f"?start={start:.3f}"

    def fetch(_: int) -> httpx.Response:
        return get(server, f"manifest.mpd{query}")

    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(fetch, range(96)))
    assert {one.status_code for one in found} == {200}
    first = periods(ElementTree.fromstring(found[0].content))
    assert all(periods(ElementTree.fromstring(one.content)) == first for one in found)


def lines_of(server: ServerProcess, start: float, rendition: str) -> list[str]:
    """Return the lines of a playlist that grows from a date on, without what is of this address alone."""
    answer = get(server, f"{rendition}/media.m3u8?start={start:.3f}&token=mine")
    assert answer.status_code == 200
    own = "#EXT-X-START", "#EXT-X-RENDITION-REPORT"
    return [line for line in answer.text.splitlines() if not line.startswith(own)]


@pytest.mark.parametrize("rendition", ["source", "audio"])
def test_a_playlist_that_grew_is_the_one_that_is_read_anew(
    server: ServerProcess, folder: Path, rendition: str
) -> None:
    whole = all_of(server, folder)
    start = whole.segments[1].program_date_time.timestamp() + 0.1
    grown = lines_of(server, start, rendition)
    assert "#EXT-X-DISCONTINUITY" in grown
    first, last = numbers_of(whole)[1], first_listed(server)
    wait_for(lambda: first_listed(server) > last + 3, "more has left the list")

    def pair(turn: int) -> tuple[list[str], list[str]]:
        return lines_of(server, start, rendition), lines_of(server, start + 0.001 * turn, rendition)

    for turn in range(1, 100):
        # Nobody has asked for the second one, which is read from the disk.
        grown, fresh = pair(turn)
        if grown == fresh:
            break
    assert grown == fresh, "in the same state of the channel they are the same"
    found = m3u8.loads("\n".join(grown))
    assert numbers_of(found) == list(range(first, numbers_of(found)[-1] + 1))


def test_many_who_start_over_get_the_same_playlist_and_its_updates(
    server: ServerProcess, folder: Path
) -> None:
    start = all_of(server, folder).segments[2].program_date_time.timestamp()
    query = f"start={start:.3f}"
    number = numbers_of(playlist(server, f"?{query}"))[-1] + 2

    def fetch(turn: int) -> tuple[bool, httpx.Response]:
        skip = "&_HLS_skip=YES" if turn % 2 else ""
        return bool(skip), get(server, f"source/media.m3u8?{query}&_HLS_msn={number}{skip}")

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(fetch, range(64)))
    assert {one.status_code for _, one in answers} == {200}
    whole = next(one.text for is_update, one in answers if not is_update)
    for is_update, one in answers:
        assert f"\n{number}.m4s\n" in one.text
        skipped = int(one.text.partition("SKIPPED-SEGMENTS=")[2].partition("\n")[0] or 0)
        assert bool(skipped) == is_update
        listed = numbers_of(m3u8.loads(one.text))
        assert listed[0] == numbers_of(m3u8.loads(whole))[0] + skipped, "nothing is missing behind"
