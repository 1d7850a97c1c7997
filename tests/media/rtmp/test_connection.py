"""The server's side of a publisher's connection: what is asked, what is answered, and what is refused."""

from __future__ import annotations

import contextlib
import math
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media.errors import MediaError
from media.flv.amf0 import Value, read_values, write_values
from media.rtmp import chunks
from media.rtmp.chunks import ChunkReader, Message, write_message
from media.rtmp.connection import (
    AGGREGATED_MESSAGES,
    LEAST_WINDOW_BYTES,
    ConnectRequest,
    PublisherConnection,
    PublishRequest,
    StreamEnded,
)
from tests.rtmp import HANDSHAKE, LIMITS, accepted, command, connection, publishing, read

VIDEO = write_message(6, Message(chunks.VIDEO, 1, 40, b"\x17\1\0\0\0abc"), 128)
CONNECT: dict[str, Value] = {"app": "live", "tcUrl": "rtmp://host/live"}


def answers(sent: bytes) -> list[Message]:
    """Read what the server sent behind its handshake."""
    reader = ChunkReader(LIMITS)
    reader.receive_data(sent[3073:])
    return list(reader.events())


def said(sent: bytes) -> list[tuple[Value, ...]]:
    """Give the name and transaction of each command of the server, and the code that it tells."""
    found = list[tuple[Value, ...]]()
    for message in answers(sent):
        if message.kind == chunks.COMMAND:
            values = read_values(message.payload)
            info = values[-1]
            found.append((values[0], values[1], info.get("code") if isinstance(info, dict) else info))
    return found


def opened(given: dict[str, Value]) -> PublisherConnection:
    """Give a connection that waits for the answer to its first request."""
    one = connection()
    one.receive_data(HANDSHAKE + command("connect", 1, given))
    list(one.events())
    return one


@pytest.mark.clause("RTMP 1.0 §7.2")
def test_a_publisher_is_asked_about_and_then_let_in() -> None:
    events, sent, error = read([publishing("demo?key=a%2Fb") + VIDEO])
    assert error == ""
    assert events == [
        ConnectRequest("live"),
        PublishRequest("live", "demo", {"key": "a/b"}),
        Message(chunks.VIDEO, 1, 40, b"\x17\1\0\0\0abc"),
        StreamEnded(),
    ]
    assert said(sent) == [
        ("_result", 1.0, "NetConnection.Connect.Success"),
        ("_result", 2.0, None),
        ("_result", 3.0, None),
        ("onFCPublish", 0.0, "NetStream.Publish.Start"),
        ("_result", 4.0, 1.0),
        ("onStatus", 0.0, "NetStream.Publish.Start"),
    ]
    # RTMP 1.0 §7.2.1.1: the server's window and limit come before the result.
    assert [one.kind for one in answers(sent)][:2] == [chunks.WINDOW_SIZE, chunks.PEER_BANDWIDTH]


def test_a_connection_gives_the_same_however_it_is_cut() -> None:
    data = publishing("demo?key=1") + VIDEO + command("deleteStream", 6, None, 1) + VIDEO
    whole = read([data])
    assert len(whole[0]) == 4
    assert read([data[at : at + 1] for at in range(len(data))]) == whole
    for cut in range(0, len(data), 7):
        assert read([data[:cut], data[cut:]]) == whole


def test_nothing_is_published_before_somebody_was_let_in() -> None:
    one = connection()
    one.receive_data(publishing() + VIDEO * 3)
    assert list(one.events()) == [ConnectRequest("live")]
    assert list(one.events()) == []
    one.accept_connect()
    assert list(one.events()) == [PublishRequest("live", "demo")]
    assert list(one.events()) == []
    one.refuse_publish("wrong key")
    assert list(one.events()) == []
    assert list(one.receive_eof()) == []


