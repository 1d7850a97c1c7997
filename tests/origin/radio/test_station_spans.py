"""Spans of a station's past as players ask for them, on a disk and in S3: as those of a channel."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import m3u8
import pytest

from tests.conftest import ServerProcess, start_server
from tests.origin.radio.listed_stations import date, listed, number, start_behind_its_list
from tests.patience import CLIENT_SECONDS, patient_server
from tests.s3_server import BUCKET, S3Proxy, S3Server
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(900)

MEDIA = "64k/media.m3u8"


@dataclass
class Station:
    """A station, and a segment that has left its list.

    Attributes:
        proxy: stands before S3, if that has the past.
    """

    folder: Path
    environment: dict[str, str]
    proxy: S3Proxy | None
    server: ServerProcess
    first: m3u8.Segment

    def restart(self) -> None:
        """Have another process serve it, which has nothing in memory."""
        assert self.server.stop() == 0
        newest = time.time()
        self.server = start_server(cwd=self.folder, env=self.environment, program=patient_server())
        wait_for(lambda: [one for one in listed(self.server) if date(one) > newest], "another segment")

    def get(self, name: str, *, follows: bool = True, **fields: str) -> httpx.Response:
        url = f"{self.server.url}/live/fm/{name}"
        given = {key.replace("_", "-"): value for key, value in fields.items()}
        return httpx.get(url, headers=given, timeout=CLIENT_SECONDS, follow_redirects=follows)

    def playlist(self, query: str = "") -> m3u8.M3U8:
        answer = self.get(MEDIA + query)
        assert answer.status_code == 200, answer.text
        return m3u8.loads(answer.text)

    @property
    def start(self) -> float:
        """A time within its first segment."""
        return date(self.first) + 0.25


@pytest.fixture(scope="module", params=["on disk", "in S3"])
def station(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, s3_server: S3Server
) -> Iterator[Station]:
    folder: Path = tmp_path_factory.mktemp("station")
    proxy = S3Proxy(s3_server) if request.param == "in S3" else None
    place = [f'dvr_path = "s3://{BUCKET}/{folder.name}"'] if proxy else []
    environment = s3_server.environment(proxy.url) if proxy else {}
    server, first = start_behind_its_list(folder, environment, *place)
    station = Station(folder, environment, proxy, server, first)
    yield station
    assert station.server.stop() == 0
    assert "Traceback" not in station.server.text()
    if proxy is not None:
        proxy.close()


def test_a_film_begins_where_the_span_does(station: Station) -> None:
    start = station.start
    found = station.playlist(f"?start={start:.3f}&end={start + 8:.3f}")
    assert (found.playlist_type, found.is_endlist) == ("vod", True)
    assert number(found.segments[0]) == number(station.first)
    assert found.start is not None
    assert (found.start.time_offset, found.start.precise) == (pytest.approx(0.25, abs=0.002), "YES")


def test_an_older_beginning_is_cut_and_said_unless_all_of_it_is_wanted(station: Station) -> None:
    end = station.start + 8
    cut = station.get(f"{MEDIA}?start={station.start - 3000:.3f}&end={end:.3f}")
    assert cut.status_code == 200
    oldest = float(cut.headers["x-available-from"])
    assert date(m3u8.loads(cut.text).segments[0]) == pytest.approx(oldest, abs=0.002)
    assert "immutable" not in cut.headers["cache-control"]
    for name in ("master.m3u8", MEDIA, "manifest.mpd", "clip.m4a"):
        refused = station.get(f"{name}?start={station.start - 3000:.3f}&end={end:.3f}&strict=1")
        assert (refused.status_code, f"{oldest:.3f}"[:-1] in refused.text) == (404, True), name
        assert station.get(f"{name}?start={station.start:.3f}&end={end:.3f}&strict=1").status_code == 200


def test_times_before_now_lead_to_the_dates_of_segments(station: Station) -> None:
    age = time.time() - station.start
    answer = station.get(f"master.m3u8?start=-{age:.0f}&end=now-{age - 10:.0f}&strict=1", follows=False)
    assert answer.status_code == 302
    query = httpx.URL(answer.headers["location"]).params
    assert (query["strict"], float(query["end"]) > float(query["start"])) == ("1", True)
    whole = f"?start={station.start - 20:.3f}&end={station.start + 40:.3f}"
    dates = [date(one) for one in station.playlist(whole).segments]
    assert min(abs(float(query["start"]) - one) for one in dates) < 0.002
    assert station.playlist(f"?{query}").is_endlist
    refused = station.get("master.m3u8?start=-3000&end=now&strict=1")
    assert (refused.status_code, "the channel has what came from" in refused.text) == (404, True)


def test_what_has_no_end_yet_grows_until_it_has_one(station: Station) -> None:
    end = time.time() + 3 * station.first.duration
    query = f"?start={station.start:.3f}&end={end:.3f}"
    growing = station.playlist(query)
    assert (growing.playlist_type, growing.is_endlist) == ("event", False)
    wait_for(lambda: station.playlist(query).is_endlist, "its end")
    film = station.playlist(query)
    numbers = [number(one) for one in film.segments if one.uri]
    before = [number(one) for one in growing.segments if one.uri]
    assert numbers[: len(before)] == before
    assert numbers == list(range(number(station.first), numbers[-1] + 1))
    assert date(film.segments[-1]) < end
    assert station.get(f"manifest.mpd{query}").status_code == 200


def test_a_span_that_grows_has_the_edge_of_the_live_playlist(station: Station) -> None:
    query = f"?start={station.start:.3f}"
    for _ in range(2):
        newest = number(listed(station.server)[-1])
        wanted = f"_HLS_msn={newest + 1}"
        text = station.get(f"{MEDIA}{query}&{wanted}").text
        now = station.get(f"{MEDIA}?{wanted}").text
        found, live = m3u8.loads(text), m3u8.loads(now)
        assert number([one for one in found.segments if one.uri][-1]) > newest
        assert found.media_sequence == number(station.first)
        # What low latency needs is the same in both.
        assert re.findall("#EXT-X-PART-INF.*", text) == re.findall("#EXT-X-PART-INF.*", now)
        assert bool(re.search("#EXT-X-PART:", text)) == bool(re.search("#EXT-X-PART:", now))
        assert found.server_control.can_block_reload == live.server_control.can_block_reload == "YES"
        whole, update = station.get(MEDIA + query).text, station.get(f"{MEDIA}{query}&_HLS_skip=YES").text
        skip = re.search("#EXT-X-SKIP:SKIPPED-SEGMENTS=([0-9]+)", update)
        assert skip is not None
        uris = [one.uri for one in m3u8.loads(whole).segments if one.uri]
        rest = [one.uri for one in m3u8.loads(update).segments if one.uri]
        assert [*uris[: int(skip[1])], *rest][: len(uris)] == uris
    assert station.get(f"{MEDIA}{query}&_HLS_msn={newest + 1000}").status_code == 400


@pytest.mark.promise("/live/CHANNEL/clip.m4a?…")
def test_a_file_of_a_span_has_a_validator_and_ranges(station: Station) -> None:
    name = f"clip.m4a?start={station.start:.3f}&end={station.start + 8:.3f}"
    whole = station.get(name)
    assert whole.status_code == 200
    tag, size = whole.headers["etag"], len(whole.content)
    url = f"{station.server.url}/live/fm/{name}"
    head = httpx.head(url, timeout=CLIENT_SECONDS)
    assert (head.status_code, head.headers["content-length"], head.headers["etag"]) == (200, str(size), tag)
    part = station.get(name, range="bytes=100-199", if_range=tag)
    assert (part.status_code, part.content) == (206, whole.content[100:200])
    assert part.headers["content-range"] == f"bytes 100-199/{size}"
    changed = station.get(name, range="bytes=100-199", if_range='"other"')
    assert (changed.status_code, changed.content) == (200, whole.content)
    assert station.get(name, range=f"bytes={size}-").status_code == 416
    assert station.get(name, if_none_match=tag).status_code == 304


@pytest.mark.parametrize("station", ["in S3"], indirect=True)
def test_while_s3_is_away_the_past_is_said_to_be_there_later(station: Station) -> None:
    assert station.proxy is not None
    station.restart()
    span = f"start={station.start:.3f}&end={station.start + 8:.3f}"
    names = [f"{one}?{span}" for one in ("master.m3u8", MEDIA, "manifest.mpd", "clip.m4a")]
    names.append(f"64k/{station.first.uri}")
    with station.proxy.refusing():
        for name in names:
            answer = station.get(name)
            assert (answer.status_code, "retry-after" in answer.headers) == (503, True), name
        assert station.get(MEDIA).status_code == 200
    for name in names:
        wait_for(lambda name=name: station.get(name).status_code == 200, name)  # type: ignore[misc]
