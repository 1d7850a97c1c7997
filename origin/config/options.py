"""The configuration's options with their defaults and allowed values.

``load`` reads them from their sources, and ``messages`` explains wrong values.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, field

from origin.config.limit_options import LimitOptions
from origin.config.option_types import (
    EVENT_KINDS,
    Access,
    Address,
    ChannelPattern,
    Count,
    Duration,
    Embedder,
    EventKind,
    FieldSecret,
    Folder,
    HeaderName,
    HostName,
    HttpUrl,
    Language,
    LiveName,
    Name,
    Network,
    Origin,
    Passphrase,
    Port,
    QueryName,
    Secret,
    SigningKey,
    SourceName,
    StationAlias,
    Target,
    WebhookUrl,
    WorkerCount,
)
from origin.config.section import Options, secrecy
from origin.http.channel_patterns import ANY
from packager.redaction import Redactor, redacted_url, secrets_of
from packager.safe_files import DataFolder, folder_name

SELF_SIGNED = "self-signed"
"""``certificate`` of a server that makes its own, for development."""

GAPS = "gaps"
"""``offline`` of a channel that shows nothing while nothing comes from its source."""


class ConfigError(Exception):
    """The configuration is invalid; the text is one line that names source, key and allowed values."""


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
    public_url: HttpUrl = ""
    """URL under which clients reach this server, such as that of a proxy in front of it."""
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
    """S3 address where the DVR of all live channels and stations is stored, for all nodes of a cluster;
    empty: in ``data``. The environment variables ``AWS_…`` name the S3 server and the credentials."""
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
    forwarded_field: Literal["any", "X-Forwarded-For", "Forwarded"] = "any"
    """Field in which these proxies name their clients. With ``any`` either is believed, and X-Forwarded-For
    where they name different clients. X-Forwarded-Proto belongs to X-Forwarded-For."""
    admin_token: Secret | None = None
    """Key for every change and for everything in ``protected``; generated and shown at the start when
    absent."""
    names: tuple[HostName, ...] = ()
    """Values of the Host field under which a server that listens on loopback answers lists and changes; the
    name of a proxy in front."""
    protected: tuple[Literal["api", "health", "metrics"], ...] = ()
    """Groups of addresses that need the admin token; without the token ``/health`` still says whether the
    server is ready."""
    channel_metrics: tuple[Literal["live", "radio", "events"], ...] = ("live", "radio", "events")
    """Kinds of services of which ``/metrics`` has series for each channel or station; with thousands of event
    channels they are most of it."""
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


class TlsOptions(Options, frozen=True, forbid_unknown_fields=True):
    """Options of ``[tls]``: HTTPS and RTMPS, beside the ports without encryption."""

    certificate: str = ""
    """File in PEM with the certificate and those that sign it, a folder of several, or ``self-signed``; empty
    for no TLS."""
    key: str = ""
    """File in PEM with the certificate's key; empty: it is in the certificate's file or folder."""
    port: Port = 8443
    """TCP port for HTTPS on ``server.host``; 0 takes a free port."""
    rtmps_port: Port = 0
    """TCP port on which publishers send RTMPS; 0: the server takes no RTMPS."""
    redirect: bool = False
    """Whether ``server.port`` leads everybody to HTTPS."""
    http3: bool = False
    """Whether HTTP/3 is spoken at ``tls.port``'s number of UDP, which needs ``headwater[http3]``."""


class TokenOptions(Options, frozen=True, forbid_unknown_fields=True):
    """Options of ``[access]``: the tokens that ``access = "signed"`` asks for."""

    keys: Annotated[tuple[SigningKey, ...], Meta(max_length=16)] = ()
    """Keys that tokens are signed with, such as ``2026-11:SECRET``; all are valid, and the first one signs.
    One is made when absent."""
    jwt_keys: Annotated[tuple[Secret, ...], Meta(max_length=16)] = ()
    """Keys of JSON Web Tokens: PEM files with a public key or a certificate, ``HS256:`` with a secret behind
    it, or https addresses of sets of keys."""
    jwt_audience: str = ""
    """Required ``aud`` of JSON Web Tokens; empty: any."""
    jwt_issuer: str = ""
    """Required ``iss`` of JSON Web Tokens; empty: any."""
    viewers_per_name: Annotated[int, Meta(ge=0, le=1000)] = 0
    """Sessions at once of those whose tokens have the same name; 0: any number."""
    takeover: Literal["replace", "refuse"] = "replace"
    """Whether a further session ends the oldest one (``replace``), or is refused (``refuse``)."""
    channels: tuple[Name, ...] = ()
    """Names of live channels of other nodes of a cluster that are for those with a token."""
    cache: Literal["none", "front"] = "none"
    """Whether a cache in front of the server checks tokens itself (``front``), and may keep an answer for
    all."""