def test_one_stream_may_follow_another_as_long_as_the_connection_lasts() -> None:
    stream = command("createStream", 2, None) + command("publish", 3, None, "demo", "live", stream=1)
    wire = HANDSHAKE + command("connect", 1, CONNECT) + (stream + command("deleteStream", 4, None, 1)) * 200
    events, _, error = read([wire])
    assert not error
    assert events.count(PublishRequest("live", "demo")) == events.count(StreamEnded()) == 200


def test_media_without_a_stream_is_dropped() -> None:
    one = connection()
    aggregate = write_message(4, Message(chunks.AGGREGATE, 1, 0, b"\x09" + bytes(10) + bytes(4)), 128)
    one.receive_data(HANDSHAKE + command("connect", 1, CONNECT) + VIDEO + aggregate)
    assert list(accepted(one)) == [ConnectRequest("live")]


def test_a_refusal_says_why() -> None:
    one = connection()
    one.receive_data(publishing())
    for event in one.events():
        assert isinstance(event, ConnectRequest)
    one.accept_connect()
    list(one.events())
    one.refuse_publish("The key is wrong.")
    last = answers(one.data_to_send())[-1]
    assert last.stream == 1
    assert read_values(last.payload) == [
        "onStatus",
        0.0,
        None,
        {"level": "error", "code": "NetStream.Publish.BadName", "description": "The key is wrong."},
    ]
    assert_over(one)
    one = opened(CONNECT)
    one.reject_connect("There is no such application.")
    assert said(one.data_to_send()) == [("_error", 1.0, "NetConnection.Connect.Rejected")]
    assert_over(one)


def assert_over(one: PublisherConnection) -> None:
    """Assert that who was refused isn't heard any more: it would guess on."""
    assert one.is_closed
    one.receive_data(command("publish", 6, None, "demo", "live", stream=1))
    assert list(one.events()) == []


def test_a_publisher_whose_place_is_taken_is_told() -> None:
    one = connection()
    one.receive_data(publishing() + VIDEO)
    list(accepted(one))
    one.data_to_send()
    one.end("Another publisher has taken over.")
    assert b"Another publisher has taken over." in one.data_to_send()
    one.receive_data(VIDEO)
    assert list(one.events()) == list(one.receive_eof()) == []


@pytest.mark.parametrize(
    ("given", "name", "expected"),
    [
        (CONNECT, "demo?key=1&x=2", PublishRequest("live", "demo", {"key": "1", "x": "2"})),
        ({"app": "live/?key=1", "tcUrl": ""}, "demo", PublishRequest("live", "demo", {"key": "1"})),
        (
            {"app": "live", "tcUrl": "rtmp://host/live?key=1"},
            "demo?key=2",
            PublishRequest("live", "demo", {"key": "2"}),
        ),
        (
            {"app": "live", "tcUrl": "rtmp://me:se%2Fcret@host/live"},
            "demo",
            PublishRequest("live", "demo", {}, "me", "se/cret"),
        ),
        (CONNECT, "demo?key=a+b/c%2Bd=", PublishRequest("live", "demo", {"key": "a+b/c+d="})),
        (CONNECT, "..%2f../x", PublishRequest("live", "..%2f../x")),
        ({"app": "live", "tcUrl": "rtmp://[host/live"}, "demo", PublishRequest("live", "demo")),
        ({}, "", PublishRequest("", "")),
    ],
)
def test_a_name_is_told_as_it_came_and_its_key_wherever_it_stood(
    given: dict[str, Value], name: str, expected: PublishRequest
) -> None:
    one = opened(given)
    one.accept_connect()
    one.receive_data(command("publish", 5, None, name, "live", stream=1))
    assert list(one.events()) == [expected]
    # What is printed of it has no secrets.
    assert "key" not in repr(expected)
    assert "cret" not in repr(expected)


