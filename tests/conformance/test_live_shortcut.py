"""The connection's own answers for live channels are the application's, and cost nothing but themselves."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest

from packager.process.ffmpeg_discovery import Tools
from packager.window.model import LivePart
from tests.conformance.handfed import NUMBER, PARTS, PATH, HandFed, Track, on_air, parts_of
from tests.conformance.raw import Answer, Client
from tests.waiting import wait_for

BY_APPLICATION = "TE: trailers"
"""A field that makes a request one for the parser, and changes nothing in its answer (RFC 9110 §10.1.4)."""

GZIP = "Accept-Encoding: gzip"


@pytest.fixture
def fed(material: dict[str, Track], tools: Tools, tmp_path: Path) -> Iterator[HandFed]:
    with on_air(material, tools, tmp_path) as fed:
        fed.publish(8 * PARTS)
        fed.calls = 0
        yield fed


def said(answer: Answer) -> tuple[int, dict[str, str], bytes]:
    """All of an answer but the time of day."""
    fields = dict(answer.fields)
    assert len(fields) == len(answer.fields)
    del fields["date"]
    return answer.status, fields, answer.body


NOW = (
    PATH,
    f"{PATH}?_HLS_msn={NUMBER}",
    f"{PATH}?_HLS_msn={NUMBER + 7}&_HLS_part=4",
    f"{PATH}?_HLS_msn={NUMBER + 7}&_HLS_part=4&_HLS_skip=YES",
    f"{PATH}?_HLS_skip=v2&token=a%20b&_HLS_push=1",
    f"{PATH}?_HLS_part=1",
    f"{PATH}?_HLS_msn=x",
    f"{PATH}?_HLS_msn={NUMBER + 99}",
    f"/live/test/240p/{NUMBER + 7}.m4s",
    f"/live/test/240p/{NUMBER + 7}.m4s?token=1",
    f"/live/test/240p/{NUMBER + 7}.2.m4s",
    f"/live/test/audio/{NUMBER + 7}.2.m4s",
    f"/live/test/240p/init-{NUMBER}.mp4",
    f"/live/test/240p/{NUMBER + 7}.9.m4s",
    f"/live/test/240p/{NUMBER + 9}.0.m4s",
    "/live/test/240p/1.m4s",
    "/live/test/240p/nothing.mp4",
    "/live/test/nothing/media.m3u8",
    "/live/nothing/240p/media.m3u8",
    "/live/test/master.m3u8",
)
NEXT = (
    f"{PATH}?_HLS_msn={NUMBER + 8}&_HLS_part=0",
    f"{PATH}?_HLS_msn={NUMBER + 7}&_HLS_part=9",
    f"{PATH}?_HLS_msn={NUMBER + 8}&_HLS_part=0&_HLS_skip=YES&token=1",
    f"/live/test/240p/{NUMBER + 8}.0.m4s",
)


@pytest.mark.parametrize("fields", [(), (GZIP,), ("User-Agent: x", "Accept-Encoding: br, gzip;q=0")])
def test_whatever_is_asked_for_both_ways_say_the_same(fed: HandFed, fields: tuple[str, ...]) -> None:
    with Client(fed.address) as client:
        for target in NOW:
            mine, other = client.ask(target, *fields), client.ask(target, BY_APPLICATION, *fields)
            assert said(mine) == said(other), target


def test_whatever_is_waited_for_both_ways_get_the_same(fed: HandFed) -> None:
    with contextlib.ExitStack() as stack:
        asked = [(target, *fields) for target in NEXT for fields in ((), (GZIP,))]
        pairs = []
        for target, *fields in asked:
            pair = (stack.enter_context(Client(fed.address)), stack.enter_context(Client(fed.address)))
            for client, way in zip(pair, ((), (BY_APPLICATION,)), strict=True):
                client.send("\r\n".join([f"GET {target} HTTP/1.1", "Host: a", *fields, *way, "", ""]))
            pairs.append(pair)
        wait_for(lambda: fed.channel.stream.blocked == 2 * len(asked), "all to wait")
        assert fed.calls == len(asked)
        fed.publish(1)
        for (mine, other), (target, *_) in zip(pairs, asked, strict=True):
            answer = said(mine.answer())
            assert answer == said(other.answer()), target
            assert answer[0] == 200


@pytest.mark.clause("RFC 9110 §13", "RFC 9110 §14")
@pytest.mark.parametrize(("field", "status"), [("Range: bytes=0-9", 206), ("If-None-Match: *", 304)])
def test_ranges_preconditions_and_head_are_answered_on_the_connection(
    fed: HandFed, field: str, status: int
) -> None:
    with Client(fed.address) as client:
        for target in (PATH, f"/live/test/240p/{NUMBER + 7}.2.m4s"):
            for fields, method, expected in (((field,), "GET", status), ((), "HEAD", 200)):
                mine = client.ask(target, *fields, method=method)
                assert mine.status == expected
                assert said(mine) == said(client.ask(target, BY_APPLICATION, *fields, method=method))
    assert fed.calls == 4


def test_players_that_follow_never_reach_the_application_and_are_counted(
    fed: HandFed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As viewers, as requests and by their bytes."""
    # Else a viewer of a machine that stands still has gone.
    monkeypatch.setattr(fed.channel.stream.viewer_counter, "seconds", 600)
    requests, sent = fed.traffic.requests["live", 200] + 8, fed.traffic.sent_bytes["live"]
    with Client(fed.address) as client, Client(fed.address) as part:
        for index in range(4):
            part.send(f"GET /live/test/240p/{NUMBER + 8}.{index}.m4s HTTP/1.1\r\nHost: a\r\n\r\n")
            client.send(f"GET {PATH}?_HLS_msn={NUMBER + 8}&_HLS_part={index} HTTP/1.1\r\nHost: a\r\n\r\n")
            wait_for(lambda: fed.channel.stream.blocked == 2, "both to wait")
            fed.publish(1)
            playlist = client.answer().body
            assert parts_of(playlist.decode())[-1] == (NUMBER + 8, index)
            sent += len(playlist) + len(part.answer().body)
    assert fed.calls == 0
    assert fed.channel.stream.viewers == 1
    wait_for(
        lambda: (fed.traffic.requests["live", 200], fed.traffic.sent_bytes["live"]) == (requests, sent),
        "the last one to be counted",
    )


