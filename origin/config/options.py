"""The configuration's options with their defaults and allowed values.

``load`` reads them from their sources, and ``messages`` explains wrong values.
"""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from packager.redaction import MASK, Redactor, redacted_url, secrets_of
from packager.safe_files import DataFolder

Name = Annotated[
    str,
    Meta(pattern=r"^(?!\.+$)[A-Za-z0-9._-]{1,64}\Z", description="1 to 64 letters, digits, '.', '_', '-'"),
]
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
Secret = Annotated[str, Meta(extra={"secret": "all"})]
"""A password, key or token; never shown."""

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


GAPS = "gaps"
"""``offline`` of a channel that shows nothing while nothing comes from its source."""

HIDDEN = "********"
"""Shown instead of a secret."""


class ConfigError(Exception):
    """The configuration is invalid; the text is one line that names source, key and allowed values."""


class Options(Struct, frozen=True, forbid_unknown_fields=True):
    """A section of the configuration; its repr hides secrets."""

    def __repr__(self) -> str:
        """Represent it for logs and tracebacks."""
        shown = ", ".join(f"{key}={shown_value(type(self), key, value)!r}" for key, value in _items(self))
        return f"{type(self).__name__}({shown})"


class ServerOptions(Options, frozen=True, forbid_unknown_fields=True):
    """Listening addresses, access and proxies."""

    host: Annotated[str, Meta(min_length=1)] = "127.0.0.1"
    """Address or host name on which the server listens; ``0.0.0.0`` is every IPv4 address of the machine,
    ``::`` all."""
    port: Port = 8000
    """TCP port for HTTP; 0 takes a free port."""
    rtmp_port: Port = 0
    """TCP port on which publishers send RTMP; 0: the server takes no RTMP (with ``--demo`` it is 1935)."""
    srt_port: Port = 0
    """UDP port on which publishers send SRT; 0: the server takes no SRT."""
    workers: WorkerCount = 1
    """Number of processes that answer requests; ``auto`` is one for each processor core."""
    yp_url: HttpUrl = ""
    """URL of a directory to which public stations are announced by Icecast's YP protocol; empty: no
    announcement."""
    public_url: HttpUrl = ""
    """URL under which listeners reach this server; the directory of ``yp_url`` lists it."""
    publish_webhook: WebhookUrl = ""
    """URL that is asked by POST whether a publisher with the right key may publish; empty: the key is
    enough."""
    data: str = ""
    """Folder in which live channels keep their numbers, DVR and recordings, and the server its own secrets;
    empty: nothing survives a restart."""
    dvr_path: Annotated[
        str,
        Meta(
            pattern=r"^(s3://\S+)?\Z",
            description="an address such as s3://bucket/prefix; empty: in the data folder",
            extra={"secret": "in URL"},
        ),
    ] = ""
    """S3 address where the DVR of all live channels is stored, for all nodes of a cluster; empty: in
    ``data``. The environment variables ``AWS_…`` name the S3 server and the credentials."""
    allow_origin: Origin = "*"
    """Value of Access-Control-Allow-Origin for media; lists have it too if it is one origin and not ``*``."""
    allow_embed: Annotated[tuple[Embedder, ...], Meta(max_length=64)] = ()
    """Origins whose pages may show ``/embed/…`` in a frame; ``*`` allows all, an empty list none."""
    carried_parameters: Annotated[tuple[QueryName, ...], Meta(max_length=16)] = ("token",)
    """Names of query parameters that live playlists and manifests repeat on the addresses they list, such as
    a cache's tokens."""
    trusted_proxies: tuple[Network, ...] = ()
    """Addresses and networks of proxies whose X-Forwarded-For, X-Forwarded-Proto and Forwarded are
    believed."""
    admin_token: Secret | None = None
    """Key for every change and for everything in ``protected``; generated and shown at the start when
    absent."""
    names: tuple[HostName, ...] = ()
    """Values of the Host field under which a server that listens on loopback answers lists and changes; the
    name of a proxy in front."""
    protected: tuple[Literal["api", "health", "metrics"], ...] = ()
    """Groups of addresses that need the admin token; without the token ``/health`` still says whether the
    server is ready."""
    admin_port: Port = 0
    """TCP port that answers the groups of ``protected`` without the token; 0: no such port."""
    admin_host: Annotated[str, Meta(min_length=1)] = "127.0.0.1"
    """Address on which ``admin_port`` listens."""
    user: Annotated[
        str,
        Meta(
            pattern=r"^([A-Za-z0-9_][A-Za-z0-9_.-]{0,31}\$?)?\Z",
            description="a user's name; empty: the one who starts it",
        ),
    ] = ""
    """User that a server started by root becomes after it has opened its sockets; empty: no change of
    user."""
    require_sandbox: bool = False
    """Whether the server refuses to start if the kernel lacks a part of ffmpeg's sandbox."""


