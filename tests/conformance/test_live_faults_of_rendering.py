"""What can't be rendered is an answer of 500 and a line in the log, and nobody waits for it in vain."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import structlog

from media.hls.media_playlist import MediaPlaylist
from media.hls.multivariant import MultivariantPlaylist
from origin.answers import gzip_cache, representation_replies
from origin.live import media_requests
from origin.live.requests import playlist_requests
from origin.live.requests.playlist_requests import Reload
from packager.live.limits import LiveLimits
from packager.process.ffmpeg_discovery import Tools
from packager.publish import dash, hls, hls_line_cache
from packager.publish.dash import LiveManifest
from packager.publish.date_ranges import DateRanges
from packager.publish.live_stream import ViewerCounter
from packager.window.limits import PublishLimits
from packager.window.window import Window
from tests.conformance.handfed import AUDIO, NUMBER, OPTIONS, PARTS, PATH, HandFed, Track, on_air
from tests.conformance.metadata_requests import post
from tests.conformance.raw import Answer, Client
from tests.waiting import wait_for

CROWD = 30

SLOWLY = "TE: trailers"
"""A field with which a request goes the application's way, and that changes nothing in its answer."""

BLOCKED = f"{PATH}?_HLS_msn={NUMBER + 8}&_HLS_part=2"
"""The playlist with the part that comes next."""


class InjectedError(Exception):
    """What no code here knows."""


def fail(*_: object, **__: object) -> Any:
    raise InjectedError


@pytest.fixture
def logged() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as lines:
        yield lines


@contextlib.contextmanager
def crowd(fed: HandFed, target: str, *fields: str) -> Iterator[list[Client]]:
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(fed.address)) for _ in range(CROWD)]
        for client in clients:
            client.send("\r\n".join([f"GET {target} HTTP/1.1", "Host: origin", *fields, "", ""]))
        wait_for(lambda: fed.channel.stream.blocked == CROWD, "the crowd")
        yield clients


def assert_failed(answer: Answer) -> None:
    assert answer.status == 500
    assert answer["cache-control"] == "no-store"
    assert answer["access-control-allow-origin"] == "*"
    assert answer["x-content-type-options"] == "nosniff"
    assert answer.body == b"Internal Server Error\n"


RENDERING = [
    pytest.param(MediaPlaylist, "pieces", id="the syntax of a playlist"),
    pytest.param(hls, "media_playlist", id="what a playlist says"),
    pytest.param(hls, "_segment", id="a segment"),
    pytest.param(hls, "_server_control", id="server control"),
    pytest.param(hls, "part_uri", id="the preload hint"),
    pytest.param(hls_line_cache.History, "older", id="the older lines"),
    pytest.param(DateRanges, "lines", id="date ranges"),
    pytest.param(DateRanges, "evict", id="date ranges that go"),
]
"""What is called for each playlist."""

ANSWERING = [
    pytest.param(gzip_cache, "tag", id="the entity-tag"),
    pytest.param(representation_replies, "_head", id="the header"),
    pytest.param(Reload, "render", id="the reload"),
]
"""What is called for each answer."""


@pytest.mark.parametrize("fields", [(), (SLOWLY,)], ids=["on the connection", "by the application"])
@pytest.mark.parametrize(("owner", "name"), RENDERING)
def test_a_playlist_that_can_not_be_rendered_is_500_to_all_who_ask_or_wait(
    fed: HandFed,
    monkeypatch: pytest.MonkeyPatch,
    logged: list[Any],
    owner: Any,
    name: str,
    fields: tuple[str, ...],
) -> None:
    with crowd(fed, BLOCKED, *fields) as clients:
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, fail)
            fed.publish(1, "240p")
            for client in clients:
                assert_failed(client.answer())
            assert_failed(fed.ask(PATH, *fields))
        # Once for all who ask in the same state.
        (line,) = logged
        assert (line["event"], line["reason"]) == (
            "a playlist of a rendition can't be rendered",
            "InjectedError()",
        )
        assert isinstance(line["exc_info"], InjectedError)
        assert fed.channel.stream.blocked == 0
        # The next state is another one; the connections are as good as before.
        fed.publish(1, "240p")
        for client in clients:
            assert client.ask(PATH, *fields).status == 200


