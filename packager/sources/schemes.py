"""URL schemes of pulled sources: ffmpeg's options and permissions for each, and redaction of URLs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from packager.redaction import MASK, Redactor, secrets_of

TIMEOUT_MICROSECONDS = 10_000_000
"""ffmpeg's timeout for silent sources; the server's own timeouts are shorter."""

PULLED_FORMATS = "hls,mpegts,mov,mp3,aac,ogg,flv,matroska,flac,webvtt"
"""Demuxers for HTTP sources and for HLS segments."""


OPENED_FORMATS = "mov,matroska,ogg,flac,mp3,aac,mpegts,flv"
"""Demuxers for streams whose container ffmpeg detects."""


@dataclass(frozen=True, slots=True)
class Scheme:
    """How URLs of one scheme are pulled.

    Attributes:
        protocols: the protocols that ffmpeg may open, redirects included.
        formats: the demuxers that ffmpeg may use.
        paced: whether data arrives in real time; otherwise ffmpeg reads with ``-re``.
        needs: the protocol or demuxer that ffmpeg must have.
        tcp_port: the default TCP port; 0 if TCP isn't used.
    """

    protocols: str
    formats: str
    options: dict[str, Any]
    paced: bool
    needs: str
    tcp_port: int = 0
    udp: bool = False


_HTTP = Scheme(
    "http,https,tcp,tls,crypto",
    PULLED_FORMATS,
    {"rw_timeout": TIMEOUT_MICROSECONDS},
    paced=False,
    needs="http",
    tcp_port=80,
)
SCHEMES = {
    "http": _HTTP,
    "https": replace(_HTTP, tcp_port=443),
    "rtsp": Scheme(
        "rtsp,rtp,tcp",
        "rtsp,sdp,rtp,mpegts",
        # UDP media come through rtsp_relay, possibly out of order.
        {"rtsp_transport": "tcp", "reorder_queue_size": 500, "timeout": TIMEOUT_MICROSECONDS},
        paced=True,
        needs="rtsp",
        tcp_port=554,
    ),
    "srt": Scheme("srt", "mpegts", {}, paced=True, needs="srt", udp=True),
    "udp": Scheme(
        "udp",
        "mpegts",
        {"timeout": TIMEOUT_MICROSECONDS, "overrun_nonfatal": 1},
        paced=True,
        needs="udp",
        udp=True,
    ),
}
"""The supported schemes."""


def is_url(source: str) -> bool:
    """Return whether a configured source is a URL to pull."""
    try:
        parts = urlsplit(source)
        # RFC 3986 §3.2.3: a port has digits only; anything else is part of an unescaped password.
        is_numbered = parts.port is None or parts.port > 0
    except ValueError:
        return False
    return parts.scheme in SCHEMES and bool(parts.hostname) and is_numbered and source.isprintable()


def outgoing_ports(url: str) -> tuple[int, bool]:
    """Return the TCP port that fetching a URL needs (0 for none), and whether it needs UDP."""
    parts = urlsplit(url)
    scheme = SCHEMES[parts.scheme]
    return (parts.port or scheme.tcp_port) if scheme.tcp_port else 0, scheme.udp


def without_url_secrets(text: str, url: str) -> str:
    """Remove a URL and its secrets from a text, such as a program's error."""
    # Even short secrets are removed, as a text about one source hardly contains them by chance.
    return (
        Redactor.of((url, urlsplit(url).query, *secrets_of(url)), shortest=1)(text).replace(MASK, "").strip()
    )
