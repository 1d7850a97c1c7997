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
"""What SRT makes its keys of (``SRTO_PASSPHRASE``); never shown."""

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
    port: Port = 8000
    rtmp_port: Port = 0
    srt_port: Port = 0
    workers: WorkerCount = 1
    """Processes that serve files and VOD; ``auto``: as many as there are cores."""
    yp_url: HttpUrl = ""
    """A directory to which public stations are announced, by Icecast's YP protocol; empty: none."""
    public_url: HttpUrl = ""
    """This server's address as listeners reach it, which a directory lists."""
    publish_webhook: WebhookUrl = ""
    """What is asked whether somebody who has a channel's key may publish to it; empty: the key is enough."""
    data: str = ""
    """Folder in which live channels keep their numbers and their DVR; empty: nothing is kept."""
    dvr_path: Annotated[
        str,
        Meta(
            pattern=r"^(s3://\S+)?\Z",
            description="an address such as s3://bucket/prefix; empty: in the data folder",
            extra={"secret": "in URL"},
        ),
    ] = ""
    """Where the DVRs of live channels are, for all nodes of a cluster; AWS_* variables say where S3 is."""
    allow_origin: Origin = "*"
    """Access-Control-Allow-Origin of media; and of lists, where it is one origin and not ``*``."""
    allow_embed: Annotated[tuple[Embedder, ...], Meta(max_length=64)] = ()
    """Origins whose pages may show ``/embed/…`` in a frame; ``*`` for all."""
    carried_parameters: Annotated[tuple[QueryName, ...], Meta(max_length=16)] = ("token",)
    """Names of the query parameters that live playlists and manifests repeat on their addresses."""
    trusted_proxies: tuple[Network, ...] = ()
    """Addresses whose X-Forwarded-For, X-Forwarded-Proto and Forwarded are believed."""
    admin_token: Secret | None = None
    """What ends and starts events and publishes metadata and captions; made and shown when absent."""
    names: tuple[HostName, ...] = ()
    """Values of Host that a server on loopback accepts for lists and changes, such as a proxy's name."""
    protected: tuple[Literal["api", "health", "metrics"], ...] = ()
    """What needs the admin token; without it ``/health`` still says whether the server is ready."""
    admin_port: Port = 0
    """A port that answers what is protected without the token; 0: none."""
    admin_host: Annotated[str, Meta(min_length=1)] = "127.0.0.1"
    """The address of that port."""
    user: Annotated[
        str,
        Meta(
            pattern=r"^([A-Za-z0-9_][A-Za-z0-9_.-]{0,31}\$?)?\Z",
            description="a user's name; empty: the one who starts it",
        ),
    ] = ""
    """The user that a server started by root becomes, once it has its sockets."""
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
    """A Redis, over which channels, stations and jobs are shared; empty: this machine alone."""
    role: Literal["all", "packager", "edge"] = "all"
    """Whether the node makes channels and stations (``packager``), serves others' (``edge``), or both."""

    @property
    def takes_jobs(self) -> bool:
        """Whether jobs can be queued there: those of a queue have keys of many slots of a Redis Cluster."""
        return bool(self.url) and "+cluster://" not in self.url