class ClusterOptions(Options, frozen=True, forbid_unknown_fields=True):
    """Options of ``[cluster]``: the Redis over which several machines share channels."""

    url: Annotated[
        str,
        Meta(
            pattern=r"^(rediss?(\+sentinel|\+cluster)?://\S+)?\Z",
            description="an address such as redis://host:6379/0, rediss://:password@host; empty: none",
            extra={"secret": "in URL"},
        ),
    ] = ""
    """Redis over which several machines share channels, stations, events and jobs; empty: this machine works
    alone."""
    role: Literal["all", "packager", "edge"] = "all"
    """``packager`` makes live channels and stations and serves its own; ``edge`` makes none and serves those
    of all nodes; ``all`` does both."""
    name: Annotated[
        str, Meta(pattern=r"^[\x21-\x7e]{0,64}\Z", description="at most 64 characters without spaces")
    ] = ""
    """Name of this node in ``/health`` and ``/api/live`` of all nodes; empty: the machine's host name."""

    @property
    def takes_jobs(self) -> bool:
        """Whether jobs can be queued there: those of a queue have keys of many slots of a Redis Cluster."""
        return bool(self.url) and "+cluster://" not in self.url


class LibraryOptions(Options, frozen=True, forbid_unknown_fields=True):
    """The folder of files to serve."""

    path: Annotated[str, Meta(min_length=1, extra={"secret": "in URL"})] = "library"
    """Folder of the files to serve, or ``s3://bucket/prefix``. A folder that is named here must exist. The
    environment variables ``AWS_…`` name the S3 server and the credentials."""
    cache: Annotated[
        str, Meta(pattern=r"^[0-9]{1,15}(M|G|T)?$", description="a number of bytes such as 500M, 20G")
    ] = "1G"
    """Largest size on disk of the cache of a library in S3, for each process."""
    follow_symlinks: bool = False
    """Whether links in the library may lead to files outside of it; otherwise such a file is answered with
    404."""
    max_age: Annotated[int, Meta(ge=0, le=1 << 31, extra={"unit": "seconds"})] = 3600
    """Time for which caches may keep a file."""
    thumbnails: bool = True
    """Whether films have small pictures for the seek bar, which ffmpeg makes at the first request."""
    thumbnails_size: Annotated[
        str, Meta(pattern=r"^[0-9]{1,15}(M|G|T)?\Z", description="a number of bytes such as 500M, 20G")
    ] = "1G"
    """Largest size on disk of these pictures, in ``server.data``; the oldest are removed. Without
    ``server.data`` they are in memory."""


Target = Annotated[
    str,
    Meta(
        pattern=r"^(rtmps?://[^\s/@]+(:[^\s/@]*@[^\s/@]+)?/\S+|srt://[^\s/?@]+:[0-9]{1,5}\S*)\Z",
        description="an address such as rtmp://host/app/key, rtmps://host/app/key, srt://host:port?streamid=…",
        extra={"secret": "in URL"},
    ),
]
"""An address that a channel is pushed on to; shown without its secrets."""


EVENT_SECONDS = 86_400.0
"""How long an event stays listed whose channel configures no DVR."""


