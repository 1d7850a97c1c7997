"""Owns everything that a server runs: library, live channels, stations, and their tasks."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import structlog
from prometheus_client import CollectorRegistry, ProcessCollector

from origin.access.authentication import Authenticator
from origin.access.authorization import Authorization, ResourceKind
from origin.access.guess_delay import GuessDelay
from origin.access.policy import AccessOptions, AccessPolicy
from origin.config.kept_secrets import MadeKeys
from origin.config.options import Config, LiveOptions, RadioOptions, data_folder, event_channels
from origin.config.own_addresses import base_address
from origin.events.beats import ChannelBeats
from origin.events.channel_keys import resource_keys
from origin.events.channel_replication import ServedEventLog
from origin.events.disk_history import EventHistory
from origin.http1.access_log import RequestCounters
from origin.programmes.channel_programmes import ChannelProgrammes
from origin.radio.access_log import AccessLogFile
from origin.radio.mounts.mount import Mount
from origin.radio.mounts.mount_replication import RADIO, ServedMountLog
from origin.radio.station_access import StationAccess, station_keys
from origin.radio.station_factory import StationMaker, Stations, make_stations
from origin.radio.station_webhooks import make_webhooks
from origin.recordings.handler import describe
from origin.recordings.station_recorder import StationRecorder
from origin.responses.json_response import based
from origin.server.services.access_services import (
    make_token_guard,
    make_token_keys,
    restored_revocations,
    share_revocations,
    share_sessions,
)
from origin.server.services.cluster_services import (
    SharedStations,
    is_edge,
    share_events,
    share_programmes,
)
from origin.server.services.event_services import is_followed, make_event_services
from origin.server.services.library_services import make_library_services
from origin.server.services.limits import Limits
from origin.server.services.live_services import LiveServices
from origin.server.services.mapping_view import MappingView
from origin.server.services.pattern_channels import PatternChannels
from origin.server.services.publisher_access import PublisherServices, make_admission, make_keys
from origin.server.services.recording_services import (
    make_bucket_recordings,
    make_recording_copies,
    make_station_recorders,
    recording_places,
)
from origin.server.services.status_events import StatusEvents, StatusSources
from origin.server.services.worker_interface import Workers
from origin.server.tables.config_reload import ConfigReload
from origin.server.tables.made_tables import MadeTables, TablesAtTakeover
from origin.server.tables.table_changes import UnchangeableError
from origin.system import malloc
from origin.system.loop_lag import LoopLag
from origin.webhooks.state_events import SeenState
from origin.webhooks.webhooks import Looked, StateWebhooks
from packager.concurrency import background_task
from packager.data_lock import DataInUseError, DataLock
from packager.encode.preparation import Preparation
from packager.ffmpeg.picture_encoder import SOFTWARE, PictureEncoder
from packager.library.local_storage import Library
from packager.live.channel import Channel
from packager.process import sandbox
from packager.process.ffmpeg_discovery import BusyError, Tools, ToolsError
from packager.radio.simulcast import Simulcast
from packager.record_book import RecordBook
from packager.recordings.disk_recordings import Recordings
from packager.recordings.kept_recordings import AllRecordings, AnyRecording
from packager.replication.live_log import LIVE
from packager.replication.log_server import LogServer
from packager.threads import SHARED_THREADS
from packager.transient_errors import LACKING

log = structlog.get_logger()


NEWS_SECONDS = 0.5
"""Pause between two checks of the states of stations and live channels that event channels include."""


class Service(Protocol):
    """A channel, simulcast, mount or catalogue: something with a task."""

    name: str

    async def run(self) -> None:
        """Work until cancelled; a service on which requests wait has a `close`, too, which releases them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartFacts:
    """The facts that a start finds out beside the configuration.

    Attributes:
        files: the configuration's files, which the library must not serve, as the log of requests isn't.
        needs_library: whether a missing library folder is an error.
        made_keys: the live channels' keys that aren't configured.
        recording_places: where in S3 recordings of channels are, those of other nodes' channels too; None:
            where the configuration says.
    """

    files: Sequence[Path] = ()
    needs_library: bool = True
    made_keys: MadeKeys = field(default_factory=MadeKeys)
    recording_places: Mapping[str, str] | None = None
    made_tables: MadeTables = field(default_factory=lambda: MadeTables(None))
    record_book: RecordBook | None = None
    encoder: PictureEncoder = SOFTWARE


