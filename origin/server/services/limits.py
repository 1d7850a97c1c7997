"""All limits of a server that nobody configures, by the folder of the code that they bound."""

from __future__ import annotations

from dataclasses import dataclass, field

from origin.access.authentication import GuessLimits
from origin.events.limits import EventLimits
from origin.http1.limits import HttpLimits
from origin.ingest.limits import IngestLimits
from origin.ingest.rtmp import RtmpLimits
from origin.ingest.srt import SrtLimits
from origin.live.limits import PublishingLimits
from origin.radio.mounts.limits import RadioLimits
from origin.responses.memfd_cache import MemfdLimits
from origin.server.services.demo_event_channel import TypingLimits
from origin.server.system.connection_acceptor import ListeningLimits
from origin.server.system.loop_lag import LoopLagLimits
from origin.token_relay.limits import TokenRelayLimits
from origin.vod.answer_cache import AnswerCacheLimits
from origin.vod.segment_cache import SegmentCacheLimits
from packager.cluster.limits import ClusterLimits
from packager.jobs.limits import JobsLimits
from packager.library.catalogue import CatalogueLimits
from packager.live.limits import LiveLimits
from packager.process.limits import ToolsLimits
from packager.replication.limits import ReplicationLimits
from packager.retry_policy import RetryPolicy
from packager.s3.limits import S3Limits
from packager.vod import TitleLimits
from packager.vod.sprites.sprite_maker import SpriteLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLimits:
    """Limits of a server's services, connections and end.

    Attributes:
        revive_seconds: pause before a service that broke is started again.
        trim_seconds: between two times when memory that is free goes back to the system.
        last_request_seconds: for how long connections are served on when no more are taken: the next request
            may be on its way.
        first_request_seconds: the same for connections that have only just been made, or have sent half a
            request.
        closing_seconds: for so long a process that takes no more connections waits for the server's others
            to take none either.
        loop_lag: when its event loop is looked at, and what counts as late.
        listening: how its connections are taken.
        typing: how fast the demo's text comes.
    """

    revive_seconds: float = 2.0
    trim_seconds: float = 30.0
    last_request_seconds: float = 0.1
    first_request_seconds: float = 1.0
    closing_seconds: float = 2.0
    loop_lag: LoopLagLimits = field(default_factory=LoopLagLimits)
    listening: ListeningLimits = field(default_factory=ListeningLimits)
    typing: TypingLimits = field(default_factory=TypingLimits)


@dataclass(frozen=True, slots=True, kw_only=True)
class PacketLimits:
    """Limits of the messages between the control process and a worker.

    Attributes:
        packet_bytes: longest packet; longer messages travel in files in memory.
        message_bytes: longest message.
        packets_waiting: messages that wait for the other process to take them; connections beyond get 503.
        waiting_bytes: the same in bytes.
        again_seconds: between two attempts while descriptors or memory are short.
    """

    packet_bytes: int = 48 << 10
    message_bytes: int = 64 << 20
    packets_waiting: int = 256
    waiting_bytes: int = 8 << 20
    again_seconds: float = 0.05


WORKER_RESTARTS = RetryPolicy(0.05, 5.0, steady_seconds=10.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLimits:
    """Limits of worker processes: starts, reports and ends.

    Attributes:
        restarts: when a worker that died is started again.
        spares: processes that wait to take the place of a worker that dies.
        start_seconds: in which a worker must listen once it may; one that doesn't is killed.
        report_seconds: for so long a worker is waited for that is asked for its metrics.
        taken_at_once: connections that a worker takes before it does something else: those that come together
            are meant for all.
        end_seconds: for so long beyond the time of the last responses a worker may take to end.
        packets: what goes between the control process and a worker.
    """

    restarts: RetryPolicy = WORKER_RESTARTS
    spares: int = 1
    start_seconds: float = 60.0
    report_seconds: float = 1.0
    taken_at_once: int = 1
    end_seconds: float = 2.0
    packets: PacketLimits = field(default_factory=PacketLimits)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of a server that aren't in its configuration.

    Attributes:
        cluster: of its connection to other machines.
        jobs: of what is queued for this machine or others.
        live: of each of its channels.
        memfd: of the live media that it copies for the kernel.
        publishing: of what may be sent to publish captions and metadata.
        guesses: of what is remembered of wrong passwords.
        relay: of its relays of token streams.
        replication: of the logs of its live channels on their way to other processes.
        rtmp: of their publishers' RTMP connections.
        s3: of a library that is there.
        srt: of their publishers' SRT connections.
        thumbnails: of the making of small pictures of films.
        vod_answers: of playlists that are kept for those who ask for the same.
        vod_segments: of what is kept of segments that were asked for of late.
    """

    catalogue: CatalogueLimits = field(default_factory=CatalogueLimits)
    cluster: ClusterLimits = field(default_factory=ClusterLimits)
    events: EventLimits = field(default_factory=EventLimits)
    http: HttpLimits = field(default_factory=HttpLimits)
    ingest: IngestLimits = field(default_factory=IngestLimits)
    jobs: JobsLimits = field(default_factory=JobsLimits)
    live: LiveLimits = field(default_factory=LiveLimits)
    memfd: MemfdLimits = field(default_factory=MemfdLimits)
    publishing: PublishingLimits = field(default_factory=PublishingLimits)
    guesses: GuessLimits = field(default_factory=GuessLimits)
    radio: RadioLimits = field(default_factory=RadioLimits)
    relay: TokenRelayLimits = field(default_factory=TokenRelayLimits)
    replication: ReplicationLimits = field(default_factory=ReplicationLimits)
    rtmp: RtmpLimits = field(default_factory=RtmpLimits)
    s3: S3Limits = field(default_factory=S3Limits)
    server: ServerLimits = field(default_factory=ServerLimits)
    srt: SrtLimits = field(default_factory=SrtLimits)
    thumbnails: SpriteLimits = field(default_factory=SpriteLimits)
    titles: TitleLimits = field(default_factory=TitleLimits)
    tools: ToolsLimits = field(default_factory=ToolsLimits)
    vod_answers: AnswerCacheLimits = field(default_factory=AnswerCacheLimits)
    vod_segments: SegmentCacheLimits = field(default_factory=SegmentCacheLimits)
    workers: WorkerLimits = field(default_factory=WorkerLimits)