class LiveOptions(Options, frozen=True, forbid_unknown_fields=True):
    """Options of a live channel, ``[[live]]``."""

    name: Name
    """Name of the channel in its addresses, ``/live/NAME/…``."""
    source: Address = ""
    """``publish`` for a channel that is published to, ``testsrc`` for a test picture, a file that is played
    in a loop, or a URL (http, https, rtsp, srt, udp) that is pulled. Required."""
    ladder: tuple[Literal["source", "1080p", "720p", "480p", "360p", "240p"], ...] = ("720p", "360p")
    """Renditions, the first one first in the playlists; ``source`` is the source's own picture and sound
    without encoding."""
    part_duration: Annotated[float, Meta(ge=0.1, le=2, extra={"unit": "seconds"})] = 0.333
    """Target duration of the parts of low-latency HLS and DASH."""
    segment_duration: Annotated[float, Meta(ge=1, le=10, extra={"unit": "seconds"})] = 2.0
    """Target duration of segments; key frames of a copied source may make them longer."""
    dvr: Annotated[
        str, Meta(pattern=r"^[0-9]{1,9}(s|m|h|d)?\Z", description="a duration such as 90s, 30m, 2h")
    ] = "0"
    """Time for which segments stay in the playlist behind the live edge; 0: only the live edge."""
    dvr_size: Annotated[
        str, Meta(pattern=r"^[0-9]{1,15}(M|G|T)?\Z", description="a number of bytes such as 500M, 20G, 1T")
    ] = "0"
    """Largest size on disk of the channel's DVR, all renditions together; 0: as much as the time in
    ``dvr`` needs. Half of the size is listed, the other half is for viewers of segments that have left
    the playlist."""
    event: bool = False
    """Whether the source file is played once, and its end is the end of an event, which is recorded."""
    recordings: Annotated[
        str,
        Meta(pattern=r"^[0-9]{1,9}(s|m|h|d)?\Z", description="a duration such as 12h, 30d; 0: without end"),
    ] = "0"
    """Time for which recordings of past events are kept; 0: for ever."""
    recordings_size: (
        Annotated[
            str, Meta(pattern=r"^[0-9]{1,15}(M|G|T)?\Z", description="a number of bytes such as 500M, 20G")
        ]
        | None
    ) = None
    """Largest size on disk of the recordings, of which the oldest are removed first; ``dvr_size`` when
    absent."""
    vod_after_end: Duration = "0"
    """Time for which the channel's own addresses serve an event that is over; 0: until the next event
    begins."""
    recordings_copy: Annotated[
        str,
        Meta(
            pattern=r"^(s3://\S+)?\Z",
            description="an address such as s3://bucket/prefix; empty: none",
            extra={"secret": "in URL"},
        ),
    ] = ""
    """S3 address to which each recording is copied once it is complete; empty: no copy. The environment
    variables ``AWS_…`` name the S3 server and the credentials."""
    captions: tuple[Language, ...] = ()
    """Languages in which captions may be published."""
    publish_key: Secret | None = None
    """Key that publishers present; generated and shown at the start when absent and ``source`` is
    ``publish``."""
    srt_passphrase: Passphrase | None = None
    """Passphrase with which publishers over SRT must encrypt; absent: their streams are not encrypted."""
    takeover: Literal["replace", "refuse", "backup"] = "replace"
    """Rule for a second publisher: it replaces the first, is refused, or waits as a backup until the
    first goes."""
    after_end: Literal["refuse", "start"] = "refuse"
    """Rule for a publisher of a channel whose event has ended: it is refused until the next event is
    begun by a command, or it begins that event."""
    offline: Address = "gaps"
    """Content while nobody publishes or a pulled source is gone: ``gaps`` in the playlist, or a file
    that is shown in a loop."""
    forward: Annotated[tuple[Target, ...], Meta(max_length=16)] = ()
    """Addresses of RTMP, RTMPS and SRT servers to which the published stream is pushed on; only where
    ``source`` is ``publish``."""


