"""RTSP between client and server: messages and frames, however they are cut, and digests for another URI."""

from __future__ import annotations

import time

import pytest

from media.errors import MalformedError, TooLargeError
from media.rtsp import messages
from media.rtsp.messages import RtspMessage, RtspMessageLimits, RtspReader
from tests.media.rtsp.rtsp_stream import SDP, STREAM


def read(pieces: list[bytes]) -> tuple[list[RtspMessage], bytes]:
    """The messages, and all frames in one."""
    reader, messages, frames = RtspReader(), list[RtspMessage](), b""
    for piece in pieces:
        for item in reader.receive_data(piece):
            if isinstance(item, RtspMessage):
                messages.append(item)
            else:
                frames += item
    return messages, frames


def test_a_connection_gives_the_same_however_it_is_cut() -> None:
    whole = read([STREAM])
    assert [message.first for message in whole[0]] == [
        ("RTSP/1.0", "200", "OK"),
        ("OPTIONS", "*", "RTSP/1.0"),
        ("RTSP/1.0", "404", "Not Found"),
    ]
    assert whole[0][0].body == SDP
    assert [message.status for message in whole[0]] == [200, 0, 404]
    assert whole[1] == b"$\x00\x00\x04abcd$\x01\x00\x00$\x00\x00\x02xy"
    assert messages.frames(whole[1]) == [(0, b"abcd"), (1, b""), (0, b"xy")]
    assert b"".join(messages.frame(*one) for one in messages.frames(whole[1])) == whole[1]
    assert read([STREAM[place : place + 1] for place in range(len(STREAM))]) == whole
    for cut in range(len(STREAM)):
        assert read([STREAM[:cut], STREAM[cut:]]) == whole


def test_what_drips_costs_no_more_than_its_length() -> None:
    head = b"RTSP/1.0 200 OK\r\nX: " + b"x" * 16_000 + b"\r\nContent-Length: 250000\r\n\r\n"
    whole, reader, found = head + bytes(250_000), RtspReader(), list[RtspMessage | bytes]()
    begin = time.process_time()
    for place in range(len(whole)):
        found += reader.receive_data(whole[place : place + 1])
    # Read anew for each byte it takes a minute and more.
    assert time.process_time() - begin < 10
    assert len(found) == 1


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"RTSP/1.0 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"RTSP/1.0 200 OK\r\nContent-Length: 1_0\r\n\r\n",
    ],
)
def test_what_is_no_rtsp_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedError):
        RtspReader().receive_data(data)


@pytest.mark.parametrize(
    "data",
    [
        b"A" * 101,
        b"\r\n" * 100,
        b"RTSP/1.0 200 OK\r\nX: %b\r\n\r\n" % bytes(100),
        b"RTSP/1.0 200 OK\r\nContent-Length: 201\r\n\r\n",
    ],
)
def test_a_message_longer_than_it_may_be_is_refused(data: bytes) -> None:
    RtspReader().receive_data(data)
    with pytest.raises(TooLargeError):
        RtspReader(RtspMessageLimits(head_bytes=100, body_bytes=200)).receive_data(data)


def test_a_header_field_is_put_in_the_place_of_its_like() -> None:
    fields = (("cseq", "1"), ("CSeq", "2"), ("A", "b"))
    message = RtspMessage(("SETUP", "rtsp://a/", "RTSP/1.0"), fields, b"x")
    assert message.get("CSEQ") == "1"
    assert message.with_field("CSeq", "9").encode() == b"SETUP rtsp://a/ RTSP/1.0\r\nA: b\r\nCSeq: 9\r\n\r\nx"
    assert message.with_field("CSeq", None).get("cseq") == ""


def test_transports_and_their_numbers_are_read() -> None:
    told = messages.transport("RTP/AVP;unicast;client_port=4588-4589;Server_Port=6256-6257,RTP/AVP/TCP")
    assert messages.numbers(told["client_port"]) == (4588, 4589)
    assert messages.numbers(told["server_port"]) == (6256, 6257)
    assert messages.numbers("8") == (8, 9)
    assert messages.numbers("a-b") is None
    assert messages.numbers("") is None


# RFC 2617 §3.5: the example, of the password "Circle Of Life"
EXAMPLE = (
    'Digest username="Mufasa", realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", '
    'uri="/dir/index.html", qop=auth, nc=00000001, cnonce="0a4f113b", '
    'response="6629fae49393a05397450978507c4ef1", opaque="5ccc069c403ebaf9f0171e9517f40e41"'
)


def test_a_digest_is_that_of_the_standard_and_stands_for_another_uri() -> None:
    known = ("Mufasa", "Circle%20Of%20Life")
    assert messages.authorization_for_uri(EXAMPLE, "GET", "/dir/index.html", *known) == EXAMPLE
    elsewhere = messages.authorization_for_uri(EXAMPLE, "GET", "rtsp://camera/stream", *known)
    assert elsewhere is not None
    assert 'uri="rtsp://camera/stream"' in elsewhere
    assert "6629fae4" not in elsewhere
    assert messages.authorization_for_uri(elsewhere, "GET", "/dir/index.html", *known) == EXAMPLE


@pytest.mark.parametrize(
    ("method", "user", "password"),
    [("GET", "Mufasa", "wrong"), ("POST", "Mufasa", "Circle Of Life"), ("GET", "Scar", "Circle Of Life")],
)
def test_who_does_not_know_the_password_gets_no_digest_of_it(method: str, user: str, password: str) -> None:
    assert messages.authorization_for_uri(EXAMPLE, method, "/other", user, password) is None


def test_a_digest_that_is_not_of_ascii_is_refused_as_any_wrong_one() -> None:
    """Heads are bytes, of which a peer may send any."""
    (message,) = RtspReader().receive_data(
        b'OPTIONS * RTSP/1.0\r\nAuthorization: Digest username="u", response="\xe9"\r\n\r\n'
    )
    assert isinstance(message, RtspMessage)
    told = message.get("Authorization")
    assert messages.authorization_for_uri(told, "OPTIONS", "/other", "u", "p") is None


def test_a_digest_of_another_algorithm_is_not_passed_on_and_basic_is() -> None:
    other = EXAMPLE.replace("qop=auth", "qop=auth, algorithm=SHA-256")
    assert messages.authorization_for_uri(other, "GET", "/", "Mufasa", "Circle Of Life") is None
    assert messages.authorization_for_uri("Basic YTpi", "GET", "/", "a", "b") == "Basic YTpi"
