"""Requests that come again on a connection: their replies are the same as at first, whatever came between."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from hpack import Decoder, Encoder, HeaderTuple

from origin.http1.handler_exchange import PreparedRequest
from origin.http2.frames import FrameHead
from origin.http2.known_requests import KnownRequests, whole_block
from tests.conftest import ServerProcess, start_server
from tests.http2_client import Answer, Http2Client
from tests.http2_frames import frame
from tests.origin.http2.prepared_requests import prepared

SIZES = (0, 6, 20_000, 60_000, 400_000)
VARYING = {"date", "content-length"}


def content(size: int) -> bytes:
    return random.Random(size).randbytes(size)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("known")
    (folder / "library").mkdir()
    for size in SIZES:
        path = folder / "library" / f"{size}.bin"
        path.write_bytes(content(size))
        os.utime(path, (1_700_000_000, 1_700_000_000))  # a new file has a weak validator at first
    with start_server("--library", "library", "--port", "0", cwd=folder) as server:
        yield server


def facts(answer: Answer) -> tuple[int, bytes, dict[str, str]]:
    assert answer.reset is None
    fields = {name: value for name, value in answer.headers.items() if name not in VARYING and name[0] != ":"}
    return answer.status, bytes(answer.body), fields


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/media/6.bin", {}),
        ("/media/0.bin", {}),
        ("/media/20000.bin", {"range": "bytes=5-16400"}),
        ("/media/60000.bin", {}),
        ("/media/400000.bin", {}),
        ("/media/400000.bin", {"range": "bytes=0-0,5-9"}),
        ("/media/6.bin", {"range": "bytes=9-"}),
        ("/media/6.bin", {"if_none_match": "*"}),
        ("/media/nothing.bin", {}),
        ("/api/time", {}),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_reply_is_the_same_each_time(
    server: ServerProcess, path: str, fields: dict[str, str], method: str
) -> None:
    with Http2Client(server.url) as client:
        answers = []
        for _ in range(5):
            answer = client.answers[client.request(path, method, None, **fields)]
            client.until(lambda: answer.is_over)  # noqa: B023
            answers.append(facts(answer))
        named = {name.replace("_", "-"): value for name, value in fields.items()}
        with httpx.Client(base_url=server.url) as other:
            expected = other.request(method, path, headers=named)
        boundary = expected.headers.get("content-type", "").partition("boundary=")[2]
        for status, body, _ in answers:
            assert status == expected.status_code
            if not boundary and path != "/api/time":
                assert body == expected.content
        assert answers[1:] == answers[:1] * 4 or boundary or path == "/api/time"


def test_no_request_is_taken_for_another_whatever_the_order_and_the_fields(server: ServerProcess) -> None:
    """A client's table changes now and then, so that the same bytes mean something else."""
    source = random.Random(3)
    with Http2Client(server.url) as client:
        for number in range(600):
            size = source.choice(SIZES)
            fields = {}
            if source.random() < 0.1:
                fields[f"x_{number}"] = "y" * source.randrange(300)
            if source.random() < 0.3:
                fields["range"] = "bytes=0-2"
            if source.random() < 0.02:
                client.h2.encoder.header_table_size = source.choice((0, 100, 4096))
            count = source.randrange(1, 4)
            streams = [client.request(f"/media/{size}.bin", "GET", None, **fields) for _ in range(count)]
            for stream in streams:
                answer = client.answers[stream]
                client.until(lambda: answer.is_over)  # noqa: B023
                wanted = content(size)
                if "range" in fields:
                    assert answer.status == (206 if size else 416)
                    wanted = wanted[:3] if size else bytes(answer.body)
                assert bytes(answer.body) == wanted


