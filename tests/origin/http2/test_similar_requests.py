"""Requests that differ in their path alone: each gets what is at its own path, without the library's help."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Iterator

import pytest
import uvicorn
from h2.events import RequestReceived
from hpack import Decoder, Encoder, HeaderTuple, NeverIndexedHeaderTuple
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import PlainTextResponse
from uvicorn.server import ServerState

from origin.answers.heads import RepresentationHead
from origin.answers.reply import Reply
from origin.answers.request import Request
from origin.http1.fast_path import FastPath
from origin.http1.limits import HttpLimits
from origin.http1.protocol import http_protocol
from origin.http2.connection import Http2Connection
from origin.http2.header_block import encoded_fields, literal_path, read_string
from origin.http2.known_requests import FIELD_BYTES, PSEUDO_BYTES, KnownRequests
from origin.http_streams.request_head import read_request
from tests.conftest import ServerProcess, start_server
from tests.http2_client import Answer, Http2Client
from tests.origin.http2.prepared_requests import prepared

FILES, PARTS = 40, 20
NAMES = st.sampled_from([b":method", b"accept", b"x-a", b"x-path", b"pathx", b"user-agent"])
VALUES = st.binary(max_size=40)
FIELDS = st.lists(st.tuples(NAMES, VALUES, st.booleans()), max_size=8)
PATHS = st.binary(min_size=1, max_size=300).filter(lambda path: path not in (b"/", b"/index.html"))
"""Those of the static table (RFC 7541, appendix A) have no literal."""
MOST = HttpLimits().header_bytes


def content(number: int) -> bytes:
    return random.Random(number).randbytes(100 + number)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("similar")
    (folder / "library").mkdir()
    for number in range(FILES):
        path = folder / "library" / f"{number}.bin"
        path.write_bytes(content(number))
        os.utime(path, (1_700_000_000, 1_700_000_000))  # a new file has a weak validator at first
    with start_server("--library", "library", "--port", "0", cwd=folder) as server:
        yield server


def asked(client: Http2Client, path: str, **fields: str) -> int:
    """Send a request whose path no table keeps, as browsers and nghttp2 do; return its stream."""
    number = client.h2.get_next_available_stream_id()
    pseudo = [(":method", "GET"), (":scheme", "http"), (":authority", client.authority)]
    named = [(name.replace("_", "-"), value) for name, value in fields.items()]
    client.h2.send_headers(number, [*pseudo, NeverIndexedHeaderTuple(":path", path), *named], end_stream=True)
    client.answers[number] = Answer()
    client.flush()
    return number


def test_each_request_gets_what_is_at_its_path(server: ServerProcess) -> None:
    source = random.Random(5)
    with Http2Client(server.url) as client:
        for number in range(400):
            one = source.randrange(FILES + 2)
            path = source.choice(
                (f"/media/{one}.bin", f"/media/%3{one % 10}.bin", f"/media/{one}.bin?a={number}")
            )
            fields = {} if source.random() < 0.8 else {f"x_{number % 50}": "y" * source.randrange(60)}
            stream = asked(client, path, **fields)
            answer = client.answers[stream]
            client.until(lambda: answer.is_over)  # noqa: B023
            named = one % 10 if "%3" in path else one
            assert answer.status == (200 if named < FILES else 404)
            if named < FILES:
                assert bytes(answer.body) == content(named)


@pytest.mark.parametrize(
    "path",
    ["/media/../media/1.bin", "/media/1.bin#x", "/media/ 1.bin", "/media/\x7f", "media/1.bin", "*", ""],
)
def test_what_is_no_plain_path_is_refused_as_it_is_at_first(server: ServerProcess, path: str) -> None:
    answers = []
    for earlier in (0, 3):
        with Http2Client(server.url) as client:
            for number in range(earlier):
                stream = asked(client, f"/media/{number}.bin")
                client.until(lambda: client.answers[stream].is_over)  # noqa: B023
            client.h2.config.validate_outbound_headers = False
            client.h2.config.normalize_outbound_headers = False
            stream = asked(client, path)
            answer = client.answers[stream]
            client.until(lambda: answer.is_over or client.is_closed)  # noqa: B023
            answers.append((answer.status, answer.reset, client.goaway, bytes(answer.body)))
    assert answers[0] == answers[1]
    assert answers[0][0] != 200 or path.endswith(("1.bin", "#x"))


@given(FIELDS, FIELDS, PATHS, PATHS)
def test_a_block_with_another_path_means_the_same_request_with_that_path(
    before: list[tuple[bytes, bytes, bool]],
    behind: list[tuple[bytes, bytes, bool]],
    first: bytes,
    second: bytes,
) -> None:
    """What the library decodes is the measure, whatever of the fields is coded by Huffman's code."""
    encoder, decoder = Encoder(), Decoder()

    def block_of(path: bytes, *, is_coded: bool) -> bytes:
        parts = [
            encoder.encode([NeverIndexedHeaderTuple(name, value)], huffman=huffman)
            for name, value, huffman in before
        ]
        parts.append(encoder.encode([NeverIndexedHeaderTuple(b":path", path)], huffman=is_coded))
        parts += [
            encoder.encode([NeverIndexedHeaderTuple(name, value)], huffman=huffman)
            for name, value, huffman in behind
        ]
        return b"".join(parts)

    for is_coded in (True, False):
        block = block_of(first, is_coded=is_coded)
        place = literal_path(block)
        assert place is not None
        assert read_string(block, *place) == first
        other = block_of(second, is_coded=not is_coded)
        end = len(other) - (len(block) - place[1])
        assert other.startswith(block[: place[0]])
        assert read_string(other, place[0], end) == second
        fields = [(name, value) for name, value, _ in (*before, (b":path", second, True), *behind)]
        assert [(bytes(name), bytes(value)) for name, value in decoder.decode(other, raw=True)] == fields


