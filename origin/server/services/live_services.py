"""Makes live channels from the configuration, and serves each by its name, whichever node makes it."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

from origin.config.limit_options import LimitOptions
from origin.config.options import (
    GAPS,
    Config,
    LiveOptions,
    RadioOptions,
    data_folder,
    dvr_seconds,
    listed_seconds,
    live_channels,
    live_templates,
    recordings_bytes,
    seconds,
    size,
)
from origin.http.channel_patterns import is_made_live_name, template_of
from origin.radio.mounts.mount import Mount
from origin.radio.station_factory import make_simulcasts, simulcast_options
from origin.server.services.cluster_services import SharedSimulcast, is_edge, make_cluster, make_shared_dvr
from origin.server.services.limits import Limits
from origin.server.services.s3_config import make_dvr_bucket
from packager.latency_histogram import LatencyHistogram
from packager.live.channel import Channel
from packager.live.limits import LiveLimits
from packager.live.options import ChannelHooks, ChannelOptions
from packager.process.ffmpeg_discovery import Tools
from packager.publish.live_stream import LiveStream
from packager.radio.simulcast import Simulcast, SimulcastOptions, StartLimit, empty_windows
from packager.recordings.disk_recordings import Retention
from packager.replication.live_log import LIVE, ServedLiveLog
from packager.replication.log_server import LogServer
from packager.sources.published_source import AfterEnd, Takeover

if TYPE_CHECKING:
    from packager.cluster.node import ClusterNode
    from packager.cluster.shared_dvr import SharedDvr
    from packager.dvr.bucket.dvr_bucket import DvrBucket

DELAY_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 2.0, 5.0)
"""Seconds from the end of a part's last frame until the part can be fetched."""


class PossibleOptions(Mapping[str, LiveOptions]):
    """The options of live channels by name, found for those too that publishers may make by a pattern.

    Args:
        options: of the channels that there are, by name.
        templates: the options of those that publishers make, by their pattern.
    """

    def __init__(self, options: Mapping[str, LiveOptions], templates: Mapping[str, LiveOptions]) -> None:
        self._options = options
        self._templates = templates

    def __getitem__(self, name: str) -> LiveOptions:
        if (options := self._options.get(name)) is not None:
            return options
        if not is_made_live_name(name):
            raise KeyError(name)
        return msgspec.structs.replace(self._templates[template_of(name)], name=name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._options)

    def __len__(self) -> int:
        return len(self._options)