def test_frames_for_a_stream_that_is_over_are_ignored(server: ServerProcess) -> None:
    with Http2Client(server.url) as client:
        for _ in range(4):
            stream = client.request("/media/6.bin")
            client.until(lambda: client.answers[stream].is_over)  # noqa: B023
        client.send(frame(8, stream, (5).to_bytes(4)))
        client.send(frame(3, stream, (8).to_bytes(4)))
        client.send(frame(2, stream, bytes(5)))
        client.send(frame(0x10, 0, stream.to_bytes(4) + b"u=1"))
        assert bytes(client.get("/media/6.bin").body) == content(6)
        assert client.goaway is None


def test_a_reply_waits_for_a_window_that_it_does_not_fit(server: ServerProcess) -> None:
    with Http2Client(server.url, 1000, opens=False) as client:
        for _ in range(3):
            assert bytes(client.get("/media/6.bin").body) == content(6)
        for _ in range(3):
            stream = client.request("/media/20000.bin")
            client.until(lambda: len(client.answers[stream].body) == 1000)  # noqa: B023
            client.h2.increment_flow_control_window(19_000, stream)
            client.flush()
            client.until(lambda: client.answers[stream].is_over)  # noqa: B023
            assert bytes(client.answers[stream].body) == content(20_000)


def test_a_file_that_changed_is_sent_as_it_is(
    server: ServerProcess, tmp_path_factory: pytest.TempPathFactory
) -> None:
    del tmp_path_factory
    path = Path(f"/proc/{server.process.pid}/cwd/library/changing.bin")
    with Http2Client(server.url) as client:
        for text in (b"one", b"another", b"a third one"):
            new = path.with_suffix(".new")
            new.write_bytes(text)
            new.replace(path)

            def body() -> bytes:
                return bytes(client.get("/media/changing.bin").body)

            found = body()
            while found != text:  # files are looked up again within half a second
                found = body()
            assert [body() for _ in range(4)] == [text] * 4


def test_a_block_is_forgotten_once_the_table_has_changed() -> None:
    encoder, decoder = Encoder(), Decoder()
    known = KnownRequests(decoder)

    def read(*fields: tuple[str, str]) -> tuple[bytes, PreparedRequest | None]:
        block = encoder.encode([HeaderTuple(*one) for one in fields])
        found = known.find(block)
        decoder.decode(block)
        known.keep(prepared("".join(value for _, value in fields)))
        return block, found

    first, found = read(("a", "1"))
    assert found is None
    second, found = read(("a", "1"))
    assert found is None, "reading the first one has changed the table"
    assert second != first
    assert read(("a", "1"))[1] is not None
    read(("b", "2"))
    moved, found = read(("a", "1"))
    assert moved != second
    assert found is None
    again, found = read(("b", "2"))
    assert again == second, "the same bytes, which mean another field now"
    assert found is None


def test_a_block_is_kept_for_the_frame_in_which_it_came_alone() -> None:
    """Frames whose blocks aren't looked for come between: a request with a body, or one in several frames."""
    decoder = Decoder()
    known = KnownRequests(decoder)
    assert known.find(b"\x82") is None
    assert known.find(b"") is None
    known.keep(prepared("of another frame"))
    assert known.find(b"\x82") is None


@pytest.mark.parametrize(
    ("kind", "flags", "payload", "block"),
    [
        (1, 0x5, b"\x82", b"\x82"),
        (1, 0x25, b"\0\0\0\7\0\x82", b"\x82"),
        (1, 0x25, b"\0\0\0\1\0\x82", b""),
        (1, 0x25, b"\x80\0\0\1\0\x82", b""),
        (1, 0x25, b"\0\0", b""),
        (1, 0x4, b"\x82", b""),
        (1, 0x1, b"\x82", b""),
        (1, 0xD, b"\0\x82", b""),
        (1, 0x5, b"\x82" * 513, b""),
        (9, 0x5, b"\x82", b""),
    ],
)
def test_a_block_is_that_of_a_whole_request_without_padding(
    kind: int, flags: int, payload: bytes, block: bytes
) -> None:
    head = FrameHead(len(payload), kind, flags, 1)
    assert whole_block(head, frame(kind, 1, payload, flags)) == block
