"""Representations and the decision about them; the sending itself is tested over sockets."""

from __future__ import annotations

import asyncio
import email
import email.policy
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs
from starlette.types import Message

from media.hls.precompressed_text import FilledText, TextTemplate
from origin.answers.asgi import ZERO_COPY, send_reply
from origin.answers.pieces import TruncatedFileError
from origin.answers.reply import Reply
from origin.answers.representation_replies import RepresentationReplies, media_reply, text_reply
from origin.answers.request import Request, RequestFields
from origin.files.handler import open_file
from origin.files.open_files import SharedFile, metadata_of
from origin.http.answer import answer
from origin.http.byte_ranges import SelectedRange
from origin.http.media_types import media_type
from origin.http.representation import RepresentationMetadata
from packager.library.local_storage import Library, LocalFile

DATA = bytes(range(256)) * 20
THEN = 1_700_000_000
NOW = THEN + 1000.0
FIELD_TEXT = st.text(alphabet=' \t,-=0123456789bytesW/"a*:GMTé', max_size=40).map(
    lambda text: text.encode("latin-1")
)


class Recorder:
    """A server's side of ASGI that keeps what it is told to send."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    async def send(self, message: Message) -> None:
        self.messages.append(message)

    async def receive(self) -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def run(self, reply: Reply, method: str = "GET", *, zero_copy: bool = False) -> None:
        extensions: dict[str, object] = {ZERO_COPY: {}} if zero_copy else {}
        scope = {"type": "http", "method": method, "headers": [], "extensions": extensions}
        await send_reply(reply, scope, self.send, ((b"x-name", b"value"),))


REQUEST = Request("GET", b"/media/film.mp4", RequestFields(()))


def reply_with(file: LocalFile) -> Reply:
    """The reply with all of a file."""
    replies = RepresentationReplies(metadata_of(file, "video/mp4", NOW), (), NOW)
    return replies.reply(REQUEST, SharedFile(file))


def body_of(pieces: tuple[bytes | SelectedRange, ...]) -> bytes:
    return b"".join(
        DATA[piece.first : piece.last + 1] if isinstance(piece, SelectedRange) else piece for piece in pieces
    )


@pytest.mark.clause("RFC 9110 §13", "RFC 9110 §14")
@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(
            [
                b"range",
                b"if-range",
                b"if-match",
                b"if-none-match",
                b"if-modified-since",
                b"if-unmodified-since",
            ]
        ),
        st.one_of(FIELD_TEXT, FIELD_TEXT.map(b"bytes=".__add__), st.just(b'"tag"')),
        max_size=4,
    ),
    st.sampled_from(["GET", "HEAD"]),
)
def test_any_fields_lead_to_one_of_five_answers(fields: dict[bytes, bytes], method: str) -> None:
    """With the length that it says."""
    representation = RepresentationMetadata(len(DATA), "video/mp4", etag='"tag"', last_modified=THEN)
    reply = answer(method, fields.items(), representation, NOW)
    assert reply.status in (200, 206, 304, 412, 416)
    headers = dict(reply.headers)
    assert len(headers) == len(reply.headers)
    body = body_of(reply.body)
    if method == "HEAD":
        assert reply.status != 206
        assert reply.status != 416
        assert not body
    elif reply.status != 304:
        assert int(headers[b"content-length"]) == len(body)
    if reply.status == 200:
        assert int(headers[b"content-length"]) == len(DATA)


@pytest.mark.clause("RFC 9110 §14.6")
@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5200), st.integers(0, 5200)).map(sorted), min_size=2, max_size=8))
def test_multipart_bodies_parse_back_to_the_same_bytes(pairs: list[list[int]]) -> None:
    """With Python's own MIME parser; every byte asked for is there once."""
    field = b"bytes=" + b",".join(b"%d-%d" % (first, last) for first, last in pairs)
    representation = RepresentationMetadata(len(DATA), "video/mp4")
    reply = answer("GET", [(b"range", field)], representation, NOW)
    wanted = {at for first, last in pairs for at in range(first, min(last + 1, len(DATA)))}
    headers = dict(reply.headers)
    if not headers.get(b"content-type", b"").startswith(b"multipart/"):
        assert b"content-range" in headers or reply.status == 200
        return
    body = body_of(reply.body)
    message = email.message_from_bytes(
        b"Content-Type: " + headers[b"content-type"] + b"\r\n\r\n" + body, policy=email.policy.HTTP
    )
    found: set[int] = set()
    for part in message.iter_parts():
        first, last = map(int, part["content-range"].removeprefix("bytes ").split("/")[0].split("-"))
        assert part.get_payload(decode=True) == DATA[first : last + 1]
        assert not found & set(range(first, last + 1))
        found |= set(range(first, last + 1))
    assert wanted <= found


