"""Date ranges of a live channel (RFC 8216bis §4.4.5.1, §6.2.1): published over HTTP, read from playlists."""

from __future__ import annotations

import base64
import json
import re
import time
from datetime import datetime
from pathlib import Path

import m3u8
import pytest
from starlette.applications import Starlette

from origin.answers.asgi import handler_routes
from origin.live import metadata
from origin.live.handler import LiveHandler
from origin.live.publishing import PublishedChannels
from origin.live.requests.addresses import PATTERNS
from origin.server.endpoints.error_responses import ERROR_RESPONSES
from packager.process.ffmpeg_discovery import Tools
from tests.conformance.conftest import serving
from tests.conformance.handfed import AUDIO, NUMBER, PARTS, PATH, HandFed, Track
from tests.conformance.metadata_requests import JSON, post
from tests.conformance.raw import Client
from tests.keys import ADMIN_TOKEN, BEARER_LINE
from tests.permissions import live_authorization

CHALLENGE = 'Basic realm="Headwater", charset="UTF-8"'


@pytest.fixture
def fed(fed: HandFed) -> HandFed:
    """Return the channel, by whose clock its media are of now: nothing that is published comes late."""
    fed.channel.stream.wall_clock = lambda: float(NUMBER + 9)
    return fed


@pytest.fixture
def now(fed: HandFed) -> float:
    """Stop the clock by which playlists forget: the machine may stand still for longer than they remember."""
    now = time.monotonic()
    fed.channel.presentation.clock = lambda: now
    return now


def tags(playlist: str) -> list[str]:
    return re.findall(r"#EXT-X-DATERANGE:(.*)", playlist)


def test_a_range_without_a_start_begins_with_what_is_on_air(fed: HandFed) -> None:
    answer = post(fed, {"class": "cue", "attributes": {"X-TITLE": "Größe 1", "X-LEVEL": -1.5}})
    assert answer.status == 201
    told = json.loads(answer.body)
    (tag,) = tags(fed.text())
    # Eight segments of a second and fourteen frames at thirty a second; dates have milliseconds.
    assert datetime.fromisoformat(told["start"].removesuffix("Z") + "+00:00").timestamp() == NUMBER + 8.467
    assert tag == (
        f'ID="{told["id"]}",CLASS="cue",START-DATE="{told["start"]}",DURATION=0.000,'
        'X-LEVEL=-1.5,X-TITLE="Größe 1"'
    )
    assert len(m3u8.loads(fed.text()).segments) >= 8


OUT, IN = "0xFC302F000000", "0xFC3020000000"


@pytest.mark.clause("RFC 8216bis §4.4.5.1")
def test_a_break_has_its_sections_of_scte_35_and_an_interstitial_its_cue(fed: HandFed) -> None:
    fields = {"id": "ad", "planned_duration": 30, "attributes": {"SCTE35-OUT": OUT, "CUE": "ONCE"}}
    assert post(fed, fields).status == 201
    assert post(fed, {"id": "ad", "duration": 9.5, "attributes": {"SCTE35-IN": IN}}).status == 201
    first, end = tags(fed.text())
    assert first.endswith(f',PLANNED-DURATION=30.000,CUE="ONCE",SCTE35-OUT={OUT}')
    assert end.endswith(f",DURATION=9.500,SCTE35-IN={IN}")
    for wrong in ({"SCTE35-OUT": "/DAv"}, {"SCTE35-OUT": 12}, {"CUE": "PRE,POST"}, {"SCTE35": OUT}):
        assert post(fed, {"attributes": wrong}).status == 400


@pytest.mark.clause("RFC 8216bis §6.2.4 MUST 2i")
def test_every_rendition_has_the_same_ranges(fed: HandFed) -> None:
    for name in ("a", "b"):
        assert post(fed, {"id": name}).status == 201
    picture, sound = tags(fed.text()), tags(fed.text(AUDIO))
    assert picture == sound
    assert len(picture) == 2


@pytest.mark.clause("RFC 8216bis §6.2.1 MUST 18")
def test_an_id_names_one_range_for_ever(fed: HandFed) -> None:
    assert post(fed, {"id": "ad", "duration": 1}).status == 201
    assert post(fed, {"id": "ad", "duration": 1}).status == 409
    fed.publish(20 * PARTS)
    assert tags(fed.text()) == []
    assert post(fed, {"id": "ad", "duration": 1}).status == 409