class RadioOptions(Options, frozen=True, forbid_unknown_fields=True):
    """Options of a station, ``[[radio]]``."""

    name: Name
    """Name of the station in its addresses, ``/radio/NAME``."""
    source: Address = "folder"
    """``folder`` plays files, ``publish`` takes Icecast's source clients, ``relay`` plays the stream at
    ``url``; an address of http or https is such a relay, too."""
    folder: Address = "music"
    """Folder of MP3s, a playlist (M3U) or one MP3, which the station plays where ``source`` is ``folder``."""
    bitrate: Annotated[
        Literal[32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320], Meta(extra={"unit": "kbit/s"})
    ] = 128
    """Bitrate of the MP3 stream; tracks with another bitrate are encoded again."""
    sample_rate: Annotated[Literal[32000, 44100, 48000], Meta(extra={"unit": "Hz"})] = 44100
    """Sample rate of the MP3 stream; tracks with another rate are encoded again."""
    shuffle: bool = False
    """Whether tracks are played in random order instead of the order of their names."""
    loudness: Annotated[float, Meta(ge=-40, le=-5, extra={"unit": "LUFS"})] | None = None
    """Loudness (EBU R 128) to which all tracks are brought; tracks that differ are encoded again. Absent:
    tracks are not measured."""
    crossfade: Annotated[float, Meta(ge=0, le=15, extra={"unit": "seconds"})] = 0.0
    """Time in which one track fades into the next; 0: no fade. With a fade all tracks are encoded again."""
    title: str | None = None
    """Name of the station (``icy-name``), which a source's own name does not replace."""
    genre: str | None = None
    """Genre of the station (``icy-genre``)."""
    url: Address | None = None
    """Address of the relayed stream where ``source`` is ``relay``; otherwise the station's home page
    (``icy-url``)."""
    source_password: Secret | None = None
    """Password of source clients, whose user is ``source``; generated and shown at the start when absent."""
    listener_password: Secret | None = None
    """Password of listeners, who may present an address that is signed with it instead; absent: everybody may
    listen. A station with a password is not in HLS."""
    fallback: Address | None = None
    """Another station, or an audio file, that listeners hear while the station has no source."""
    public: bool = False
    """Whether a directory may list the station, whatever its source says; ``false`` leaves the decision to
    the source."""
    max_listeners: Count | None = None
    """Largest number of listeners of this station; ``limits.listeners`` when absent."""
    max_listener_duration: Duration = "0"
    """Time after which a listener is disconnected; 0: never."""
    intro: Address | None = None
    """Audio file that each listener hears first; it must have the station's codec, sample rate and
    channels."""
    listener_webhook: WebhookUrl = ""
    """URL that is asked by POST whether somebody may listen; empty: nobody is asked."""
    listener_add: WebhookUrl = ""
    """URL that is asked by a form whether somebody may listen, as by Icecast's URL authentication: the field
    ``icecast-auth-user: 1`` of its answer allows."""
    listener_remove: WebhookUrl = ""
    """URL that is sent a form when a listener has left, as by Icecast's URL authentication."""
    source_webhook: WebhookUrl = ""
    """URL that is asked by POST whether a source client with the right password may send; empty: nobody is
    asked."""
    aliases: Annotated[tuple[StationAlias, ...], Meta(max_length=64)] = ()
    """Other addresses of the station, such as ``/morning.mp3``, for listeners, sources and Icecast's
    administration."""
    on_demand: bool = False
    """Whether a relay connects only while somebody listens."""
    hls: bool = True
    """Whether the station is also at ``/live/NAME/master.m3u8`` and ``/live/NAME/manifest.mpd``."""
    hls_bitrates: Annotated[
        tuple[Annotated[int, Meta(ge=16, le=320)], ...], Meta(min_length=1, extra={"unit": "kbit/s"})
    ] = (64, 128)
    """Bitrates of the AAC renditions there."""
    hls_on_demand: bool = True
    """Whether these renditions are encoded only while somebody asks for them."""
    lagging: Literal["drop", "skip"] = "drop"
    """Rule for a listener that is ``limits.queue_bytes`` behind: it is dropped, or skips to the newest
    audio."""


