"""Films whose index is at their end, pulled over HTTP: from our own server, and from odd ones."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass

import httpx
import pytest
from structlog.testing import capture_logs

from media.mp4.movie.movie import MovieLimits
from packager.concurrency import background_task
from packager.live.channel import Channel
from packager.live.options import ChannelOptions
from packager.process.ffmpeg_discovery import Tools
from packager.sources.limits import SourceLimits
from packager.sources.pullers.guarded_http import guarded_client
from packager.sources.pullers.http_faststart import faststart_content
from packager.sources.pullers.http_file import HttpFile
from packager.sources.pullers.http_puller import HttpPuller
from packager.sources.retries import PullError, SourceRetries
from tests.conformance.conftest import served_files, serving
from tests.live_server import running
from tests.packager.films import indexed
from tests.waiting import until

ANSWER_SECONDS = 120.0


@dataclass(frozen=True)
class Films:
    """The same film with its index at the end and in front, as ffmpeg writes it, and where they are."""

    last: bytes
    first: bytes
    url: str


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Films]:
    folder = tmp_path_factory.mktemp("films")
    last, first = indexed(folder, "320x240", 4)
    for path in (last, first):
        # The entity-tag of a file that has just changed is a weak one, and later another one.
        os.utime(path, (0, 0))
    served = served_files(folder)
    with serving(served.app, folder, "uvloop", fast_path=served.fast_path, at_end=served.close) as server:
        host, port = server.address
        yield Films(last.read_bytes(), first.read_bytes(), f"http://{host}:{port}/media")


async def given(url: str) -> bytes:
    """What a decoder is given of a URL."""
    async with (
        guarded_client(url, redirects=5, timeout=ANSWER_SECONDS) as client,
        client.stream("GET", url) as answer,
        contextlib.aclosing(await faststart_content(client, answer)) as parts,
    ):
        return b"".join([part async for part in parts])


@pytest.mark.parametrize("name", ["last.mp4", "first.mp4"])
async def test_a_decoder_is_given_what_ffmpeg_writes_for_streaming(films: Films, name: str) -> None:
    assert await given(f"{films.url}/{name}") == films.first


def played(channel: Channel) -> list[int]:
    """How many segments of each rendition have something in them."""
    return [sum(not one.gap for one in rendition.window.listed) for rendition in channel.renditions.values()]


async def test_a_channel_plays_it_at_its_own_frame_rate(films: Films, tools: Tools) -> None:
    options = ChannelOptions(
        "a", f"{films.url}/last.mp4", ladder=("240p",), part_duration=0.25, segment_duration=1.0
    )
    channel = Channel(options, tools)
    async with running(channel):
        await until(lambda: min(played(channel)) >= 2)
        assert channel.cadence.frame_rate == 25


Span = tuple[int, int] | None
Odd = tuple[str, Sequence[str], bytes]
"""Status, header lines and content."""

Answers = Callable[[bytes, Span], Odd]
"""From a request (or a film) and its range to an answer."""


@contextlib.asynccontextmanager
async def odd(answers: Answers) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server as it shouldn't be; gives its address, and what it was asked."""
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            request = await reader.readuntil(b"\r\n\r\n")
            asked.append(request)
            found = re.search(rb"range: bytes=(\d+)-(\d+)", request)
            span = (int(found[1]), int(found[2])) if found else None
            status, lines, data = answers(request, span)
            head = "\r\n".join((f"HTTP/1.1 {status}", *lines, "Connection: close", "", ""))
            writer.write(head.encode() + data)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://user:word@127.0.0.1:{server.sockets[0].getsockname()[1]}", asked
    finally:
        server.close()


def whole(data: bytes, *lines: str) -> Odd:
    return "200 OK", (f"Content-Length: {len(data)}", *lines), data


def part(data: bytes, span: tuple[int, int], *lines: str) -> Odd:
    first, last = span
    told = f"Content-Range: bytes {first}-{last}/{len(data)}"
    return (
        "206 Partial Content",
        (f"Content-Length: {last + 1 - first}", told, *lines),
        data[first : last + 1],
    )


TAG, OTHER, OLD = 'ETag: "a"', 'ETag: "b"', "Last-Modified: Fri, 20 Nov 2026 10:00:00 GMT"