class GrpcOptions(Options, frozen=True, forbid_unknown_fields=True):
    """Options of ``[grpc]``: event channels over gRPC, which needs ``headwater[grpc]``."""

    port: Port = 0
    """TCP port for gRPC on ``server.host``, with TLS where there is any; 0: no gRPC."""


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
        """Whether jobs can be queued there: not in a Redis Cluster, as a queue has keys of many slots."""
        return bool(self.url) and "+cluster://" not in self.url


class LibraryOptions(Options, frozen=True, forbid_unknown_fields=True):
    """The folder of files to serve."""

    path: Annotated[str, Meta(min_length=1, extra={"secret": "in URL"})] = "library"
    """Folder of the files to serve, or ``s3://bucket/prefix``. A folder that is named here must exist. The
    environment variables ``AWS_…`` name the S3 server and the credentials."""
    cache: Annotated[
        str, Meta(pattern=r"^[0-9]{1,15}(M|G|T)?\Z", description="a number of bytes such as 500M, 20G")
    ] = "1G"
    """Largest size on disk of the cache of a library in S3, for each process."""
    follow_symlinks: bool = False
    """Whether links in the library may lead to files outside of it; otherwise such a file is answered with
    404."""
    max_age: Annotated[int, Meta(ge=0, le=1 << 31, extra={"unit": "seconds"})] = 3600
    """Time for which caches may keep a file."""
    access: Access = "open"
    """Whether files and films are for everybody, or for those with a token (``signed``)."""
    folders: dict[Folder, Access] = field(default_factory=dict)
    """The same for single folders, by their paths; the longest path counts."""
    encode: Literal["auto", "all", "off"] = "auto"
    """Which renditions of films are encoded while they are watched: those that browsers need which can't play
    the film's own codecs, and smaller pictures (``auto``); for every film one of its own size, too (``all``);
    or none."""
    encoder: Literal["auto", "software", "vaapi", "nvenc", "qsv", "v4l2"] = "auto"
    """Encoder of films' pictures while they are watched: the first of VA-API, NVENC, Quick Sync and V4L2 that
    encodes a trial film (``auto``); software; or one of these, and software where it doesn't work."""
    encoded_size: Annotated[
        str, Meta(pattern=r"^[0-9]{1,15}(M|G|T)?\Z", description="a number of bytes such as 500M, 20G")
    ] = "10G"
    """Largest size on disk of encoded segments, in ``server.data``; the least recently requested ones are
    removed, but none of prepared films. Without ``server.data`` the newest are in memory. Encoded segments in
    S3 have the same limit."""
    encoded_in_s3: bool = True
    """Whether encoded segments of a library in S3 are stored in ``.encoded/`` of its bucket for all nodes."""
    thumbnails: bool = True
    """Whether films have small pictures for the seek bar, which ffmpeg makes at the first request."""
    thumbnails_size: Annotated[
        str, Meta(pattern=r"^[0-9]{1,15}(M|G|T)?\Z", description="a number of bytes such as 500M, 20G")
    ] = "1G"
    """Largest size on disk of these pictures, in ``server.data``; the oldest are removed. Without
    ``server.data`` they are in memory."""


EVENT_SECONDS = 86_400.0
"""How long an event stays listed whose channel configures no DVR."""

RECORD_SECONDS = 600.0
"""How long segments stay listed of a channel that records by rule and configures no DVR."""


