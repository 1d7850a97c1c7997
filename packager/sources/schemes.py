"""Which URLs can be pulled, what ffmpeg may do for each kind, and what of them may be told. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from packager.redaction import MASK, Redactor, secrets_of

TIMEOUT_MICROSECONDS = 10_000_000
"""How long a pulled source may be silent before ffmpeg gives it up; a channel's own patience is shorter."""

PULLED_FORMATS = "hls,mpegts,mov,mp3,aac,ogg,flv,matroska,flac,webvtt"
"""What may come over HTTP: the formats of its streams, and of an HLS playlist's segments."""


OPENED_FORMATS = "mov,matroska,ogg,flac,mp3,aac,mpegts,flv"
"""What may come where only ffmpeg can tell what it is."""


@dataclass(frozen=True, slots=True)
class Scheme:
    """How a kind of URL is pulled.

    Attributes:
        protocols: what ffmpeg may open, however it is redirected.
        formats: the demuxers that may run.
        options: ffmpeg's further input options.
        paced: whether what comes is given at real time; where it may come in bursts, we set the pace.
        needs: the protocol or demuxer that ffmpeg must have.
        tcp_port: the port of TCP where its URL names none; 0: it doesn't come over TCP.
        udp: whether it comes over UDP.
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
        # What comes in UDP comes by a relay (rtsp_relay), in its order as far as a network keeps that.
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
"""What can be pulled, by the scheme of its URL."""


def is_url(source: str) -> bool:
    """Tell whether a configured source is pulled."""
    try:
        parts = urlsplit(source)
        # RFC 3986 §3.2.3: digits. What is none is a piece of a password that nobody encoded.
        is_numbered = parts.port is None or parts.port > 0
    except ValueError:
        return False
    return parts.scheme in SCHEMES and bool(parts.hostname) and is_numbered and source.isprintable()


def outgoing_ports(url: str) -> tuple[int, bool]:
    """Tell how a URL is fetched: from which port of TCP (0: from none), and whether over UDP."""
    parts = urlsplit(url)
    scheme = SCHEMES[parts.scheme]
    return (parts.port or scheme.tcp_port) if scheme.tcp_port else 0, scheme.udp


def without_url_secrets(text: str, url: str) -> str:
    """Take out of a text, a program's error say, what may be secret in a URL, and the URL itself."""
    # However short: what is said of one source has no other words that a user or password could be.
    return (
        Redactor.of((url, urlsplit(url).query, *secrets_of(url)), shortest=1)(text).replace(MASK, "").strip()
    )
