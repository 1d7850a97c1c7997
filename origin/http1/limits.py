"""Limits of HTTP/1 connections: sizes and times of what clients send, and of what they are sent."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """The limits of HTTP/1 connections, in seconds and bytes.

    Attributes:
        header_seconds: longest time from a request's first byte, or from the connection's opening, to the end
            of the request's head.
        header_bytes: most bytes of a head.
        header_fields: most header fields.
        target_bytes: longest request target.
        stalled_seconds: longest time for which a client may take none of the bytes that wait for it.
        body_seconds: longest time of a body, besides what its bytes take at `body_rate`.
        body_rate: least bytes per second of a body after those seconds.
        body_buffer_bytes: bytes of a body waiting for the application above which reading pauses.
        connections: most connections that are served; further ones get 503.
        linger_seconds: how long a refused client is still read from, so that it sees the reason.
        refused_connections: most connections that get 503; further ones are cut.
        pieces_at_once: most pieces, such as heads, that are read before another connection has a turn.
        pipelined_seconds: longest time in one step of the event loop for all connections' requests that came
            behind others, unanswered yet, on theirs.
        framing_per_byte: most bytes of framing per byte of a chunked body; tiny chunks have 5.
        check_seconds: least time between two checks of a client's timeouts.
        check_step_seconds: clients that are being answered are checked at multiples of this.
    """

    header_seconds: float = 15.0
    header_bytes: int = 32 * 1024
    header_fields: int = 100
    target_bytes: int = 8 * 1024
    stalled_seconds: float = 60.0
    body_seconds: float = 20.0
    body_rate: int = 500
    body_buffer_bytes: int = 64 * 1024
    connections: int = 8192
    linger_seconds: float = 2.0
    refused_connections: int = 16
    pieces_at_once: int = 32
    pipelined_seconds: float = 0.005
    framing_per_byte: int = 16
    check_seconds: float = 0.05
    check_step_seconds: float = 1.0