REFUSED: dict[str, tuple[Answers, str]] = {
    "it has no ranges": (lambda data, span: whole(data, TAG), "gives no ranges"),
    "it says that it has none": (
        lambda data, span: whole(data, TAG, "Accept-Ranges: none"),
        "gives no ranges",
    ),
    "it tells no length": (lambda data, span: ("200 OK", (TAG,), data), "length"),
    "it has no validators": (lambda data, span: part(data, span) if span else whole(data), "validators"),
    "the film is another one by now, and If-Range is heard": (
        lambda data, span: whole(data, OTHER if span else TAG),
        "changed",
    ),
    "the film is another one by now, and If-Range isn't heard": (
        lambda data, span: part(data, span, OTHER) if span else whole(data, TAG),
        "changed",
    ),
    "the film is another one by now, by its date": (
        lambda data, span: part(data, span, OLD.replace("10:", "11:")) if span else whole(data, OLD),
        "changed",
    ),
    "the film is longer by now": (
        lambda data, span: part(data + b"more", span, TAG) if span else whole(data, TAG),
        "of another length",
    ),
    "it gives another range": (
        lambda data, span: part(data, (span[0] + 1, span[1]), TAG) if span else whole(data, TAG),
        "another range",
    ),
    "it fails": (lambda data, span: ("503 Busy", (), b"") if span else whole(data, TAG), "503"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_no_part_of_another_film_is_taken_and_the_reason_is_told(films: Films, name: str) -> None:
    answer, reason = REFUSED[name]
    async with odd(lambda _, span: answer(films.last, span)) as (url, asked):
        with pytest.raises(PullError, match=reason):
            await given(f"{url}/film.mp4")
        assert len(asked) <= 2


async def test_ranges_are_asked_for_where_the_film_was_found_with_its_password_and_its_validator(
    films: Films,
) -> None:
    def answers(request: bytes, span: Span) -> Odd:
        if request.startswith(b"GET /film.mp4 "):
            return "302 Found", ("Location: /moved.mp4", "Content-Length: 0"), b""
        return part(films.last, span, TAG) if span else whole(films.last, TAG)

    async with odd(answers) as (url, asked):
        assert await given(f"{url}/film.mp4") == films.first
    assert len(asked) == 4
    for request in asked[2:]:
        assert request.startswith(b"GET /moved.mp4 ")
        assert b"authorization: basic dxnlcjp3b3jk" in request.lower()
        assert b'if-range: "a"' in request.lower()


async def test_dates_and_weak_tags_are_compared_but_no_condition(films: Films) -> None:
    lines = ('ETag: W/"a"', OLD)
    async with odd(lambda _, span: part(films.last, span, *lines) if span else whole(films.last, *lines)) as (
        url,
        asked,
    ):
        assert await given(f"{url}/film.mp4") == films.first
    # RFC 9110 §13.1.5: a weak one can't be one.
    assert not any(b"if-range" in request.lower() for request in asked)


async def test_a_server_without_ranges_is_told_of_in_one_line_and_asked_until_it_has_them(
    films: Films,
) -> None:
    def answers(_: bytes, span: Span) -> Odd:
        return part(films.last, span, TAG) if span and len(asked) > 6 else whole(films.last, TAG)

    async with odd(answers) as (url, asked), httpx.AsyncClient(timeout=ANSWER_SECONDS) as client:
        with capture_logs() as logs:
            source = HttpFile(client, f"{url}/film.mp4", SourceRetries("a"))
            await asyncio.wait_for(source.wait_until_flowing(), ANSWER_SECONDS)
    assert [line["event"] for line in logs] == ["source isn't there", "source is there"]
    assert logs[0]["reason"] == "its index is at its end, and its server gives no ranges"


async def test_boxes_without_end_are_asked_for_only_so_often(films: Films) -> None:
    data = films.last[: films.last.index(b"moov") - 4] + b"\0\0\0\x08free" * 100
    async with odd(lambda _, span: part(data, span, TAG) if span else whole(data, TAG)) as (url, asked):
        with pytest.raises(PullError, match="16 boxes"):
            await given(f"{url}/film.mp4")
    assert len(asked) == 1 + 16


async def test_a_source_has_its_own_limits_for_its_index(films: Films) -> None:
    puller = HttpPuller(
        f"{films.url}/last.mp4",
        "a",
        SourceLimits(moov=MovieLimits(moov_bytes=100)),
    )
    with capture_logs() as logs:
        async with background_task(puller.run()):
            supply = await puller.wait_until_detected()
            assert isinstance(supply, HttpFile)
            async with background_task(supply.wait_until_flowing()):
                await until(lambda: bool(logs))
    assert re.fullmatch(r"its index is at its end, and has \d+ bytes: more than 100", logs[0]["reason"]), logs
