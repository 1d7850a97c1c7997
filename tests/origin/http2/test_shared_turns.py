"""Very many busy connections of HTTP/2 share each step of the event loop."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from origin.http1.limits import HttpLimits
from origin.http1.shared_turns import STEP_REQUESTS
from origin.http2.connection import Http2Connection
from origin.http2.engine import STREAMS
from tests.conformance.conftest import serving
from tests.crowd import CROWD, Crowd
from tests.http2_frames import DATA, END_HEADERS, END_STREAM, HEADERS, FrameClient, block, frame

BUSY = 60
PATIENT = HttpLimits(header_seconds=240)


def request(number: int, path: str) -> bytes:
    """Return the frame of a GET request."""
    fields = block((":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", path))
    return frame(HEADERS, number, fields, END_STREAM | END_HEADERS)


def body(client: FrameClient) -> bytes:
    """Return the bytes of the next DATA frame that has some."""
    while (found := client.next_of(DATA)) is not None and not found.payload:
        pass
    assert found is not None
    return found.payload


@pytest.mark.clause("CWE-400")
def test_a_crowd_is_answered_in_many_steps_of_the_loop(tmp_path: Path) -> None:
    crowd = Crowd()
    with (
        serving(crowd, tmp_path, "uvloop", PATIENT, http2=Http2Connection) as running,
        contextlib.ExitStack() as stack,
    ):
        url = f"http://127.0.0.1:{running.address[1]}"
        clients = [stack.enter_context(FrameClient(url)) for _ in range(CROWD)]
        for number, client in enumerate(clients):
            client.shake_hands()
            client.send(request(1, f"/{number}"))
            assert body(client) == b"/%d" % number
        with crowd.held():
            for number, client in enumerate(clients):
                client.send(request(3, f"/{number}"))
            # Those who wait may ask for more, or go.
            for client in clients[-40:-20]:
                client.send(request(5, "/more"))
            for client in clients[-10:]:
                client.__exit__()
        for number, client in enumerate(clients[:-10]):
            assert body(client) == b"/%d" % number
        for client in clients[-40:-20]:
            assert body(client) == b"/more"
    assert sum(crowd.steps.values()) >= CROWD - 10
    assert max(crowd.steps.values()) <= 2 * STEP_REQUESTS


@pytest.mark.clause("CWE-400")
def test_connections_with_many_requests_each_are_read_from_one_after_the_other(tmp_path: Path) -> None:
    crowd, limits = Crowd(), HttpLimits(turn_seconds=0.0)
    numbers = range(3, 3 + 2 * STREAMS, 2)
    with (
        serving(crowd, tmp_path, "uvloop", limits, http2=Http2Connection) as running,
        contextlib.ExitStack() as stack,
    ):
        url = f"http://127.0.0.1:{running.address[1]}"
        clients = [stack.enter_context(FrameClient(url)) for _ in range(BUSY)]
        for client in clients:
            client.shake_hands()
            client.send(request(1, "/first"))
            assert body(client) == b"/first"
        with crowd.held():
            for client in clients:
                client.send(b"".join(request(one, f"/{one}") for one in numbers))
        for client in clients:
            assert sorted(body(client) for _ in numbers) == sorted(b"/%d" % one for one in numbers)
    assert sum(crowd.steps.values()) == BUSY * STREAMS
    # The requests of a step, of the connection that was admitted last, and of one that has waited.
    assert max(crowd.steps.values()) <= STEP_REQUESTS + 2 * STREAMS
