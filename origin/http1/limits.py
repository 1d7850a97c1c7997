"""Limits of HTTP/1 connections: sizes and times of what clients send, and of what they are sent."""

from __future__ import annotations

from dataclasses import dataclass

from origin.http1.shared_turns import TURN_SECONDS


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """The limits of HTTP/1 connections, in seconds and bytes.

    Attributes:
        header_seconds: longest time from a request's first byte, or from the connection's opening, to the end
            of the request's head.
        header_bytes: most bytes of a head.
        header_fields: most header fields.
        target_bytes: longest request target.
        stalled_seconds: longest time for which a client may take no bytes while some wait to be sent.
        slow_seconds: time over which a client must take `slow_bytes`, as far as some wait for it: whatever a
            reply holds, such as a removed file, is held no longer.
        body_seconds: longest time of a body, besides what its bytes take at `body_rate`.
        body_rate: least bytes per second of a body after those seconds.
        connections: most connections that are served; further ones get 503.
        linger_seconds: how long a refused client is still read from, so that it sees the reason.
        turn_seconds: longest time in one step of the event loop for all connections that have more to do than
            a little; see `SharedTurns`.
    """

    header_seconds: float = 15.0
    header_bytes: int = 32 * 1024
    header_fields: int = 100
    target_bytes: int = 8 * 1024
    stalled_seconds: float = 60.0
    slow_seconds: float = 600.0
    slow_bytes: int = 1 << 20
    body_seconds: float = 20.0
    body_rate: int = 500
    connections: int = 8192
    linger_seconds: float = 2.0
    turn_seconds: float = TURN_SECONDS