class EventOptions(Options, frozen=True, forbid_unknown_fields=True):
    """Options of an event channel, ``[[events]]``."""

    name: Name
    """Name of the channel in its address, ``/events/NAME``."""
    publish_token: Secret | None = None
    """Token that publishers present; generated and shown at the start when absent."""
    read_key: Secret | None = None
    """Key that readers present, or with which their address is signed; absent: everybody may read."""
    allow_origin: Origin | None = None
    """Origin whose pages may read the channel in a browser, ``*`` for all, empty for none;
    ``server.allow_origin`` when absent."""
    relay: Address | None = None
    """URL of an OpenAI-compatible server's chat completions, which ``POST /relay/NAME`` asks."""
    relay_key: Secret | None = None
    """Key that this upstream server wants."""
    relay_key_header: HeaderName = "Authorization"
    """Field in which the upstream server wants its key; in ``Authorization`` it is sent as a Bearer token."""
    relay_share: bool = False
    """Whether equal requests that run at the same time are one request to the upstream server."""
    relay_keep: bool = False
    """Whether an answer goes on after its last reader has left; otherwise it is cancelled within a second."""
    keep: Annotated[int, Meta(ge=1, le=1_000_000)] = 1000
    """Number of newest events that are kept for readers who come later or come back."""
    keep_for: Duration = "0"
    """Longest time for which these events are kept; 0: as long as ``keep`` has room."""
    history: Duration = "0"
    """Time for which kept events survive a restart, on disk in ``server.data``; 0: they don't."""
    replay: bool = True
    """Whether new readers get the kept events first; otherwise they get only new events."""
    flush_interval: Annotated[float, Meta(ge=0, le=1, extra={"unit": "seconds"})] = 0.016
    """Shortest time between two writes to a reader, each of which has all events since the last; 0: each
    event is written by itself."""
    presence: bool = False
    """Whether a change of the number of readers is published as an event."""
    include: tuple[SourceName, ...] = ()
    """Stations and live channels whose titles, captions, states and counts are published on this channel,
    too."""


