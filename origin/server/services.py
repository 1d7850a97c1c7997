"""Owns everything that a server runs: library, live channels, stations, and their tasks."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

import msgspec
import structlog
from prometheus_client import CollectorRegistry, ProcessCollector

from origin.access.credentials import GuessDelay
from origin.access.publish_keys import PublishKeys
from origin.config import logs
from origin.config.kept_secrets import MadeKeys
from origin.config.options import (
    GAPS,
    Config,
    LimitOptions,
    LiveOptions,
    data_folder,
    dvr_seconds,
    redactor_of,
    seconds,
    size,
)
from origin.events.channel_log import ServedEventLog
from origin.events.history import EventHistory
from origin.http1.access_log import RequestCounters
from origin.ingest.admission import IngestAdmission, Webhook
from origin.ingest.limits import IngestLimits
from origin.radio.access_log import AccessLogFile
from origin.radio.mount import Mount
from origin.radio.mount_log import ServedMountLog
from origin.radio.stations import (
    Stations,
    make_simulcasts,
    make_stations,
    needs_permission,
    simulcast_options,
)
from origin.radio.webhooks import make_webhooks
from origin.server import malloc, metrics
from origin.server.cluster_services import (
    SharedSimulcast,
    SharedStations,
    is_edge,
    make_cluster,
    make_shared_dvr,
    share_events,
)
from origin.server.event_services import is_followed, make_event_services
from origin.server.library_services import make_library_services
from origin.server.limits import Limits
from origin.server.loop_lag import LoopLag
from origin.server.other_processes import READY, Workers
from origin.server.recording_copies import make_bucket_recordings, make_recording_copies, recording_places
from origin.server.s3_places import make_dvr_bucket
from origin.server.service_states import is_well, service_states
from origin.server.status_events import StatusEvents
from packager.concurrency import background_task
from packager.data_lock import DataLock
from packager.live.channel import Channel
from packager.live.limits import LiveLimits
from packager.live.options import ChannelHooks, ChannelOptions
from packager.process import sandbox
from packager.process.tools import BusyError, Tools, ToolsError
from packager.publish.live_stream import LiveStream
from packager.radio.simulcast import Simulcast, empty_windows
from packager.recordings.all_recordings import AllRecordings, KeptRecordings
from packager.recordings.collection import Retention
from packager.replication.live_log import LIVE, ServedLiveLog
from packager.replication.log_server import LogServer
from packager.sources.published import Takeover
from packager.system_errors import LACKING

if TYPE_CHECKING:
    from packager.cluster.shared_dvr import SharedDvr
    from packager.dvr.bucket import DvrBucket
    from packager.recordings.bucket_recordings import BucketRecordings
    from packager.recordings.copies import RecordingCopies

log = structlog.get_logger()

NO_WORKERS: Mapping[int, str] = MappingProxyType({})


class Service(Protocol):
    """A channel, simulcast, mount or catalogue: something with a task."""

    name: str

    async def run(self) -> None:
        """Work until cancelled."""

    def close(self) -> None:
        """Release all waiting requests."""


class Services:
    """Makes, runs and ends all services of one server.

    Args:
        tools: ffmpeg; None without it, and then without channels and stations.
        lock: of the data folder, which the channels wait for and which is released behind them; None if they
            store nothing.
        files: the configuration's files, which the library must not serve, as the log of requests isn't.
        needs_library: whether a missing library folder is an error.
        limits: those that aren't configured; None: the usual ones.
        made_keys: the live channels' keys that aren't configured.
        places: where in S3 recordings of channels are, those of other nodes' channels too; None: where the
            configuration says.

    Attributes:
        traffic: counters of requests and bytes.
        registry: the metrics.
        stations: the mounts, and the passwords of those with source clients.
        channels: the live channels.
        simulcasts: the stations' live channels that this server makes.
        simulcast_names: the names of those that it serves.
        logs: sends the logs of channels and stations to other processes.
        cluster: shares live channels with other machines; None without one.
        cluster_events: shares event channels with them; likewise.
        cluster_stations: shares stations with them; likewise.
        broadcasts: the channels of both, by name; a simulcast's channel is replaced from time to time.
        streams: what is served of them, likewise.
        library: what serves the files of the library.
        shared_dvrs: the DVRs in S3 of live channels that a cluster shares, by name.
        dvr_bucket: where the channels' DVRs are in S3; None where they aren't.
        guess_delay: counts wrong passwords, and delays the answers to them.
        publish_keys: with which live channels are published to.
        ingest: lets in those who publish to them.
        recordings: of the channels that record, by name.
        recording_copies: what copies them to S3.
        bucket_recordings: those that are in S3.
        events: the event channels.
        station_webhooks: ask who may listen to stations, and send to them.
        access_log: the file of the stations' requests; None where none is configured.
        loop_lag: measures how late the event loop is.
        workers: the processes that serve beside this one; None for none.
        draining: whether the server will shut down soon, and serves on until then.
        ending: whether the server is shutting down.
        needs_library: whether a missing library folder is an error: it was configured, or was there before.
    """

    def __init__(
        self,
        config: Config,
        tools: Tools | None,
        lock: DataLock | None = None,
        *,
        files: Sequence[Path] = (),
        needs_library: bool = True,
        limits: Limits | None = None,
        made_keys: MadeKeys | None = None,
        places: Mapping[str, str] | None = None,
    ) -> None:
        limits = self.limits = limits or Limits()
        self.config = config
        self.tools = tools
        self.traffic = RequestCounters()
        self.registry = CollectorRegistry()
        logged = [Path(config.log.access).expanduser()] if config.log.access else []
        self.access_log = AccessLogFile(logged[0], limits.radio.access_log) if logged else None
        self.library = make_library_services(config, tools, limits, [*files, *logged])
        self.dvr_bucket = make_dvr_bucket(config, limits.s3)
        self.loop_lag = LoopLag(limits.server.loop_lag)
        self.workers: Workers | None = None
        self.draining = self.ending = False
        self.needs_library = needs_library
        self._lock = lock
        self._missing_sandbox = sandbox.missing()
        self._work: asyncio.Task[None] | None = None
        self._added: list[Service] = []
        self._delay = metrics.part_delay(self.registry)
        self.channels: dict[str, Channel] = {}
        self.station_webhooks = make_webhooks(config.radio, limits.radio)
        self.simulcasts: dict[str, Simulcast] = {}
        self.mounts: dict[str, Mount] = {}
        self.stations = Stations()
        self.broadcasts: dict[str, Channel] = {}
        self.streams: dict[str, LiveStream] = {}
        self.logs = LogServer(limits.replication)
        self.cluster = make_cluster(config, self.streams, self.logs, limits)
        self.cluster_stations = None if self.cluster is None else SharedStations(self.cluster, limits.cluster)
        if tools is not None:
            self._make_channels(tools)
        if is_edge(config):
            self._make_stations(None)
        elif tools is not None:
            self._make_stations(tools)
        self._directory = self._make_directory()
        self._take_publishers(made_keys or MadeKeys())
        self._make_recordings(recording_places(config) if places is None else places)
        self.events = make_event_services(config, limits, self._count)
        self._share_logs()
        self._status_events = StatusEvents(
            {one.name: one.include for one in config.events},
            self.events.channels,
            self.mounts,
            self.broadcasts,
            limits.events.news_seconds,
            self._is_owned_here,
            self.served_stream,
        )
        self.registry.register(metrics.ServicesCollector(self))
        ProcessCollector(registry=self.registry)

    def _take_publishers(self, made_keys: MadeKeys) -> None:
        """Make what lets publishers in to the live channels."""
        config = self.config
        self._made_keys = made_keys
        self._configured_keys = frozenset[str]()
        self._newest_config = config
        self._keys_change = asyncio.Lock()
        self.publish_keys = PublishKeys(
            config.server.admin_token or "", _publish_keys_in(config), made_keys.hashes
        )
        self.guess_delay = GuessDelay(
            config.limits.wrong_passwords, config.limits.wrong_password_seconds, self.limits.guesses
        )
        limits = ingest_limits(config.limits, self.limits.ingest)
        self.ingest = IngestAdmission(
            {name: channel.published for name, channel in self.channels.items()},
            self.publish_keys,
            self.guess_delay,
            limits,
            make_webhook(config.server.publish_webhook, limits),
        )

    def _make_recordings(self, places: Mapping[str, str]) -> None:
        """Make what serves recordings, and what copies them to S3."""
        recorded = {
            channel.name: recordings
            for channel in self.channels.values()
            if (recordings := channel.live_event.recordings) is not None
        }
        self.recording_copies = make_recording_copies(self.config, recorded, self.limits)
        self.bucket_recordings = make_bucket_recordings(self.config, places, self.limits)
        copied = self.bucket_recordings
        self.recordings: Mapping[str, KeptRecordings] = {
            name: AllRecordings(*(one[name] for one in (recorded, copied) if name in one))
            for name in {*recorded, *copied}
        }

    def _share_logs(self) -> None:
        """Serve stations, events and live channels by their logs, here and in other processes."""
        self.shared_dvrs: dict[str, SharedDvr] = {}
        for mount in self.mounts.values():
            append = self.logs.serve(ServedMountLog(mount))
            mount.on_entry = append
        for options in filter(is_followed, self.config.events):
            event_channel = self.events.channels[options.name]
            told = self.logs.serve(ServedEventLog(event_channel))
            event_channel.on_entry = told
        self.cluster_events = share_events(self.config, self.cluster, self.events.channels, self.limits)
        for channel in self.channels.values():
            self._share(channel)
        self._share_simulcasts()

    def _share_simulcasts(self) -> None:
        """Make the stations' live channels, or serve those of other nodes."""
        options = simulcast_options(self.config, self.limits.radio.simulcast)
        self._shared_simulcasts: dict[str, SharedSimulcast] = {}
        if is_edge(self.config) and self.cluster is not None:
            for name, one in options.items():
                self.cluster.follow_simulcast(name, empty_windows(one))
        elif self.tools is not None:
            self.simulcasts = make_simulcasts(
                options,
                self.mounts,
                self.tools,
                self._broadcast if self.cluster is None else self._take_simulcast,
                lambda name: self._delay.labels(name).observe,
            )
            if self.cluster is not None:
                for name, simulcast in self.simulcasts.items():
                    self._shared_simulcasts[name] = SharedSimulcast(simulcast, self.cluster, self.streams)
        self.simulcast_names = frozenset(options if self.mounts else ())

    def _take_simulcast(self, channel: Channel) -> None:
        """Go on with a station's next live channel, where the nodes of a cluster share it."""
        self.broadcasts[channel.name] = channel
        if (shared := self._shared_simulcasts.get(channel.name)) is not None:
            shared.take(channel)

    def _make_channels(self, tools: Tools) -> None:
        self.channels = {
            options.name: Channel(
                channel_options(options, self.config, self.limits.live, self.dvr_bucket),
                tools,
                ChannelHooks(self._delay.labels(options.name).observe),
            )
            for options in self.config.live
        }

    def _make_stations(self, tools: Tools | None) -> None:
        self.stations = make_stations(
            self.config,
            tools,
            functools.partial(self._count, "radio"),
            functools.partial(self._count, "events"),
            self.limits.radio,
            self.cluster_stations,
        )
        self.mounts = self.stations.mounts

    def _make_directory(self) -> Service | None:
        """Make what announces stations; None where nothing is configured."""
        server = self.config.server
        open_to_all = {one.name for one in self.config.radio if not needs_permission(one)}
        mounts = [mount for name, mount in self.mounts.items() if name in open_to_all]
        if not server.yp_url or not mounts or is_edge(self.config):
            return None
        # Here and not above: most servers need no client of HTTP, and are back sooner after a crash without.
        from origin.radio.directory import Directory

        return Directory(server.yp_url, server.public_url, mounts, self.limits.radio.directory)

    async def take_keys(self, new: Config) -> None:
        """Take the live channels' keys of a configuration that was read again; the others stay."""
        async with self._keys_change:
            self._configured_keys = frozenset(_publish_keys_in(new))
            await self._change_keys(new)

    def may_renew_key(self, channel: str) -> bool:
        """Tell whether a channel's key was generated, and isn't configured now."""
        return channel in self._made_keys.channels - self._configured_keys

    async def renew_key(self, channel: str) -> str:
        """Generate another key of a channel for which ``may_renew_key`` holds, and return it.

        Raises:
            SecretsError: the file of generated secrets isn't to be trusted.
            OSError: it can't be written.
        """
        async with self._keys_change:
            key = await asyncio.to_thread(self._made_keys.renew, channel)
            # What is logged from now on mustn't show it, whatever is read again.
            self.config = _with_key(self.config, channel, key)
            await self._change_keys(_with_key(self._newest_config, channel, key))
        return key

    async def _change_keys(self, new: Config) -> None:
        """Take other keys, which the log mustn't show; who publishes with a former one is disconnected."""
        self._newest_config = new
        redactor = redactor_of(self.config, new)
        await asyncio.to_thread(logs.configure, new.log.level, new.log.format, redactor)
        if self.workers is not None:
            self.workers.take_log(new)
        for name in self.publish_keys.rotate(_publish_keys_in(new)):
            if (channel := self.channels.get(name)) is not None:
                log.info("publish_key was changed", channel=name)
                if channel.published is not None:
                    channel.published.end_all("the channel's publish_key was changed")

    def add(self, service: Service) -> None:
        """Run one more service beside those of the configuration; to be called before they run."""
        self._added.append(service)

    def check_library(self) -> None:
        """Check that the library's folder can be read, or isn't needed; see `LibraryServices.check`."""
        self.needs_library |= self.library.check(needed=self.needs_library)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run all services until ``close``, or until the context ends."""
        async with (
            background_task(self.loop_lag.run()),
            background_task(malloc.trim_regularly(self.limits.server.trim_seconds)),
            asyncio.TaskGroup() as group,
        ):
            self._work = group.create_task(self._serve())
            try:
                for history in self.events.histories.values():
                    await history.wait_until_restored()
                if self.cluster_events is not None:
                    await self.cluster_events.wait_until_level()
                yield
            finally:
                self._work.cancel()

    async def _serve(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for service in self._services():
                    group.create_task(self._supervise(service))
        finally:
            self.logs.close()
            if self._lock is not None:
                self._lock.release()

    def drain(self) -> None:
        """Say that the server isn't ready any more, so that balancers send their clients to others."""
        self.draining = True

    def close(self) -> None:
        """Release waiting requests and listeners, and stop all services; downloads go on.

        Another server may take over the data folder from then on.
        """
        self.ending = True
        for service in self._services():
            service.close()
        if self._work is not None:
            self._work.cancel()

    def health(self, workers: Mapping[int, str] = NO_WORKERS) -> dict[str, object]:
        """Report whether the server lives and is ready, and the states of its services.

        Args:
            workers: what each worker process does.
        """
        states = service_states(self)
        ready = not (self.draining or self.ending)
        troubles = {name: one.trouble for name, one in states.items() if one.trouble}
        if self.cluster is not None and self.cluster.connection.trouble:
            troubles["cluster"] = self.cluster.connection.trouble
        if self.library.storage.trouble:
            troubles["library"] = self.library.storage.trouble
        if self.dvr_bucket is not None and self.dvr_bucket.trouble:
            troubles["DVR"] = self.dvr_bucket.trouble
        in_s3: list[RecordingCopies | BucketRecordings] = [*self.recording_copies]
        in_s3 += self.bucket_recordings.values()
        troubles |= {one.name: one.trouble for one in in_s3 if one.trouble}
        if self.loop_lag.trouble is not None:
            troubles["server"] = self.loop_lag.trouble
        elif self._lock is not None and not self._lock.held:
            troubles["server"] = "live channels wait: another server uses the data folder"
        troubles |= {f"worker {number}": state for number, state in workers.items() if state != READY}
        good = ready and not troubles and all(is_well(one) for one in states.values())
        health: dict[str, object] = {
            "status": "ok" if good else "degraded",
            "live": True,
            "ready": ready,
            "services": {name: one.state for name, one in states.items()},
            "sandbox": {"complete": not self._missing_sandbox, "missing": self._missing_sandbox},
        }
        if workers:
            health["workers"] = {str(number): state for number, state in workers.items()}
        if troubles:
            health["troubles"] = troubles
        return health

    def streams_of_others(self) -> list[LiveStream]:
        """Give the channels that other nodes of the cluster make, without those of stations."""
        known = self.broadcasts.keys() | self.simulcast_names
        return [stream for name, stream in self.streams.items() if name not in known]

    def served_stream(self, channel: Channel) -> LiveStream:
        """Give what is served of a channel of this server; in a cluster, what the owner of its log makes."""
        return self.streams.get(channel.name, channel.stream)

    def simulcast_stream(self, name: str) -> LiveStream | None:
        """Give what is served of a station's live channel; None where it has none."""
        return self.streams.get(name) if name in self.simulcast_names else None

    def may_come(self, name: str) -> bool:
        """Tell whether a live channel that isn't served here may be one of other nodes of the cluster."""
        return self.cluster is not None and self.cluster.may_have(name)

    def _is_owned_here(self, source: str) -> bool:
        """Tell whether no other node of a cluster tells what is new of a live channel or station."""
        area, _, name = source.partition("/")
        if self.cluster is None or self.cluster_stations is None:
            return True
        if area == LIVE and name not in self.cluster.simulcasts:
            return name not in self.cluster.channels or self.cluster.channels[name].is_owner
        stations = self.cluster_stations.stations
        return name not in stations or stations[name].is_owner

    def _share(self, channel: Channel) -> None:
        """Serve a channel under its name: on all nodes of a cluster what the one that owns its log makes."""
        if self.cluster is None:
            self._broadcast(channel)
            return
        self.broadcasts[channel.name] = channel
        dvr = make_shared_dvr(self.config, channel, self.dvr_bucket, self.streams)
        if dvr is None:
            self.streams[channel.name] = channel.stream
        else:
            # What is in S3 comes before what this node makes, and playlists don't go back behind that.
            self.shared_dvrs[channel.name] = dvr
        has_media = lambda: channel.state in ("live", "ended")  # noqa: E731
        channel.add_follower(self.cluster.share(channel.stream, has_media, dvr))

    def _broadcast(self, channel: Channel) -> None:
        """Serve this channel under its name."""
        self.broadcasts[channel.name], self.streams[channel.name] = channel, channel.stream
        channel.add_follower(self.logs.serve(ServedLiveLog(channel.stream)))

    def _count(self, area: str, count: int) -> None:
        self.traffic.add_bytes(area, count)

    def _services(self) -> list[Service]:
        services: list[Service] = [*self.channels.values(), *self.simulcasts.values()]
        # Relays end first, as they tell the readers of their channels why.
        services += [*self.mounts.values(), *self.stations.hidden, *self.events.relays.values()]
        services += self.events.channels.values()
        # Behind the channels: what they publish when they are closed is kept.
        services += self.events.histories.values()
        services += [] if self.cluster is None else [self.cluster]
        services += [] if self._directory is None else [self._directory]
        services += [] if self.library.thumbnails is None else [self.library.thumbnails]
        services += [*self.recording_copies, *self.bucket_recordings.values()]
        return [*services, *self._added, self._status_events, self.library.catalogue]

    async def _supervise(self, service: Service) -> None:
        """Run a service, and restart it when it breaks; the others go on."""
        again_in = self.limits.server.revive_seconds
        while True:
            try:
                if self._lock is not None and isinstance(service, Channel | EventHistory):
                    await self._lock.wait()
                await service.run()
            except BusyError as error:
                log.warning("service waits", service=service.name, reason=str(error), again_in=again_in)
            except ToolsError as error:
                log.error("can't run", service=service.name, reason=str(error))
                return
            except OSError as error:
                if error.errno not in LACKING:
                    log.exception("service broke", service=service.name, again_in=again_in)
                else:
                    reason = error.strerror
                    log.warning("service waits", service=service.name, reason=reason, again_in=again_in)
            except Exception:  # one broken service must not take the others with it
                log.exception("service broke", service=service.name, again_in=again_in)
            if self.ending:
                return
            await asyncio.sleep(again_in)


