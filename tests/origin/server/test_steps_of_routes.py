"""No request holds the event loop, whatever it asks for and however it is filled; with a key or without."""

from __future__ import annotations

import asyncio
import functools
import itertools
import string
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from blockbuster import BlockBuster

from origin.http.path_prefixes import AREAS
from packager.process.ffmpeg_discovery import Tools
from tests.all_routes import CONFIGURATION, NOBODY_WAITS, Target, targets
from tests.http2_client import Answer, Http2Client
from tests.keys import ADMIN_TOKEN
from tests.loop_watch import Held, LoopWatch, slowness
from tests.own_server import OwnServer, own_server
from tests.patience import CLIENT_SECONDS

pytestmark = pytest.mark.timeout(600)

LONGEST_STEP = 0.02
"""Seconds of processor time: what one step may take."""

FIELD_BYTES = 8000
QUERY_BYTES = 8000
FORM_BYTES = 16_000

FIELDS = (
    "Cookie: headwater_token=",
    "Cookie: ",
    "Accept: ",
    "Accept-Encoding: ",
    "Range: bytes=",
    "If-Range: ",
    "If-None-Match: ",
    "If-Match: ",
    "If-Modified-Since: ",
    "Last-Event-ID: ",
    "Origin: ",
    "Forwarded: for=",
    "X-Forwarded-For: ",
    "X-Forwarded-Proto: ",
    "X-Original-URI: /vod/private/film.mp4?token=",
    "User-Agent: ",
    "Content-Type: ",
    "Icy-MetaData: ",
    "Sec-Fetch-Site: ",
    "Referer: /t/v1.",
)

FILLINGS = ("a", "a.", "a,", "0-0,", 'a="b";', "%41", "%", ";", " ,", "\xe9", '"a", ', "[", "/t/v1.")
"""What a field is filled with."""


ASCII_FILLINGS = tuple(one for one in FILLINGS if one.isascii() and one not in (" ,", "["))
"""What fields are filled with by HTTP/2, whose Huffman code makes longer what is rare."""

BODIES = (
    ("application/json", b"["),
    ("application/json", b'{"a":'),
    ("application/json", b'{"data":1}'),
    ("application/x-ndjson", b"\n"),
    ("application/x-ndjson", b'{"data":1}\n'),
    ("text/plain", b"\xc3\xa9"),
    ("text/vtt", b"WEBVTT\n\n00:00.000 --> 00:01.000\n<p "),
)
"""What a body is filled with, by its type."""


def parameters(most: int) -> str:
    """As many parameters as there is room for."""
    names = (
        "".join(one)
        for length in (1, 2, 3)
        for one in itertools.product(string.ascii_lowercase, repeat=length)
    )
    text = ""
    for name in names:
        if len(text) + len(name) >= most:
            return text
        text += f"&{name}"
    return text


