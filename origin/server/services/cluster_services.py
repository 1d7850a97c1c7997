"""Makes a server a node of a cluster, whose live channels go over Redis, and to its own workers."""

from __future__ import annotations

import importlib.util
import re
import socket
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from media.hls.date_range import DateRange
from origin.config.errors import CommandError
from origin.config.options import Config, LiveOptions, RadioOptions, dvr_seconds, listed_seconds, size
from origin.config.stations import has_dvr
from origin.events.channel import EventChannel
from origin.events.cluster_channels import ClusterChannels
from origin.events.created.channels import CreatedChannels
from origin.events.created.cluster import CreatedChannelsOfCluster
from origin.programmes.channel_programmes import ChannelProgrammes
from origin.programmes.shared_programmes import SharedProgrammes
from origin.server.services.limits import Limits
from packager.cluster.channel_ownership import SharedChannel
from packager.cluster.connection import RedisConnection
from packager.cluster.limits import ClusterLimits
from packager.cluster.node import ClusterNode, NodeOptions
from packager.cluster.shared_station import SharedStation
from packager.cluster.station_reader import StationLogs
from packager.live.channel import Channel
from packager.publish.live_stream import LiveStream
from packager.radio.audio_source import AudioSource
from packager.radio.block_serialization import StationState
from packager.radio.simulcast import Simulcast, empty_windows
from packager.replication.live_log import LIVE, ServedLiveLog
from packager.replication.log_server import LogServer
from packager.window.log import Entry
from packager.window.snapshot import SnapshotBeginEntry, SnapshotEndEntry

if TYPE_CHECKING:
    from packager.cluster.shared_dvr import SharedDvr
    from packager.dvr.bucket.dvr_bucket import DvrBucket
    from packager.dvr.limits import DvrLimits

EDGE, PACKAGER = "edge", "packager"


def of_role(config: Config) -> Config:
    """Leave out the live channels of a node that makes none, so that all nodes may have one configuration.

    A station's HLS, whose address a channel has, is left out with it.

    Raises:
        CommandError: the extra isn't installed.
    """
    if config.cluster.url and importlib.util.find_spec("redis") is None:
        raise CommandError("cluster.url: a cluster needs an extra; install headwater[cluster]")
    if not is_edge(config):
        return config
    taken = {one.name for one in config.live}
    signed = tuple(one.name for one in config.live if one.access == "signed")
    access = msgspec.structs.replace(config.access, channels=(*config.access.channels, *signed))
    radio = (msgspec.structs.replace(one, hls=False) if one.name in taken else one for one in config.radio)
    return msgspec.structs.replace(config, live=(), radio=tuple(radio), access=access)


def is_edge(config: Config) -> bool:
    """Return whether a node makes no channels and stations, but serves those of others."""
    return bool(config.cluster.url) and config.cluster.role == EDGE


def makes_media(config: Config) -> bool:
    """Return whether a server makes any channel or station itself, once its role is known."""
    return bool(config.live) or (bool(config.radio) and not is_edge(config))


def make_cluster(
    config: Config, streams: MutableMapping[str, LiveStream], logs: LogServer, limits: Limits
) -> ClusterNode | None:
    """Make what shares live channels with other machines; None where there are no others.

    Args:
        streams: where channels are put, by name, as long as they can be served.
        logs: sends their logs to this server's workers.

    Raises:
        CommandError: the address is wrong.
    """
    options = config.cluster
    if not options.url:
        return None
    try:
        connection = RedisConnection(options.url, limits.cluster)
    except ValueError as error:
        raise CommandError(f"cluster.url: {error}") from None
    publish = limits.live.publish.with_waiters(config.limits.blocked_requests)
    return ClusterNode(
        connection,
        streams,
        WorkerRelay(logs),
        limits.cluster,
        publish,
        NodeOptions(options.name or _host_name(), follows_all=options.role != PACKAGER),
    )


def _host_name() -> str:
    """Return this machine's name, without characters that may not be in a node's name."""
    return re.sub(r"[^\x21-\x7e]", "", socket.gethostname())[:64] or "unnamed"


def share_events(
    config: Config,
    node: ClusterNode | None,
    channels: Mapping[str, EventChannel],
    created: CreatedChannels,
    limits: Limits,
) -> ClusterChannels | None:
    """Share event channels with other machines, as soon as the node runs; None where there are no others.

    Args:
        created: the channels that are made at run time.
    """
    if node is None:
        return None
    relayed = {one.name for one in config.events if one.relay is not None}
    events = ClusterChannels(node.connection, node.token, channels.values(), relayed, limits.cluster)
    node.add(events.run)
    cluster = CreatedChannelsOfCluster(created, node.connection, events, limits.cluster)
    created.join(cluster)
    node.add(cluster.run)
    return events


