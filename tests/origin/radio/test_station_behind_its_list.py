"""A station whose live playlist lists less than its DVR has: rewound, late and as a file, with its titles."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

import m3u8
import pytest

from origin.config.load import validate
from origin.config.warnings import unserved
from tests.conftest import ServerProcess
from tests.origin.radio.listed_stations import date, get, number, start_behind_its_list

pytestmark = pytest.mark.timeout(900)

MPD = "{urn:mpeg:dash:schema:mpd:2011}"


@pytest.fixture(scope="module")
def station(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServerProcess, m3u8.Segment]]:
    """Serve a station; return also a segment that has left its list."""
    server, first = start_behind_its_list(tmp_path_factory.mktemp("station"))
    yield server, first
    assert server.stop() == 0


def test_a_span_before_the_list_grows_and_is_a_film_and_a_file(
    station: tuple[ServerProcess, m3u8.Segment],
) -> None:
    server, first = station
    start = date(first) + 0.1
    grown = m3u8.loads(get(server, f"/live/fm/64k/media.m3u8?start={start:.3f}").text)
    numbers = [number(one) for one in grown.segments if one.uri]
    assert (grown.playlist_type, numbers[0]) == ("event", number(first))
    assert numbers == list(range(numbers[0], numbers[-1] + 1))
    manifest = ElementTree.fromstring(get(server, f"/live/fm/manifest.mpd?start={start:.3f}").content)
    assert manifest.get("type") == "dynamic"
    (template,) = manifest.iter(f"{MPD}SegmentTemplate")
    assert template.get("startNumber") == str(number(first))
    answer = get(server, f"/radio/fm?start={start:.3f}&end={start + 8:.3f}", follow_redirects=True)
    assert (answer.status_code, answer.url.path) == (200, "/live/fm/clip.m4a"), answer.text


def test_its_titles_are_told_where_they_were_heard(station: tuple[ServerProcess, m3u8.Segment]) -> None:
    server, first = station
    start, end = date(first), date(first) + 16
    text = get(server, f"/live/fm/64k/media.m3u8?start={start:.3f}&end={end:.3f}").text
    assert set(re.findall(r'X-TITLE="(Tone [0-9]+)"', text)) == {"Tone 600", "Tone 1000"}
    dates = re.findall(r'DATERANGE:.*START-DATE="([^"]+)"', text)
    assert dates == sorted(dates)
    content = get(server, f"/live/fm/manifest.mpd?start={start:.3f}&end={end:.3f}").content
    events = [json.loads(one.text or "{}") for one in ElementTree.fromstring(content).iter(f"{MPD}Event")]
    assert {one["X-TITLE"] for one in events if "X-TITLE" in one} == {"Tone 600", "Tone 1000"}


@pytest.mark.promise("radio.playlist_window")
def test_it_is_late_beyond_its_list(station: tuple[ServerProcess, m3u8.Segment]) -> None:
    server, first = station
    age = time.time() - date(first) - 3 * first.duration
    later = m3u8.loads(get(server, f"/live/fm/64k/media.m3u8?delay={age:.1f}").text)
    numbers = [number(one) for one in later.segments]
    assert number(first) in numbers
    assert numbers == list(range(later.media_sequence or 0, (later.media_sequence or 0) + len(numbers)))
    manifest = ElementTree.fromstring(get(server, f"/live/fm/manifest.mpd?delay={age:.1f}").content)
    assert manifest.get("availabilityStartTime") != "1970-01-01T00:00:00Z"


def test_a_window_that_a_station_cant_have_is_told_at_the_start() -> None:
    station = {"name": "fm", "dvr": "2d", "playlist_window": "1h"}
    told = list(unserved(validate({"radio": [station]}, "a test")))
    assert told == ["radio 'fm': playlist_window: only of a DVR on disk or in S3"]
    stored: list[dict[str, Any]] = [
        {"server": {"data": "data"}},
        {"server": {"dvr_path": "s3://bucket/dvr"}},
        {"server": {"dvr_path": "s3://bucket/dvr"}, "cluster": {"url": "redis://127.0.0.1"}},
    ]
    for sections in stored:
        assert not list(unserved(validate({"radio": [station], **sections}, "a test")))
