"""Limits of gRPC's connections and calls."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcLimits:
    """Limits of gRPC's connections and calls.

    Attributes:
        connections: most connections at once, and most calls that all of them have together.
        streams: most calls of one connection.
        message_bytes: longest message of a client.
        metadata_bytes: most bytes of a call's metadata, with 32 for each field (RFC 9113 §6.5.2).
        handshake_seconds: longest time from a connection to its first settings, and from the server's to
            their confirmation.
        request_seconds: how long a call may lack its request.
        end_seconds: how long a client may take to read a reply's end.
        idle_seconds: after which a connection without calls is closed.
        ping_seconds: between two pings of a connection, by either side; also how long an answer may take.
        watch_seconds: between two checks of the health that a client watches.
        farewell_seconds: how long calls may take to end when the server does.
        unanswered_calls: calls of a client that may end in one go before their answers begin, as cancelled
            ones do, and those with too long metadata.
        unanswered_calls_a_second: how many more of them in each second.
        flood_seconds: for how long the client's calls begin one by one after there were more.
        flood_pause: seconds between two of these.
        niceness: how much less of a busy processor the C core's threads get (nice(2)).
    """

    connections: int = 8192
    streams: int = 128
    message_bytes: int = 1 << 20
    metadata_bytes: int = 8 << 10
    handshake_seconds: float = 15.0
    request_seconds: float = 15.0
    end_seconds: float = 15.0
    idle_seconds: float = 300.0
    ping_seconds: float = 20.0
    watch_seconds: float = 1.0
    farewell_seconds: float = 0.5
    unanswered_calls: int = 200
    unanswered_calls_a_second: float = 20.0
    flood_seconds: float = 1.0
    flood_pause: float = 0.01
    niceness: int = 10