@given(st.binary(max_size=80))
def test_no_bytes_are_read_beyond_their_end(data: bytes) -> None:
    place = literal_path(data)
    if place is not None:
        assert 0 < place[0] < place[1] <= len(data)
    for start in range(len(data)):
        read_string(data, start, len(data))


def test_a_block_that_changes_the_table_is_no_pattern() -> None:
    encoder = Encoder()
    path = (b":path", b"/media/1.bin")
    assert literal_path(encoder.encode([HeaderTuple(*path)])) is None
    assert literal_path(encoded_fields([path])) is not None
    assert literal_path(encoder.encode([HeaderTuple(b"x", b"y"), NeverIndexedHeaderTuple(*path)])) is None
    assert literal_path(b"\x3f\xe1\x1f" + encoded_fields([path])) is None, "a size of the table"
    assert literal_path(b"\x84") is None, "a path of the table"


def test_a_request_that_is_similar_keeps_to_the_limit_of_all_fields() -> None:
    decoder = Decoder()
    known = KnownRequests(decoder)
    fields = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"a"), (b":path", b"/media/1")]
    block = encoded_fields(fields)
    head = read_request(fields, HttpLimits(), "2", is_all=True)
    assert not isinstance(head, int)
    assert known.find(block) is None
    request = prepared("1")
    known.keep(request, head)
    assert known.find(block) is not None
    other = block.replace(encoded_fields(fields[3:]), encoded_fields([(b":path", b"/media/22222")]))
    assert known.find(other) is None
    size = PSEUDO_BYTES + len(b"GET") + len(b"/media/22222") + len(b"hosta") + FIELD_BYTES
    assert known.similar(size) == (request, b"/media/22222")
    assert known.similar(size - 1) is None
    assert known.find(encoded_fields([(b"x", b"y")])) is None
    assert known.similar(MOST) is None
    # A field that joins the table makes the same bytes mean other things.
    decoder.decode(Encoder().encode([HeaderTuple(b"a", b"b")]))
    assert known.find(other) is None
    assert known.similar(MOST) is None


class Parts:
    """Replies with a part from memory, whatever its address; see `Handler`."""

    data = random.Random(7).randbytes(33_000)

    def handle(self, request: Request) -> Reply:
        return Reply(RepresentationHead(len(self.data), ()), (self.data,))

    def absent(self, request: Request) -> Reply:
        raise AssertionError(f"there is a part at {request.target!r}")


async def test_only_the_first_requests_of_a_connection_need_the_library() -> None:
    """Of parts that are asked for at once, none waits for the library because those before it did."""
    by_library: list[int] = []

    class Counted(Http2Connection):
        def _on_request(self, event: RequestReceived) -> None:
            by_library.append(event.stream_id)
            super()._on_request(event)

    wire = http_protocol(HttpLimits(), FastPath({"media": Parts()}), http2=Counted)
    config = uvicorn.Config(PlainTextResponse("no handler"), http=wire, log_config=None)
    config.load()

    def ask(url: str) -> list[bytes]:
        with Http2Client(url) as client:
            client.until(lambda: client.h2.remote_settings.enable_connect_protocol)
            pseudo = [(":method", "GET"), (":scheme", "http"), (":authority", client.authority)]
            for part in range(PARTS):
                number = client.h2.get_next_available_stream_id()
                path = NeverIndexedHeaderTuple(":path", f"/media/{part}.m4s")
                client.h2.send_headers(number, [*pseudo, path], end_stream=True)
                client.answers[number] = Answer()
            client.flush()
            answers = list(client.answers.values())
            client.until(lambda: all(one.is_over for one in answers))
            return [bytes(one.body) for one in answers]

    loop = asyncio.get_running_loop()
    async with await loop.create_server(lambda: wire(config, ServerState(), {}), "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert await asyncio.to_thread(ask, f"http://127.0.0.1:{port}") == [Parts.data] * PARTS
    # The first one fills the table of fields, and the second one is the pattern of all others.
    assert len(by_library) == 2
