"""Captions of DASH whose segments have left the live playlist: from disk and S3, as they were before."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree import ElementTree

import httpx
import m3u8
import pytest

from media.mp4.fragments.fragments import Fragment, FragmentReader
from packager.publish.dash_captions import INIT
from tests.conftest import ServerProcess, start_server
from tests.copied_channel import copied_channel
from tests.keys import BEARER
from tests.patience import CLIENT_SECONDS
from tests.s3_server import BUCKET, S3Server
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(600)

MPD = "{urn:mpeg:dash:schema:mpd:2011}"
OPTIONS = (
    'dvr = "1h"',
    'playlist_window = "1s"',
    "segment_duration = 1.0",
    "part_duration = 0.25",
    'captions = ["en"]',
)
COUNT = 4
SPAN = "240p/media.m3u8", "master.m3u8", "manifest.mpd", "captions-en/media.m3u8"
IN_WINDOWS = 25
"""Segments for which one stays in memory, those before and behind its leaving of the list."""


@dataclass(frozen=True)
class Captioned:
    """A server on a channel with captions, and what it said of some while they were listed."""

    server: ServerProcess
    listed: dict[int, bytes]
    dates: dict[int, float]

    def get(self, name: str) -> httpx.Response:
        return httpx.get(f"{self.server.url}/live/a/{name}", timeout=CLIENT_SECONDS)

    def texts(self, query: str) -> list[ElementTree.Element]:
        """Return the templates of captions of all periods of a manifest."""
        answer = self.get(f"manifest.mpd{query}")
        assert answer.status_code == 200, answer.text
        sets = ElementTree.fromstring(answer.content).iter(f"{MPD}AdaptationSet")
        own = [one for one in sets if one.get("contentType") == "text"]
        assert {one.get("lang") for one in own} == {"en"}
        return [found for one in own if (found := one.find(f".//{MPD}SegmentTemplate")) is not None]


def playlist(server: ServerProcess, rendition: str = "source") -> m3u8.M3U8:
    answer = httpx.get(f"{server.url}/live/a/{rendition}/media.m3u8", timeout=CLIENT_SECONDS)
    return m3u8.loads(answer.text if answer.status_code == 200 else "#EXTM3U\n")


@pytest.fixture(scope="module", params=["disk", "S3"])
def captioned(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Captioned]:
    folder, environment, place = tmp_path_factory.mktemp("captions"), None, ""
    if request.param == "S3":
        s3_server: S3Server = request.getfixturevalue("s3_server")
        environment, place = s3_server.environment(), f'dvr_path = "s3://{BUCKET}/captions"\n'
    server = start_in(folder, place, environment=environment)
    yield watched(server)
    assert server.stop() == 0
    assert "Traceback" not in server.text()


def start_in(
    folder: Path, place: str = "", *, environment: dict[str, str] | None = None, **changes: str
) -> ServerProcess:
    """Start a server on a channel with captions.

    Args:
        place: a line that says where the DVR is.
        changes: the ends of lines of the channel in place of others.
    """
    channel = copied_channel("a", *OPTIONS)
    for name, value in changes.items():
        channel = re.sub(rf"(?m)^{name} = .*", f"{name} = {value}", channel)
    text = f'[server]\nport = 0\ndata = "data"\n{place}{channel}'
    (folder / "headwater.toml").write_text(text)
    return start_server(cwd=folder, env=environment)


def watched(server: ServerProcess, rendition: str = "source") -> Captioned:
    """Watch captions until their segments have left the list."""
    # The open segment has parts alone.
    whole = wait_for(
        lambda: [one.uri for one in playlist(server, rendition).segments if one.uri], "the channel"
    )
    first = int(whole[-1].partition(".")[0]) + 2
    body = b"WEBVTT\n\n00:00.000 --> 00:30.000\nHello\n"
    url = f"{server.url}/live/a/captions/en"
    answer = httpx.post(url, content=body, headers={**BEARER, "content-type": "text/vtt"})
    assert answer.status_code == 201, answer.text
    wait_for(lambda: has(server, first + COUNT), "captions")
    numbers = range(first, first + COUNT)
    one = Captioned(server, {}, {})
    for number in numbers:
        one.listed[number] = one.get(f"captions-en/{number}.m4s").content
    dates = {
        str(each.uri).partition(".")[0]: each.program_date_time
        for each in playlist(server, rendition).segments
    }
    one.dates.update({number: dates[str(number)].timestamp() for number in numbers})
    bound = numbers[-1] + IN_WINDOWS
    wait_for(lambda: (playlist(server, rendition).media_sequence or 0) > bound, "it has left")
    return one


def has(server: ServerProcess, number: int) -> bool:
    return f"{number}.vtt" in [one.uri for one in playlist(server, "captions-en").segments]


def time_of(data: bytes) -> int:
    """Return the media time at which a fragment of captions begins, in milliseconds."""
    reader = FragmentReader()
    reader.receive_data(INIT + data)
    (found,) = (one for one in reader.events() if isinstance(one, Fragment))
    return found.base_media_decode_time


def test_captions_have_the_bytes_that_they_had_when_they_were_listed(captioned: Captioned) -> None:
    assert captioned.get("captions-en/init-0.mp4").status_code == 200
    for number, before in captioned.listed.items():
        assert b"Hello" in before
        answer = captioned.get(f"captions-en/{number}.m4s")
        assert (answer.status_code, answer.content) == (200, before)
        assert answer.headers["content-type"] == "application/mp4"
    oldest = min(captioned.listed) - 100_000
    assert captioned.get(f"captions-en/{oldest}.m4s").status_code == 404


def test_the_manifest_of_a_span_has_the_captions_of_its_segments(captioned: Captioned) -> None:
    first, *_, last = captioned.listed
    query = f"?start={captioned.dates[first]:.3f}&end={captioned.dates[last] + 0.9:.3f}"
    (template,) = captioned.texts(query)
    assert template.get("startNumber") == str(first)
    timeline = list(template.iter(f"{MPD}S"))
    durations = [int(one.get("d", "0")) for one in timeline for _ in range(int(one.get("r", "0")) + 1)]
    assert len(durations) == COUNT
    begin = int(timeline[0].get("t", "0"))
    assert template.get("presentationTimeOffset") == str(begin)
    for number, duration in zip(captioned.listed, durations, strict=True):
        data = captioned.get(f"captions-en/{number}.m4s").content
        assert time_of(data) == pytest.approx(begin, abs=1)
        assert b"Hello" in data
        begin += duration


@pytest.mark.parametrize("kind", ["start-over", "delay"])
def test_players_that_count_by_the_clock_find_captions(captioned: Captioned, kind: str) -> None:
    first, *_, last = captioned.listed
    if kind == "delay":
        delay = time.time() - captioned.dates[last] - 1
        templates = captioned.texts(f"?delay={delay:.3f}")
    else:
        templates = captioned.texts(f"?start={captioned.dates[first]:.3f}")
    template = templates[-1]
    number, scale = int(template.get("startNumber", "0")), int(template.get("timescale", "0"))
    assert number <= last
    data = captioned.get(f"captions-en/{last}.m4s").content
    assert b"Hello" in data
    begin = int(template.get("presentationTimeOffset", "0"))
    begin += (last - number) * int(template.get("duration", "0"))
    assert time_of(data) == pytest.approx(1000 * begin / scale, abs=2)
    # Where nobody said anything there are captions, too.
    silent = captioned.get(f"captions-en/{number}.m4s")
    assert silent.status_code == 200


def test_a_rung_that_is_added_changes_no_captions_of_what_has_passed(tmp_path: Path) -> None:
    before = watched(start_in(tmp_path, ladder='["240p"]'), "240p")
    first, *_, last = before.listed
    query = f"?start={before.dates[first]:.3f}&end={before.dates[last] + 0.9:.3f}"
    answers = [before.get(f"{name}{query}") for name in SPAN]
    assert {one.status_code for one in answers} == {200}
    said = [one.content for one in answers]
    assert f"{last}.vtt".encode() in said[-1]
    assert before.server.stop() == 0
    # Nobody publishes, so that there is nothing but the past.
    server = start_in(tmp_path, source='"publish"', ladder='["360p", "240p"]')
    after = replace(before, server=server)
    wait_for(lambda: after.get(f"{SPAN[0]}{query}").status_code == 200, "the past")
    assert [after.get(f"{name}{query}").content for name in SPAN] == said
    for number, data in before.listed.items():
        answer = after.get(f"captions-en/{number}.m4s")
        assert (answer.status_code, answer.content) == (200, data)
    assert server.stop() == 0