class LibraryOptions(Options, frozen=True, forbid_unknown_fields=True):
    """The folder of files to serve."""

    path: Annotated[str, Meta(min_length=1, extra={"secret": "in URL"})] = "library"
    """A folder, or ``s3://bucket/prefix``; AWS_* variables say where S3 is and who asks."""
    cache: Annotated[
        str, Meta(pattern=r"^[0-9]{1,15}(M|G|T)?$", description="a number of bytes such as 500M, 20G")
    ] = "1G"
    """Most bytes of a library in S3 that each process keeps on disk."""
    follow_symlinks: bool = False
    max_age: Annotated[int, Meta(ge=0, le=1 << 31)] = 3600
    """Seconds for which caches may keep a file."""
    thumbnails: bool = True
    """Whether films get small pictures for the seek bar, which ffmpeg makes when they are first asked for."""
    thumbnails_size: Annotated[
        str, Meta(pattern=r"^[0-9]{1,15}(M|G|T)?\Z", description="a number of bytes such as 500M, 20G")
    ] = "1G"
    """Most bytes of them in the data folder, where the oldest are removed; without one they are in memory."""


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
    source: Address = ""
    """``publish``, ``testsrc``, a file or a URL; a channel without one is an error."""
    ladder: tuple[Literal["source", "1080p", "720p", "480p", "360p", "240p"], ...] = ("720p", "360p")
    """Renditions; ``source`` is the source's own picture and sound as they come, not encoded again."""
    part_duration: Annotated[float, Meta(ge=0.1, le=2)] = 0.333
    segment_duration: Annotated[float, Meta(ge=1, le=10)] = 2.0
    dvr: Annotated[
        str, Meta(pattern=r"^[0-9]{1,9}(s|m|h|d)?\Z", description="a duration such as 90s, 30m, 2h")
    ] = "0"
    """How long segments stay in the playlist beyond the live window: ``90s``, ``30m``, ``2h``, ``1d``."""
    dvr_size: Annotated[
        str, Meta(pattern=r"^[0-9]{1,15}(M|G|T)?\Z", description="a number of bytes such as 500M, 20G, 1T")
    ] = "0"
    """Most that those segments may take on disk, all renditions together: ``500M``, ``20G``; 0: no limit."""
    event: bool = False
    """Whether a file is played once, and its end is the end of an event, which is recorded."""
    recordings: Annotated[
        str,
        Meta(pattern=r"^[0-9]{1,9}(s|m|h|d)?\Z", description="a duration such as 12h, 30d; 0: without end"),
    ] = "0"
    """How long recordings of events that are over stay: ``12h``, ``30d``; 0: without end."""
    recordings_size: (
        Annotated[
            str, Meta(pattern=r"^[0-9]{1,15}(M|G|T)?\Z", description="a number of bytes such as 500M, 20G")
        ]
        | None
    ) = None
    """Most that they may take on disk, the oldest go first; as much as ``dvr_size`` when absent."""
    vod_after_end: Duration = "0"
    """How long the channel's addresses serve an event that is over, as VOD; 0: until the next one begins."""
    recordings_copy: Annotated[
        str,
        Meta(
            pattern=r"^(s3://\S+)?\Z",
            description="an address such as s3://bucket/prefix; empty: none",
            extra={"secret": "in URL"},
        ),
    ] = ""
    """Where recordings are copied to once they are made, and stay; AWS_* variables say where S3 is."""
    captions: tuple[Language, ...] = ()
    """Languages in which captions may be published."""
    publish_key: Secret | None = None
    """What publishers need; made and shown when absent, where the source is ``publish``."""
    srt_passphrase: Passphrase | None = None
    """With which publishers over SRT must encrypt; absent: their streams aren't encrypted."""
    takeover: Literal["replace", "refuse", "backup"] = "replace"
    """What a second publisher does: takes the first one's place, is refused, or waits until that one goes."""
    offline: Address = "gaps"
    """What is shown while nobody publishes, or a pulled source is gone: ``gaps``, or a file, in a loop."""
    forward: Annotated[tuple[Target, ...], Meta(max_length=16)] = ()
    """RTMP and SRT addresses that the channel is pushed on to, where the source is ``publish``."""


class RadioOptions(Options, frozen=True, forbid_unknown_fields=True):
    """Options of a station, ``[[radio]]``."""

    name: Name
    source: Address = "folder"
    """``folder``, ``publish`` (Icecast's source clients), ``relay`` of ``url``, or the address to relay."""
    folder: Address = "music"
    """A folder of MP3s, a playlist (M3U), or one MP3."""
    bitrate: Literal[32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320] = 128
    sample_rate: Literal[32000, 44100, 48000] = 44100
    shuffle: bool = False
    loudness: Annotated[float, Meta(ge=-40, le=-5)] | None = None
    """LUFS (EBU R 128) that all tracks of a folder are brought to; those that differ are encoded again."""
    crossfade: Annotated[float, Meta(ge=0, le=15)] = 0.0
    """Seconds in which a track's end and the next one's beginning are heard together; all are encoded."""
    title: str | None = None
    genre: str | None = None
    url: Address | None = None
    source_password: Secret | None = None
    """What source clients of user ``source`` need; made and shown when absent."""
    listener_password: Secret | None = None
    """What listeners need, or an address signed with it; such a station isn't in HLS."""
    fallback: Address | None = None
    """Another station, or a file, that is heard while there is no source."""
    public: bool = False
    """Whether a directory may list it, whatever its source says."""
    max_listeners: Count | None = None
    """Listeners of this station; absent: ``limits.listeners``."""
    max_listener_duration: Duration = "0"
    """After how long a listener is disconnected: ``90m``, ``2h``; 0: never."""
    intro: Address | None = None
    """A file that each listener hears first, of the station's codec, sample rate and channels."""
    listener_webhook: WebhookUrl = ""
    """What is asked whether somebody may listen, beside a password if there is one; empty: nobody."""
    source_webhook: WebhookUrl = ""
    """What is asked whether somebody with the source's password may send; empty: nobody."""
    aliases: Annotated[tuple[StationAlias, ...], Meta(max_length=64)] = ()
    """Other addresses of the station, such as ``/morning.mp3``, for listeners and sources."""
    on_demand: bool = False
    """Whether a relay is only asked for while somebody listens."""
    hls: bool = True
    """Whether ``/live/NAME/master.m3u8`` has it as HLS, too."""
    hls_bitrates: Annotated[tuple[Annotated[int, Meta(ge=16, le=320)], ...], Meta(min_length=1)] = (64, 128)
    """Of the AAC there, in kbit/s."""
    hls_on_demand: bool = True
    """Whether it is only encoded while somebody follows it."""
    lagging: Literal["drop", "skip"] = "drop"
    """What happens to a listener that is ``limits.queue_bytes`` behind."""