class LiveServices:
    """The live channels of one server: its own, those of its stations, and those of its cluster.

    Args:
        tools: ffmpeg; None without it, and then this server makes no channels.
        logs: sends the channels' logs to other processes.

    Attributes:
        simulcasts: the stations' channels that this server makes.
        simulcast_names: the names of all simulcasts that it serves.
        options: of the live channels that the server makes, by name, as they are now.
        templates: the options of channels that publishers make, by their pattern, as they are now.
        possible_options: of the channels that there are, and that publishers may make.
        broadcasts: the channels of both, by name; a simulcast's channel is replaced from time to time.
        streams: the streams that are served, by name; a stream may be replaced, too.
        cluster: shares channels with other machines; None without one.
        shared_dvrs: the DVRs in S3 of channels and stations that a cluster shares, by name.
        dvr_bucket: the bucket of the channels' DVRs; None for DVRs on disk.
        part_delays: of channels that had parts, the seconds from a part's last frame's end to its being
            published, by name.
    """

    def __init__(
        self,
        config: Config,
        tools: Tools | None,
        limits: Limits,
        logs: LogServer,
    ) -> None:
        self._config = config
        self._tools = tools
        self._limits = limits
        self._logs = logs
        self.part_delays: dict[str, LatencyHistogram] = {}
        self._shared_simulcasts: dict[str, SharedSimulcast] = {}
        self.dvr_bucket = make_dvr_bucket(config, limits.s3)
        self.simulcasts: dict[str, Simulcast] = {}
        limits_of_stations = replace(limits.radio.station, starts=config.limits.hls_starts)
        self._starts = StartLimit(limits_of_stations)
        self.simulcast_names = frozenset[str]()
        self.broadcasts: dict[str, Channel] = {}
        self.streams: dict[str, LiveStream] = {}
        self.shared_dvrs: dict[str, SharedDvr] = {}
        self.cluster = make_cluster(config, self.streams, logs, limits)
        self.options: dict[str, LiveOptions] = {}
        self.templates: dict[str, LiveOptions] = {}
        self.channels: dict[str, Channel] = {}
        if tools is not None:
            self.templates = {one.name: one for one in live_templates(config)}
            self.options = {one.name: one for one in live_channels(config)}
            self.channels = {one.name: self.make_channel(one, tools) for one in live_channels(config)}
        self.possible_options = PossibleOptions(self.options, self.templates)

    def make_channel(self, options: LiveOptions, tools: Tools) -> Channel:
        """Make a channel, which nobody is served before it is shared. Blocks."""
        offered = channel_options(options, self._config, self._limits.live, self.dvr_bucket)
        return Channel(offered, tools, ChannelHooks(self._on_part(options.name)))

    def add(self, channel: Channel, options: LiveOptions) -> None:
        """Serve a channel that was made while the server runs."""
        self.options[channel.name], self.channels[channel.name] = options, channel
        self._share(channel, options)

    def change(self, options: LiveOptions) -> None:
        """Apply options of a channel that goes on."""
        self.options[options.name] = options
        if (channel := self.channels.get(options.name)) is not None:
            channel.change(channel_options(options, self._config, self._limits.live))

    def remove(self, name: str) -> Channel:
        """Serve a channel no more, and release the requests that wait for its media."""
        del self.options[name]
        channel = self.channels.pop(name)
        channel.close()
        self._withdraw(name)
        return channel

    def _withdraw(self, name: str) -> None:
        self.broadcasts.pop(name, None)
        self.streams.pop(name, None)
        self.part_delays.pop(name, None)
        self._logs.withdraw(f"{LIVE}/{name}")

    def _on_part(self, name: str) -> Callable[[float], None]:
        """Return a function that counts the delays of a channel's parts."""

        def count(seconds: float) -> None:
            if (delays := self.part_delays.get(name)) is None:
                delays = self.part_delays[name] = LatencyHistogram(DELAY_BUCKETS)
            delays.observe(seconds)

        return count

    def serve(self, mounts: Mapping[str, Mount]) -> None:
        """Serve all channels by their logs, here and in other processes.

        Args:
            mounts: the stations, some of which have a channel.
        """
        for options in live_channels(self._config):
            if (channel := self.channels.get(options.name)) is not None:
                self._share(channel, options)
        self._serve_simulcasts(mounts)

    def _serve_simulcasts(self, mounts: Mapping[str, Mount]) -> None:
        """Make the stations' channels, or serve those of other nodes."""
        options = simulcast_options(self._config, self._limits.radio.station, self.dvr_bucket)
        if is_edge(self._config) and self.cluster is not None:
            for name, one in options.items():
                self.cluster.follow_simulcast(name, empty_windows(one))
        elif self._tools is not None:
            self.simulcasts = self._make_simulcasts(options, mounts, self._tools)
            if self.cluster is not None:
                self._share_simulcasts(self.cluster)
        self.simulcast_names = frozenset(options if mounts else ())

    def _make_simulcasts(
        self, options: Mapping[str, SimulcastOptions], mounts: Mapping[str, Mount], tools: Tools
    ) -> dict[str, Simulcast]:
        on_channel = self._broadcast if self.cluster is None else self._take_simulcast
        return make_simulcasts(options, mounts, tools, on_channel, self._on_part, self._starts)

    def add_simulcast(self, station: RadioOptions, mount: Mount, config: Config) -> Simulcast | None:
        """Make the channel of a station that was made while the server runs; None where it has none."""
        limits = self._limits.radio.station
        options = simulcast_options(config, limits, self.dvr_bucket, (station,))
        if not options or self._tools is None:
            return None
        made = self._make_simulcasts(options, {station.name: mount}, self._tools)
        self.simulcasts |= made
        self.simulcast_names |= made.keys()
        return made[station.name]

    def remove_simulcast(self, name: str) -> Simulcast | None:
        """Serve the channel of a station no more; None where it has none."""
        self.simulcast_names -= {name}
        if (simulcast := self.simulcasts.pop(name, None)) is not None:
            simulcast.close()
            self._withdraw(name)
        return simulcast

    def _share_simulcasts(self, cluster: ClusterNode) -> None:
        """Share the stations' channels with the nodes of a cluster."""
        stations = {one.name: one for one in self._config.radio}
        for name, simulcast in self.simulcasts.items():
            limits = simulcast.options.limits.channel.dvr
            dvr = make_shared_dvr(stations[name], self.dvr_bucket, limits)
            if dvr is not None:
                self.shared_dvrs[name] = dvr
            self._shared_simulcasts[name] = SharedSimulcast(simulcast, cluster, self.streams, dvr)

    def _take_simulcast(self, channel: Channel) -> None:
        """Publish a station's next channel, and share it with the nodes of a cluster."""
        self.broadcasts[channel.name] = channel
        if (shared := self._shared_simulcasts.get(channel.name)) is not None:
            shared.add(channel)

    def _share(self, channel: Channel, options: LiveOptions) -> None:
        """Serve a channel under its name: on all nodes of a cluster what the one that owns its log makes."""
        if self.cluster is None:
            self._broadcast(channel)
            return
        self.broadcasts[channel.name] = channel
        dvr = make_shared_dvr(
            options,
            self.dvr_bucket,
            channel.options.limits.dvr,
            lambda: self.streams.setdefault(channel.name, channel.stream),
        )
        if dvr is None:
            self.streams[channel.name] = channel.stream
        else:
            # Segments in S3 come before those that this node makes, and playlists never go back.
            self.shared_dvrs[channel.name] = dvr
        follower = self.cluster.share(
            channel.stream, lambda: _has_media(channel), lambda: channel.state, dvr, channel.published
        )
        channel.add_follower(follower)

    def _broadcast(self, channel: Channel) -> None:
        """Serve this channel under its name."""
        self.broadcasts[channel.name], self.streams[channel.name] = channel, channel.stream
        channel.add_follower(self._logs.serve(ServedLiveLog(channel.stream)))

    @property
    def kept_channels(self) -> Mapping[str, Channel]:
        """The channels that this server makes all the time: the live ones, and of stations with a DVR."""
        kept = {name for name, one in self.simulcasts.items() if one.options.dvr.window}
        kept |= self.shared_dvrs.keys() & self.simulcasts.keys()
        of_stations = {name: self.simulcasts[name].channel for name in sorted(kept)}
        return ChainMap(self.channels, of_stations)

    def streams_of_others(self) -> list[LiveStream]:
        """Return the channels that other nodes of the cluster make, without those of stations."""
        known = self.broadcasts.keys() | self.simulcast_names
        return [stream for name, stream in self.streams.items() if name not in known]

    def served_stream(self, channel: Channel) -> LiveStream:
        """Return the stream of a channel of this server; in a cluster, the one that the log's owner makes."""
        return self.streams.get(channel.name, channel.stream)

    def simulcast_stream(self, name: str) -> LiveStream | None:
        """Return what is served of a station's channel; None where it has none."""
        return self.streams.get(name) if name in self.simulcast_names else None

    def may_come(self, name: str) -> bool:
        """Return whether a channel that isn't served here may be one of other nodes of the cluster."""
        return self.cluster is not None and self.cluster.may_have(name)