class LiveOptions(Options, frozen=True, forbid_unknown_fields=True):
    """Options of a live channel, ``[[live]]``."""

    name: LiveName
    """Name of the channel in its addresses, ``/live/NAME/…``; or a pattern such as ``room/*``, of which a
    publisher makes channels such as ``room/anna``."""
    source: Address = ""
    """``publish`` for a channel that is published to, ``testsrc`` for a test picture, a file that is played
    in a loop, or a URL (http, https, rtsp, srt, udp) that is pulled. Required."""
    ladder: tuple[Literal["source", "1080p", "720p", "480p", "360p", "240p"], ...] = ("720p", "360p")
    """Renditions, the first one first in the playlists; ``source`` is the source's own picture and sound
    without encoding."""
    access: Access = "open"
    """Whether the channel and its recordings are for everybody, or for those with a token (``signed``)."""
    recordings_access: Access | None = None
    """The same for its recordings alone; absent: as ``access`` says."""
    part_duration: Annotated[float, Meta(ge=0.1, le=2, extra={"unit": "seconds"})] = 0.333
    """Target duration of the parts of low-latency HLS and DASH."""
    segment_duration: Annotated[float, Meta(ge=1, le=10, extra={"unit": "seconds"})] = 2.0
    """Target duration of segments; key frames of a copied source may make them longer."""
    dvr: Annotated[
        str, Meta(pattern=r"^[0-9]{1,9}(s|m|h|d)?\Z", description="a duration such as 90s, 30m, 2h")
    ] = "0"
    """Time for which segments stay behind the live edge, in the playlist or at addresses with ``start``; 0:
    only the live edge."""
    playlist_window: Duration = "6h"
    """Longest time that the live playlist lists; older segments of a ``dvr`` on disk or in S3 have addresses
    with ``start``. 0: all of ``dvr``."""
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
    record: Literal["none", "publications", "programmes", "all"] = "none"
    """Spans that become recordings by themselves, beside events that are ended: each publication when its
    publisher stops, each programme, or both. Without ``dvr`` the channel then has one of ten minutes."""
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
    keep_for: Duration = "10m"
    """Of a pattern: time after which a channel ends that its publisher has left; 0: it doesn't end."""

    @property
    def is_template(self) -> bool:
        """Whether these are the options of channels that publishers make."""
        return self.name.endswith(ANY)


class RadioOptions(Options, frozen=True, forbid_unknown_fields=True):
    """Options of a station, ``[[radio]]``."""

    name: Name
    """Name of the station in its addresses, ``/radio/NAME``."""
    access: Access = "open"
    """Whether the station is for everybody, or for those with a token (``signed``)."""
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
    hidden: bool = False
    """Whether lists, the page and Icecast's status leave the station out, which plays by its address alone;
    the administrator sees it."""
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
    """Whether these renditions are encoded only while somebody asks for them; with ``dvr`` they always
    are."""
    dvr: Duration = "0"
    """Time for which what the station has played stays behind the live edge, in the playlist there or at
    addresses with ``start``; 0: only the live edge."""
    playlist_window: Duration = "6h"
    """Longest time that the live playlist lists; older segments of a ``dvr`` on disk or in S3 have addresses
    with ``start``. 0: all of ``dvr``."""
    dvr_size: Annotated[
        str, Meta(pattern=r"^[0-9]{1,15}(M|G|T)?\Z", description="a number of bytes such as 500M, 20G, 1T")
    ] = "0"
    """Largest size on disk of the station's DVR, all renditions together; 0: as much as the time in
    ``dvr`` needs."""
    record: Literal["none", "publications", "programmes", "all"] = "none"
    """Spans that become recordings by themselves: the time of each source client, each programme, or both.
    Without ``dvr`` the station then has one of ten minutes."""
    recordings: Duration = "0"
    """Time for which recordings of source clients are kept; 0: for ever."""
    recordings_size: (
        Annotated[
            str, Meta(pattern=r"^[0-9]{1,15}(M|G|T)?\Z", description="a number of bytes such as 500M, 20G")
        ]
        | None
    ) = None
    """Largest size on disk of the recordings, of which the oldest of source clients are removed first;
    ``dvr_size`` when absent."""
    lagging: Literal["drop", "skip"] = "drop"
    """Rule for a listener that is ``limits.queue_bytes`` behind: it is dropped, or skips to the newest
    audio."""


