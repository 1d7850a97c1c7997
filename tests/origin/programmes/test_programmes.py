"""Programmes of a channel: lists, addresses that stay the same, recordings by rule, and what is refused."""

from __future__ import annotations

import contextlib
import http.client
import math
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx
import m3u8
import pytest

from tests.conftest import ServerProcess, start_server
from tests.copied_channel import RATE
from tests.programmed_channel import ADMIN, address, configure, date_of, live, pictures, playlist, put
from tests.waiting import wait_for


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("programmes")
    configure(folder, 'dvr = "10m"')
    with start_server(cwd=folder) as running:
        wait_for(lambda: len(live(running).segments) > 4, "some segments")
        yield running


def listed(server: ServerProcess, query: str = "") -> list[dict[str, Any]]:
    answer = httpx.get(f"{server.url}/api/live/a/programmes{query}", timeout=60)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()
    return found


def live_text(server: ServerProcess) -> str:
    return httpx.get(address(server, "source/media.m3u8"), timeout=60).text


def wait_until_listed(server: ServerProcess) -> None:
    """Wait until the channel has read what an earlier process left."""
    url = f"{server.url}/api/live/a/programmes"
    wait_for(lambda: httpx.get(url, timeout=60).status_code == 200, "the list of programmes")


@pytest.mark.promise("PUT /live/CHANNEL/programmes", "/api/live/CHANNEL/programmes")
def test_only_the_administrator_changes_programmes_and_everybody_lists_them(server: ServerProcess) -> None:
    programme = {
        "id": "x",
        "start": "2026-11-26T20:14:03+01:00",
        "end": 1795725000.5,
        "title": '<b>"X"\n&amp;',
    }
    assert httpx.put(address(server, "programmes"), json=[programme]).status_code == 401
    wrong = {"authorization": "Bearer wrong", "content-type": "application/json"}
    # Authorisation comes before the body is read.
    assert httpx.put(address(server, "programmes"), content=b"{" * 99, headers=wrong).status_code == 401
    assert put(server, [programme], **{"sec-fetch-site": "cross-site"}).status_code == 403
    assert put(server, [programme]).json() == {"programmes": 1, "unchanged": []}
    (one,) = listed(server)
    assert (one["id"], one["start"], one["end"]) == ("x", 1795720443.0, 1795725000.5)
    assert one["title"] == '<b>"X" &amp;', "a title is text of one line"
    assert put(server, []).json() == {"programmes": 0, "unchanged": []}
    assert listed(server) == []
    assert httpx.get(f"{server.url}/api/live/b/programmes").status_code == 404


@pytest.mark.parametrize(
    "programmes",
    [
        {},
        [{}],
        [{"id": "a", "start": 1, "end": 2, "more": 1}],
        [{"id": "", "start": 1, "end": 2}],
        [{"id": "a/../b", "start": 1, "end": 2}],
        [{"id": "a" * 101, "start": 1, "end": 2}],
        [{"id": "a\n", "start": 1, "end": 2}],
        [{"id": "a", "start": 2, "end": 2}],
        [{"id": "a", "start": 2, "end": 1}],
        [{"id": "a", "start": -1e300, "end": 1e300}],
        [{"id": "a", "start": 10**400, "end": 1}],
        [{"id": "a", "start": "yesterday", "end": 2}],
        [{"id": "a", "start": True, "end": 2}],
        [{"id": "a", "start": 0, "end": 31 * 86_400 + 1}],
        [{"id": "a", "start": 1, "end": 2}, {"id": "a", "start": 3, "end": 4}],
        [{"id": "a", "start": 1, "end": 2, "title": "x" * 5000}],
        [{"id": f"a{index}", "start": 1, "end": 2} for index in range(20_001)],
    ],
)
def test_what_are_no_programmes_changes_nothing(server: ServerProcess, programmes: Any) -> None:
    before = listed(server)
    answer = put(server, programmes)
    assert answer.status_code == 400, answer.text
    assert "\n" not in answer.text.rstrip("\n")
    assert listed(server) == before