def test_what_a_client_can_do_is_told_and_what_both_can_is_answered() -> None:
    told: dict[str, Value] = {
        "fourCcList": ["hvc1", 5.0],
        "videoFourCcInfoMap": {"av01": 7.0},
        "audioFourCcInfoMap": {"Opus": 7.0},
        "capsEx": 15.0,
    }
    one = connection()
    one.receive_data(HANDSHAKE + command("connect", 1, CONNECT | told))
    (request,) = one.events()
    assert request == ConnectRequest("live", "", frozenset({"hvc1", "av01", "Opus"}), 15)
    assert not one.request_reconnect("too early")
    one.accept_connect()
    info = read_values(answers(one.data_to_send())[-1].payload)[-1]
    assert isinstance(info, dict)
    assert info["fourCcList"] == ["Opus", "av01", "hvc1"]
    one.receive_data(command("publish", 5, None, "demo", "live", stream=1))
    list(accepted(one))
    assert one.request_reconnect("A new version is coming.")
    assert b"NetConnection.Connect.ReconnectRequest" in one.data_to_send()


@pytest.mark.parametrize("caps", [math.nan, math.inf, -1.0, 1e300, "x", None])
def test_capabilities_that_are_none_are_none(caps: Value) -> None:
    one = connection()
    one.receive_data(HANDSHAKE + command("connect", 1, CONNECT | {"capsEx": caps}))
    assert list(one.events()) == [ConnectRequest("live")]


def test_pings_are_answered_and_bytes_acknowledged() -> None:
    one = connection()
    one.receive_data(publishing() + VIDEO)
    list(accepted(one))
    one.data_to_send()
    ping = Message(chunks.USER_CONTROL, 0, 0, struct.pack(">HI", 6, 77))
    window = Message(chunks.WINDOW_SIZE, 0, 0, (1).to_bytes(4, "big"))
    one.receive_data(write_message(2, ping, 128) + write_message(2, window, 128))
    assert list(one.events()) == []
    pong = struct.pack(">HI", 7, 77)
    assert one.data_to_send() == write_message(2, Message(chunks.USER_CONTROL, 0, 0, pong), 128)
    # A window of one byte would be a packet of ours for each of theirs.
    total = one.received
    for _ in range(10_000):
        one.receive_data(VIDEO)
        total += len(VIDEO)
        list(one.events())
    assert 0 < len(one.data_to_send()) <= 16 * (total // LEAST_WINDOW_BYTES + 1)
    one.ping(5)
    assert one.data_to_send().endswith(struct.pack(">HI", 6, 5))


def test_script_data_is_told_as_it_stands_in_a_file() -> None:
    body = write_values(["onMetaData", {"width": 5.0}])
    marked = write_values(["@setDataFrame"]) + body
    one = connection()
    messages = [Message(chunks.DATA, 1, 0, marked), Message(chunks.DATA_AMF3, 1, 0, b"\0" + marked)]
    one.receive_data(publishing() + b"".join(write_message(4, each, 128) for each in messages))
    assert list(accepted(one))[2:] == [Message(chunks.DATA, 1, 0, body)] * 2


@pytest.mark.clause("RTMP 1.0 §7.1.6")
def test_an_aggregate_message_is_taken_apart() -> None:
    def part(kind: int, moment: int, body: bytes) -> bytes:
        time = moment.to_bytes(4, "big")
        sizes = len(body).to_bytes(3, "big"), (11 + len(body)).to_bytes(4, "big")
        return bytes((kind,)) + sizes[0] + time[1:] + time[:1] + bytes(3) + body + sizes[1]

    body = part(9, 1000, b"abc") + part(8, 1010, b"d") + part(9, 1040, b"")
    whole = write_message(4, Message(chunks.AGGREGATE, 1, 50_000, body), 128)
    assert read([publishing() + whole])[0][2:-1] == [
        Message(9, 1, 50_000, b"abc"),
        Message(8, 1, 50_010, b"d"),
        Message(9, 1, 50_040, b""),
    ]
    for broken in (body[:-1], body + b"\x09", body[:4]):
        cut = write_message(4, Message(chunks.AGGREGATE, 1, 50_000, broken), 128)
        assert "MalformedError" in read([publishing() + cut])[2]


def test_an_aggregate_message_of_more_messages_than_anybody_sends_is_refused() -> None:
    most = AGGREGATED_MESSAGES
    for count, error in (
        (most, ""),
        (most + 1, "TooLargeError: an aggregate message of more than 1024 messages"),
    ):
        parts = (b"\x09" + bytes(10) + (11).to_bytes(4, "big")) * count
        events, _, told = read([publishing() + write_message(4, Message(chunks.AGGREGATE, 1, 0, parts), 128)])
        assert told == error
        assert sum(isinstance(one, Message) for one in events) == most


def test_who_wants_to_watch_is_told_that_this_is_for_publishers() -> None:
    wire = HANDSHAKE + command("connect", 1, CONNECT) + command("createStream", 2, None)
    events, sent, _ = read([wire + command("play", 3, None, "demo", stream=1)])
    assert events == [ConnectRequest("live")]
    assert said(sent)[-1] == ("onStatus", 0.0, "NetStream.Play.Failed")
    assert said(read([wire + command("whatever", 9, None)])[1])[-1] == (
        "_error",
        9.0,
        "NetConnection.Call.Failed",
    )


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (command("publish", 1, None, "demo"), "before the connect command"),
        (command("connect", 1, CONNECT) + command("createStream", 2, None) * 300, "messages"),
        (write_message(3, Message(chunks.ACKNOWLEDGEMENT, 0, 0, b""), 128) + b"\xc3" * 300, "messages"),
        (command("connect", 1, {"app": "live?" + "a&" * 100}), "parameters"),
        (write_message(3, Message(chunks.COMMAND, 0, 0, b""), 128), "without a name"),
        (write_message(3, Message(chunks.COMMAND, 0, 0, b"\3\0\1a" * 1000), 128), "nested"),
        (write_message(3, Message(chunks.COMMAND, 0, 0, b"\x0c\xff\xff\xff\xffa"), 128), "cut off"),
    ],
)
def test_what_no_publisher_does_ends_the_connection(data: bytes, error: str) -> None:
    events, _, told = read([HANDSHAKE + data])
    assert error in told
    assert not any(isinstance(event, PublishRequest | Message) for event in events)