class EventOptions(Options, frozen=True, forbid_unknown_fields=True):
    """Options of an event channel, ``[[events]]``."""

    name: ChannelPattern
    """Name of the channel in its address, ``/events/NAME``; or a pattern such as ``room/*``, whose options
    are those of the channels of such names that are made at run time."""
    create: Literal["request", "publish"] = "request"
    """Of a pattern: whether channels are made by ``POST /events`` alone, or by the first event that is
    published to them, too."""
    expires: Duration = "0"
    """Of a pattern: time after which a channel ends; 0: never."""
    access: Access = "open"
    """Whether the channel is for everybody, or for those with a token (``signed``)."""
    publish_token: Secret | None = None
    """Token that publishers present; generated and shown at the start when absent."""
    read_key: Secret | None = None
    """Key that readers present, or with which their address is signed; absent: everybody may read."""
    allow_origin: Origin | None = None
    """Origin whose pages may read the channel in a browser, ``*`` for all, empty for none;
    ``server.allow_origin`` when absent."""
    relay: Address | None = None
    """URL of an OpenAI-compatible server's chat completions, which ``POST /relay/NAME`` asks."""
    relay_key: FieldSecret | None = None
    """Key that this upstream server wants."""
    relay_key_header: HeaderName = "Authorization"
    """Field in which the upstream server wants its key; in ``Authorization`` it is sent as a Bearer token."""
    relay_share: bool = False
    """Whether equal requests that run at the same time are one request to the upstream server."""
    relay_keep: bool = False
    """Whether an answer goes on after its last reader has left; otherwise it is cancelled within a second of
    ``relay_keep_for``."""
    relay_keep_for: Duration = "30s"
    """Time for which an answer that is kept goes on after its last reader has left, so that the reader may
    come again."""
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

    @property
    def is_template(self) -> bool:
        """Whether these are the options of channels that are made at run time."""
        return self.name.endswith(ANY)


class AnswerRelayOptions(Options, frozen=True, forbid_unknown_fields=True):
    """Options of a relay of token streams, ``[[relay]]``: each answer is an event channel of its own."""

    name: Name
    """Name of the relay in its address, ``/relay/NAME/v1``."""
    upstreams: Annotated[tuple[Address, ...], Meta(min_length=1, max_length=16)]
    """URLs of OpenAI-compatible servers, without ``/chat/completions``; the next is asked where one fails
    before the first token."""
    weights: Annotated[tuple[Annotated[int, Meta(ge=1, le=1000)], ...], Meta(max_length=16)] = ()
    """Shares of the requests that the upstream servers are the first to be asked, in their order; absent: in
    this order always."""
    token: Secret | None = None
    """Token that callers present; generated and shown at the start when absent."""
    read_key: Secret | None = None
    """Key with which one may read each answer whose id one knows, beside the answer's own."""
    relay_keys: Annotated[tuple[Secret, ...], Meta(max_length=16)] = ()
    """Keys that the upstream servers want, in their order; a single one is for all of them."""
    relay_key_header: HeaderName = "Authorization"
    """Field in which the upstream servers want their keys; in ``Authorization`` they are Bearer tokens."""
    relay_pass_key: bool = False
    """Whether a caller's own key goes to the upstream servers in place of ``relay_keys``; callers present
    ``token`` as ``?key=`` then, and their own key as the API's clients do."""
    relay_share: bool = False
    """Whether equal requests that run at the same time are one request to the upstream server."""
    relay_keep: bool = False
    """Whether an answer goes on after its last reader has left; otherwise it is cancelled within a second of
    ``relay_keep_for``."""
    relay_keep_for: Duration = "30s"
    """Time for which an answer goes on after its last reader has left, so that the reader may come again."""
    keep_for: Duration = "10m"
    """Time for which an answer is kept behind its end."""
    history: bool = False
    """Whether answers survive a restart, on disk in ``server.data``, for as long as they are kept."""
    relay_allow_origins: Annotated[tuple[Origin, ...], Meta(max_length=16)] = ()
    """Origins whose pages may ask the relay in a browser, with a token of their own; ``*`` for all."""
    requests_per_user: Count | None = None
    """Largest number of requests with JSON Web Tokens of one ``sub`` that run at the same time; absent:
    ``limits.relay_requests``."""
    models: dict[str, str] = field(default_factory=dict)
    """Names of models, by the names that callers use; other names go on unchanged."""


class WebhookOptions(Options, frozen=True, forbid_unknown_fields=True):
    """Options of a webhook, ``[[webhooks]]``: a server that is sent what happens."""

    url: Annotated[
        str,
        Meta(pattern=r"^https?://[!-~]+\Z", description="a URL of http or https", extra={"secret": "path"}),
    ]
    """URL to which events are sent by POST."""
    secret: Annotated[
        str,
        Meta(
            pattern=r"^whsec_(?:[A-Za-z0-9+/]{4}){8,21}(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?\Z",
            description="whsec_ and 24 to 64 bytes in Base64",
            extra={"secret": "all"},
        ),
    ]
    """Secret with which the events are signed, as Standard Webhooks says."""
    events: tuple[EventKind, ...] = EVENT_KINDS
    """Kinds of events that are sent."""

    @property
    def name(self) -> str:
        """The webhook's name in messages, without its secrets."""
        return redacted_url(self.url, with_path=False)


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
    tls: TlsOptions = TlsOptions()
    grpc: GrpcOptions = GrpcOptions()
    cluster: ClusterOptions = ClusterOptions()
    library: LibraryOptions = LibraryOptions()
    access: TokenOptions = TokenOptions()
    live: tuple[LiveOptions, ...] = ()
    radio: tuple[RadioOptions, ...] = ()
    events: tuple[EventOptions, ...] = ()
    relay: tuple[AnswerRelayOptions, ...] = ()
    webhooks: tuple[WebhookOptions, ...] = ()
    limits: LimitOptions = LimitOptions()
    log: LogOptions = LogOptions()