class LimitOptions(Options, frozen=True, forbid_unknown_fields=True):
    """Options of ``[limits]``; times are in seconds."""

    header_seconds: Seconds = 15.0
    """Time in which a client must have sent a request's header."""
    header_bytes: Count = 32 << 10
    """Largest header of a request."""
    header_fields: Count = 100
    """Largest number of fields in a request's header."""
    target_bytes: Count = 8 << 10
    """Longest request target (path and query)."""
    body_seconds: Seconds = 20.0
    """Time for a request's body, besides a second for each ``body_rate`` bytes of it; beyond that the answer
    is 408."""
    body_rate: Annotated[Count, Meta(extra={"unit": "bytes per second"})] = 500
    """Slowest rate at which a request's body may come, behind the first ``body_seconds``."""
    captions_idle_seconds: Seconds = 1800.0
    """Longest pause in a request that sends captions as they are typed."""
    stalled_seconds: Seconds = 60.0
    """Time after which a client that reads none of its bytes is disconnected."""
    unacknowledged_seconds: Annotated[float, Meta(ge=1, le=3600)] = 30.0
    """Time after which a client whose system acknowledges no bytes counts as gone (TCP_USER_TIMEOUT)."""
    keep_alive_seconds: Seconds = 30.0
    """Time for which a connection stays open between two requests."""
    drain_seconds: Annotated[float, Meta(ge=0, le=600)] = 0.0
    """Time for which a server that is asked to end goes on serving while ``/health`` answers 503, so that
    balancers turn away."""
    shutdown_seconds: Annotated[float, Meta(gt=0, le=60)] = 1.5
    """Time for which running answers may go on after that."""
    blocked_requests: Count = 10_000
    """Largest number of requests of one live rendition that wait for a part."""
    listeners: Count = 5_000
    """Largest number of listeners of one station."""
    all_listeners: Count = 8_000
    """Largest number of listeners of all stations together."""
    burst_bytes: Count = 64 << 10
    """Audio that a new listener gets at once."""
    queue_bytes: Count = 512 << 10
    """Distance behind the newest audio at which a listener is dropped or skips (``radio.lagging``)."""
    source_seconds: Annotated[float, Meta(ge=1, le=600)] = 10.0
    """Time after which a station's source client that sends nothing is disconnected."""
    hold_seconds: Annotated[float, Meta(ge=1, le=3600)] = 30.0
    """Time for which listeners stay connected while their station is silent."""
    event_readers: Count = 5_000
    """Largest number of readers of one event channel."""
    event_queue_bytes: Count = 64 << 10
    """Distance behind the newest event at which a reader is told of a gap; at four times the distance it is
    disconnected."""
    event_history: Annotated[int, Meta(ge=1, le=1000)] = 20
    """Number of titles of a station that are kept for readers who come later; event channels have
    ``events.keep``."""
    event_channels: Count = 1_000
    """Largest number of event channels in the configuration."""
    all_event_readers: Count = 8_000
    """Largest number of readers of all event channels together."""
    event_bytes: Annotated[int, Meta(ge=1, le=1 << 26)] = 1 << 20
    """Largest event that may be published."""
    event_rate: Annotated[Count, Meta(extra={"unit": "events per second"})] = 5_000
    """Largest number of events per second that publishers may send to one channel."""
    relay_requests: Count = 16
    """Largest number of requests of one channel that its upstream server answers at the same time."""
    relay_request_bytes: Annotated[int, Meta(ge=1, le=1 << 28)] = 4 << 20
    """Largest body of a request to a relay."""
    relay_answer_bytes: Annotated[int, Meta(ge=1 << 16, le=1 << 30)] = 16 << 20
    """Longest answer of an upstream server; all of it is kept for readers who come later."""
    relay_silent_seconds: Seconds = 300.0
    """Time after which an upstream server that sends nothing is given up."""
    relay_answer_seconds: Seconds = 3600.0
    """Longest time for a whole answer of an upstream server."""
    publishers: Count = 64
    """Largest number of publishers of all live channels together, backups included."""
    publisher_seconds: Annotated[float, Meta(ge=1, le=600)] = 5.0
    """Time after which a publisher that sends nothing is disconnected."""
    hls_starts: Count = 4
    """Largest number of stations whose HLS is being started; a request for another one is answered with
    503."""
    hls_idle_seconds: Annotated[float, Meta(ge=10, le=86400)] = 90.0
    """Time for which a station is still encoded for HLS after the last request."""
    connections_per_address: Count | None = None
    """Largest number of connections from one address, or from one /64 of IPv6. Absent: an eighth of
    ``connections``, not for trusted proxies and this machine's own addresses; the following three keys work
    the same way."""
    listeners_per_address: Count | None = None
    """Largest number of listeners of all stations from one address; absent: an eighth of
    ``all_listeners``."""
    blocked_requests_per_address: Count | None = None
    """Largest number of requests from one address that wait for a part, of all channels; absent: an eighth of
    ``blocked_requests``."""
    event_readers_per_address: Count | None = None
    """Largest number of readers of all event channels from one address; absent: an eighth of
    ``all_event_readers``."""
    wrong_passwords: Annotated[int, Meta(ge=0)] = 5
    """Number of wrong passwords, keys and tokens from one address that are answered at once; each further
    answer takes longer."""
    wrong_password_seconds: Annotated[float, Meta(ge=0, le=60)] = 5.0
    """Longest time for which the answer to a wrong password is held back."""
    connections: Count = 8192
    """Largest number of open connections; further ones are answered with 503. Smaller where the system allows
    fewer file descriptors."""
    open_files: Annotated[int, Meta(ge=0, le=1 << 20)] = 256
    """Number of files of the library that stay open between requests."""
    open_file_seconds: Annotated[float, Meta(gt=0, le=1)] = 0.5
    """Time for which such a file is served without another look-up of its name."""
    library_files: Count = 1_000_000
    """Largest number of files of the library that are listed, and whose facts are remembered."""
    metadata_bytes: Count = 16 << 10
    """Largest body of a request that publishes timed metadata."""
    captions_bytes: Count = 1 << 20
    """Largest WebVTT file that is published, and the most text of one language's current captions in
    memory."""
    udp_receive_bytes: Annotated[int, Meta(ge=1, le=1 << 30)] = 4 << 20
    """Receive buffer of a source over UDP; the system grants at most ``net.core.rmem_max``."""
    dvr_waiting_bytes: Annotated[int, Meta(ge=0, le=1 << 40)] = 64 << 20
    """Memory of a channel for DVR segments that its disk or S3 has not stored yet; further segments are lost
    to the DVR."""
    vod_index_bytes: Count = 256 << 20
    """Memory for the sample tables of recently played films; two hours of film take 8 MB."""
    vod_moov_bytes: Annotated[int, Meta(ge=1 << 16, le=1 << 30)] = 48 << 20
    """Largest index (``moov``) of an MP4 that is packaged; ten hours of film have 40 MB."""
    vod_samples: Annotated[int, Meta(ge=1000, le=1 << 28)] = 1 << 22
    """Largest number of samples in all tracks of an MP4 that is packaged; ten hours of film have 3
    million."""


