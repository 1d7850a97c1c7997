"""A connection of gRPC: one of HTTP/2, as well protected against floods, whose refusals are statuses."""

from __future__ import annotations

import time

import grpc

from origin.events.formats import GRPC
from origin.grpc.call import status_fields
from origin.grpc.limits import GrpcLimits
from origin.http.token_bucket import TokenBucket
from origin.http1.protocol import HttpProtocol
from origin.http2.connection import Http2Connection
from origin.http_streams.stream import HttpStream

SHORT_CALL_SECONDS = 1.0
"""A call that lasts longer is a reader of a silent channel, whose deadline has passed, not a flood."""

TOO_LONG = 431
"""RFC 6585 §5: the status of a request whose header fields are too long."""


class GrpcConnection(Http2Connection):
    """A client's connection behind the preface of HTTP/2.

    Calls that end soon and without a message cost their client nothing. After very many of them, it has the
    turns of clients that flood.

    Args:
        first: the protocol that has read the preface.
    """

    def __init__(self, limits: GrpcLimits, first: HttpProtocol) -> None:
        super().__init__(first)
        self._failed = TokenBucket(limits.failed_calls, limits.failed_calls_a_second)

    def _refuse(self, stream: HttpStream, status: int) -> None:
        """Refuse what is no call by a status: clients of gRPC read no other answer's body."""
        self._refuse_silently(stream)
        code, line = grpc.StatusCode.UNIMPLEMENTED, "no such method"
        if status == TOO_LONG:
            code, line = grpc.StatusCode.RESOURCE_EXHAUSTED, "the metadata are too long"
        fields = ((b"content-type", GRPC.media_type.encode()), *status_fields(code, line))
        self.send_head(stream, 200, fields, is_all=True)

    def _finish(self, stream: HttpStream) -> None:
        super()._finish(stream)
        is_short = time.monotonic() - stream.since < SHORT_CALL_SECONDS
        if is_short and not stream.sent and self._failed.acquire():
            self._suspect()
