"""What a connection asks again and again, as players do, is answered as on a connection of its own."""

from __future__ import annotations

import random
from unittest import mock

from origin.http1.fast_answering import FastAnswering
from tests.conformance.handfed import NUMBER, PARTS, PATH, HandFed
from tests.conformance.raw import Answer, Client
from tests.waiting import wait_for

LIVE = "/live/test/"
TARGETS = (
    PATH,
    f"{PATH}?_HLS_skip=YES",
    f"{PATH}?_HLS_msn={NUMBER + 3}&_HLS_part=1",
    f"{PATH}?_HLS_msn={NUMBER + 90}",
    f"{PATH}?_HLS_part=1",
    f"{LIVE}master.m3u8",
    f"{LIVE}240p/{NUMBER + 3}.m4s",
    f"{LIVE}240p/{NUMBER + 7}.2.m4s",
    f"{LIVE}nothing/media.m3u8",
    "/live/nobody/master.m3u8",
)
FIELDS = ((), ("Accept-Encoding: gzip",), ('If-None-Match: "other"',), ("Range: bytes=10-99",))


def described(answer: Answer) -> tuple[object, ...]:
    """Give all but the time of an answer."""
    kept = sorted(field for field in answer.fields if field[0] not in ("date", "last-modified"))
    return answer.status, answer.version, kept, answer.body


def test_repeated_requests_have_the_answers_of_connections_of_their_own(fed: HandFed) -> None:
    chosen = random.Random(5)
    with (
        Client(fed.address) as client,
        mock.patch.object(
            FastAnswering, "_send_in_memory", autospec=True, side_effect=FastAnswering._send_in_memory
        ) as short,
    ):
        for _ in range(60):
            target, fields = chosen.choice(TARGETS), chosen.choice(FIELDS)
            method = chosen.choice(("GET", "GET", "GET", "HEAD"))
            for _ in range(chosen.randint(1, 5)):
                if chosen.random() < 0.3:
                    fed.publish()
                again = client.ask(target, *fields, method=method)
                assert described(again) == described(fed.ask(target, *fields, method=method))
        assert short.call_count > 50


def test_a_playlist_that_is_asked_for_again_is_the_one_of_now(fed: HandFed) -> None:
    with Client(fed.address) as client:
        before, sent = fed.traffic.requests["live", 200], fed.traffic.sent_bytes["live"]
        texts = [client.ask(PATH).body for _ in range(4)]
        assert len(set(texts)) == 1
        wait_for(lambda: fed.traffic.requests["live", 200] == before + 4, "the last of them to be counted")
        assert fed.traffic.sent_bytes["live"] == sent + 4 * len(texts[0])
        fed.publish()
        assert client.ask(PATH).body == fed.ask(PATH).body != texts[0]
        # Requests that come together have their answers in order.
        one = f"GET {PATH} HTTP/1.1\r\nHost: origin.localhost\r\n\r\n"
        other = f"GET {LIVE}master.m3u8 HTTP/1.1\r\nHost: origin.localhost\r\n\r\n"
        client.send(one + one + other + one)
        kinds = [client.answer().body.count(b"#EXT-X-STREAM-INF") > 0 for _ in range(4)]
        assert kinds == [False, False, True, False]
        fed.end()
        wait_for(lambda: b"#EXT-X-ENDLIST" in client.ask(PATH).body, "the end")
        fed.in_loop(fed.streams.clear)
        assert client.ask(PATH).status == 404


def test_who_asks_again_waits_for_a_part_that_has_not_come(fed: HandFed) -> None:
    window = fed.channel.renditions["240p"].window
    number, part = window.next_part
    target = f"{PATH}?_HLS_msn={number}&_HLS_part={part}"
    with Client(fed.address) as client:
        for _ in range(3):
            client.ask(PATH)
        client.send(f"GET {target} HTTP/1.1\r\nHost: origin.localhost\r\n\r\n")
        wait_for(lambda: fed.channel.stream.blocked == 1, "the request")
        fed.publish()
        first = client.answer().body
        assert [client.ask(target).body for _ in range(3)] == [first] * 3


def test_viewers_are_counted_while_they_ask_again(fed: HandFed) -> None:
    with (
        Client(fed.address) as client,
        mock.patch.object(type(fed.channel.stream), "note_viewer", autospec=True) as noted,
    ):
        for _ in range(5):
            client.ask(PATH, "User-Agent: a player")
        assert noted.call_count == 5


def test_a_handler_that_fails_is_asked_anew_and_its_failure_is_an_answer(fed: HandFed) -> None:
    with Client(fed.address) as client:
        for _ in range(3):
            assert client.ask(PATH).status == 200
        with mock.patch(
            "origin.live.requests.playlist_requests._note_viewer", side_effect=ValueError("for the test")
        ):
            assert client.ask(PATH).status == 500
        assert client.ask(PATH).status == 200


def test_a_client_that_reads_slowly_gets_all_of_each_answer(fed: HandFed) -> None:
    fed.publish(PARTS)
    whole = fed.ask(PATH).body
    count = 400
    request = f"GET {PATH} HTTP/1.1\r\nHost: origin.localhost\r\n\r\n"
    with Client(fed.address, receive_buffer=4096) as client:
        for _ in range(3):
            client.ask(PATH)
        for _ in range(count):
            client.send(request)
        assert all(client.answer().body == whole for _ in range(count))
