"""All limits of a server that nobody configures, by the folder of the code that they bound."""

from __future__ import annotations

from dataclasses import dataclass, field

from origin.access.limits import AccessLimits
from origin.answers.memfd_cache import MemfdLimits
from origin.events.limits import EventLimits
from origin.grpc.limits import GrpcLimits
from origin.http1.limits import HttpLimits
from origin.ingest.limits import IngestLimits
from origin.live.limits import PublishingLimits
from origin.radio.mounts.limits import RadioLimits
from origin.system.connection_acceptor import ListeningLimits
from origin.token_relay.limits import TokenRelayLimits
from origin.vod.segment_cache import VodCacheLimits
from origin.webhooks.delivery import DeliveryLimits
from packager.cluster.limits import ClusterLimits
from packager.encode.encode_queue import EncodeLimits
from packager.jobs.limits import JobsLimits
from packager.library.file_listing import CatalogueLimits
from packager.live.limits import LiveLimits
from packager.process.limits import ToolsLimits
from packager.replication.limits import ReplicationLimits
from packager.retry_policy import RetryPolicy
from packager.s3.limits import S3Limits
from packager.vod.limits import TitleLimits
from packager.vod.sprites.sprite_maker import SpriteLimits

WORKER_RESTARTS = RetryPolicy(0.05, 5.0, steady_seconds=10.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLimits:
    """Limits of a server's services, connections, worker processes and end.

    Attributes:
        revive_seconds: pause before a service that broke is started again.
        first_request_seconds: for how long connections are served on, when no more are taken, that have
            only just been made, or have sent half a request.
        closing_seconds: for so long a process that takes no more connections waits for the server's others
            to take none either.
        listening: how its connections are taken.
        word_seconds: from one word of the demo's text to the next.
        text_pause_seconds: from the end of that text to its next beginning.
        text_look_seconds: between two checks whether there are readers.
        restarts: the pauses before a worker that died is started again.
        spares: processes that wait to take the place of a worker that dies.
        start_seconds: in which a worker must listen once it may; else it is killed.
        report_seconds: longest wait for a worker's metrics.
        taken_at_once: connections that a worker accepts in one step: connections that come together are meant
            for all workers.
        end_seconds: how long a worker may take to end, beyond the time of its last responses.
        packet_bytes: longest packet; longer messages travel in files in memory.
        message_bytes: longest message.
        packets_waiting: messages that wait for the other process to take them; connections beyond get 503.
        waiting_bytes: most bytes of messages that wait.
        again_seconds: between two attempts while descriptors or memory are short.
    """

    revive_seconds: float = 2.0
    first_request_seconds: float = 1.0
    closing_seconds: float = 2.0
    listening: ListeningLimits = field(default_factory=ListeningLimits)
    word_seconds: float = 0.12
    text_pause_seconds: float = 6.0
    text_look_seconds: float = 0.25
    restarts: RetryPolicy = WORKER_RESTARTS
    spares: int = 1
    start_seconds: float = 60.0
    report_seconds: float = 1.0
    taken_at_once: int = 1
    end_seconds: float = 2.0
    packet_bytes: int = 48 << 10
    message_bytes: int = 64 << 20
    packets_waiting: int = 256
    waiting_bytes: int = 8 << 20
    again_seconds: float = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of a server that aren't in its configuration.

    Attributes:
        cluster: limits of its part in a cluster.
        deliveries: limits of the deliveries of events to webhooks.
        encode: limits of the encoding of films, on request or ahead of time.
        jobs: limits of queued jobs, for this machine or others.
        memfd: limits of the copies of live media in memory files.
        publishing: limits of requests that publish captions and metadata.
        relay: limits of the relays of token streams.
        replication: limits of the connections that carry logs to other processes.
        s3: limits of a library in S3.
        sessions: limits of the memory of viewers' sessions and of wrong passwords.
        thumbnails: limits of the making of thumbnails.
        vod_segments: limits of the caches of recent segments and of other answers.
    """

    catalogue: CatalogueLimits = field(default_factory=CatalogueLimits)
    cluster: ClusterLimits = field(default_factory=ClusterLimits)
    deliveries: DeliveryLimits = field(default_factory=DeliveryLimits)
    encode: EncodeLimits = field(default_factory=EncodeLimits)
    events: EventLimits = field(default_factory=EventLimits)
    grpc: GrpcLimits = field(default_factory=GrpcLimits)
    http: HttpLimits = field(default_factory=HttpLimits)
    ingest: IngestLimits = field(default_factory=IngestLimits)
    jobs: JobsLimits = field(default_factory=JobsLimits)
    live: LiveLimits = field(default_factory=LiveLimits)
    memfd: MemfdLimits = field(default_factory=MemfdLimits)
    publishing: PublishingLimits = field(default_factory=PublishingLimits)
    radio: RadioLimits = field(default_factory=RadioLimits)
    relay: TokenRelayLimits = field(default_factory=TokenRelayLimits)
    replication: ReplicationLimits = field(default_factory=ReplicationLimits)
    s3: S3Limits = field(default_factory=S3Limits)
    server: ServerLimits = field(default_factory=ServerLimits)
    sessions: AccessLimits = field(default_factory=AccessLimits)
    thumbnails: SpriteLimits = field(default_factory=SpriteLimits)
    titles: TitleLimits = field(default_factory=TitleLimits)
    tools: ToolsLimits = field(default_factory=ToolsLimits)
    vod_segments: VodCacheLimits = field(default_factory=VodCacheLimits)