def test_bodies_of_other_types_and_of_any_length_are_refused(server: ServerProcess) -> None:
    url = address(server, "programmes")
    for kind, status in (("text/plain", 415), ("application/json", 400), ("application/xml", 400)):
        assert httpx.put(url, content=b"[", headers={**ADMIN, "content-type": kind}).status_code == status
    with contextlib.closing(http.client.HTTPConnection(httpx.URL(url).netloc.decode(), timeout=60)) as client:
        client.putrequest("PUT", "/live/a/programmes")
        for name, value in {**ADMIN, "content-type": "application/xml", "content-length": "9" * 12}.items():
            client.putheader(name, value)
        client.endheaders()
        assert client.getresponse().status == 413
    deep = {**ADMIN, "content-type": "application/json"}
    assert httpx.put(url, content=b"[" * 1_000_000, headers=deep, timeout=60).status_code == 400


GUIDE_ROWS = (("2000", "a", "One &amp; all"), ("1930", "a", "Beside it"), ("2000", "b", "Elsewhere"))
GUIDE = '<?xml version="1.0"?><!DOCTYPE tv SYSTEM "xmltv.dtd"><tv>{}</tv>'.format(
    "".join(
        f'<programme channel="{name}" start="20261126190000 +0000" stop="20261126{stop}00 +0000">'
        f"<title>{title}</title></programme>"
        for stop, name, title in GUIDE_ROWS
    )
)


def test_a_guide_names_the_programmes_of_a_channel_by_their_beginning(server: ServerProcess) -> None:
    url, headers = address(server, "programmes"), {**ADMIN, "content-type": "application/xml"}
    assert httpx.put(url, content=GUIDE, headers=headers).json()["programmes"] == 2
    found = [(one["id"], one["start"], one["end"], one["title"]) for one in listed(server)]
    begin = 1795719600
    assert found == [
        ("20261126T190000Z", begin, begin + 3600, "One & all"),
        ("20261126T190000Z-2", begin, begin + 1800, "Beside it"),
    ]
    assert httpx.put(f"{url}?channel=b", content=GUIDE, headers=headers).json()["programmes"] == 1
    assert [one["title"] for one in listed(server)] == ["Elsewhere"]
    refused = httpx.put(f"{url}?channel=c", content=GUIDE, headers=headers)
    assert refused.status_code == 400
    assert "'a', 'b'" in refused.text


def test_a_list_has_what_touches_a_span(server: ServerProcess) -> None:
    spans = {"long": (0, 1000), "early": (100, 200), "late": (300, 400), "far": (900, 2000)}
    assert (
        put(server, [{"id": name, "start": a, "end": b} for name, (a, b) in spans.items()]).status_code == 200
    )
    for begin, end in ((0, 100), (200, 300), (399, 400), (400, 900), (1000, 3000), (2000, 3000)):
        expected = {name for name, (a, b) in spans.items() if a < end and b > begin}
        assert {one["id"] for one in listed(server, f"?start={begin}&end={end}")} == expected
    assert httpx.get(f"{server.url}/api/live/a/programmes?start=x").status_code == 400


@pytest.mark.promise("/live/CHANNEL/master.m3u8?programme=ID")
@pytest.mark.clause("RFC 8216bis §4.4.3.5", "RFC 8216bis §4.4.5.1")
def test_the_address_of_a_programme_grows_until_its_end_and_is_a_vod_then(server: ServerProcess) -> None:
    begin, now = date_of(server, 1) + 0.25, time.time()
    # Of what is behind an edit, ffprobe counts all but what follows a key frame that is the last one shown.
    end = begin + math.ceil(now + 5 - begin)
    spans = [
        {"id": "on", "start": begin, "end": end, "title": 'News "at" six'},
        {"id": "beside", "start": now - 1, "end": now + 500},
        {"id": "coming", "start": now + 1000, "end": now + 2000},
    ]
    assert put(server, spans).status_code == 200
    states = {one["id"]: (one["state"], one["hls"] is not None) for one in listed(server)}
    assert states == {"on": ("running", True), "beside": ("running", True), "coming": ("coming", False)}
    first = playlist(server, "on")
    assert first is not None
    assert (first.playlist_type, first.is_endlist) == ("event", False)
    assert first.start is not None
    assert first.start.time_offset == pytest.approx(0.25, abs=0.002)
    wait_for(lambda: len(getattr(playlist(server, "on"), "segments", ())) > len(first.segments), "more of it")
    wait_for(lambda: getattr(playlist(server, "on"), "is_endlist", False), "the end of the programme")
    whole = playlist(server, "on")
    assert whole is not None
    assert whole.playlist_type == "vod"
    assert whole.media_sequence == first.media_sequence
    uris = [one.uri for one in whole.segments]
    begun = [one.uri for one in first.segments if one.uri]
    assert uris[: len(begun)] == begun
    last = whole.segments[-1].program_date_time
    assert last is not None
    assert end - 1.1 <= last.timestamp() < end
    master = address(server, "master.m3u8?programme=on")
    assert "source/media.m3u8?programme=on" in httpx.get(master).text
    assert pictures(master) == RATE * len(uris)
    assert pictures(address(server, "manifest.mpd?programme=on")) == RATE * len(uris)
    clip = httpx.get(address(server, "clip.mp4?programme=on"))
    assert clip.status_code == 302
    assert clip.headers["location"] == f"clip.mp4?start={begin:.3f}&end={end:.3f}"
    assert pictures(urljoin(str(clip.url), clip.headers["location"])) == RATE * len(uris)
    for name, status in (
        ("coming", 404),
        ("nobody", 404),
        ("a%2fb", 400),
        ("on&programme=on", 400),
        ("", 400),
    ):
        assert httpx.get(address(server, f"master.m3u8?programme={name}")).status_code == status, name
    assert httpx.get(address(server, "master.m3u8?programme=on&start=-10")).status_code == 400


