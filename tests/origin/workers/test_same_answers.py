"""Every address answers with several processes as with one, to the byte."""

from __future__ import annotations

import contextlib
import re
import socket
from functools import partial

import pytest

from origin.access.address_tokens import SigningKeys
from tests.conftest import ServerProcess
from tests.origin.workers.asking import CLIENT_SECONDS, SIGNING_KEY, address_of, asked, exchange, metric
from tests.waiting import wait_for

HOST = b"Host: localhost\r\n"
CLOSE = b"Connection: close\r\n\r\n"
KEYS = SigningKeys([SIGNING_KEY])
FILE, FILM = (KEYS.sign(f"/{area}/private", 99_999_999_999) for area in ("media", "vod"))
PAST = KEYS.sign("/media/private", 1)
REQUESTS = {
    "a file": b"GET /media/film.mp4 HTTP/1.1\r\n",
    "a range": b"GET /media/film.mp4 HTTP/1.1\r\nRange: bytes=100-199\r\n",
    "two ranges": b"GET /media/film.mp4 HTTP/1.1\r\nRange: bytes=0-9, 20-29\r\n",
    "an unchanged file": b"GET /media/film.mp4 HTTP/1.1\r\n"
    b"If-Modified-Since: Tue, 14 Nov 2023 22:13:20 GMT\r\n",
    "a range beyond the end": b"GET /media/film.mp4 HTTP/1.1\r\nRange: bytes=99999999999-\r\n",
    "a missing file": b"GET /media/missing.mp4 HTTP/1.1\r\n",
    "a file that is posted to": b"POST /media/film.mp4 HTTP/1.1\r\nContent-Length: 0\r\n",
    "the head of a file": b"HEAD /media/film.mp4 HTTP/1.1\r\n",
    "a file of HTTP/1.0": b"GET /media/film.mp4 HTTP/1.0\r\n",
    "a playlist": b"GET /vod/film.mp4/master.m3u8 HTTP/1.1\r\n",
    "a playlist in gzip": b"GET /vod/film.mp4/master.m3u8 HTTP/1.1\r\nAccept-Encoding: gzip\r\n",
    "a clip": b"GET /vod/film.mp4/master.m3u8?start=1&end=2 HTTP/1.1\r\n",
    "a manifest": b"GET /vod/film.mp4/manifest.mpd HTTP/1.1\r\n",
    "an init segment": b"GET /vod/film.mp4/v1/init.mp4 HTTP/1.1\r\n",
    "a segment": b"GET /vod/film.mp4/v1/0.m4s HTTP/1.1\r\n",
    "small pictures": b"GET /vod/film.mp4/thumbnails.vtt HTTP/1.1\r\n",
    "the page": b"GET / HTTP/1.1\r\n",
    "a module of the page": b"GET /player/player.js HTTP/1.1\r\n",
    "the page for others": b"GET /embed/vod/film.mp4 HTTP/1.1\r\n",
    "an unknown address": b"GET /nothing HTTP/1.1\r\n",
    "all options": b"OPTIONS * HTTP/1.1\r\n",
    "a preflight": b"OPTIONS /media/film.mp4 HTTP/1.1\r\n"
    b"Origin: http://a\r\nAccess-Control-Request-Method: GET\r\n",
    "a list": b"GET /api/radio HTTP/1.1\r\n",
    "a list for a strange host": b"GET /api/events HTTP/1.1\r\nHost: evil.example\r\n",
    "an unknown live channel": b"GET /live/nobody/master.m3u8 HTTP/1.1\r\n",
    "an unknown station": b"GET /radio/nobody.mp3 HTTP/1.1\r\n",
    "stations' status": b"GET /status-json.xsl HTTP/1.1\r\n",
    "a wrong token": b"POST /events/news HTTP/1.1\r\nAuthorization: Bearer x\r\nContent-Length: 2\r\n",
    "a poll": b"GET /events/news?poll HTTP/1.1\r\nAccept: application/json\r\n",
    "a protected file": b"GET /media/private/film.mp4 HTTP/1.1\r\n",
    "a protected playlist": b"GET /vod/private/film.mp4/master.m3u8 HTTP/1.1\r\n",
    "a protected file with its token": f"GET /t/{FILE}/media/private/film.mp4 HTTP/1.1\r\n".encode(),
    "a range with its token": f"GET /t/{FILE}/media/private/film.mp4 HTTP/1.1\r\n".encode()
    + b"Range: bytes=0-9\r\n",
    "a playlist with its token": f"GET /t/{FILM}/vod/private/film.mp4/master.m3u8 HTTP/1.1\r\n".encode(),
    "a playlist with its token in the query": b"GET /vod/private/film.mp4/master.m3u8?token="
    + f"{FILM} HTTP/1.1\r\n".encode(),
    "small pictures with their token": f"GET /t/{FILM}/vod/private/film.mp4/thumbnails.vtt".encode()
    + b" HTTP/1.1\r\n",
    "a protected file with another token": f"GET /t/{FILM}/media/private/film.mp4 HTTP/1.1\r\n".encode(),
    "a protected file with an expired token": f"GET /t/{PAST}/media/private/film.mp4 HTTP/1.1\r\n".encode(),
    "a question for a token": b"GET /api/signed HTTP/1.1\r\nX-Original-URI: /media/private/film.mp4\r\n",
    "an unknown method": b"BREW /media/film.mp4 HTTP/1.1\r\n",
    "another version": b"GET /media/film.mp4 HTTP/3.0\r\n",
}
VARYING = re.compile(rb"date: [^\r]*\r\n|nonce=\"[^\"]*\"|\"server_start[a-z0-9_]*\": ?\"[^\"]*\"")