def live_channels(config: Config) -> tuple[LiveOptions, ...]:
    """Return the options of the live channels that the configuration makes."""
    return tuple(one for one in config.live if not one.is_template)


def live_templates(config: Config) -> tuple[LiveOptions, ...]:
    """Return the options of live channels that publishers make, each for the names of a pattern."""
    return tuple(one for one in config.live if one.is_template)


def event_channels(config: Config) -> tuple[EventOptions, ...]:
    """Return the options of the event channels that the configuration makes."""
    return tuple(one for one in config.events if not one.is_template)


def event_templates(config: Config) -> tuple[EventOptions, ...]:
    """Return the options of event channels that are made at run time, each for the names of a pattern."""
    return tuple(one for one in config.events if one.is_template)


def seconds(duration: str) -> float:
    """Parse a duration such as ``90``, ``90s``, ``30m``, ``2h`` or ``1d``."""
    unit = {"s": 1, "m": 60, "h": 3600, "d": 86400}.get(duration[-1])
    return float(duration[:-1]) * unit if unit else float(duration)


def size(text: str) -> int:
    """Parse a number of bytes such as ``1000``, ``500M``, ``20G`` or ``1T``, in powers of ten."""
    unit = {"M": 10**6, "G": 10**9, "T": 10**12}.get(text[-1])
    return int(text[:-1]) * unit if unit else int(text)


def dvr_seconds(options: LiveOptions | RadioOptions) -> float:
    """Return the seconds that stay listed of a channel or station beyond its live window."""
    if isinstance(options, LiveOptions) and options.event:
        return seconds(options.dvr) or EVENT_SECONDS
    return seconds(options.dvr) or (RECORD_SECONDS if options.record != "none" else 0)


def recordings_bytes(options: LiveOptions | RadioOptions) -> int:
    """Return the most bytes of a channel's recordings; 0 for any number."""
    return size(options.dvr_size if options.recordings_size is None else options.recordings_size)


def listed_seconds(options: LiveOptions | RadioOptions) -> float:
    """Return the seconds that stay listed beyond the live window of a channel whose DVR isn't in memory."""
    kept = dvr_seconds(options)
    if isinstance(options, LiveOptions) and options.event:
        return kept
    return min(kept, seconds(options.playlist_window) or kept)


def has_signed(config: Config) -> bool:
    """Return whether anything is only for those with a token."""
    accesses = [config.library.access, *config.library.folders.values()]
    accesses += [one.access for one in config.live]
    accesses += [one.recordings_access for one in config.live if one.recordings_access is not None]
    accesses += [one.access for one in config.radio]
    accesses += [one.access for one in config.events]
    return "signed" in accesses or bool(config.access.channels)


def data_folder(config: Config, *names: str) -> DataFolder | None:
    """Name a folder of the server's data; None where it keeps none."""
    if not config.server.data:
        return None
    folder = DataFolder(Path(config.server.data).expanduser())
    for name in names:
        folder /= folder_name(name)
    return folder


def secrets_in(config: Config) -> Iterator[str]:
    """Yield all secrets of a configuration."""
    for section in (getattr(config, name) for name in config.__struct_fields__):
        tables: Sequence[Options] = section if isinstance(section, tuple) else (section,)
        for table in tables:
            for key, kind in secrecy(type(table)).items():
                value = getattr(table, key)
                for one in value if isinstance(value, tuple) else (value,):
                    if one:
                        yield from (one,) if kind == "all" else secrets_of(one, with_path=kind == "path")


def redactor_of(*configs: Config) -> Redactor:
    """Make a redactor that removes the secrets of configurations from texts."""
    return Redactor.of(secret for config in configs for secret in secrets_in(config))