def _has_media(channel: Channel) -> bool:
    """Return whether a channel has media that the nodes of a cluster are to serve.

    Neither a backup publisher nor a slate counts where another node has a publisher.
    """
    is_published_elsewhere = channel.published is not None and channel.published.elsewhere != ""
    return channel.state == "ended" or (channel.state == "live" and not is_published_elsewhere)


def live_limits(configured: LimitOptions, limits: LiveLimits) -> LiveLimits:
    """Return a channel's limits, with the configured ones."""
    return replace(
        limits,
        publish=limits.publish.with_waiters(configured.blocked_requests),
        source=replace(limits.source, receive_bytes=configured.udp_receive_bytes),
        caption_bytes=configured.captions_bytes,
        dvr=replace(limits.dvr, waiting_bytes=configured.dvr_waiting_bytes),
    )


def channel_options(
    options: LiveOptions, config: Config, limits: LiveLimits, dvr_bucket: DvrBucket | None = None
) -> ChannelOptions:
    """Convert a live channel's configuration to the packager's options.

    Args:
        dvr_bucket: the bucket of DVRs; in a cluster it is for the shared log, and not for this channel's own.
    """
    dvr_window = kept = dvr_seconds(options)
    if dvr_bucket is not None or config.server.data:
        dvr_window = listed_seconds(options)
    if dvr_bucket is not None and config.cluster.url:
        dvr_bucket, dvr_window = None, dvr_window if config.server.data else 0
    return ChannelOptions(
        name=options.name,
        source=options.source,
        ladder=options.ladder,
        part_duration=options.part_duration,
        segment_duration=options.segment_duration,
        dvr_window=dvr_window,
        past_seconds=kept if 0 < dvr_window < kept else 0.0,
        data=data_folder(config, "live", options.name),
        dvr_bytes=size(options.dvr_size),
        dvr_bucket=dvr_bucket,
        event=options.event,
        retention=Retention(seconds(options.recordings), recordings_bytes(options)),
        record=options.record,
        vod_seconds=seconds(options.vod_after_end),
        captions=options.captions,
        takeover=Takeover(options.takeover),
        after_end=AfterEnd(options.after_end),
        slate="" if options.offline == GAPS else options.offline,
        forward=options.forward,
        limits=live_limits(config.limits, limits),
    )