def test_who_leaves_while_waiting_waits_no_longer(fed: HandFed) -> None:
    """At once, when the connection is reset."""
    with Client(fed.address) as client:
        client.send(f"GET {PATH}?_HLS_msn={NUMBER + 8}&_HLS_part=0 HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_for(lambda: fed.channel.stream.blocked == 1, "the waiter")
        client.reset()
    wait_for(lambda: fed.channel.stream.blocked == 0, "the waiter's end")


def test_a_slow_reader_of_a_large_part_gets_all_its_bytes(fed: HandFed) -> None:
    """What the kernel doesn't take at once follows when it can, and the next answer behind it."""
    large = random.Random(1).randbytes(6 << 20)
    window = fed.channel.renditions["240p"].window
    part = LivePart(large, Fraction(1, 4), independent=True)
    with Client(fed.address, receive_buffer=4096) as client:
        client.send(f"GET /live/test/240p/{NUMBER + 8}.0.m4s HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_for(lambda: fed.channel.stream.blocked == 1, "the waiter")
        fed.in_loop(lambda: window.append(part, Fraction(NUMBER + 8), ends_segment=False))
        assert client.answer().body == large
        assert client.ask(PATH).status == 200
    assert fed.calls == 0


def test_what_players_of_one_kind_ask_again_is_the_applications_answer_for_as_long_as_it_is_there(
    fed: HandFed,
) -> None:
    """Their requests are the same to the byte; nobody reads them again, and the kernel has the bytes."""
    large = random.Random(2).randbytes(100_001)
    window = fed.channel.renditions["240p"].window
    part = LivePart(large, Fraction(1, 4), independent=True)
    fed.in_loop(lambda: window.append(part, Fraction(NUMBER + 8), ends_segment=False))
    target = f"/live/test/240p/{NUMBER + 8}.0.m4s"
    with Client(fed.address) as client, Client(fed.address) as other:
        expected = said(client.ask(target, BY_APPLICATION))
        assert expected[2] == large
        # An answer is counted when it has gone, which is when its client has it, or later.
        wait_for(lambda: fed.traffic.requests["live", 200] == 1, "the first to be counted")
        before = fed.traffic.requests
        for asking in (client, client, other, other, client, other):
            assert said(asking.ask(target)) == expected
            assert said(asking.ask(f"{target}?token=1")) == expected
            assert asking.ask(target, "Range: bytes=1-2").body == large[1:3]
            assert asking.ask(f"/live/test/240p/{NUMBER + 8}.1x.m4s").status == 404
        wait_for(lambda: (fed.traffic.requests - before)["live", 200] == 12, "all to be counted")
        wait_for(lambda: (fed.traffic.requests - before)["live", 206] == 6, "ranges to be counted")
        del fed.streams["test"]
        assert client.ask(target).status == other.ask(target).status == 404


def test_slow_readers_of_one_large_part_get_all_its_bytes_and_its_copy_goes_with_the_last(
    fed: HandFed,
) -> None:
    large = random.Random(3).randbytes(6 << 20)
    window = fed.channel.renditions["240p"].window
    part = LivePart(large, Fraction(1, 4), independent=True)
    fed.in_loop(lambda: window.append(part, Fraction(NUMBER + 8), ends_segment=False))
    target = f"/live/test/240p/{NUMBER + 8}.0.m4s"
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(fed.address, receive_buffer=4096)) for _ in range(5)]
        for client in clients:
            client.send(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")
        clients.pop().reset()
        for client in clients:
            assert client.answer().body == large
            assert client.ask(target).body == large
    assert fed.calls == 0
