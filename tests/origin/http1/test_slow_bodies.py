"""Bodies of requests that were accepted and then come too slowly, or are meant to."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator

import pytest

from tests.conformance.raw import Client
from tests.conftest import ServerProcess, start_server
from tests.copied_channel import copied_channel
from tests.keys import ADMIN_TOKEN
from tests.waiting import wait_for

CONFIG = """
[server]
port = 0

[[radio]]
name = "one.mp3"
source = "publish"
source_password = "secret"

[limits]
body_seconds = 1
body_rate = 100
captions_idle_seconds = 5
source_seconds = 5
"""


SLOW_SECONDS = 1.5
"""Longer than a body may take of which next to nothing came."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("slow")
    (folder / "library").mkdir()
    (folder / "headwater.toml").write_text(
        CONFIG + copied_channel("test", "part_duration = 0.5", "segment_duration = 1.0", 'captions = ["en"]')
    )
    with start_server("--config", "headwater.toml", "--library", "library", cwd=folder) as server:

        def is_on() -> bool:
            with connected(server) as client:
                return client.ask("/live/test/source/media.m3u8").status == 200

        wait_for(is_on, "the first segment")
        yield server


def connected(server: ServerProcess) -> Client:
    host, _, port = server.url.removeprefix("http://").rpartition(":")
    return Client((host, int(port)))


def head(target: str, media_type: str, *fields: str) -> str:
    key = f"Authorization: Bearer {ADMIN_TOKEN}"
    lines = [
        f"POST {target} HTTP/1.1",
        "Host: 127.0.0.1",
        key,
        f"Content-Type: {media_type}",
        *fields,
        "",
        "",
    ]
    return "\r\n".join(lines)


METADATA = "/live/test/metadata", "application/json"
CAPTIONS = "/live/test/captions/en", "text/vtt"


@pytest.mark.promise("limits.body_seconds", "limits.body_rate")
@pytest.mark.clause("A body that doesn't come is given up")
@pytest.mark.parametrize("kind", [METADATA, CAPTIONS])
@pytest.mark.parametrize("drips", [False, True])
def test_a_body_that_does_not_come_is_given_up(
    server: ServerProcess, kind: tuple[str, str], drips: bool
) -> None:
    """Nothing more comes, or a byte now and then."""
    with connected(server) as client:
        client.send(head(*kind, "Content-Length: 1000") + "W")
        sent = 1
        if drips:
            client.socket.settimeout(0.2)
            while sent < 900:
                try:
                    client.send(" ")
                    sent += 1
                    client._pending = client.socket.recv(1 << 16)
                    break
                except TimeoutError:
                    continue
                except ConnectionError:
                    break
            client.socket.settimeout(60)
        answer = client.answer()
        assert answer.status == 408
        assert answer["connection"] == "close"
        assert client.is_closed()
        # At that pace of five bytes a second it would have come to its end.
        assert sent < 900


def test_a_body_that_is_slow_and_fast_enough_is_taken(server: ServerProcess) -> None:
    """A kilobyte of it has ten seconds more."""
    text = '{"attributes": {"X-TITLE": "' + "x" * 900 + '"}}'
    with connected(server) as client:
        client.send(head(*METADATA, f"Content-Length: {len(text)}") + text[:900])
        time.sleep(SLOW_SECONDS)
        client.send(text[900:])
        assert client.answer().status == 201


@pytest.mark.promise("limits.captions_idle_seconds")
def test_captions_that_are_typed_may_pause_but_not_for_ever(server: ServerProcess) -> None:
    def chunk(text: str) -> str:
        return f"{len(text):x}\r\n{text}\r\n"

    with connected(server) as client:
        client.send(head(*CAPTIONS, "Transfer-Encoding: chunked") + chunk("WEBVTT\n\n"))
        for number in range(2):
            # Longer than any other body may take at this rate.
            time.sleep(SLOW_SECONDS)
            client.send(chunk(f"00:00:0{number + 1}.000 --> 00:00:0{number + 2}.000\nhello\n\n"))
        client.send("0\r\n\r\n")
        answer = client.answer()
        assert (answer.status, b'"cues":2' in answer.body) == (201, True)
    with connected(server) as client:
        client.send(head(*CAPTIONS, "Transfer-Encoding: chunked") + chunk("WEBVTT\n\n"))
        assert client.answer().status == 408


@pytest.mark.promise("limits.source_seconds")
def test_a_source_has_its_own_limit(server: ServerProcess) -> None:
    password = base64.b64encode(b"source:secret").decode()
    with connected(server) as client:
        began = time.monotonic()
        client.send(
            "PUT /radio/one.mp3 HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: audio/mpeg\r\n"
            f"Transfer-Encoding: chunked\r\nAuthorization: Basic {password}\r\n\r\n"
        )
        answer = client.answer()
        assert (answer.status, answer.body) == (408, b"no audio was sent for 5 s\n")
        assert time.monotonic() - began >= 4