def queries(most: int) -> list[str]:
    half = most // 2
    return [
        "charset=" + "a." * (half // 2) + parameters(half),
        "key=" + "%41" * (most // 4) + "&x",
        "token=v1." + "a" * half + "&token=" * (half // 7),
        "mount=/radio/source.mp3" + "&" * (most - 30),
        "start=" + "9" * half + "&end=" + "9" * (half - 20),
        "_HLS_msn=" + "9" * half + "&_HLS_skip=YES" + "&_HLS_part=1" * (half // 13),
        "search=" + "a%20" * (most // 4 - 10),
        "search=" + "%C3%A9" * (most // 6 - 10),
        "url=http://127.0.0.1/?vod=" + "%2F" * (most // 3 - 20),
        "listener=" + "a" * half + "&channel=news" * (half // 13),
    ]


@dataclass(frozen=True)
class Asked:
    """How the server answered, and the longest step meanwhile."""

    line: bytes
    held: Held
    request: bytes


async def ask(port: int, request: bytes, watch: LoopWatch) -> Asked:
    """Send a request; return the first line of the answer, whose rest may be endless."""
    watch.reset()
    async with asyncio.timeout(CLIENT_SECONDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(request)
            line = await reader.readline()
        finally:
            writer.transport.abort()
    return Asked(line, watch.longest, request)


def requests_of(target: Target, number: int) -> Iterator[bytes]:
    """Fields, queries and forms as long as they may be, without a key and with the administrator's.

    Each query comes with some of the fields and a body; what these are filled with changes with the number.
    """
    groups = [FIELDS[start : start + 3] for start in range(0, len(FIELDS), 3)]
    asked = queries(QUERY_BYTES - len(target.path) - 20)
    forms = queries(FORM_BYTES)
    for with_key in (False, True):
        for place, (query, form) in enumerate(zip(asked, forms, strict=True)):
            filling = FILLINGS[(number + place) % len(FILLINGS)]
            group = groups[place % len(groups)]
            fields = [f"{name}{filling * (FIELD_BYTES // len(filling))}" for name in group]
            body, kind = form.encode(), "application/x-www-form-urlencoded"
            if place % 2:
                kind, one = BODIES[(number + place // 2 + with_key) % len(BODIES)]
                body = one * (FORM_BYTES // len(one))
            if target.method in ("POST", "PUT", "DELETE") and "Content-Type: " not in group:
                fields.append(f"Content-Type: {kind}")
            if with_key:
                fields.append(f"Authorization: Bearer {ADMIN_TOKEN}")
            yield target.request(query, fields, body if target.method in ("POST", "PUT") else b"")


@pytest.fixture
async def server(tmp_path: Path, tools: Tools) -> AsyncIterator[OwnServer]:
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "film.mp4").write_bytes(bytes(1000))
    configuration = tmp_path / "headwater.toml"
    configuration.write_text(CONFIGURATION.format(token=ADMIN_TOKEN, folder=tmp_path))
    async with own_server(configuration, tools, NOBODY_WAITS) as running:
        yield running


def ask_by_http2(port: int, found: list[Target]) -> list[int]:
    """Send each target a request with a key and one without, by HTTP/2; return the statuses."""
    statuses = []
    for number, target in enumerate(found):
        query = queries(QUERY_BYTES - len(target.path) - 20)[number % 10]
        filling = ASCII_FILLINGS[number % len(ASCII_FILLINGS)]
        field = (filling * (FIELD_BYTES // len(filling))).strip()
        named = dict.fromkeys(("cookie", "forwarded", "accept"), field)
        body = query.encode() if target.method in ("POST", "PUT") else b""
        for more in ({}, {"authorization": f"Bearer {ADMIN_TOKEN}"}):
            with Http2Client(f"http://127.0.0.1:{port}") as client:
                asked = client.request(f"{target.path}?{query}", target.method, body or None, **named, **more)
                answer = client.answers[asked]
                client.until(functools.partial(_has_come, answer))
                statuses.append(answer.status)
    return statuses


def _has_come(answer: Answer) -> bool:
    return bool(answer.headers) or answer.is_over


@pytest.mark.clause("Nothing holds the event loop for 20 ms")
async def test_none_does_by_http2_either(
    server: OwnServer, nothing_holds_the_event_loop: LoopWatch, nothing_blocks_the_event_loop: BlockBuster
) -> None:
    nothing_blocks_the_event_loop.deactivate()
    try:
        found = [one for one in targets(server) if one.method in ("GET", "POST")]
        nothing_holds_the_event_loop.reset()
        statuses = await asyncio.to_thread(ask_by_http2, server.port, found)
    finally:
        nothing_blocks_the_event_loop.activate()
    held = nothing_holds_the_event_loop.longest
    assert held.seconds < LONGEST_STEP * slowness(), held.where
    assert len(statuses) == 2 * len(found)
    assert not {0, 500} & set(statuses)


@pytest.mark.clause("Nothing holds the event loop for 20 ms")
async def test_no_request_to_any_route_holds_the_event_loop(
    server: OwnServer, nothing_holds_the_event_loop: LoopWatch, nothing_blocks_the_event_loop: BlockBuster
) -> None:
    # Prometheus' client reads a file of the kernel at each request for metrics.
    nothing_blocks_the_event_loop.deactivate()
    try:
        found = targets(server)
        assert {one.path.split("/")[1] for one in found} >= {*AREAS, "admin", ""}
        asked = [
            await ask(server.port, request, nothing_holds_the_event_loop)
            for number, target in enumerate(found)
            for request in requests_of(target, number)
        ]
    finally:
        nothing_blocks_the_event_loop.activate()
    asked.sort(key=lambda one: one.held.seconds)
    longest = asked[-1]
    assert longest.held.seconds < LONGEST_STEP * slowness(), (longest.held.where, longest.request[:300])
    # A channel that isn't on air is 503; nothing fails.
    assert not [one.request[:80] for one in asked if one.line[9:12] in (b"", b"500")]