@pytest.mark.clause("RFC 9110 §8.8.2.1")
def test_a_date_in_the_future_is_said_as_now() -> None:
    representation = RepresentationMetadata(len(DATA), "video/mp4", last_modified=NOW + 500)
    assert dict(answer("GET", [], representation, THEN).headers)[b"last-modified"] == (
        b"Tue, 14 Nov 2023 22:13:20 GMT"
    )


@pytest.mark.parametrize("modified", [-1e12, -62_135_596_801.0, -1e300])
def test_a_date_that_http_can_not_say_is_not_said(modified: float) -> None:
    """A disk may have any; the file is sent nevertheless."""
    known = answer(
        "GET",
        [(b"if-modified-since", b"Fri, 14 Jul 2017 02:40:00 GMT")],
        RepresentationMetadata(len(DATA), "video/mp4", '"tag"', modified),
        NOW,
    )
    assert known.status == 200
    assert b"last-modified" not in dict(known.headers)


def test_the_oldest_date_of_http_is_said() -> None:
    known = answer("GET", [], RepresentationMetadata(len(DATA), "video/mp4", '"tag"', -62_135_596_800.0), NOW)
    assert dict(known.headers)[b"last-modified"] == b"Mon, 01 Jan 0001 00:00:00 GMT"


@pytest.mark.clause("RFC 9110 §8.3", "RFC 9110 §8.6")
async def test_bytes_are_sent_with_the_fields_of_their_area() -> None:
    recorder = Recorder()
    await recorder.run(media_reply(REQUEST, b"hello", "text/plain", '"tag"', "no-store"))
    start, body, end = recorder.messages
    assert start["status"] == 200
    assert {
        (b"cache-control", b"no-store"),
        (b"x-name", b"value"),
        (b"content-type", b"text/plain"),
        (b"content-length", b"5"),
    } <= set(start["headers"])
    assert (body["body"], body["more_body"], end["body"]) == (b"hello", True, b"")


@pytest.fixture
def file(tmp_path: Path) -> LocalFile:
    (tmp_path / "film.mp4").write_bytes(DATA * 200)
    return Library(tmp_path).open("film.mp4")


def is_open(fd: int) -> bool:
    return os.path.exists(f"/proc/self/fd/{fd}")


async def test_a_file_is_left_to_the_server_where_it_can(file: LocalFile) -> None:
    """The descriptor, the offset and the count; and it is closed when the server has sent them."""
    recorder, fd = Recorder(), file.fd
    await recorder.run(reply_with(file), zero_copy=True)
    assert recorder.messages[1:] == [
        {"type": ZERO_COPY, "file": fd, "offset": 0, "count": len(DATA) * 200, "more_body": True},
        {"type": "http.response.body", "body": b""},
    ]
    assert not is_open(fd)