@pytest.mark.clause("RFC 8216bis §6.2.1 SHOULD 7")
def test_a_planned_range_is_ended_by_the_same_id(fed: HandFed) -> None:
    first = post(fed, {"id": "ad", "class": "ads", "planned_duration": 30})
    start = json.loads(first.body)["start"]
    assert post(fed, {"id": "ad", "class": "other", "duration": 9}).status == 409
    fed.publish(PARTS)
    assert post(fed, {"id": "ad", "duration": 9.5}).status == 201
    assert tags(fed.text()) == [
        f'ID="ad",CLASS="ads",START-DATE="{start}",PLANNED-DURATION=30.000',
        f'ID="ad",START-DATE="{start}",DURATION=9.500',
    ]


@pytest.mark.clause("RFC 8216bis §6.2.1 MUST 17")
def test_a_range_stays_as_long_as_it_touches_a_listed_segment(fed: HandFed) -> None:
    begin = f"{datetime.fromtimestamp(NUMBER + 8).isoformat()}+00:00"
    assert post(fed, {"id": "short", "start": begin, "duration": 2}).status == 201
    assert post(fed, {"id": "open", "start": begin, "planned_duration": 2}).status == 201
    seen = []
    for _ in range(24):
        fed.publish(PARTS)
        playlist = fed.text()
        oldest = int(re.findall(r"^(\d+)\.m4s", playlist, re.MULTILINE)[0])
        named = {re.findall(r'ID="(\w+)"', tag)[0] for tag in tags(playlist)}
        seen.append((oldest, "short" in named))
        # Nobody told the end of the other one.
        assert "open" in named
    # It ends when segment NUMBER + 10 begins.
    assert all(listed == (oldest <= NUMBER + 10) for oldest, listed in seen)
    assert not seen[-1][1]


@pytest.mark.clause("RFC 8216bis §6.2.5.1 MUST 2")
def test_v2_skips_the_ranges_that_the_player_has(
    fed: HandFed, now: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    fed.publish(PARTS)
    assert post(fed, {"id": "old", "planned_duration": 5}).status == 201
    listed = fed.channel.presentation.date_ranges
    # CAN-SKIP-UNTIL is six target durations, of a second each: this one came seven seconds ago.
    monkeypatch.setattr(listed, "_listed", [type(one)(one.tag, now - 7) for one in listed._listed])
    assert post(fed, {"id": "new", "planned_duration": 5}).status == 201
    assert len(tags(fed.text())) == len(tags(fed.text(PATH + "?_HLS_skip=YES"))) == 2
    delta = fed.text(PATH + "?_HLS_skip=v2")
    assert [re.findall(r'ID="(\w+)"', tag) for tag in tags(delta)] == [["new"]]
    # §8: version 10 for an EXT-X-SKIP that replaces date ranges
    assert "#EXT-X-VERSION:10\n" in delta
    assert 'RECENTLY-REMOVED-DATERANGES=""' in delta
    assert "CAN-SKIP-DATERANGES=YES" in delta


@pytest.mark.clause("RFC 8216bis §6.2.5.1 MUST 3")
def test_ranges_that_went_lately_are_told_in_delta_updates(fed: HandFed, now: float) -> None:
    for name in ("a", "b"):
        assert post(fed, {"id": name, "duration": 1}).status == 201
    fed.publish(25 * PARTS)
    assert tags(fed.text()) == []
    assert 'RECENTLY-REMOVED-DATERANGES="a\tb"' in fed.text(PATH + "?_HLS_skip=v2")
    assert "RECENTLY-REMOVED" not in fed.text(PATH + "?_HLS_skip=YES")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"[" * 15_000, 400),
        ({"unknown": 1}, 400),
        ({"id": 'a"b'}, 400),
        ({"id": "a\nb"}, 400),
        ({"attributes": {"TITLE": "x"}}, 400),
        ({"attributes": {"X-A": 'x",X-B="y'}}, 400),
        ({"attributes": {"X-A": "x\r\n#EXT-X-ENDLIST"}}, 400),
        ({"attributes": {f"X-{number}": 1 for number in range(33)}}, 400),
        ({"duration": -1}, 400),
        ({"start": "2026-11-20T00:00:00"}, 400),
        ({"id": "x" * 17_000}, 413),
    ],
)
def test_what_can_not_be_a_date_range_is_refused(fed: HandFed, body: object, status: int) -> None:
    answer = post(fed, body)
    assert answer.status == status
    assert answer.body.count(b"\n") == 1
    assert tags(fed.text()) == []