class EventOptions(Options, frozen=True, forbid_unknown_fields=True):
    """Options of an event channel, ``[[events]]``."""

    name: Name
    publish_token: Secret | None = None
    """What publishers need; made and shown when absent."""
    read_key: Secret | None = None
    """What readers need, or an address signed with it; absent: all may read."""
    allow_origin: Origin | None = None
    """The origin whose pages may read it in a browser; absent: as ``server.allow_origin`` says."""
    relay: Address | None = None
    """The chat completions of an OpenAI-compatible server, which ``/relay/NAME`` asks."""
    relay_key: Secret | None = None
    """What that server wants of who asks."""
    relay_key_header: HeaderName = "Authorization"
    """The field in which it wants it; in ``Authorization`` it is a Bearer token."""
    relay_share: bool = False
    """Whether the same request, asked again while it runs, is one for the upstream server."""
    relay_keep: bool = False
    """Whether an answer goes on when its last reader has left."""
    keep: Annotated[int, Meta(ge=1, le=1_000_000)] = 1000
    """Events that are kept for readers who come again, or later."""
    keep_for: Duration = "0"
    """How long they are kept at most: ``90s``, ``30m``, ``2h``; 0: as long as there is room."""
    history: Duration = "0"
    """How long what is kept survives a restart, on disk in the data folder; 0: not at all."""
    replay: bool = True
    """Whether new readers get what is kept first; else only what comes."""
    flush_interval: Annotated[float, Meta(ge=0, le=1)] = 0.016
    """Seconds between two writes to a reader, each with all that came; 0: each event by itself."""
    presence: bool = False
    """Whether the number of readers is published when it changes."""
    include: tuple[SourceName, ...] = ()
    """Stations and live channels whose titles, states and counts are published here too."""