def live_limits(configured: LimitOptions, limits: LiveLimits) -> LiveLimits:
    """Put what is configured of a channel's limits into them."""
    return replace(
        limits,
        publish=limits.publish.with_waiters(configured.blocked_requests),
        source=replace(limits.source, receive_bytes=configured.udp_receive_bytes),
        captions=replace(limits.captions, text_bytes=configured.captions_bytes),
        dvr=replace(limits.dvr, waiting_bytes=configured.dvr_waiting_bytes),
    )


def make_webhook(url: str, limits: IngestLimits) -> Webhook | None:
    """Make what asks about publishers; None where nothing is configured."""
    if not url:
        return None
    # Here and not above: most servers need no client of HTTP, and are back sooner after a crash without.
    from origin.ingest.webhook import PublishWebhook

    return PublishWebhook(url, limits)


def ingest_limits(configured: LimitOptions, limits: IngestLimits) -> IngestLimits:
    """Put what is configured of the limits of live channels' publishers into them."""
    return replace(limits, publishers=configured.publishers, silent_seconds=configured.publisher_seconds)


def channel_options(
    options: LiveOptions, config: Config, limits: LiveLimits, dvr_bucket: DvrBucket | None = None
) -> ChannelOptions:
    """Convert a live channel's configuration to the packager's options.

    Args:
        options: the configuration.
        config: all options.
        limits: those that aren't configured.
        dvr_bucket: where DVRs are in S3; of a cluster that of the log which all nodes serve, and not that
            of what this one makes.
    """
    dvr_window = dvr_seconds(options)
    if dvr_bucket is not None and config.cluster.url:
        dvr_bucket, dvr_window = None, dvr_window if config.server.data else 0
    return ChannelOptions(
        name=options.name,
        source=options.source,
        ladder=options.ladder,
        part_duration=options.part_duration,
        segment_duration=options.segment_duration,
        dvr_window=dvr_window,
        data=data_folder(config, "live", options.name),
        dvr_bytes=size(options.dvr_size),
        dvr_bucket=dvr_bucket,
        event=options.event,
        retention=Retention(
            seconds(options.recordings),
            size(options.dvr_size if options.recordings_size is None else options.recordings_size),
        ),
        vod_seconds=seconds(options.vod_after_end),
        captions=options.captions,
        takeover=Takeover(options.takeover),
        slate="" if options.offline == GAPS else options.offline,
        forward=options.forward,
        limits=live_limits(config.limits, limits),
    )


def _publish_keys_in(config: Config) -> dict[str, str]:
    return {one.name: one.publish_key for one in config.live if one.publish_key}


def _with_key(config: Config, channel: str, key: str) -> Config:
    live = (
        msgspec.structs.replace(one, publish_key=key) if one.name == channel else one for one in config.live
    )
    return msgspec.structs.replace(config, live=tuple(live))
