"""RTMP's handshake: plain, with digests as Flash players and ffmpeg check them, and what is none."""

from __future__ import annotations

import hashlib
import hmac

import pytest

from media.errors import MediaError, UnsupportedError
from media.rtmp.handshake import PACKET_BYTES, RANDOM_BYTES, ServerHandshake

RANDOM = bytes(range(256)) * 6
PLAYER = b"Genuine Adobe Flash Player 001"
SERVER = b"Genuine Adobe Flash Media Server 001"


def made() -> ServerHandshake:
    return ServerHandshake(RANDOM[:RANDOM_BYTES])


def client_packet(pointer: int) -> bytearray:
    """Write C1 with a digest in one of its two places."""
    packet = bytearray(b"\0\0\0\1\x09\0\x7c\2" + RANDOM[:RANDOM_BYTES])
    place = sum(packet[pointer : pointer + 4]) % 728 + pointer + 4
    digest = hmac.digest(PLAYER, bytes(packet[:place] + packet[place + 32 :]), hashlib.sha256)
    packet[place : place + 32] = digest
    return packet


@pytest.mark.clause("RTMP 1.0 §5.2")
@pytest.mark.parametrize("portion", [1, 100, 1 << 20])
def test_a_plain_handshake_is_answered_with_what_came(portion: int) -> None:
    first = b"\0\0\0\1\0\0\0\0" + RANDOM[:RANDOM_BYTES]
    data, sent, one = b"\3" + first + bytes(PACKET_BYTES) + b"rest", b"", made()
    for start in range(0, len(data) - 4, portion):
        sent += one.receive_data(data[start : min(start + portion, len(data) - 4)])
    assert one.is_complete
    assert one.receive_data(b"rest") == b""
    assert one.take_rest() == b"rest"
    assert len(sent) == 1 + 2 * PACKET_BYTES
    assert sent[0] == 3
    assert sent[1:9] == bytes(8)
    # §5.2.4: S2 is an echo of C1.
    assert sent[1 + PACKET_BYTES :] == first


@pytest.mark.parametrize("pointer", [8, 772])
def test_a_digest_is_answered_with_digests_that_only_a_server_writes(pointer: int) -> None:
    packet = client_packet(pointer)
    place = sum(packet[pointer : pointer + 4]) % 728 + pointer + 4
    sent = made().receive_data(b"\3" + packet)
    first, second = sent[1 : 1 + PACKET_BYTES], sent[1 + PACKET_BYTES :]
    own = sum(first[8:12]) % 728 + 12
    expected = hmac.digest(SERVER, first[:own] + first[own + 32 :], hashlib.sha256)
    assert first[own : own + 32] == expected
    assert any(first[4:8])
    secret = bytes.fromhex("f0eec24a8068bee82e00d0d1029e7e576eec5d2d29806fab93b8e636cfeb31ae")
    key = hmac.digest(SERVER + secret, bytes(packet[place : place + 32]), hashlib.sha256)
    assert second[-32:] == hmac.digest(key, second[:-32], hashlib.sha256)


@pytest.mark.parametrize("begin", [b"GET / HTTP/1.1\r\n", b"\x16\x03\x01", b"\0", b"\6", b"\x80"])
def test_what_begins_otherwise_is_refused_at_its_first_byte(begin: bytes) -> None:
    with pytest.raises(MediaError):
        made().receive_data(begin)
    with pytest.raises(MediaError):
        made().receive_data(begin[:1])


@pytest.mark.parametrize("version", [6, 8, 9])
def test_encrypted_rtmp_is_named_as_such(version: int) -> None:
    with pytest.raises(UnsupportedError, match="encrypted"):
        ServerHandshake(bytes(RANDOM_BYTES)).receive_data(bytes((version,)))
