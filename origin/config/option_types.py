"""The kinds of values that options have, with the texts that explain them where a value is wrong."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from msgspec import Meta

from origin.access.address_tokens import KEY
from origin.http.channel_patterns import SEGMENT

Name = Annotated[
    str,
    Meta(pattern=r"^(?!\.+$)[A-Za-z0-9._-]{1,64}\Z", description="1 to 64 letters, digits, '.', '_', '-'"),
]
LiveName = Annotated[
    str,
    Meta(
        pattern=r"^(?!\.+(/|$))[A-Za-z0-9._-]{1,64}(/\*)?\Z",
        description="1 to 64 letters, digits, '.', '_', '-'; or a pattern such as room/*",
    ),
]
"""The name of a live channel, or the pattern of those that publishers make."""

ChannelPattern = Annotated[
    str,
    Meta(
        pattern=rf"^({SEGMENT}|({SEGMENT}/){{0,3}}\*)\Z",
        description="1 to 64 letters, digits, '.', '_', '-'; or a pattern such as room/*",
    ),
]
"""The name of an event channel, or the pattern of a template."""

Language = Annotated[
    str, Meta(pattern=r"^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8}){0,4}\Z", description="a language such as en, pt-BR")
]
Network = Annotated[
    str,
    Meta(
        pattern=r"^[0-9A-Fa-f:.]+(/[0-9]{1,3})?\Z",
        description="an address or a network such as 127.0.0.1, 10.0.0.0/8, 2001:db8::/32",
    ),
]
HostName = Annotated[
    str, Meta(pattern=r"^[A-Za-z0-9._-]{1,253}\Z", description="a host's name, such as stream.example")
]
QueryName = Annotated[
    str,
    Meta(
        pattern=r"^(?!_HLS_)[A-Za-z0-9._~-]{1,64}\Z",
        description="1 to 64 letters, digits, '.', '_', '~', '-', not beginning with '_HLS_'",
    ),
]
Access = Literal["open", "signed"]
"""Whether everybody may fetch something, or only who has a token (`origin.access.address_tokens`)."""

Folder = Annotated[
    str,
    Meta(
        pattern=r"^(?!\.{0,2}(/|\Z))[^/\\\x00]+(/(?!\.{1,2}(/|\Z))[^/\\\x00]+)*\Z",
        description="a path in the library such as films/private",
    ),
]
SigningKey = Annotated[
    str,
    Meta(
        pattern=f"^{KEY}\\Z",
        description="an identifier of at most 16 letters, ':' and a secret of 16 signs or more",
        extra={"secret": "all"},
    ),
]
Secret = Annotated[str, Meta(extra={"secret": "all"})]
"""A password, key or token; never shown."""

FieldSecret = Annotated[
    str,
    Meta(pattern=r"^(?:[!-~][ -~]*)?\Z", description="visible characters of ASCII", extra={"secret": "all"}),
]
"""A key that is sent in a header field (RFC 9110 §5.5); never shown."""

Passphrase = Annotated[
    str,
    Meta(pattern=r"^[ -~]{10,79}\Z", description="10 to 79 characters of ASCII", extra={"secret": "all"}),
]
"""Passphrase of which SRT makes its keys (``SRTO_PASSPHRASE``); never shown."""

Address = Annotated[str, Meta(extra={"secret": "in URL"})]
"""Possibly a URL; shown without user, password and query."""

Duration = Annotated[
    str, Meta(pattern=r"^[0-9]{1,9}(s|m|h|d)?\Z", description="a duration such as 90s, 30m, 2h; 0: none")
]
SourceName = Annotated[
    str,
    Meta(
        pattern=r"^(radio|live)/(?!\.+$)[A-Za-z0-9._-]{1,64}\Z",
        description="radio/NAME or live/NAME, a station or a live channel",
    ),
]

StationAlias = Annotated[
    str,
    Meta(
        pattern=r"^(?=.{1,200}$)(/(?!\.+(/|$))[A-Za-z0-9._~-]+)+\Z",
        description="a path such as /morning.mp3, of letters, digits, '.', '_', '~', '-'",
    ),
]
HttpUrl = Annotated[
    str,
    Meta(
        pattern=r"^(https?://[!-~]+)?\Z",
        description="a URL of http or https; empty: none",
        extra={"secret": "in URL"},
    ),
]
WebhookUrl = Annotated[
    str,
    Meta(
        pattern=r"^(https?://[!-~]+)?\Z",
        description="a URL of http or https; empty: none",
        extra={"secret": "path"},
    ),
]
"""Shown without its path, too: many a webhook has its token there."""
Origin = Annotated[
    str,
    Meta(
        pattern=r"^(\*|null|[a-z][a-z0-9+.-]*://[A-Za-z0-9._\[\]:-]+)?\Z",
        description="an origin such as https://player.example, or '*'; empty: none",
    ),
]
Embedder = Annotated[
    str,
    Meta(
        pattern=r"^(\*|https?://[A-Za-z0-9.*\[\]:-]{1,253})\Z",
        description="an origin such as https://site.example, or '*'",
    ),
]
HeaderName = Annotated[
    str,
    Meta(
        pattern=r"^(?i:authorization|(x-)?[a-z0-9-]{0,48}(key|token))\Z",
        description="Authorization, or a field whose name ends with key or token, such as api-key",
    ),
]
WorkerCount = Annotated[
    Annotated[int, Meta(ge=1, le=256)] | Literal["auto"],
    Meta(description='a whole number from 1 to 256, or "auto" for as many as there are cores'),
]
Port = Annotated[int, Meta(ge=0, le=65535)]
Seconds = Annotated[float, Meta(gt=0, le=86400)]
Count = Annotated[int, Meta(ge=1, le=1 << 40)]

Target = Annotated[
    str,
    Meta(
        pattern=r"^(rtmps?://[^\s/@]+(:[^\s/@]*@[^\s/@]+)?/\S+|srt://[^\s/?@]+:[0-9]{1,5}\S*)\Z",
        description="an address such as rtmp://host/app/key, rtmps://host/app/key, srt://host:port?streamid=…",
        extra={"secret": "in URL"},
    ),
]
"""An address that a channel is pushed on to; shown without its secrets."""

EventKind = Literal[
    "live.started",
    "live.ended",
    "radio.started",
    "radio.ended",
    "radio.source",
    "radio.title",
    "recording.ready",
]

EVENT_KINDS: tuple[EventKind, ...] = get_args(EventKind)
"""The kinds of events that webhooks are sent."""
