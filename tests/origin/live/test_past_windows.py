"""Spans of a channel's past, at addresses that anybody can write down, as players and ffmpeg get them."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from urllib.parse import urljoin
from xml.etree import ElementTree

import httpx
import m3u8
import pytest

from tests.conftest import ServerProcess, start_server
from tests.copied_channel import copied_channel
from tests.patience import CLIENT_SECONDS
from tests.waiting import wait_for

SEGMENTS = 8
MPD = "{urn:mpeg:dash:schema:mpd:2011}"


@pytest.fixture(scope="module", params=['data = "data"\n', ""], ids=["on disk", "in memory"])
def server(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("past")
    config = f"[server]\nport = 0\n{request.param}[limits]\nwindow_hours = 2\n"
    (folder / "headwater.toml").write_text(
        config + copied_channel("a", 'dvr = "1h"', "segment_duration = 1.0", "part_duration = 0.25")
    )
    with start_server(cwd=folder) as running:
        wait_for(lambda: len(live(running).segments) > SEGMENTS + 2, "some segments")
        yield running


def address(server: ServerProcess, name: str = "") -> str:
    return f"{server.url}/live/a/{name}"


def live(server: ServerProcess) -> m3u8.M3U8:
    text = httpx.get(address(server, "source/media.m3u8"))
    return m3u8.loads(text.text) if text.status_code == 200 else m3u8.loads("#EXTM3U\n")


def dated(server: ServerProcess) -> list[tuple[float, str]]:
    """Return the date and the address of each finished segment."""
    return [(one.program_date_time.timestamp(), one.uri) for one in live(server).segments if one.uri]


def span(server: ServerProcess, first: int, count: int, into: float = 0.25) -> tuple[float, float, list[str]]:
    """Return a span that begins within one segment, and ends within another one, and their addresses."""
    segments = dated(server)[first : first + count]
    return segments[0][0] + into, segments[-1][0] + into, [uri for _, uri in segments]


def playlist(server: ServerProcess, query: str, rendition: str = "source") -> m3u8.M3U8:
    answer = httpx.get(address(server, f"{rendition}/media.m3u8?{query}"))
    assert answer.status_code == 200, answer.text
    return m3u8.loads(answer.text)


def written(date: float, form: str) -> str:
    if form == "seconds":
        return f"{date:.3f}"
    return datetime.fromtimestamp(date, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@pytest.mark.promise(
    "/live/CHANNEL/RENDITION/media.m3u8", "live.dvr", "live.part_duration", "live.segment_duration"
)
@pytest.mark.clause("RFC 8216bis §4.4.3.5", "RFC 8216bis §4.4.2.2")
@pytest.mark.parametrize("form", ["seconds", "RFC 3339"])
def test_a_span_in_the_past_is_a_vod_of_its_segments(server: ServerProcess, form: str) -> None:
    start, end, addresses = span(server, 2, 4)
    found = playlist(server, f"start={written(start, form)}&end={written(end, form)}")
    assert found.playlist_type == "vod"
    assert found.is_endlist
    assert [one.uri for one in found.segments] == addresses, "the addresses are those of the live playlist"
    assert found.start is not None
    assert found.start.time_offset == pytest.approx(0.25, abs=0.002)
    assert found.start.precise == "YES"
    assert "EXT-X-PART" not in found.dumps()
    assert [one.discontinuity for one in found.segments] == [False] * 4
    sound = playlist(server, f"start={written(start, form)}&end={written(end, form)}", "audio")
    assert [one.uri for one in sound.segments] == addresses, "all renditions have the same numbers"


def test_a_span_that_ends_where_a_segment_begins_has_nothing_of_it(server: ServerProcess) -> None:
    segments = dated(server)
    found = playlist(server, f"start={segments[2][0]:.3f}&end={segments[4][0]:.3f}")
    assert [one.uri for one in found.segments] == [segments[2][1], segments[3][1]]


@pytest.mark.promise("/live/CHANNEL/master.m3u8?start=TIME&end=TIME")
@pytest.mark.parametrize("name", ["master.m3u8", "manifest.mpd"])
def test_ffmpeg_plays_a_span_from_its_one_address(server: ServerProcess, name: str) -> None:
    start, end, addresses = span(server, 1, 5)
    url = address(server, f"{name}?start={start:.3f}&end={end:.3f}")
    shown = "-v error -count_packets -select_streams v -show_entries stream=nb_read_packets -of csv=p=0"
    command = ["ffprobe", *shown.split(), url]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=CLIENT_SECONDS)
    assert int(done.stdout.strip().split("\n")[0].strip(",")) == 12 * len(addresses), done.stdout
    words = ["ffmpeg", "-nostdin", "-v", "error", "-i", url, "-f", "null", "-"]
    assert subprocess.run(words, capture_output=True, check=True, timeout=CLIENT_SECONDS).stderr == b""


def test_times_before_now_lead_to_the_dates_of_segments(server: ServerProcess) -> None:
    answer = httpx.get(address(server, "master.m3u8?start=-6&end=now-2&token=mine"))
    assert answer.status_code == 302
    assert "max-age" in answer.headers["cache-control"]
    target = urljoin(str(answer.url), answer.headers["location"])
    query = httpx.URL(target).params
    dates = [date for date, _ in dated(server)]
    for name in ("start", "end"):
        assert min(abs(float(query[name]) - date) for date in dates) < 0.002
    assert query["token"] == "mine"
    master = m3u8.loads(httpx.get(target).text)
    (variant,) = (one.uri for one in master.playlists)
    assert "token=mine" in variant
    media = m3u8.loads(httpx.get(urljoin(target, variant)).text)
    assert media.is_endlist
    assert all(one.uri.endswith("?token=mine") for one in media.segments)
    assert 3 <= len(media.segments) <= 5


@pytest.mark.parametrize("start", ["now", "-0", "now-0.2"])
def test_now_leads_to_the_newest_segment(server: ServerProcess, start: str) -> None:
    answer = httpx.get(address(server, f"master.m3u8?start={start}"))
    assert answer.status_code == 302, answer.text
    begin = float(httpx.URL(urljoin(str(answer.url), answer.headers["location"])).params["start"])
    assert min(abs(begin - date) for date, _ in dated(server)) < 0.002
    found = playlist(server, f"start={begin:.3f}")
    assert (found.playlist_type, found.is_endlist) == ("event", False)


def test_up_to_now_is_the_same_span_until_another_segment_has_come(server: ServerProcess) -> None:
    start = dated(server)[1][0]
    answer = httpx.get(address(server, f"master.m3u8?start={start:.3f}&end=now"))
    query = answer.headers["location"].partition("?")[2]
    end = float(httpx.URL(f"?{query}").params["end"])
    segments = live(server).segments
    ends = [one.program_date_time.timestamp() + one.duration for one in segments if one.uri]
    assert min(abs(end - one) for one in ends) < 0.005
    assert playlist(server, query).is_endlist, "nothing of it is still to come"


def test_what_has_no_end_grows_until_it_has_one(server: ServerProcess) -> None:
    start = dated(server)[3][0]
    growing = f"start={start:.3f}"
    first = playlist(server, growing)
    assert first.playlist_type == "event"
    assert not first.is_endlist
    wait_for(lambda: len(playlist(server, growing).segments) > len(first.segments), "another segment")
    later = playlist(server, growing)
    whole = [one.uri for one in first.segments if one.uri]
    assert [one.uri for one in later.segments][: len(whole)] == whole
    assert later.media_sequence == first.media_sequence
    end = time.time() + 3
    bounded = f"start={start:.3f}&end={end:.3f}"
    assert not playlist(server, bounded).is_endlist
    segments = dated(server)
    manifest = ElementTree.fromstring(httpx.get(address(server, f"manifest.mpd?{bounded}")).content)
    assert manifest.get("type") == "dynamic"
    assert manifest.get("minimumUpdatePeriod") == "PT1.000S"
    (period,) = manifest.iter(f"{MPD}Period")
    assert float(period.attrib["start"][2:-1]) == pytest.approx(start, abs=0.002)
    depth = float(str(manifest.get("timeShiftBufferDepth"))[2:-1])
    assert depth >= segments[-1][0] - start
    template = next(manifest.iter(f"{MPD}SegmentTemplate"))
    assert f"{template.get('startNumber')}.m4s" == segments[3][1]
    wait_for(lambda: playlist(server, bounded).is_endlist, "the end of the span")
    # Who had it before goes on with its times, and who comes now has a film.
    followed = ElementTree.fromstring(
        httpx.get(urljoin(address(server), str(manifest.findtext(f"{MPD}Location")))).content
    )
    ends = followed.get("mediaPresentationDuration")
    assert (followed.get("type"), followed.get("minimumUpdatePeriod")) == ("dynamic", None)
    assert float(str(ends)[2:-1]) == pytest.approx(end, abs=1.1)
    assert [one.get("start") for one in followed.iter(f"{MPD}Period")] == [period.get("start")]
    film = ElementTree.fromstring(httpx.get(address(server, f"manifest.mpd?{bounded}")).content)
    assert film.get("type") == "static"


def lines_behind(text: str, mark: str) -> list[str]:
    """Return the lines of a playlist behind the first part that is named so, and its own."""
    lines = text.splitlines()
    return lines[next(index for index, line in enumerate(lines) if "X-PART:" in line and mark in line) :]


@pytest.mark.clause("RFC 8216bis §6.2.5.2", "RFC 8216bis §6.2.5.1", "RFC 8216bis §4.4.3.8")
@pytest.mark.parametrize("is_bound", [False, True])
def test_a_span_that_grows_has_the_parts_of_the_live_playlist_and_its_waits(
    server: ServerProcess, is_bound: bool
) -> None:
    start = dated(server)[1][0] + 0.25
    bound = f"&end={time.time() + 600:.3f}" if is_bound else ""
    growing = address(server, f"source/media.m3u8?start={start:.3f}{bound}")
    newest = live(server).segments[-1]
    first = dated(server)[1][1].partition(".")[0]
    number = int(newest.uri.partition(".")[0]) + 1 if newest.uri else int(newest.parts[0].uri.split(".")[0])
    with httpx.Client(timeout=CLIENT_SECONDS) as client:
        for step in range(1, 4):
            # A number is that of the live playlist, so that one part is waited for by the same name.
            wanted = f"_HLS_msn={number + step}&_HLS_part=1"
            span = client.get(f"{growing}&{wanted}")
            now = client.get(address(server, f"source/media.m3u8?{wanted}"))
            assert (span.status_code, span.headers["cache-control"]) == (200, now.headers["cache-control"])
            mark = f'URI="{number + step}.0'
            told = [line for line in lines_behind(span.text, mark) if "REPORT" not in line]
            same = [line for line in lines_behind(now.text, mark) if "REPORT" not in line]
            shared = min(len(told), len(same)) - 1
            assert told[:shared] == same[:shared]
            assert shared >= 2
            assert f"#EXT-X-MEDIA-SEQUENCE:{first}\n" in span.text
            assert "#EXT-X-PLAYLIST-TYPE:EVENT\n" in span.text
            begin = m3u8.loads(span.text).start
            assert begin is not None
            assert begin.time_offset == pytest.approx(0.25, abs=0.002)
            # What the other renditions' playlists are told by is of the same span.
            (report,) = (line for line in span.text.splitlines() if "RENDITION-REPORT" in line)
            assert f"../audio/media.m3u8?start={start:.3f}{bound}" in report
        # With what a player has, an update is the whole playlist (§6.2.5.1).
        whole, update = client.get(growing).text, client.get(f"{growing}&_HLS_skip=YES").text
        assert "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL=6.000," in update
        (skip,) = (line for line in update.splitlines() if line.startswith("#EXT-X-SKIP"))
        skipped = int(skip.partition("=")[2])
        uris = [one.uri for one in m3u8.loads(whole).segments if one.uri]
        rest = [one.uri for one in m3u8.loads(update).segments if one.uri]
        assert [*uris[:skipped], *rest][: len(uris)] == uris
        assert client.get(f"{growing}&_HLS_msn={number + 1000}").status_code == 400
        assert client.get(f"{growing}&_HLS_part=1").status_code == 400


def test_an_older_beginning_is_cut_and_said(server: ServerProcess) -> None:
    oldest, end, _ = span(server, 0, 3, into=0)
    answer = httpx.get(address(server, f"source/media.m3u8?start={oldest - 600:.3f}&end={end:.3f}"))
    assert float(answer.headers["x-available-from"]) == pytest.approx(oldest, abs=0.002)
    assert len(m3u8.loads(answer.text).segments) == 2
    for name in ("master.m3u8", "source/media.m3u8", "manifest.mpd", "clip.mp4"):
        refused = httpx.get(address(server, f"{name}?start={oldest - 600:.3f}&end={end:.3f}&strict=1"))
        assert refused.status_code == 404
        assert f"{oldest:.3f}"[:-1] in refused.text
        whole = httpx.get(address(server, f"{name}?start={oldest + 0.01:.3f}&end={end:.3f}&strict=1"))
        assert whole.status_code == 200, name
    relative = httpx.get(address(server, "master.m3u8?start=-3&end=now&strict=1"))
    assert relative.headers["location"].endswith("&strict=1")
    growing = httpx.get(address(server, f"master.m3u8?start={oldest - 600:.3f}"))
    assert growing.status_code == 302
    assert f"start={oldest:.3f}" in growing.headers["location"]
    for led in (growing, httpx.get(address(server, "clip.mp4?start=-3600&end=now"))):
        assert led.status_code == 302
        assert float(led.headers["x-available-from"]) == pytest.approx(oldest, abs=0.002)
        assert "x-available-from" in led.headers["access-control-expose-headers"].lower()


@pytest.mark.promise("limits.window_hours")
@pytest.mark.parametrize(
    ("query", "status", "reason"),
    [
        ("start=yesterday", 400, "allowed"),
        ("start=1&start=2", 400, "start"),
        ("start=-5&end=-10", 400, "end"),
        ("start=-8000&end=-1", 400, "limits.window_hours"),
        ("start=2000-01-01T00:00:00Z&end=2000-01-01T00:10:00Z", 404, "nothing of this time is kept"),
        ("start=4000000000", 404, "still to come"),
    ],
)
def test_what_can_not_be_shown_is_refused_with_the_reason(
    server: ServerProcess, query: str, status: int, reason: str
) -> None:
    for name in ("master.m3u8", "manifest.mpd", "source/media.m3u8", "thumbnails.vtt"):
        answer = httpx.get(address(server, f"{name}?{query}"))
        assert (answer.status_code, answer.headers["content-type"]) == (status, "text/plain; charset=utf-8")
        assert reason in answer.text