@pytest.mark.parametrize("fields", [(), (SLOWLY,)], ids=["on the connection", "by the application"])
@pytest.mark.parametrize(("owner", "name"), ANSWERING)
def test_an_answer_that_can_not_be_made_is_500_to_all_who_ask_or_wait(
    fed: HandFed,
    monkeypatch: pytest.MonkeyPatch,
    logged: list[Any],
    owner: Any,
    name: str,
    fields: tuple[str, ...],
) -> None:
    with crowd(fed, BLOCKED, *fields) as clients:
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, fail)
            fed.publish(1, "240p")
            statuses = {client.answer().status for client in clients}
        assert statuses == {500}
        wait_for(lambda: len(logged) == CROWD, "the log")
        assert fed.channel.stream.blocked == 0
        for client in clients:
            assert client.ask(PATH, *fields).status == 200


@pytest.mark.parametrize("fields", [(), (SLOWLY,)], ids=["on the connection", "by the application"])
def test_who_waits_for_what_can_not_be_looked_for_is_told_to_come_again(
    fed: HandFed, monkeypatch: pytest.MonkeyPatch, logged: list[Any], fields: tuple[str, ...]
) -> None:
    with crowd(fed, BLOCKED, *fields) as clients:
        with monkeypatch.context() as patch:
            patch.setattr(Window, "reached", fail)
            # Who publishes doesn't suffer from those who wait.
            fed.publish(1, "240p")
            assert {client.answer().status for client in clients} == {503}
        assert [line["event"] for line in logged] == ["a condition that requests wait for can't be checked"]
        for client in clients:
            assert client.ask(PATH, *fields).status == 200


@pytest.mark.parametrize(
    ("target", "owner", "name", "fields"),
    [
        (PATH, ViewerCounter, "note", ()),
        (PATH, ViewerCounter, "note", (SLOWLY,)),
        (PATH, Reload, "has_come", ()),
        (PATH, Reload, "has_come", (SLOWLY,)),
        (f"{PATH}?_HLS_skip=YES", MediaPlaylist, "pieces", ()),
        (f"{PATH}?_HLS_skip=v2", DateRanges, "lines", ()),
        (f"{PATH}?token=a", hls_line_cache, "Suffix", ()),
        (AUDIO, hls, "adding_up", ()),
        (PATH, gzip_cache, "gzip", ("Accept-Encoding: gzip",)),
        (PATH, gzip_cache, "gzip", ("Accept-Encoding: gzip", SLOWLY)),
        ("/live/test/master.m3u8", hls, "multivariant_playlist", ()),
        ("/live/test/master.m3u8", MultivariantPlaylist, "render", ()),
        ("/live/test/manifest.mpd", LiveManifest, "pieces", ()),
        ("/live/test/manifest.mpd", dash, "timeline_at", ()),
        (f"/live/test/240p/{NUMBER + 7}.m4s", media_requests, "media_reply", ()),
        (f"/live/test/240p/{NUMBER + 7}.m4s", media_requests, "media_reply", (SLOWLY,)),
        (f"/live/test/240p/{NUMBER + 7}.0.m4s", media_requests, "media_tag", ()),
        (f"/live/test/240p/init-{NUMBER}.mp4", media_requests, "media_tag", (SLOWLY,)),
        ("/live/test/240p/1.m4s", LiveManifest, "lost_segment", ()),
        (f"{PATH}?x", playlist_requests, "text_reply", ()),
    ],
)
def test_whatever_fails_is_500_of_that_request_alone(
    fed: HandFed,
    monkeypatch: pytest.MonkeyPatch,
    logged: list[Any],
    target: str,
    owner: Any,
    name: str,
    fields: tuple[str, ...],
) -> None:
    with Client(fed.address) as client:
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, fail)
            assert_failed(client.ask(target, *fields))
        wait_for(lambda: logged, "the log")
        (line,) = logged
        assert line["log_level"] == "error"
        assert line["exc_info"]
        # By another state of the channel what was noted of the last one is forgotten.
        fed.publish(1, "240p")
        assert client.ask(target, *fields).status == (404 if target.endswith("/1.m4s") else 200)


def test_a_crowd_for_a_part_that_can_not_be_answered_is_released(
    fed: HandFed, monkeypatch: pytest.MonkeyPatch, logged: list[Any]
) -> None:
    with crowd(fed, f"/live/test/240p/{NUMBER + 8}.2.m4s") as clients:
        with monkeypatch.context() as patch:
            patch.setattr(media_requests, "media_reply", fail)
            fed.publish(1, "240p")
            for client in clients:
                assert_failed(client.answer())
        wait_for(lambda: len(logged) == CROWD, "the log")
        assert {client.ask(f"/live/test/240p/{NUMBER + 8}.2.m4s").status for client in clients} == {200}


