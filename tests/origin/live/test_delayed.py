"""A channel as it was a while ago, over a restart: a live playlist of then, as players get it."""

from __future__ import annotations

import functools
import subprocess
import time
from collections.abc import Iterator
from urllib.parse import urljoin
from xml.etree import ElementTree

import httpx
import m3u8
import pytest

from tests.conftest import ServerProcess, start_server
from tests.copied_channel import copied_channel
from tests.patience import CLIENT_SECONDS
from tests.waiting import wait_for

MPD = "{urn:mpeg:dash:schema:mpd:2011}"
DELAY = 4.0
TARGET_DURATION = 1


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Serve a channel that was restarted twice, so that it has discontinuities."""
    folder = tmp_path_factory.mktemp("delayed")
    (folder / "headwater.toml").write_text(
        '[server]\nport = 0\ndata = "data"\n'
        + copied_channel("a", 'dvr = "1h"', "segment_duration = 1.0", "part_duration = 0.25")
    )
    for _ in range(2):
        before = start_server(cwd=folder)
        wait_for(functools.partial(has_segments, before), "some segments")
        assert before.stop() == 0
    with start_server(cwd=folder) as running:
        wait_for(lambda: behind_the_restart(running) > 8 * TARGET_DURATION + DELAY, "segments of this start")
        yield running


def playlist(server: ServerProcess, query: str = "", rendition: str = "source") -> m3u8.M3U8:
    answer = httpx.get(f"{server.url}/live/a/{rendition}/media.m3u8{query}")
    return m3u8.loads(answer.text if answer.status_code == 200 else "#EXTM3U\n")


def has_segments(server: ServerProcess) -> bool:
    return len(playlist(server).segments) > 4


def behind_the_restart(server: ServerProcess) -> float:
    segments = playlist(server).segments
    begins = [index for index, one in enumerate(segments) if one.discontinuity]
    return sum(one.duration for one in segments[begins[-1] :] if one.uri) if begins else 0.0


def end_of(segment: m3u8.Segment) -> float:
    return float(segment.program_date_time.timestamp() + segment.duration)


@pytest.mark.clause("RFC 8216bis §6.2.2", "RFC 8216bis §4.4.3.3")
@pytest.mark.parametrize("delay", [DELAY, 12.0])
def test_the_playlist_is_that_of_then(server: ServerProcess, delay: float) -> None:
    before = time.time()
    found = playlist(server, f"?delay={delay:g}")
    after = time.time()
    whole = playlist(server)
    assert found.playlist_type is None
    assert not found.is_endlist
    assert "EXT-X-PART" not in found.dumps()
    listed = [one for one in whole.segments if one.uri]
    uris = [one.uri for one in listed]
    first = uris.index(found.segments[0].uri)
    count = len(found.segments)
    assert [one.uri for one in found.segments] == uris[first : first + count]
    assert found.media_sequence == whole.media_sequence + first
    # The newest segment is the last one that was complete then: dates are true.
    assert end_of(found.segments[-1]) <= after - delay
    assert end_of(listed[first + count]) > before - delay
    assert sum(one.duration for one in found.segments) >= 3 * TARGET_DURATION
    passed = sum(one.discontinuity for one in listed[:first])
    assert found.discontinuity_sequence == (whole.discontinuity_sequence or 0) + passed
    sound = playlist(server, f"?delay={delay:g}", "audio")
    assert sound.discontinuity_sequence == found.discontinuity_sequence
    assert sound.segments[-1].uri in uris


def test_it_goes_on_as_live_does(server: ServerProcess) -> None:
    query = f"?delay={DELAY:g}"
    first = playlist(server, query)
    wait_for(lambda: playlist(server, query).media_sequence > first.media_sequence, "the next segment")
    later = playlist(server, query)
    moved = later.media_sequence - first.media_sequence
    kept = len(first.segments) - moved
    assert [one.uri for one in later.segments][:kept] == [one.uri for one in first.segments][moved:]


@pytest.mark.promise("/live/CHANNEL/master.m3u8?delay=1h")
def test_ffmpeg_plays_it_from_its_one_address(server: ServerProcess) -> None:
    url = f"{server.url}/live/a/master.m3u8?delay=4s&token=mine"
    master = m3u8.loads(httpx.get(url).text)
    (variant,) = (one.uri for one in master.playlists)
    assert "delay=4" in variant
    media = m3u8.loads(httpx.get(urljoin(url, variant)).text)
    assert all(one.uri.endswith("?token=mine") for one in media.segments)
    words = ["ffmpeg", "-nostdin", "-v", "error", "-i", url, "-t", "3", "-f", "null", "-"]
    assert subprocess.run(words, capture_output=True, check=True, timeout=CLIENT_SECONDS).stderr == b""


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("delay=soon", 400),
        ("delay=-5", 400),
        ("delay=now-5", 400),
        ("delay=0", 400),
        ("delay=5&delay=5", 400),
        ("delay=25h", 400),
        ("delay=5&start=-9", 400),
        ("delay=20h", 404),
    ],
)
def test_what_can_not_be_delayed_is_refused_with_the_reason(
    server: ServerProcess, query: str, status: int
) -> None:
    answer = httpx.get(f"{server.url}/live/a/source/media.m3u8?{query}")
    assert (answer.status_code, answer.headers["content-type"]) == (status, "text/plain; charset=utf-8")
    assert len(answer.text) > 10
    for name in ("manifest.mpd", "master.m3u8"):
        assert httpx.get(f"{server.url}/live/a/{name}?{query}").status_code == status, name


@pytest.mark.clause("ISO/IEC 23009-1 §5.3.1.2")
def test_the_manifest_makes_segments_available_later_and_leaves_their_dates(server: ServerProcess) -> None:
    live, later = (
        ElementTree.fromstring(httpx.get(f"{server.url}/live/a/manifest.mpd{query}").content)
        for query in ("", f"?delay={DELAY:g}&token=mine")
    )
    assert live.get("availabilityStartTime") == "1970-01-01T00:00:00Z"
    assert later.get("availabilityStartTime") == f"1970-01-01T00:00:{DELAY:06.3f}Z"
    depths = [float(str(one.get("timeShiftBufferDepth"))[2:-1]) for one in (live, later)]
    assert depths[0] - depths[1] == pytest.approx(DELAY, abs=2)
    now, then = (one.find(f".//{MPD}Latency") for one in (live, later))
    assert now is not None
    assert then is not None
    assert int(then.attrib["target"]) - int(now.attrib["target"]) == 1000 * DELAY
    for name in ("Period", "SegmentTemplate", "ProducerReferenceTime"):
        mine, theirs = live.find(f".//{MPD}{name}"), later.find(f".//{MPD}{name}")
        assert mine is not None
        assert theirs is not None
        same = {name: value.replace("?token=mine", "") for name, value in theirs.attrib.items()}
        assert same == mine.attrib
