"""A DVR that is longer than the live playlist: its past is on disk alone, and is served like the rest."""

from __future__ import annotations

import math
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import httpx
import m3u8
import pytest

from packager.past.outlines import BLOCK_SEGMENTS
from tests.conftest import start_server
from tests.copied_channel import copied_channel
from tests.long_dvr import RENDITIONS, STEP, LongDvr, make_long_dvr
from tests.origin.live.long_server import SECONDS, WINDOW, WINDOW_SECONDS, Long
from tests.patience import CLIENT_SECONDS
from tests.programmed_channel import ADMIN
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(600)

TEMPLATE, REPRESENTATION = (
    f"{{urn:mpeg:dash:schema:mpd:2011}}{name}" for name in ("SegmentTemplate", "Representation")
)


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Long]:
    """A server that has put into the past what one listed before, and was killed while it did."""
    folder, until = tmp_path_factory.mktemp("long"), round(time.time() - 60, 3)
    make_long_dvr(
        LongDvr(folder / "data" / "live" / "long", until, SECONDS, SECONDS, 20, ((0, until),)), workers=1
    )
    one = Long(folder, until)
    one.start()
    one.listed = one.answers()
    assert one.server.stop() == 0
    assert not [*folder.glob("data/live/long/dvr/*/past")], "all of it is listed by default"
    one.start(WINDOW)
    one.server.stop(signal.SIGKILL)
    one.start(WINDOW)
    wait_for(lambda: past_numbers(one)[-1:] > [last_past(one)], "the past is on its place")
    yield one
    assert one.server.stop() == 0


def past_numbers(long: Long) -> list[int]:
    """Return the segments of the past of a rendition that are there once."""
    folder = long.folder / "data" / "live" / "long" / "dvr" / "720p"
    listed = {int(one.stem) for one in folder.glob("*.m4s")}
    return sorted(int(one.stem) for one in folder.glob("past/*/*.m4s") if int(one.stem) not in listed)


