"""Limits of gRPC's connections and calls."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcLimits:
    """Limits of gRPC's connections and calls.

    Attributes:
        connections: most connections at once, and most calls that all of them have together.
        message_bytes: longest message of a client.
        metadata_bytes: most bytes of a call's metadata, with 32 for each field (RFC 9113 §6.5.2).
        handshake_seconds: longest time from a connection to its first call.
        request_seconds: how long a call may lack its request.
        end_seconds: how long a client may take to read a reply's end.
        idle_seconds: after which a connection without calls is closed.
        watch_seconds: between two checks of the health that a client watches.
        farewell_seconds: how long calls may take to end when the server does.
        failed_calls: calls of a connection that may end in one go without a message.
        failed_calls_a_second: how many more of them in each second.
    """

    connections: int = 8192
    message_bytes: int = 1 << 20
    metadata_bytes: int = 8 << 10
    handshake_seconds: float = 15.0
    request_seconds: float = 15.0
    end_seconds: float = 15.0
    idle_seconds: float = 300.0
    watch_seconds: float = 1.0
    farewell_seconds: float = 0.5
    failed_calls: int = 100
    failed_calls_a_second: float = 20.0