DAMAGING: list[dict[str, object]] = [
    {"start": "9999-12-31T23:59:59-12:00"},
    {"start": "9999-12-31T23:59:59Z"},
    {"start": "0001-01-01T00:00:00+12:00"},
    {"start": "0001-01-01T00:00:00Z"},
    {"start": "1969-12-31T23:59:59Z", "duration": 86_400},
    {"id": "ends with a line\n"},
    {"class": "ends with a line\n"},
    {"attributes": {"X-A": "ends with a line\n"}},
    {"attributes": {"X-A": "two\u2028lines"}},
    {"attributes": {"X-A": "two\u2029paragraphs"}},
    {"attributes": {"X-A": "two\u0085lines"}},
    {"attributes": {"X-A": "a\ttab"}},
    {"attributes": {"X-A": "a\u009bcontrol"}},
    {"attributes": {"X-A": 1e300}},
    {"attributes": {"X-A": -1e16}},
    {"id": "two\u2028lines"},
    {"class": "two\x0blines"},
    {"planned_duration": 1e9},
]


@pytest.mark.parametrize("body", DAMAGING, ids=lambda body: ascii(json.dumps(body))[:60])
def test_what_no_playlist_could_say_is_refused_and_the_channel_goes_on(
    fed: HandFed, logged: list[Any], body: dict[str, object]
) -> None:
    with crowd(fed, BLOCKED) as clients:
        before = fed.channel.presentation.date_ranges.version
        answer = post(fed, body)
        assert answer.status == 400
        assert answer.body.count(b"\n") == 1
        assert fed.channel.presentation.date_ranges.version == before
        fed.publish(1, "240p")
        assert {client.answer().status for client in clients} == {200}
    for target in (PATH, AUDIO, f"{PATH}?_HLS_skip=v2", "/live/test/master.m3u8", "/live/test/manifest.mpd"):
        answer = fed.ask(target)
        assert answer.status == 200
        # Whoever reads lines by another rule than LF alone reads the same ones.
        assert answer.body.decode().splitlines() == answer.body.decode().rstrip("\n").split("\n")
    assert logged == []


def test_dates_of_a_year_are_published(fed: HandFed) -> None:
    """The limit is far from what anybody means."""
    start = "2026-12-31T00:00:00Z"
    assert post(fed, {"start": start, "duration": 3600}).status == 201
    assert f'START-DATE="{start.removesuffix("Z")}.000Z"' in fed.text()


def test_nothing_is_kept_where_half_of_a_publication_fails(
    fed: HandFed, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert post(fed, {"id": "a", "id3": {"WOAR": "\u20ac"}}).status == 400
    assert post(fed, {"id": "a", "id3": "####"}).status == 400
    with monkeypatch.context() as patch:
        patch.setattr(type(fed.channel.timed_metadata), "check", fail)
        assert post(fed, {"id": "a"}).status == 500
    assert "EXT-X-DATERANGE" not in fed.text()
    assert post(fed, {"id": "a"}).status == 201


def test_date_ranges_are_bounded_in_bytes(fed: HandFed) -> None:
    """However much a publisher says, a playlist stays one that players fetch with each part."""
    attributes = {f"X-{number}": "x" * 1000 for number in range(15)}
    statuses = [post(fed, {"planned_duration": 1, "attributes": attributes}).status for _ in range(20)]
    assert statuses == [201] * 17 + [409] * 3
    assert len(fed.text()) < 300_000
    answer = fed.ask(PATH, "Accept-Encoding: gzip")
    assert answer.status == 200


def test_a_range_without_an_end_outlives_any_number_of_others(
    material: dict[str, Track], tools: Tools, tmp_path: Path
) -> None:
    """What is remembered of the others pushes out nothing that a playlist needs."""
    options = replace(OPTIONS, limits=LiveLimits(publish=PublishLimits(used_ids=3)))
    with on_air(material, tools, tmp_path, options) as fed:
        fed.publish(8 * PARTS + 2)
        assert post(fed, {"id": "open", "planned_duration": 1}).status == 201
        for number in range(8):
            assert post(fed, {"id": f"{number}", "duration": 0}).status == 201
        fed.publish(25 * PARTS)
        assert fed.text().count("EXT-X-DATERANGE") == 1
        assert post(fed, {"id": "open", "duration": 9}).status == 201
        assert post(fed, {"id": "7", "duration": 0}).status == 409
