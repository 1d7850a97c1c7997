"""Captions, ends and beginnings of events that reach an edge are the owner's, and come to all nodes."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

from tests.conftest import ServerProcess
from tests.keys import ADMIN_TOKEN
from tests.origin.cluster.nodes import get, next_number, nodes, playlist, plays, post, shared_channel
from tests.redis_server import RedisServer
from tests.waiting import wait_for

CUE = b"WEBVTT\n\n00:00.000 --> 00:03.000\nSaid at an edge\n"


def caption(one: ServerProcess, text: bytes = CUE) -> int:
    """Post captions that begin in a second, again where the owner doesn't answer in time; give the status."""
    url = f"{one.url}/live/shared/captions/en?offset=1&key={ADMIN_TOKEN}"

    def status() -> int:
        answer = httpx.post(url, content=text, headers={"content-type": "text/vtt"}, timeout=30)
        # That others' requests have all places would be another 503.
        assert "too many requests wait" not in answer.text
        assert answer.status_code != 503 or "retry-after" in answer.headers
        return 0 if answer.status_code == 503 else answer.status_code

    return wait_for(status, "an owner that answers", GUESSED_SECONDS - 10)


def shows(one: ServerProcess, text: str) -> bool:
    """Tell whether a listed segment of a node's captions has a text."""
    listed = get(one, "/live/shared/captions-en/media.m3u8").text.splitlines()
    names = [line for line in listed if line.endswith(".vtt") and not line.startswith("#")]
    return any(text in get(one, f"/live/shared/captions-en/{name}").text for name in names)


GUESSED_SECONDS = 60
GUESSED = f"""
[limits]
wrong_passwords = 1
wrong_password_seconds = {GUESSED_SECONDS}
"""


@contextlib.contextmanager
def guessing(one: ServerProcess) -> Iterator[list[socket.socket]]:
    """Try forty wrong keys at once, from four addresses; most are held back for a minute."""
    host, _, port = one.url.removeprefix("http://").rpartition(":")
    with contextlib.ExitStack() as stack:
        guessers = []
        for number in range(40):
            source = f"127.0.0.{2 + number % 4}", 0
            guesser = stack.enter_context(socket.create_connection((host, int(port)), 30, source))
            target = f"/live/shared/metadata?key=a-long-wrong-key-{number}"
            head = f"POST {target} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 2\r\n\r\n"
            guesser.sendall(head.encode() + b"{}")
            guessers.append(guesser)
        yield guessers


def unanswered(guessers: list[socket.socket]) -> int:
    """Count those that wait; each of the others was told that its key is wrong."""
    waiting = 0
    for guesser in guessers:
        guesser.setblocking(False)
        try:
            assert b" 401 " in guesser.recv(64, socket.MSG_PEEK)
        except BlockingIOError:
            waiting += 1
    return waiting


def test_captions_an_end_and_a_beginning_at_one_edge_are_seen_at_another(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    captioned = shared_channel('captions = ["en"]') + GUESSED
    with nodes(tmp_path, redis_server, "packager", "edge", "edge", channels=captioned) as every:
        packager, edge, other = every
        wait_for(lambda: all(map(plays, every)), "the channel everywhere")
        assert caption(edge) == 201
        wait_for(lambda: shows(other, "Said at an edge"), "the caption")
        assert caption(edge, b"no WebVTT") == 422
        # Nobody is kept out by those who guess: not at an edge, and not by another way to the same owner.
        with guessing(edge) as guessers, guessing(other) as more:
            for one in (edge, other, packager, edge):
                assert caption(one) == 201
            assert min(unanswered(guessers), unanswered(more)) >= 16
        assert post(edge, "start", ADMIN_TOKEN).status_code == 409  # it is on air
        before = next_number(playlist(other))
        assert post(edge, "end", ADMIN_TOKEN).status_code in (200, 202)
        wait_for(lambda: "#EXT-X-ENDLIST" in playlist(other), "the end")
        assert post(other, "start", ADMIN_TOKEN).status_code == 202

        def is_on_air(one: ServerProcess) -> bool:
            text = get(one, "/live/shared/source/media.m3u8").text
            return "#EXT-X-PRELOAD-HINT" in text and next_number(text) > before

        wait_for(lambda: all(map(is_on_air, every)), "the next event everywhere")


def test_a_span_that_an_edge_had_kept_is_forgotten_at_an_edge(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    config = f'[server]\ndata = "data"\nadmin_token = "{ADMIN_TOKEN}"\n' + shared_channel('dvr = "1m"')
    admin = {"authorization": f"Bearer {ADMIN_TOKEN}"}
    with nodes(tmp_path, redis_server, "packager", "edge", channels=config) as (packager, edge):
        wait_for(lambda: plays(packager) and plays(edge), "the channel")
        url = f"{edge.url}/live/shared/recordings"
        soon = {"start": time.time() + 3600, "end": time.time() + 7200}
        made = httpx.post(url, json=soon, headers=admin, timeout=60)
        assert made.status_code == 202, made.text
        span = f"{url}/{made.json()['span']}"
        assert httpx.delete(span, timeout=60).status_code == 401
        page = {**admin, "origin": "http://other.example"}
        assert httpx.delete(span, headers=page, timeout=60).status_code == 403
        assert httpx.delete(span, headers=admin, timeout=60).status_code == 204
        assert httpx.delete(span, headers=admin, timeout=60).status_code == 404
        assert httpx.delete(span.replace(edge.url, packager.url), headers=admin).status_code == 404