def make_shared_dvr(
    options: LiveOptions | RadioOptions,
    bucket: DvrBucket | None,
    limits: DvrLimits,
    serve_own: Callable[[], object] = lambda: None,
) -> SharedDvr | None:
    """Make the DVR of what a cluster shares; None where there is none that all nodes could read.

    Args:
        options: of the channel or station.
        bucket: where DVRs are in S3; None where they aren't.
        serve_own: as for `SharedDvr`.
    """
    if bucket is None or not dvr_seconds(options):
        return None
    # Here and not above: it needs an extra, which most servers don't have.
    from packager.cluster.shared_dvr import SharedDvr
    from packager.dvr.bucket.bucket_archive import BucketArchive
    from packager.dvr.segment_removal import DvrBounds

    kept, listed = dvr_seconds(options), listed_seconds(options)
    bounds = DvrBounds(size(options.dvr_size), kept if listed < kept else 0.0, listed)
    area = "live" if isinstance(options, LiveOptions) else "radio"
    archive = BucketArchive(bucket, options.name, bounds, limits, area=area)
    return SharedDvr(archive, listed, serve_own)


class SharedStations:
    """Shares the audio of stations with other machines.

    Args:
        node: its connection and token are used; the stations run with it.

    Attributes:
        stations: all that are shared, by name.
    """

    def __init__(self, node: ClusterNode, limits: ClusterLimits) -> None:
        self.stations: dict[str, SharedStation] = {}
        self._node = node
        self._limits = limits
        node.add(StationLogs(node.connection, self.stations.values(), limits).run)

    def share(self, name: str, own: AudioSource | None, bitrate: int, media_type: str) -> AudioSource:
        """Make the source of a station that all nodes have.

        Args:
            own: its source on this node; None for none.
            bitrate: expected, in kbit/s.
        """
        expected = StationState(
            available=True,
            is_idle=False,
            trouble="no packager of the cluster has it",
            media_type=media_type,
            bitrate=bitrate,
        )
        shared = self.stations[name] = SharedStation(
            name, own, expected, self._node.connection, self._node.token, self._limits
        )
        return shared


class SharedSimulcast:
    """Shares a station's live channel that this node makes with other machines.

    Args:
        node: serves what one of its nodes makes.
        streams: where channels are put, by name, as long as they can be served.
        dvr: of the log that the nodes share; None where there is none.
    """

    def __init__(
        self,
        simulcast: Simulcast,
        node: ClusterNode,
        streams: MutableMapping[str, LiveStream],
        dvr: SharedDvr | None = None,
    ) -> None:
        self._simulcast = simulcast
        self._streams = streams
        own = simulcast.channel.stream
        awaited = empty_windows(simulcast.options)
        self._shared: SharedChannel = node.share_simulcast(own, self, awaited, dvr)
        self.add(simulcast.channel)

    def add(self, channel: Channel) -> None:
        """Follow the channel that runs next."""
        served = self._streams.get(channel.name)
        if served is not self._shared.shared.stream:
            self._streams[channel.name] = channel.stream
        channel.add_follower(self._shared.follow(channel.stream))

    @property
    def has_media(self) -> bool:
        """Whether the channel delivers media now."""
        return self._simulcast.state == "live"

    @property
    def is_idle(self) -> bool:
        """Whether the channel isn't made now."""
        return self._simulcast.is_idle

    @property
    def is_postponed(self) -> bool:
        """Whether the channel doesn't begin now although it has viewers."""
        return self._simulcast.is_idle

    def note_viewer(self) -> None:
        """Begin or continue the channel, as a viewer asks for it."""
        self._simulcast.note_viewer()

    def note_unknown_viewers(self) -> None:
        """Continue the channel if it runs, as it may have viewers that aren't known here."""
        self._simulcast.note_unknown_viewers()

    def ranges_behind(self, tags: Sequence[DateRange]) -> list[DateRange]:
        """Return the date ranges that continue another packager's titles."""
        return self._simulcast.ranges_behind(tags)

    def serve_own(self) -> None:
        """Serve this node's own channel, as Redis is away."""
        self._streams[self._simulcast.name] = self._simulcast.channel.stream


class WorkerRelay:
    """Hands the shared logs of live channels on to this server's workers."""

    def __init__(self, logs: LogServer) -> None:
        self._logs = logs
        self._served: dict[str, Callable[[Entry], None]] = {}
        self._restoring: set[str] = set()

    def fold(self, stream: LiveStream, entry: Entry) -> None:
        """Hand on an entry that has been folded; behind a snapshot, workers get one of their own."""
        name = stream.name
        if isinstance(entry, SnapshotBeginEntry):
            self._restoring.add(name)
        elif isinstance(entry, SnapshotEndEntry) or (
            name not in self._served and name not in self._restoring
        ):
            self._restoring.discard(name)
            self._served[name] = self._logs.serve(ServedLiveLog(stream))
        elif name not in self._restoring:
            self._served[name](entry)

    def withdraw(self, name: str) -> None:
        """Note the end of a channel."""
        self._restoring.discard(name)
        if self._served.pop(name, None) is not None:
            self._logs.withdraw(f"{LIVE}/{name}")


def share_programmes(
    config: Config,
    programmes: ChannelProgrammes,
    channels: Mapping[str, Channel],
    node: ClusterNode | None,
) -> None:
    """Share the programmes of channels with the other machines of a cluster, as soon as the node runs."""
    if node is None:
        return
    stores = {name: one.programmes for name, one in channels.items()}
    stations = frozenset(one.name for one in config.radio if has_dvr(one, config)).difference(channels)
    shared = SharedProgrammes(node, stores, programmes.recorded, stations)
    programmes.elsewhere = shared.store
    node.add(shared.run)