def test_a_stream_may_end_and_another_one_follow() -> None:
    end = command("FCUnpublish", 6, None, "demo") + command("deleteStream", 7, None, 1)
    again = command("createStream", 8, None) + command("publish", 9, None, "other", "live", stream=1)
    events, _, error = read([publishing() + VIDEO + end + VIDEO + again + VIDEO])
    assert error == ""
    assert [type(event) for event in events] == [
        ConnectRequest,
        PublishRequest,
        Message,
        StreamEnded,
        PublishRequest,
        Message,
        StreamEnded,
    ]


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 2000), st.binary(min_size=1, max_size=12), st.integers(0, 2000))
def test_damage_never_breaks_a_connection_and_its_cuts_change_nothing(
    at: int, damage: bytes, cut: int
) -> None:
    whole = publishing("demo?key=1") + VIDEO * 8 + command("deleteStream", 6, None, 1)
    place = 3073 + at % (len(whole) - 3073)
    data = whole[:place] + damage + whole[place + len(damage) :]
    events, _, error = read([data])
    assert read([data[: 3073 + cut], data[3073 + cut :]])[::2] == (events, error)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=200), max_size=5))
def test_no_commands_break_a_connection(payloads: list[bytes]) -> None:
    one = connection()
    wire = b"".join(write_message(3, Message(chunks.COMMAND, 0, 0, each), 128) for each in payloads)
    with contextlib.suppress(MediaError):
        one.receive_data(publishing() + wire)
        list(accepted(one))