def shown(answer: bytes) -> bytes:
    return VARYING.sub(b"", answer)


@pytest.mark.parametrize("name", REQUESTS)
def test_an_address_answers_as_with_one_process(
    alone: ServerProcess, three: ServerProcess, name: str
) -> None:
    request = REQUESTS[name] + (b"" if b"Host:" in REQUESTS[name] else HOST) + CLOSE
    request += b"hi" if b"Content-Length: 2" in request else b""
    wanted = shown(exchange(alone, request))
    assert wanted.startswith(b"HTTP/1.1 ")
    for _ in range(2):  # the second one mostly on the fast path
        assert shown(exchange(three, request)) == wanted


def test_small_pictures_are_there_at_their_own_addresses(three: ServerProcess) -> None:
    def cues() -> list[str]:
        return re.findall(r"^(\S+\.jpg)#xywh", asked(three, "/vod/film.mp4/thumbnails.vtt"), re.MULTILINE)

    name = wait_for(cues, "the pictures")[0]
    assert name.startswith("thumbnails/v_")
    for _ in range(3):  # whichever process is asked
        answer = exchange(three, f"GET /vod/film.mp4/{name} HTTP/1.1\r\n".encode() + HOST + CLOSE)
        assert answer.startswith(b"HTTP/1.1 200 ")


def test_one_connection_asks_workers_and_the_started_process_in_turn(three: ServerProcess) -> None:
    before = metric(three, "headwater_handed_over_connections_total")
    piece = b"GET /media/film.mp4 HTTP/1.1\r\nRange: bytes=0-9\r\n" + HOST + b"\r\n"
    publish = b"POST /events/news HTTP/1.1\r\nAuthorization: Bearer token\r\nContent-Type: text/plain\r\n"
    publish += HOST + b"Content-Length: 5\r\n\r\n"
    got = exchange(three, piece * 2 + publish + b"he", b"llo" + piece, piece[:-2] + CLOSE)
    assert got.count(b"HTTP/1.1 206") == 4
    assert [int(one) for one in re.findall(rb"HTTP/1.1 (\d+)", got)][2] // 100 == 2
    assert metric(three, "headwater_handed_over_connections_total") > before


def test_metrics_speak_for_all_processes(three: ServerProcess) -> None:
    name = 'headwater_requests_total{area="media",status="404"}'
    missing = b"GET /media/metrics HTTP/1.1\r\n" + HOST + CLOSE
    exchange(three, missing)
    before = metric(three, name)
    for _ in range(30):
        exchange(three, missing)
    assert metric(three, name) == before + 30
    assert metric(three, "headwater_workers") == 3
    lines = [line for line in asked(three, "/metrics").splitlines() if line.startswith("# TYPE")]
    assert len(lines) == len(set(lines))


def counts(server: ServerProcess, least: int, most: int) -> bool:
    """Tell whether a server counts between so many open connections."""
    return least <= metric(server, "headwater_connections") <= most


def test_open_connections_are_counted_in_one_process_and_in_many(
    alone: ServerProcess, three: ServerProcess
) -> None:
    for server in (alone, three):
        with contextlib.ExitStack() as clients:
            for _ in range(20):
                clients.enter_context(socket.create_connection(address_of(server), CLIENT_SECONDS))
            wait_for(partial(counts, server, 21, 99), "all connections")
        wait_for(partial(counts, server, 1, 9), "their ends")
