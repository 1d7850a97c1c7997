"""The configured limits of a server."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from origin.config.option_types import Count, Seconds
from origin.config.section import Options


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
    slow_seconds: Seconds = 600.0
    """Time in which a client must read 1 MiB, as far as so much waits for it all the time; a slower one is
    disconnected."""
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
    """Distance behind the newest event at which a reader gets a notice of a gap; at four times the distance
    it is disconnected."""
    event_history: Annotated[int, Meta(ge=1, le=1000)] = 20
    """Number of titles of a station that are kept for readers who come later; event channels have
    ``events.keep``."""
    event_channels: Count = 1_000
    """Largest number of event channels in the configuration."""
    created_channels: Annotated[int, Meta(ge=0, le=1_000_000)] = 100_000
    """Largest number of event channels that are made at run time, and of live channels that publishers make;
    0: none is."""
    created_channels_per_token: Count = 1_000
    """Largest number of them that those make whose JSON Web Tokens have the same ``sub``; the admin token has
    no such limit."""
    created_channels_per_address: Count | None = None
    """Largest number of them that clients of one address make with JSON Web Tokens in an hour; absent:
    10,000, and any number from this machine."""
    created_channel_bytes: Annotated[int, Meta(ge=1 << 20, le=1 << 40)] = 256 << 20
    """Most bytes of the events of all these channels in memory; beyond, publishers are answered with 429."""
    created_history_bytes: Annotated[int, Meta(ge=1 << 20, le=1 << 44)] = 2 << 30
    """Most bytes of the files of all these channels' `history`; beyond, newer events aren't stored there."""
    event_channels_per_reader: Annotated[int, Meta(ge=1, le=256)] = 32
    """Largest number of event channels that are read over one connection."""
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
    relay_answer_bytes: Annotated[int, Meta(ge=1 << 16, le=1 << 30)] = 64 << 20
    """Longest answer of an upstream server. It is kept for readers who come later, in about as much
    memory."""
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
    window_hours: Annotated[float, Meta(gt=0, le=10_000)] = 24.0
    """Longest span of a live channel's past that an address may name, in hours."""
    clip_hours: Annotated[float, Meta(gt=0, le=100)] = 4.0
    """Longest span of a live channel's past that is one MP4, in hours; its index is made in memory."""
    udp_receive_bytes: Annotated[int, Meta(ge=1, le=1 << 30)] = 4 << 20
    """Receive buffer of a source over UDP; the system grants at most ``net.core.rmem_max``."""
    dvr_waiting_bytes: Annotated[int, Meta(ge=0, le=1 << 40)] = 64 << 20
    """Memory of a channel for DVR segments that its disk or S3 has not stored yet; further segments are lost
    to the DVR."""
    vod_index_bytes: Count = 256 << 20
    """Memory for the sample tables of recently played films; two hours of film take 8 MB."""
    vod_moov_bytes: Annotated[int, Meta(ge=1 << 16, le=1 << 30)] = 128 << 20
    """Largest index (``moov``) of an MP4 that is packaged; 24 hours of film have 60 to 120 MB."""
    vod_samples: Annotated[int, Meta(ge=1000, le=1 << 28)] = 1 << 23
    """Largest number of samples in all tracks of an MP4 that is packaged; 24 hours of film have 6
    million."""
