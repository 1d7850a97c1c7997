"""A stream of RTSP messages and interleaved data."""

from __future__ import annotations

SDP = b"v=0\r\n\r\n$m=audio 0 RTP/AVP 0\r\n"

STREAM = (
    b"\r\nRTSP/1.0 200 OK\r\nCSeq: 2\r\nContent-Length: %d\r\n\r\n" % len(SDP)
    + SDP
    + b"$\x00\x00\x04abcd$\x01\x00\x00"
    + b"OPTIONS * RTSP/1.0\nCSeq: 1\n\n"
    + b"$\x00\x00\x02xyRTSP/1.0 404 Not Found\r\n\r\n"
)
"""RFC 2326 §10.12: frames stand between messages."""