@pytest.mark.clause("CWE-352")
@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ((JSON,), 401),
        ((JSON, "Origin: http://127.0.0.1:8000", "Sec-Fetch-Site: same-origin"), 401),
        ((JSON, "X-Forwarded-For: 127.0.0.1"), 401),
        ((JSON, "Forwarded: for=127.0.0.1"), 401),
        ((JSON, BEARER_LINE), 201),
        ((JSON, BEARER_LINE, "X-Forwarded-For: 192.0.2.1"), 201),
        ((JSON, BEARER_LINE, "Origin: http://127.0.0.1"), 201),
        ((JSON, BEARER_LINE, "Origin: https://evil.example"), 403),
        ((JSON, BEARER_LINE, "Origin: null"), 403),
        ((JSON, BEARER_LINE, "Origin: http://["), 403),
        ((JSON, BEARER_LINE, "Sec-Fetch-Site: cross-site"), 403),
        ((JSON, BEARER_LINE, "Sec-Fetch-Site: same-site"), 403),
        # A proxy may have put its own name into Host.
        ((JSON, BEARER_LINE, "Origin: https://stream.example", "Sec-Fetch-Site: same-origin"), 201),
        ((BEARER_LINE, "Content-Type: text/plain"), 415),
        ((BEARER_LINE, "Content-Type: application/x-www-form-urlencoded"), 415),
    ],
)
def test_nobody_publishes_without_a_key_and_no_page_of_another_site_does(
    fed: HandFed, fields: tuple[str, ...], status: int
) -> None:
    """Neither this machine's address nor its name is a key: whoever comes through a proxy has both."""
    answer = post(fed, {}, *fields)
    assert answer.status == status
    # RFC 9110 §15.5.2: a 401 says how to authenticate.
    assert ("www-authenticate" in answer) is (status == 401)
    assert status != 401 or answer["www-authenticate"] == CHALLENGE


def test_with_a_key_who_has_it_publishes(
    material: dict[str, Track], tools: Tools, tmp_path: Path, fed: HandFed
) -> None:
    streams = {"test": fed.channel.stream}
    authorization = live_authorization({"test": "sesame", "other": "simsim"}, ADMIN_TOKEN)
    published = metadata.routes(PublishedChannels(streams, authorization))
    app = Starlette(
        routes=[*handler_routes(LiveHandler(streams), PATTERNS), *published],
        exception_handlers=ERROR_RESPONSES,
    )
    basic = base64.b64encode(b"anyone:sesame").decode()
    with serving(app, tmp_path, "uvloop") as running:
        fed.address = running.address
        for fields, target, status in (
            ((JSON,), "/live/test/metadata", 401),
            ((JSON,), "/live/test/metadata?key=sesam", 401),
            ((JSON,), "/live/test/metadata?key=simsim", 401),
            ((JSON,), "/live/test/metadata?key=", 401),
            ((JSON, BEARER_LINE), "/live/test/metadata", 201),
            ((JSON,), f"/live/test/metadata?key={ADMIN_TOKEN}", 201),
            ((JSON,), "/live/test/metadata?key=sesame", 201),
            ((JSON, "Authorization: Bearer sesame"), "/live/test/metadata", 201),
            ((JSON, "Authorization: Bearer s\u00e9same"), "/live/test/metadata", 401),
            ((JSON, f"Authorization: Basic {basic}"), "/live/test/metadata", 201),
            ((JSON, "Authorization: Basic %%%"), "/live/test/metadata", 401),
        ):
            assert post(fed, {}, *fields, target=target).status == status, fields


def test_nothing_is_published_on_a_channel_that_is_not_there(fed: HandFed) -> None:
    assert post(fed, {}, target="/live/other/metadata").status == 404
    with Client(fed.address) as client:
        assert client.ask("/live/test/metadata").status == 405