@pytest.mark.clause("RFC 8216bis §4.4.5.1")
def test_players_are_told_of_programmes_in_live_in_spans_and_in_the_media(server: ServerProcess) -> None:
    now = time.time()
    assert (
        put(server, [{"id": "told", "start": now, "end": now + 4, "title": 'The "News"'}]).status_code == 200
    )

    def lines(text: str) -> list[str]:
        return [
            one
            for one in text.splitlines()
            if "DATERANGE" in one and f"programme-told-{now * 1000:.0f}" in one
        ]

    planned = wait_for(lambda: lines(live_text(server)), "the date range of the programme")[0]
    assert "PLANNED-DURATION=4.000" in planned
    assert 'X-PROGRAMME="told"' in planned
    assert "X-TITLE=\"The 'News'\"" in planned
    ended = wait_for(lambda: lines(live_text(server))[1:], "the end of the programme")[0]
    assert re.search(r"[,:]DURATION=4\.000", ended)
    whole = httpx.get(address(server, f"source/media.m3u8?start={now:.3f}&end={now + 5:.3f}")).text
    assert lines(whole) == [planned, ended]
    # A span before the end stays as it was before that came.
    span = httpx.get(address(server, f"source/media.m3u8?start={now:.3f}&end={now + 2:.3f}")).text
    assert lines(span) == [planned]
    # The tag in the media itself, in the segments from the programme's beginning on.
    found = m3u8.loads(span)
    data = b"".join(httpx.get(address(server, f"source/{one.uri}")).content for one in found.segments)
    assert data.count(b"https://aomedia.org/emsg/ID3") == 1
    assert b'The "News"' in data or b"The 'News'" in data


def test_programmes_outlive_the_server_and_a_damaged_file_is_set_aside(tmp_path: Path) -> None:
    configure(tmp_path, 'dvr = "10m"')
    running = start_server(cwd=tmp_path)
    try:
        wait_for(lambda: len(live(running).segments) > 4, "some segments")
        near = date_of(running, 1)
        spans = [
            {"id": "kept", "start": 1795720000, "end": 1795720060.5, "title": "Kept"},
            {"id": "near", "start": near, "end": near + 2, "title": "Near"},
        ]
        assert put(running, spans).status_code == 200
        before = listed(running)
        running.process.kill()
        running.process.wait()
        running = start_server(cwd=tmp_path)
        wait_until_listed(running)
        assert listed(running) == before
        # Players are told of what was on before the restart, as far as the DVR goes back.
        wait_for(
            lambda: f'DATERANGE:ID="programme-near-{near * 1000:.0f}"' in live_text(running), "the programme"
        )
        (line,) = (one for one in live_text(running).splitlines() if "programme-near" in one)
        assert re.search(r"[,:]DURATION=2\.000", line)
        assert running.stop() == 0
        file = tmp_path / "data" / "live" / "a" / "programmes"
        file.write_bytes(file.read_bytes()[:-9])
        running = start_server(cwd=tmp_path)
        wait_until_listed(running)
        assert listed(running) == []
        wait_for(lambda: not file.exists(), "the damaged file in its place")
    finally:
        running.stop()