class LogOptions(Options, frozen=True, forbid_unknown_fields=True):
    """Which lines the server writes to its log, and in which form."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Least important level that is logged."""
    format: Literal["text", "json"] = "text"
    """Form of the log's lines."""
    requests: bool = False
    """Whether each request is logged."""
    access: str = ""
    """File to which requests to stations are written as in Icecast's ``access.log``, with the seconds of
    listening; empty: none."""


class Config(Options, frozen=True, forbid_unknown_fields=True):
    """All options of a server."""

    server: ServerOptions = ServerOptions()
    cluster: ClusterOptions = ClusterOptions()
    library: LibraryOptions = LibraryOptions()
    live: tuple[LiveOptions, ...] = ()
    radio: tuple[RadioOptions, ...] = ()
    events: tuple[EventOptions, ...] = ()
    limits: LimitOptions = LimitOptions()
    log: LogOptions = LogOptions()


def seconds(duration: str) -> float:
    """Parse a duration such as ``90``, ``90s``, ``30m``, ``2h`` or ``1d``."""
    unit = {"s": 1, "m": 60, "h": 3600, "d": 86400}.get(duration[-1])
    return float(duration[:-1]) * unit if unit else float(duration)


def size(text: str) -> int:
    """Parse a number of bytes such as ``1000``, ``500M``, ``20G`` or ``1T``, in powers of ten."""
    unit = {"M": 10**6, "G": 10**9, "T": 10**12}.get(text[-1])
    return int(text[:-1]) * unit if unit else int(text)


def dvr_seconds(options: LiveOptions) -> float:
    """Return the seconds that stay listed of a live channel beyond its live window."""
    return seconds(options.dvr) or (EVENT_SECONDS if options.event else 0)


def data_folder(config: Config, *names: str) -> DataFolder | None:
    """Name a folder of the server's data; None where it keeps none."""
    if not config.server.data:
        return None
    folder = DataFolder(Path(config.server.data).expanduser())
    for name in names:
        folder /= name
    return folder


def secrecy(section: type[Struct]) -> Mapping[str, str]:
    """Map the keys of a section that hold secrets to ``all``, ``in URL`` or ``path``, which is of a URL."""
    hints = typing.get_type_hints(section, include_extras=True)
    return {key: found for key, hint in hints.items() if (found := _secrecy_of(hint))}


def _secrecy_of(hint: Any) -> str:
    for meta in getattr(hint, "__metadata__", ()):
        if meta.extra and "secret" in meta.extra:
            return str(meta.extra["secret"])
    return next(filter(None, map(_secrecy_of, typing.get_args(hint))), "")


def shown_value(section: type[Struct], key: str, value: Any) -> Any:
    """Return a value as it may be shown."""
    kind = secrecy(section).get(key)
    if isinstance(value, tuple):
        return tuple(shown_value(section, key, one) for one in value)
    if not kind or not isinstance(value, str) or not value:
        return value
    if kind == "all":
        return HIDDEN
    return redacted_url(value, MASK, with_path=kind != "path")


def secrets_in(config: Config) -> Iterator[str]:
    """Yield all secrets of a configuration."""
    for section in (getattr(config, name) for name in config.__struct_fields__):
        for table in section if isinstance(section, tuple) else (section,):
            for key, kind in secrecy(type(table)).items():
                value = getattr(table, key)
                for one in value if isinstance(value, tuple) else (value,):
                    if one:
                        yield from (one,) if kind == "all" else secrets_of(one, with_path=kind == "path")


def redactor_of(*configs: Config) -> Redactor:
    """Make a redactor that removes the secrets of configurations from texts."""
    return Redactor.of(secret for config in configs for secret in secrets_in(config))


def _items(table: Struct) -> Iterator[tuple[str, Any]]:
    return ((key, getattr(table, key)) for key in table.__struct_fields__)