async def test_a_file_is_copied_in_bounded_steps_elsewhere(file: LocalFile) -> None:
    """The same bytes, never more than a step at once."""
    recorder = Recorder()
    await recorder.run(reply_with(file))
    pieces = [message["body"] for message in recorder.messages[1:]]
    assert b"".join(pieces) == DATA * 200
    assert max(map(len, pieces)) <= 256 * 1024
    assert [message.get("more_body") for message in recorder.messages[1:]] == [True] * (len(pieces) - 1) + [
        None
    ]


async def test_a_file_that_ends_early_is_not_padded(file: LocalFile) -> None:
    """Nothing but an error, which the server turns into a connection closed short."""
    recorder, fd = Recorder(), file.fd
    os.truncate(file.path, 1000)
    with pytest.raises(TruncatedFileError):
        await recorder.run(reply_with(file))
    assert b"".join(message.get("body", b"") for message in recorder.messages) == (DATA * 200)[:1000]
    assert not is_open(fd)


async def test_a_file_is_closed_when_its_sending_is_cancelled(file: LocalFile) -> None:
    """Whatever ends the answer."""
    fd = file.fd
    sending = asyncio.Event()

    class Stuck(Recorder):
        async def send(self, message: Message) -> None:
            if message["type"] != "http.response.start":
                sending.set()
                await asyncio.Event().wait()

    response = reply_with(file)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(Stuck().run(response))
        await sending.wait()
        task.cancel()
    assert not is_open(fd)


async def test_a_file_opened_for_nobody_is_closed(tmp_path: Path) -> None:
    """The asker is cancelled while a thread is opening the file."""
    opened: list[LocalFile] = []

    class Slow(Library):
        def open(self, name: str) -> LocalFile:
            started.set()
            if not go_on.wait(120):
                raise TimeoutError
            opened.append(super().open(name))
            return opened[0]

    started, go_on = threading.Event(), threading.Event()
    (tmp_path / "film.mp4").write_bytes(DATA)
    task = asyncio.ensure_future(open_file(Slow(tmp_path), "film.mp4", ""))
    await asyncio.to_thread(started.wait, 120)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    go_on.set()
    async with asyncio.timeout(120):
        while True:
            await asyncio.sleep(0.01)
            try:
                if opened:
                    assert opened[0].fd
            except ValueError:
                break


@pytest.mark.clause("RFC 9110 §8.3", "RFC 8216 §4")
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("film.mp4", "video/mp4"),
        ("FILM.MP4", "video/mp4"),
        ("a/b.c/film.720p.webm", "video/webm"),
        ("song.mp3", "audio/mpeg"),
        ("song.m4a", "audio/mp4"),
        ("list.m3u8", "application/vnd.apple.mpegurl"),
        ("list.mpd", "application/dash+xml"),
        ("cues.vtt", "text/vtt; charset=utf-8"),
        ("old.ts", "video/mp2t"),
        ("page.html", "application/octet-stream"),
        ("mp4", "application/octet-stream"),
        ("no-suffix", "application/octet-stream"),
    ],
)
def test_media_types_come_from_a_fixed_table(name: str, expected: str) -> None:
    """IANA's registry; a library's HTML runs nowhere."""
    assert media_type(name) == expected


async def test_a_long_text_goes_at_once_unless_it_is_rendered_for_its_reader_or_only_a_part_of_it() -> None:
    line = b"segment.m4s\n" * 30_000
    plain = Request("GET", b"/x", RequestFields(()))
    reply = text_reply(plain, (line,), "text/plain", 1, coded=False)
    assert reply.source is None
    assert reply.body[0] is line
    filled = FilledText(TextTemplate(line), ((b".m4s", b".m4s?token=a"),))
    reply = text_reply(plain, (filled,), "text/plain", 1, coded=False)
    assert reply.source is not None
    assert await reply.source.read(0, 24) == b"segment.m4s?token=a\nsegm"
    reply = text_reply(structs.replace(plain, span=(0, 299_999)), (line,), "text/plain", 1, coded=False)
    assert reply.source is not None
    assert await reply.source.read(0, 12) == b"segment.m4s\n"