class LimitOptions(Options, frozen=True, forbid_unknown_fields=True):
    """Options of ``[limits]``; times are in seconds."""

    header_seconds: Seconds = 15.0
    header_bytes: Count = 32 << 10
    header_fields: Count = 100
    target_bytes: Count = 8 << 10
    body_seconds: Seconds = 20.0
    """How long a request's body may take; it has a second more for each ``body_rate`` bytes."""
    body_rate: Count = 500
    captions_idle_seconds: Seconds = 1800.0
    """How long captions may pause that somebody types; a station's source has ``source_seconds``."""
    stalled_seconds: Seconds = 60.0
    """A client that takes none of its bytes for so long is dropped."""
    unacknowledged_seconds: Annotated[float, Meta(ge=1, le=3600)] = 30.0
    """A client whose system takes or confirms nothing for so long is gone (TCP_USER_TIMEOUT)."""
    keep_alive_seconds: Seconds = 30.0
    drain_seconds: Annotated[float, Meta(ge=0, le=600)] = 0.0
    """For how long a server that is asked to end isn't ready but serves on, so that balancers turn away."""
    shutdown_seconds: Annotated[float, Meta(gt=0, le=60)] = 1.5
    """How long running downloads may go on after SIGTERM."""
    blocked_requests: Count = 10_000
    """Requests per live rendition that may wait for a part at once."""
    listeners: Count = 5_000
    """Listeners per station."""
    all_listeners: Count = 8_000
    """Listeners of all stations together."""
    burst_bytes: Count = 64 << 10
    queue_bytes: Count = 512 << 10
    """How far behind a listener may fall before it is dropped."""
    source_seconds: Annotated[float, Meta(ge=1, le=600)] = 10.0
    """A station's source client that sends nothing for so long is disconnected."""
    hold_seconds: Annotated[float, Meta(ge=1, le=3600)] = 30.0
    """How long listeners stay connected while their station is silent."""
    event_readers: Count = 5_000
    """Readers of one event channel."""
    event_queue_bytes: Count = 64 << 10
    """How far behind a reader may fall before it is told of a gap; four times as far, and it is dropped."""
    event_history: Annotated[int, Meta(ge=1, le=1000)] = 20
    """Titles of a station that are kept for readers who come later; event channels have ``keep``."""
    event_channels: Count = 1_000
    """Event channels that may be configured."""
    all_event_readers: Count = 8_000
    """Readers of all event channels together."""
    event_bytes: Annotated[int, Meta(ge=1, le=1 << 26)] = 1 << 20
    """Largest event that may be published."""
    event_rate: Count = 5_000
    """Events per second that publishers may send to one channel."""
    relay_requests: Count = 16
    """Requests of one channel that its upstream answers at once."""
    relay_request_bytes: Annotated[int, Meta(ge=1, le=1 << 28)] = 4 << 20
    """Body of a request to a relay."""
    relay_answer_bytes: Annotated[int, Meta(ge=1 << 16, le=1 << 30)] = 16 << 20
    """Longest answer of an upstream; it is kept as a whole for those who come later."""
    relay_silent_seconds: Seconds = 300.0
    """An upstream that sends nothing for so long, before its first token or later, is given up."""
    relay_answer_seconds: Seconds = 3600.0
    """What a whole answer may take."""
    publishers: Count = 64
    """Publishers of all live channels together, spare ones included."""
    publisher_seconds: Annotated[float, Meta(ge=1, le=600)] = 5.0
    """A publisher that sends nothing for so long is disconnected."""
    hls_starts: Count = 4
    """Stations whose HLS may be starting at the same time; a request for another one gets 503."""
    hls_idle_seconds: Annotated[float, Meta(ge=10, le=86400)] = 90.0
    """How long a station is encoded for HLS when nobody follows it any more."""
    connections_per_address: Count | None = None
    """Connections from one address, or one IPv6 /64. Unless they are set, this limit and those below are an
    eighth of what all may have, and don't apply to trusted proxies and this machine itself."""
    listeners_per_address: Count | None = None
    """Listeners of all stations from one address."""
    blocked_requests_per_address: Count | None = None
    """Requests from one address that may wait for a part at once, of all channels."""
    event_readers_per_address: Count | None = None
    """Readers of all event channels from one address."""
    wrong_passwords: Annotated[int, Meta(ge=0)] = 5
    """Wrong passwords of one address that are answered at once; each further answer takes twice as long."""
    wrong_password_seconds: Annotated[float, Meta(ge=0, le=60)] = 5.0
    """The longest time for which the answer to a wrong password is held back."""
    connections: Count = 8192
    """Open at once; those beyond get 503. Fewer where the system allows too few descriptors."""
    open_files: Annotated[int, Meta(ge=0, le=1 << 20)] = 256
    """Files of the library that stay open between requests."""
    open_file_seconds: Annotated[float, Meta(gt=0, le=1)] = 0.5
    """Time for which such a file is served without being looked up again."""
    library_files: Count = 1_000_000
    """Files of the library that are listed, and whose facts are remembered."""
    metadata_bytes: Count = 16 << 10
    """Body of a request that publishes timed metadata."""
    captions_bytes: Count = 1 << 20
    """A WebVTT file that is published; and a channel's captions of one language that aren't over."""
    udp_receive_bytes: Annotated[int, Meta(ge=1, le=1 << 30)] = 4 << 20
    """Receive buffer that is asked for a source in UDP; the system grants up to ``net.core.rmem_max``."""
    dvr_waiting_bytes: Annotated[int, Meta(ge=0, le=1 << 40)] = 64 << 20
    """Memory of a channel for DVR segments that its disk hasn't taken yet; further ones are lost."""
    vod_index_bytes: Count = 256 << 20
    """Memory for the sample tables of recently played files."""
    vod_moov_bytes: Annotated[int, Meta(ge=1 << 16, le=1 << 30)] = 48 << 20
    """Largest ``moov`` of a file that is packaged, as it is read whole; ten hours of film have 40 MB."""
    vod_samples: Annotated[int, Meta(ge=1000, le=1 << 28)] = 1 << 22
    """Most samples of a file that is packaged, of all its tracks; ten hours of film have 3 million."""


class LogOptions(Options, frozen=True, forbid_unknown_fields=True):
    """Which lines the server writes to its log, and in which form."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"
    requests: bool = False
    """Whether each request is logged."""
    access: str = ""
    """A file to which the stations' requests are written as Icecast does, with the time of listening."""


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
    """Give the seconds that stay listed of a live channel beyond its live window."""
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
