"""A case of a checker of HTTP/2: what a client sends, and which answers are right (RFC 9113 §5.4)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from tests.http2_frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    FrameClient,
    block,
    frame,
)

NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR = range(4)
STREAM_CLOSED, FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL, COMPRESSION_ERROR = range(5, 10)

Check = Callable[[FrameClient], None]
"""Reads answers, and fails if they are wrong."""

Step = bytes | Check
"""Bytes to be sent, or a check of what comes back."""

TOKEN = "who-publishes-events-7c21"
CONFIG = f"""
[server]
port = 0
[[events]]
name = "news"
publish_token = "{TOKEN}"
"""
"""The server's configuration; its library has one short file."""

AUTHORITY = (":scheme", "http"), (":authority", "localhost")
GET = (":method", "GET"), (":path", "/media/short.txt"), *AUTHORITY
ENDLESS = (":method", "GET"), (":path", "/events/news"), *AUTHORITY
"""A request whose response has no end: its stream stays open, however fast the server is."""

POST = (":method", "POST"), *ENDLESS[1:], ("authorization", f"Bearer {TOKEN}")
"""A request that is answered only behind its body."""

LONG = block(("x-dummy0", "x" * 4_000))


class Case(NamedTuple):
    """A case under the number and the title that the checker has for it."""

    name: str
    steps: tuple[Step, ...]

    def run(self, client: FrameClient) -> None:
        """Do the steps in their order."""
        for step in self.steps:
            if isinstance(step, bytes):
                client.send(step)
            else:
                step(client)


def cases(
    section: str,
    *entries: tuple[str, *tuple[Step, ...]],
    first: tuple[Step, ...] = (FrameClient.shake_hands,),
) -> Iterator[Case]:
    """Yield the cases of a section, each from its title and its steps, behind what comes `first`."""
    for number, (title, *steps) in enumerate(entries, 1):
        yield Case(f"{section}/{number} {title}", (*first, *steps))


# Frames


def head(
    fields: tuple[tuple[str, str], ...] = GET, flags: int = END_STREAM | END_HEADERS, n: int = 1
) -> bytes:
    """Return a HEADERS frame on stream `n`; without END_STREAM, a body follows."""
    return frame(HEADERS, n, block(*fields), flags)


def raw_head(fragment: bytes) -> bytes:
    """Return a HEADERS frame of a whole request, with a block that is encoded already."""
    return frame(HEADERS, 1, fragment, END_STREAM | END_HEADERS)


def data(payload: bytes = b"test", flags: int = END_STREAM, n: int = 1) -> bytes:
    """Return a DATA frame."""
    return frame(DATA, n, payload, flags)


def rest(fragment: bytes = LONG, flags: int = END_HEADERS, n: int = 1) -> bytes:
    """Return a CONTINUATION frame."""
    return frame(CONTINUATION, n, fragment, flags)


def priority(n: int = 1, depends_on: int = 0, weight: int = 255) -> bytes:
    """Return a PRIORITY frame; the highest bit of `depends_on` makes the dependency exclusive."""
    return frame(PRIORITY, n, depends_on.to_bytes(4) + bytes((weight,)))


def reset(n: int = 1, code: int = CANCEL) -> bytes:
    """Return a RST_STREAM frame."""
    return frame(RST_STREAM, n, code.to_bytes(4))


def window(increment: int, n: int = 1) -> bytes:
    """Return a WINDOW_UPDATE frame."""
    return frame(WINDOW_UPDATE, n, increment.to_bytes(4))


def ping(payload: bytes = bytes(8), flags: int = 0, n: int = 0) -> bytes:
    """Return a PING frame."""
    return frame(PING, n, payload, flags)


# Answers


def ends(*codes: int, resets: bool = False) -> Check:
    """Return a check that the connection ends: by GOAWAY with one of these codes, or without a GOAWAY.

    The checker also accepts a GOAWAY with another code if the connection is closed behind it.

    Args:
        resets: whether RST_STREAM with one of the codes is right, too.
    """
    kinds = (GOAWAY, RST_STREAM) if resets else (GOAWAY,)

    def check(client: FrameClient) -> None:
        found = client.next_of(*kinds)
        assert found is None or found.code in codes

    return check


def fails(*codes: int) -> Check:
    """Return a check that the stream or the connection ends with one of these codes."""
    return ends(*codes, resets=True)


def closes(client: FrameClient) -> None:
    """Check that the server closes the connection."""
    while client.read() is not None:
        pass


def is_ended(kind: int, code: int) -> Check:
    """Return a check that a GOAWAY or RST_STREAM frame with this code comes."""

    def check(client: FrameClient) -> None:
        found = client.next_of(kind)
        assert found is not None
        assert found.code == code

    return check


def answers(client: FrameClient) -> None:
    """Check that a response begins on the first stream."""
    found = client.next_of(HEADERS)
    assert found is not None
    assert found.stream == 1


def finishes(client: FrameClient) -> None:
    """Check that the response on a stream is complete, or its request isn't needed any more."""
    while (found := client.next_of(HEADERS, DATA, RST_STREAM)) is not None:
        if found.code == NO_ERROR or (found.kind != RST_STREAM and found.flags & END_STREAM):
            return
    raise AssertionError("the connection has ended before the response")


def confirms(client: FrameClient) -> None:
    """Check that the server confirms settings."""
    found = client.next_of(SETTINGS)
    assert found is not None
    assert found.flags == ACK


def echoes(payload: bytes = bytes(8), *, may_end: bool = False) -> Check:
    """Return a check that the server answers a PING, or, if `may_end` is set, that it has closed."""

    def check(client: FrameClient) -> None:
        found = client.next_of(PING)
        if found is None:
            assert may_end
        else:
            assert found.flags == ACK
            assert found.payload == payload

    return check


def sends(length: int | None = None) -> Check:
    """Return a check that a DATA frame comes, with so many bytes unless `length` is None."""

    def check(client: FrameClient) -> None:
        found = client.next_of(DATA)
        assert found is not None
        assert length in (None, len(found.payload))

    return check