def last_past(long: Long) -> int:
    """Return a number that is in the past if all that isn't listed is."""
    return int((long.until - 400) // float(STEP))


@pytest.mark.promise("live.playlist_window")
def test_the_live_playlist_lists_no_more_than_its_window(long: Long) -> None:
    found = m3u8.loads(long.get("720p/media.m3u8").text)
    assert sum(one.duration for one in found.segments) < WINDOW_SECONDS + 10 * 2 + 2 * float(STEP)


def test_the_list_of_channels_says_from_when_on_there_is_something(long: Long) -> None:
    (channel,) = httpx.get(f"{long.server.url}/api/live", timeout=CLIENT_SECONDS).json()
    assert channel["available_from"] == pytest.approx(long.until - SECONDS, abs=4)


def check_answers(long: Long) -> None:
    """Assert that spans have the bytes that they had when they were listed."""
    for name, before in long.listed.items():
        answer = long.get(name)
        assert (answer.status_code, answer.headers.get("etag", ""), answer.content) == (
            before[0],
            before[2],
            before[1],
        ), name


def test_a_span_of_the_past_has_the_bytes_that_it_had_when_it_was_listed(long: Long) -> None:
    assert all(status in (200, 409) for status, _, _ in long.listed.values())
    check_answers(long)


def test_so_it_has_whatever_has_become_of_the_outlines(long: Long) -> None:
    folder = long.folder / "data" / "live" / "long" / "dvr" / "outlines"
    full = wait_for(lambda: sorted(folder.glob("*-1")), "outlines of blocks that have left the playlist")
    assert long.server.stop() == 0
    for one in full[1:]:
        one.unlink()
    full[0].write_bytes(full[0].read_bytes()[:100] + b"not ours")
    long.start(WINDOW)
    check_answers(long)
    long.server.stop(signal.SIGKILL)
    shutil.rmtree(folder)
    long.start(WINDOW)
    check_answers(long)


def test_segments_and_init_segments_of_the_past_are_at_their_live_addresses(long: Long) -> None:
    long.check_segments()


def test_a_growing_span_begins_in_the_past_and_goes_on_at_the_live_edge(tmp_path: Path) -> None:
    options = 'dvr = "1h"', 'playlist_window = "1s"', "segment_duration = 1.0", "part_duration = 0.25"
    text = f'[server]\nport = 0\ndata = "data"\n{copied_channel("long", *options)}'
    (tmp_path / "headwater.toml").write_text(text)
    one = Long(tmp_path, 0.0)
    one.server = start_server(cwd=tmp_path)

    def first_of_the_past() -> int:
        live = m3u8.loads(one.get("source/media.m3u8").text).media_sequence
        found = (int(path.stem) for path in tmp_path.glob("data/live/long/dvr/source/past/*/*.m4s"))
        return min((number for number in found if number < live - 3), default=0)

    first = wait_for(first_of_the_past, "some segments have left the playlist")
    answer = one.get(f"source/{first}.m4s")
    assert answer.status_code == 200
    dates = m3u8.loads(one.get("source/media.m3u8").text)
    start = dates.segments[0].program_date_time.timestamp() - (dates.media_sequence - first) + 0.5
    key_frames = m3u8.loads(one.get(f"source/iframes.m3u8?start={start:.3f}&end={start + 1:.3f}").text)
    assert key_frames.segments[0].uri == f"{first}.m4s"
    for _ in range(3):
        found = m3u8.loads(one.get(f"source/media.m3u8?start={start:.3f}").text)
        assert found.playlist_type == "event"
        assert not found.is_endlist
        numbers = [int(one.uri.partition(".")[0]) for one in found.segments if one.uri]
        assert numbers[0] == found.media_sequence == first
        assert numbers == list(range(numbers[0], numbers[-1] + 1)), "nothing is missing"
        assert "EXT-X-PART" in found.dumps(), "low latency at the edge"
        waited = one.get(f"source/media.m3u8?start={start:.3f}&_HLS_msn={numbers[-1] + 1}&_HLS_part=0")
        assert waited.status_code == 200
    kept = one.keep(start, time.time())
    found = m3u8.loads(one.get(f"recordings/{kept['id']}/source/media.m3u8").text)
    recorded = [int(str(each.uri).partition(".")[0]) for each in found.segments]
    assert recorded == list(range(first, recorded[-1] + 1)), "from the disk, and from the live playlist"
    assert recorded[-1] >= numbers[-1]
    assert one.server.stop() == 0


@pytest.mark.parametrize("options", [(), (WINDOW,)], ids=["listed before", "never listed"])
def test_the_past_is_there_while_nobody_publishes_behind_a_long_absence(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    until = round(time.time() - 900, 3)
    dvr = LongDvr(tmp_path / "data" / "live" / "long", until, 900, 900, 20, ((until - 300, until),))
    make_long_dvr(dvr, workers=1)
    one = Long(tmp_path, until)
    span = range(math.floor((until - 200) / STEP), math.floor((until - 100) / STEP) + 1)
    wanted = [f"{name}/past/*/{at}.m4s" for name in RENDITIONS for at in span if not dvr.is_gap(at, name)]
    said = set()
    for lines in (options, (WINDOW,), (WINDOW,), (WINDOW,)):
        one.start(*lines)
        if lines:
            wait_for(lambda: all([*dvr.folder.glob(f"dvr/{name}")] for name in wanted), "it is in its place")
        for name in ("master.m3u8", "manifest.mpd", "720p/media.m3u8"):
            answer = one.get(f"{name}?{one.query(-200, -100)}")
            assert answer.status_code == 200, answer.text
            said.add((name, answer.headers["etag"]))
        live = m3u8.loads(one.get("720p/media.m3u8").text)
        broken = sum(dvr.timeline(one) == one and not dvr.is_gap(one, "720p") for one in dvr.numbers[1:])
        assert live.discontinuity_sequence + sum(each.discontinuity for each in live.segments) == broken
        assert one.server.stop() == 0
    assert len(said) == 3, "they never change"


def has_line(index: Path, number: int) -> bool:
    """Return whether an index has a segment or gap."""
    return f'"number":{number},' in index.read_text()


def test_the_past_is_there_behind_absences_that_are_longer_than_a_block(tmp_path: Path) -> None:
    """The newest block of the past has nothing but the gaps of earlier starts, at which nobody published."""
    until = round(time.time() - 900, 3)
    dvr = LongDvr(tmp_path / "data" / "live" / "long", until, 900, 900, 20)
    make_long_dvr(dvr, workers=1)
    one = Long(tmp_path, until)
    number, folder = dvr.folder / "number", dvr.folder / "dvr" / "720p"
    said, span = set(), f"720p/media.m3u8?{one.query(-200, -100)}"
    for _ in range(4):
        one.start(WINDOW)
        # While segments are put into the past, a span of it is refused.
        wait_for(lambda: one.get(span).status_code == 200, "the past is there")
        said.add(one.get(span).headers["etag"])
        listed = m3u8.loads(one.get("720p/media.m3u8").text)
        later = listed.media_sequence + len(listed.segments) + 2
        wait_for(partial(has_line, folder / "index", later), "some gaps are stored")
        assert one.server.stop() == 0
        # As many numbers go by while no server runs.
        before, rest = number.read_text().split(maxsplit=1)
        number.write_text(f"{int(before) + BLOCK_SEGMENTS} {rest}")
    newest = max(folder.glob("past/*/index"), key=lambda path: int(path.parent.name))
    assert "parts" not in newest.read_text(), "so it is as at those who were away"
    assert len(said) == 1, "the answer never changes"


def test_while_a_first_start_moves_segments_into_the_past_no_span_of_it_lacks_any(tmp_path: Path) -> None:
    until = round(time.time() - 60, 3)
    make_long_dvr(LongDvr(tmp_path / "data" / "live" / "long", until, 3600, 3600, 20), workers=1)
    one = Long(tmp_path, until)
    one.start()
    spans = [one.query(-behind, 1 - behind) for behind in range(3500, 400, -100)] + [one.query(-3500, -400)]
    names = [f"{name}?{span}" for span in spans for name in ("audio/media.m3u8", "master.m3u8")]
    listed = {name: one.get(name).content for name in names}
    assert one.server.stop() == 0
    one.start(WINDOW)
    waiting = dict(listed)

    def is_there() -> bool:
        for name in [*waiting]:
            answer = one.get(name)
            if answer.status_code == 200:
                assert answer.content == waiting.pop(name), name
            else:
                assert (answer.status_code, answer.headers["retry-after"]) == (503, "2"), answer.text
        return not waiting

    wait_for(is_there, "all of the past can be had")
    assert one.server.stop() == 0


def test_the_past_is_there_although_nothing_has_come_for_longer_than_is_listed(tmp_path: Path) -> None:
    """All that a server finds is in the past: the last gaps of an earlier one have left the list as well."""
    until = round(time.time() - 900, 3)
    make_long_dvr(LongDvr(tmp_path / "data" / "live" / "long", until, 600, 0, 20), workers=1)
    one = Long(tmp_path, until)
    one.start(WINDOW)
    span = one.query(-400, -300)
    assert len(m3u8.loads(one.get(f"720p/media.m3u8?{span}").text).segments) > 50
    assert one.get(f"manifest.mpd?{span}").status_code == 200
    grown = one.get(f"manifest.mpd?start={until - 400:.3f}")
    assert (grown.status_code, b'type="dynamic"' in grown.content) == (200, True)
    assert one.get(f"480p/media.m3u8?start={until - 400:.3f}").status_code == 404, "numbers are missing"
    assert one.server.stop() == 0


def test_caches_may_keep_what_has_passed_for_ever(long: Long) -> None:
    long.check_validators()


@pytest.mark.promise("POST /live/CHANNEL/recordings")
def test_a_span_of_the_past_becomes_a_recording(long: Long) -> None:
    address = long.check_recording()
    assert long.get(f"{address}/720p/iframes.m3u8").status_code == 200
    url, body = f"{long.server.url}/live/long/recordings", {"start": 1000, "end": 2000}
    assert httpx.post(url, json=body, headers=ADMIN, timeout=CLIENT_SECONDS).status_code == 404


def test_a_growing_manifest_begins_in_the_past_with_its_changes(long: Long) -> None:
    """The hour's second half has a change of the codec, gaps, and at its end nobody who publishes."""
    start = long.until - 1800
    growing = ElementTree.fromstring(long.get(f"manifest.mpd?start={start:.3f}").content)
    ended = ElementTree.fromstring(
        long.get(f"manifest.mpd?start={start:.3f}&end={long.until - 100:.3f}").content
    )
    assert (growing.get("type"), ended.get("type")) == ("dynamic", "static")
    begins, ended_begins = (
        [int(one.get("startNumber", "0")) for one in found.iter(TEMPLATE)] for found in (growing, ended)
    )
    # A film has a period without a rendition where that has a gap; others go on with a segment without media.
    assert set(begins) < set(ended_begins)
    assert begins[:2] == ended_begins[:2] == [begins[0]] * 2
    codecs = [{one.get("codecs") for one in found.iter(REPRESENTATION)} for found in (growing, ended)]
    assert codecs[0] == codecs[1]
    lacking = next(one for one in ended_begins if one not in begins)
    answer = long.get(f"480p/{lacking}.m4s")
    assert (answer.status_code, answer.content[4:8], len(answer.content) < 200) == (200, b"moof", True)
    assert long.get(f"720p/{lacking}.m4s").status_code == 200


def test_times_before_now_lead_into_the_past(long: Long) -> None:
    ago = time.time() - long.until + 1500
    answer = long.get(f"master.m3u8?start=-{ago:.0f}&end=-{ago - 60:.0f}")
    assert answer.status_code == 302
    assert float(httpx.URL(answer.headers["location"]).params["start"]) == pytest.approx(
        long.until - 1500, abs=4
    )
    assert long.get(answer.headers["location"]).status_code == 200


def seconds_of(cues: str) -> tuple[float, list[float]]:
    """Return when the last cue of a WebVTT ends, and the dates of its pictures."""
    hours, minutes, seconds = re.findall(r"--> (\d+):(\d+):([\d.]+)", cues)[-1]
    return 3600 * int(hours) + 60 * int(minutes) + float(seconds), list(
        map(float, re.findall(r"at=([\d.]+)", cues))
    )


def test_pictures_without_a_span_are_of_all_that_is_kept(long: Long) -> None:
    answer = long.get("thumbnails.vtt")
    assert answer.status_code == 200, answer.text
    length, dates = seconds_of(answer.text)
    assert dates[0] == pytest.approx(long.until - SECONDS, abs=4)
    assert dates[-1] > long.until - 20
    assert dates == sorted(set(dates))
    assert length >= SECONDS - 8
    ended_earlier = long.get(f"thumbnails.vtt?end={long.until - 1800:.3f}")
    assert seconds_of(ended_earlier.text)[0] == pytest.approx(SECONDS - 1800, abs=8)


def test_pictures_without_a_span_are_of_the_last_hours_of_a_longer_dvr(tmp_path: Path) -> None:
    until = round(time.time() - 60, 3)
    make_long_dvr(LongDvr(tmp_path / "data" / "live" / "long", until, 1800, 600, 20), workers=1)
    one = Long(tmp_path, until, "[limits]\nwindow_hours = 0.25\n")
    one.start(WINDOW)
    wait_for(lambda: one.get("thumbnails.vtt").status_code == 200, "the past is on its place")
    length, dates = seconds_of(one.get("thumbnails.vtt").text)
    assert length < 910
    assert until - 920 < dates[0] < until - 600
    assert one.server.stop() == 0


def test_a_picture_of_the_past_is_drawn(long: Long) -> None:
    answer = long.get(f"snapshot.jpg?at={long.until - 2900:.3f}")
    assert answer.status_code == 200
    assert answer.content[:2] == b"\xff\xd8"


@pytest.mark.parametrize("make", [lambda name: f"{name}.m3u8", lambda _: "manifest.mpd"], ids=["HLS", "DASH"])
def test_ffmpeg_plays_the_past(long: Long, make: Callable[[str], str]) -> None:
    url = f"{long.server.url}/live/long/{make('master')}?{long.query(-1000, -970)}"
    words = ["ffmpeg", "-nostdin", "-v", "error", "-i", url, "-f", "null", "-"]
    done = subprocess.run(words, capture_output=True, check=True, timeout=CLIENT_SECONDS)
    assert done.stderr == b""


def test_what_is_older_than_the_dvr_or_never_was_is_not_there(long: Long) -> None:
    assert long.get(f"720p/media.m3u8?{long.query(-9000, -8000)}").status_code == 404
    cut = long.get(f"720p/media.m3u8?{long.query(-5000, -3500)}")
    assert cut.status_code == 200
    assert float(cut.headers["x-available-from"]) == pytest.approx(long.until - SECONDS, abs=4)
    number = int((long.until - 2 * SECONDS) // float(STEP))
    assert long.get(f"720p/{number}.m4s").status_code == 404
    assert long.get(f"720p/init-{number}.mp4").status_code == 404