NOTHING_FOUND = StartFacts()


def _stores_data(service: Service) -> bool:
    """Return whether a service keeps anything in the data folder that only one server may write."""
    if isinstance(service, Simulcast):
        return service.options.dvr.data is not None
    of_data = Channel | EventHistory | PatternChannels | Preparation | StationRecorder | TablesAtTakeover
    return isinstance(service, of_data)


class Services:
    """Makes, runs and ends all services of one server.

    Args:
        config: the configuration, with all secrets.
        tools: ffmpeg; None without it, and then this server makes no channels and no stations.
        lock: the lock of the data folder, for which the channels wait, and which is released after their end;
            None if they store nothing.
        facts: facts that were found at the start, beside the configuration.
        limits: the limits that aren't configured; None: the usual ones.

    Attributes:
        stations: the mounts, and the passwords of those with source clients.
        station_maker: makes mounts, also while the server runs.
        logs: sends the logs of channels and stations to other processes.
        cluster_events: shares event channels with the machines of a cluster; None without one.
        cluster_stations: shares stations with these machines; None without a cluster.
        library: the services of the library's files.
        token_keys: the keys by which tokens of addresses are checked.
        revocation_file: keeps the revocations of such tokens.
        guard: checks these tokens; None where no address needs one.
        sessions: of viewers with names; None where they may have any number.
        authorization: decides what clients may do.
        access: the policy of protected areas and lists; its options are set before the first request.
        guess_delay: counts wrong passwords, and delays the answers to them.
        publishers: admits publishers to the live channels.
        pattern_channels: the live channels that publishers have made.
        recordings: the recordings of the channels that record, by name.
        recording_copies: the copiers of these to S3.
        bucket_recordings: the recordings in S3, by channel.
        station_recorders: make those of a cluster's stations, by station.
        programmes: the programmes of the channels.
        state_webhooks: are sent what changes on live channels and stations.
        station_webhooks: ask backends about listeners and source clients of stations.
        access_log: the file of the stations' requests; None where none is configured.
        loop_lag: measures how late the event loop is.
        workers: the processes that serve beside this one; None for none.
        reload: reads the configuration again; None where nothing does.
        made_tables: the tables of the configuration that were made at run time.
        record_book: keeps these, and events for webhooks; None without a data folder.
        draining: whether the server will shut down soon, and serves on until then.
        ending: whether the server is shutting down.
        needs_library: whether a missing library folder is an error: it was configured, or was there before.
        missing_sandbox: the mechanisms of ffmpeg's sandbox that this kernel lacks.
    """

    def __init__(
        self,
        config: Config,
        tools: Tools | None,
        lock: DataLock | None = None,
        facts: StartFacts = NOTHING_FOUND,
        limits: Limits | None = None,
    ) -> None:
        limits = self.limits = limits or Limits()
        self.config = config
        self.tools = tools
        self.traffic = RequestCounters()
        self.token_keys = make_token_keys(config)
        self.revocation_file = restored_revocations(config, self.token_keys)
        self.guard = make_token_guard(config, self.token_keys, limits.sessions)
        self.sessions = None if self.guard is None else self.guard.sessions
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        logged = [Path(config.log.access).expanduser()] if config.log.access else []
        self.access_log = AccessLogFile(logged[0], limits.radio) if logged else None
        self.library = make_library_services(config, tools, limits, [*facts.files, *logged], facts.encoder)
        self.loop_lag = LoopLag(limits.server.listening)
        self.workers: Workers | None = None
        self.reload: ConfigReload | None = None
        self.made_tables, self.record_book = facts.made_tables, facts.record_book
        self.draining = self.ending = False
        self.needs_library = facts.needs_library
        self._lock = lock
        self.missing_sandbox = sandbox.missing()
        self._work: asyncio.Task[None] | None = None
        self._group: asyncio.TaskGroup | None = None
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._added: list[Service] = []
        self.station_webhooks = make_webhooks(config, limits.radio)
        self.logs = LogServer(limits.replication)
        self.live = LiveServices(config, tools, limits, self.logs)
        cluster = self.live.cluster
        share_sessions(self.sessions, cluster)
        share_revocations(self.token_keys, cluster)
        self.cluster_stations = None if cluster is None else SharedStations(cluster, limits.cluster)
        self.station_maker = StationMaker(
            None if is_edge(config) else tools,
            functools.partial(self._count, "radio"),
            functools.partial(self._count, "events"),
            limits.radio,
            None if self.cluster_stations is None else self.cluster_stations.share,
        )
        self.stations = self._make_stations()
        self.mounts = self.stations.mounts
        self.guess_delay = GuessDelay(
            config.limits.wrong_passwords, config.limits.wrong_password_seconds, limits.sessions
        )
        authenticator = Authenticator(
            self.guess_delay,
            seconds_to_wait=self.guess_delay.seconds_to_wait,
            fault_of=functools.partial(self.token_keys.fault, publishes=True),
        )
        channels, keys = self.live.channels, make_keys(config, facts.made_keys)
        self.authorization = Authorization(
            authenticator,
            config.server.admin_token or "",
            self.token_keys,
            {
                ResourceKind.LIVE: keys.of,
                ResourceKind.RADIO: station_keys(self.mounts, self.stations.passwords),
            },
        )
        self.access = AccessPolicy(AccessOptions(), self.authorization, self.guard)
        self.station_access = StationAccess(self.authorization, self.guard)
        admission = make_admission(config, channels, self.authorization, self.guess_delay, limits.ingest)
        self.publishers = PublisherServices(
            config, facts.made_keys, channels, keys, admission, self._take_log
        )
        self.pattern_channels = admission.maker = PatternChannels(self)
        self.events = make_event_services(config, limits, self._count)
        self.authorization.keys[ResourceKind.EVENTS] = resource_keys(self.events.keys_of)
        self._event_beats = ChannelBeats(self.events.channels.values, limits.events.channel.beat_seconds)
        self._share_logs()
        places = facts.recording_places
        self._make_recordings(recording_places(config) if places is None else places)
        self.programmes = ChannelProgrammes(
            MappingView(self.live.kept_channels, lambda channel: channel.programmes),
            self.recordings,
            lambda: self.waits_for_data,
        )
        share_programmes(config, self.programmes, self.live.kept_channels, cluster)
        self._status_events = self._make_status_events()
        self.state_webhooks = StateWebhooks(
            config.webhooks,
            base_address(config),
            self._looked,
            facts.record_book,
            limits.deliveries,
            limits.radio.webhook,
        )

    def _make_recordings(self, places: Mapping[str, str]) -> None:
        """Make what serves recordings, and what copies them to S3."""
        recorded = {
            channel.name: recordings
            for channel in self.live.kept_channels.values()
            if (recordings := channel.recordings) is not None
        }
        self.recording_copies = make_recording_copies(self.config, recorded, self.limits)
        self.bucket_recordings = make_bucket_recordings(self.config, places, self.limits)
        self.station_recorders = make_station_recorders(
            self.config, self.live, self.cluster_stations, self.bucket_recordings, self.limits
        )
        self.recordings: dict[str, AllRecordings] = {}
        for name in {*recorded, *self.bucket_recordings}:
            self._serve_recordings(name, recorded.get(name))

    def _serve_recordings(self, name: str, on_disk: Recordings | None) -> None:
        """Serve the recordings of a channel, those on disk and those in S3; none where it has neither."""
        if on_disk is not None:
            on_disk.on_ready = functools.partial(self._announce_recording, name)
        places = [one for one in (on_disk, self.bucket_recordings.get(name)) if one is not None]
        self.recordings.pop(name, None)
        if places:
            self.recordings[name] = AllRecordings(*places)

    def _announce_recording(self, name: str, recording: AnyRecording) -> None:
        """Send webhooks that a recording is ready."""
        area = "radio" if name in self.mounts and name not in self.live.channels else LIVE
        base = base_address(self.config)
        described = based(describe(name, recording), base, lambda _: True)
        self.state_webhooks.announce_recording(f"{area}/{name}", described)

    def _looked(self) -> Iterator[Looked]:
        """Yield the states of all live channels and stations whose changes this node publishes."""
        for name, channel in self.live.channels.items():
            if self._is_owned_here(subject := f"{LIVE}/{name}"):
                yield Looked(subject, SeenState(channel.state == "live"), channel.trouble)
        for name, mount in self.mounts.items():
            if self._is_owned_here(subject := f"{RADIO}/{name}"):
                source = None if mount.source_client is None else mount.source_client.agent
                state = SeenState(mount.state == "live", source, mount.title or None)
                yield Looked(subject, state, mount.trouble)

    def _share_logs(self) -> None:
        """Serve stations, events and live channels by their logs, here and in other processes."""
        for mount in self.mounts.values():
            append = self.logs.serve(ServedMountLog(mount))
            mount.on_entry = append
        for options in filter(is_followed, event_channels(self.config)):
            event_channel = self.events.channels[options.name]
            told = self.logs.serve(ServedEventLog(event_channel))
            event_channel.on_entry = told
        self.cluster_events = share_events(
            self.config, self.live.cluster, self.events.channels, self.events.created, self.limits
        )
        self.live.serve(self.mounts)

    def _make_stations(self) -> Stations:
        """Make the stations: with their sources, or on an edge with the shared logs of the cluster."""
        if self.tools is None and not is_edge(self.config):
            return Stations()
        return make_stations(self.config, self.station_maker)

    def _make_status_events(self) -> StatusEvents:
        live = self.live
        return StatusEvents(
            {one.name: one.include for one in event_channels(self.config)},
            self.events.channels,
            StatusSources(self.mounts, live.broadcasts, self._is_owned_here, live.served_stream),
            NEWS_SECONDS,
        )

    def add(self, service: Service) -> None:
        """Run one more service beside those of the configuration; to be called before they run."""
        self._added.append(service)

    def add_channel(self, channel: Channel, options: LiveOptions) -> None:
        """Run and serve a live channel that was made while the server runs."""
        self.live.add(channel, options)
        self._serve_recordings(channel.name, channel.recordings)
        self._status_events.follow(f"{LIVE}/{channel.name}")
        self.start(channel)

    async def remove_channel(self, name: str) -> None:
        """End a live channel, and serve it no more; its media stay on disk."""
        channel = self.live.remove(name)
        self._serve_recordings(name, None)
        await self.stop(channel)

    def start(self, service: Service) -> None:
        """Run a service that was made while the server runs."""
        if self._group is not None and not self.ending:
            self._run_in(self._group, service)

    async def stop(self, service: Service) -> None:
        """End a service that was closed, and is in no list any more."""
        if (task := self._tasks.pop(id(service), None)) is not None:
            task.cancel()
            await asyncio.wait([task])

    def add_station(self, mount: Mount, options: RadioOptions, config: Config) -> None:
        """Run and serve a station that was made while the server runs."""
        self.stations.add(options, mount)
        if self.workers is None:
            append = self.logs.serve(ServedMountLog(mount))
            mount.on_entry = append
        # Workers know the stations of their start; what came later is answered by this process.
        hidden = self.station_maker.set_fallback(options, self.stations)
        simulcast = self.live.add_simulcast(options, mount, config)
        for service in (mount, hidden, simulcast):
            if service is not None:
                self.start(service)
        if simulcast is not None and mount.name in self.live.kept_channels:
            self._serve_recordings(mount.name, simulcast.channel.recordings)

    async def remove_station(self, name: str) -> None:
        """End a station, and serve it no more; its media stay on disk."""
        simulcast = self.live.remove_simulcast(name)
        mount, hidden = self.stations.remove(name)
        self.logs.withdraw(f"{RADIO}/{name}")
        self._serve_recordings(name, None)
        for service in (simulcast, mount, hidden):
            if service is not None:
                await self.stop(service)

    async def hold_data(self) -> None:
        """Lock the data folder for a channel that stores something, where nothing has locked it yet.

        Raises:
            UnchangeableError: another server uses the folder.
            OSError: it can't be created or written.
        """
        if self._lock is None and (folder := data_folder(self.config)) is not None:
            lock = DataLock(folder.root)
            try:
                await SHARED_THREADS.run(lock.acquire)
            except DataInUseError as error:
                raise UnchangeableError(str(error)) from None
            self._lock = lock

    @property
    def waits_for_data(self) -> bool:
        """Whether another server uses the data folder, so that live channels wait."""
        return self._lock is not None and not self._lock.held

    def check_library(self) -> None:
        """Check that the library's folder can be read, or isn't needed; see `LibraryServices.check`."""
        self.needs_library |= self.library.check(needed=self.needs_library)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run all services until ``close``, or until the context ends."""
        async with (
            background_task(self.loop_lag.run()),
            background_task(malloc.trim_regularly()),
            asyncio.TaskGroup() as group,
        ):
            self._work = group.create_task(self._serve())
            try:
                for history in self.events.histories.values():
                    await history.wait_until_restored()
                await self.events.created.wait_until_restored()
                if self.cluster_events is not None:
                    await self.cluster_events.wait_until_level()
                yield
            finally:
                self._work.cancel()

    async def _serve(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for service in self._services():
                    self._run_in(group, service)
                self._group = group
        finally:
            self._group = None
            self.logs.close()
            if self._lock is not None:
                self._lock.release()

    def _run_in(self, group: asyncio.TaskGroup, service: Service) -> None:
        self._tasks[id(service)] = group.create_task(self._supervise(service))

    def drain(self) -> None:
        """Answer health checks with "not ready", so that load balancers choose other servers."""
        self.draining = True

    def close(self) -> None:
        """Release waiting requests and listeners, and stop all services; downloads go on.

        Another server may take over the data folder from then on.
        """
        self.ending = True
        for service in self._services():
            if (close := getattr(service, "close", None)) is not None:
                close()
        if self._work is not None:
            self._work.cancel()

    def _is_owned_here(self, source: str) -> bool:
        """Return whether this node publishes the changes of a live channel or station, and no other one."""
        area, _, name = source.partition("/")
        cluster = self.live.cluster
        if cluster is None or self.cluster_stations is None:
            return True
        if area == LIVE and name not in cluster.simulcasts:
            return name not in cluster.channels or cluster.channels[name].is_owner
        stations = self.cluster_stations.stations
        return name not in stations or stations[name].is_owner

    def _take_log(self, new: Config, known: Config) -> None:
        """Let the worker processes write their logs by another configuration."""
        if self.workers is not None:
            self.workers.take_log(new, known)

    def _count(self, area: str, count: int) -> None:
        self.traffic.add_bytes(area, count)

    def _services(self) -> list[Service]:
        live, events, library = self.live, self.events, self.library
        every: list[Service | None] = [*live.channels.values(), *live.simulcasts.values()]
        every += [None if self.tools is None else self.pattern_channels]
        # Relays end first, as they publish the reason to their channels' readers.
        every += [*self.mounts.values(), *self.stations.hidden.values(), *events.relays.values()]
        # Histories end behind the channels, whose last events are kept.
        every += [self._event_beats, *events.histories.values(), events.created, live.cluster]
        every += [library.thumbnails, library.preparation, library.encoded]
        every += [*self.recording_copies, *self.bucket_recordings.values(), *self.station_recorders.values()]
        every += [self.revocation_file, self.token_keys, self.sessions]
        every += [library.storage.folder if isinstance(library.storage, Library) else None]
        every += [self._status_events, self.state_webhooks, *self._added, library.catalogue]
        return [one for one in every if one is not None]

    async def _supervise(self, service: Service) -> None:
        """Run a service, and restart it when it breaks; the others go on."""
        again_in = self.limits.server.revive_seconds
        while True:
            try:
                if self._lock is not None and _stores_data(service):
                    await self._lock.wait()
                await service.run()
            except BusyError as error:
                log.warning("service waits", service=service.name, reason=str(error), again_in=again_in)
            except ToolsError as error:
                log.error("a service can't run", service=service.name, reason=str(error))
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
            # In Python 3.11 a group that failed leaves a cancellation behind, which the next timeout raises.
            while (task := asyncio.current_task()) is not None and task.cancelling():
                task.uncancel()
            await asyncio.sleep(again_in)
