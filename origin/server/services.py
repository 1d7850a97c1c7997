"""All that one server runs, and who owns it: the library, the channels, the stations and their tasks."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Protocol

import structlog
from prometheus_client import CollectorRegistry, ProcessCollector

from origin.config.errors import CommandError
from origin.config.options import Config, LimitOptions, LiveOptions, seconds, size
from origin.config.warnings import serves_channel
from origin.files.open_files import OpenFiles
from origin.http1.access_log import RequestCounters
from origin.radio.mount import Mount
from origin.radio.stations import Stations, make_simulcasts, make_stations
from origin.responses.common_headers import cross_origin_headers
from origin.server import malloc, metrics
from origin.server.limits import Limits
from origin.server.loop_lag import LoopLag
from packager.concurrency import beside
from packager.data_folder import DataFolder
from packager.data_lock import DataLock
from packager.library.catalogue import Catalogue
from packager.library.file_listing import ListingLimits
from packager.library.storage import Library, Withheld
from packager.live.channel import Channel
from packager.live.options import ChannelOptions
from packager.process import sandbox
from packager.process.tools import BusyError, Tools, ToolsError
from packager.publish.live_stream import LiveStream
from packager.radio.simulcast import Simulcast
from packager.recordings.collection import Retention
from packager.system_errors import LACKING
from packager.vod import TitleLimits, Titles
from packager.vod.index import IndexLimits

log = structlog.get_logger()

GOOD_STATES = frozenset(("live", "idle", "ended"))
"""States of services with which nothing is wrong."""


EVENT_SECONDS = 86_400.0
"""How long an event may be whose channel has no ``dvr``; what is older goes."""


class Service(Protocol):
    """A channel, a mount, or what looks at the library."""

    name: str

    async def run(self) -> None:
        """Work until cancelled."""

    def close(self) -> None:
        """Release everybody who waits."""


class Services:
    """The services of one server, made from the configuration.

    Args:
        config: all options.
        tools: ffmpeg, or None where there is none (then neither channels nor stations are configured).
        lock: that of the data folder, which the channels wait for and which is released behind them; None
            where they keep nothing.
        files: where it is configured, which the library doesn't serve.
        needs_library: whether it is an error that the library's folder isn't there.
        limits: those that aren't configured.

    Attributes:
        traffic: counters of requests and bytes.
        registry: the metrics.
        stations: the mounts, and the passwords of those that take a source.
        channels: the live channels.
        simulcasts: the stations that are channels, too.
        broadcasts: the channels of both, by name; a station's is replaced by another one at times.
        streams: what is served of them, likewise.
        recordings: of each channel that has some, by its name.
        loop_lag: how late the event loop is.
        ending: whether the server is on its way out.
        needs_library: whether it is an error that the library's folder isn't there: it was there before, or
            it was asked for.
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
    ) -> None:
        limits = self.limits = limits or Limits()
        self.config = config
        self.tools = tools
        self.traffic = RequestCounters()
        self.registry = CollectorRegistry()
        data = (Path(config.server.data).expanduser(),) if config.server.data else ()
        self.library = Library(
            Path(config.library.path).expanduser(),
            config.library.follow_symlinks,
            Withheld(tuple(path.absolute() for path in files), tuple(path.absolute() for path in data)),
        )
        self.open_files = OpenFiles(
            config.limits.open_files,
            config.limits.open_file_seconds,
            cross_origin_headers(config.server.allow_origin),
        )
        self.titles = Titles(self.library, title_limits(config.limits))
        self.catalogue = Catalogue(
            self.library.root,
            tools,
            self.titles.obstacle,
            withheld=self.library.withheld,
            limits=ListingLimits(files=config.limits.library_files),
        )
        self.loop_lag = LoopLag()
        self.ending = False
        self.needs_library = needs_library
        self._lock = lock
        self._unfenced = sandbox.missing()
        self._work: asyncio.Task[None] | None = None
        delay = metrics.part_delay(self.registry)
        self.channels: dict[str, Channel] = {}
        self.simulcasts: dict[str, Simulcast] = {}
        self.mounts: dict[str, Mount] = {}
        self.stations = Stations()
        if tools is not None:
            self.channels = {
                options.name: Channel(
                    channel_options(options, config), tools, on_part=delay.labels(options.name).observe
                )
                for options in config.live
                if serves_channel(options)
            }
            self.stations = make_stations(
                config,
                tools,
                functools.partial(self._count, "radio"),
                functools.partial(self._count, "events"),
                limits.radio,
            )
            self.mounts = self.stations.mounts
        self.recordings = {
            channel.name: recordings
            for channel in self.channels.values()
            if (recordings := channel.live_event.recordings) is not None
        }
        self.broadcasts: dict[str, Channel] = {}
        self.streams: dict[str, LiveStream] = {}
        for channel in self.channels.values():
            self._broadcast(channel)
        if tools is not None:
            self.simulcasts = make_simulcasts(
                config,
                self.mounts,
                tools,
                self._broadcast,
                lambda name: delay.labels(name).observe,
                limits.radio.simulcast,
            )
        self.registry.register(metrics.ServicesCollector(self))
        ProcessCollector(registry=self.registry)

    def check_library(self) -> None:
        """Make sure that the library's folder can be read, or isn't needed.

        Raises:
            OSError: it isn't there, isn't a folder, or may not be read; its ``filename`` is set.
            CommandError: it is the folder of the server's own data, which nobody is to see.
        """
        root = self.library.root
        try:
            with os.scandir(root) as entries:
                next(entries, None)
        except FileNotFoundError as error:
            if self.needs_library:
                raise _advised(error, root) from error
            return
        except OSError as error:
            raise _advised(error, root) from error
        self.needs_library = True
        root = root.resolve()
        for data in (folder.resolve() for folder in self.library.withheld.folders):
            if root == data or root.is_relative_to(data / "live"):
                told = "the server's data would be published with it; name another folder for one of them"
                raise CommandError(f"library.path {self.library.root}, server.data {data}: {told}")

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run all services until ``close``, or until the context ends."""
        async with beside(self.loop_lag.run()), beside(malloc.tidy()), asyncio.TaskGroup() as group:
            self._work = group.create_task(self._serve())
            try:
                yield
            finally:
                self._work.cancel()

    async def _serve(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for service in self._services():
                    group.create_task(self._supervise(service))
        finally:
            if self._lock is not None:
                self._lock.release()

    def close(self) -> None:
        """Release every waiting request and every listener, and end all services: the server is ending.

        Downloads go on; another server may have the data folder meanwhile.
        """
        self.ending = True
        for service in self._services():
            service.close()
        if self._work is not None:
            self._work.cancel()

    def health(self) -> dict[str, object]:
        """Tell whether the server lives, is ready, and how its services are."""
        states = {f"live/{channel.name}": channel.state for channel in self.channels.values()}
        states |= {f"live/{one.name}": one.state for one in self.simulcasts.values()}
        states |= {f"radio/{mount.name}": mount.state for mount in self.mounts.values()}
        ready = not self.ending
        troubles = {
            f"live/{channel.name}": f"DVR: {channel.archive.trouble}"
            for channel in self.channels.values()
            if channel.archive is not None and channel.archive.trouble
        }
        troubles |= {
            f"live/{channel.name}": f"recording: {channel.live_event.trouble}"
            for channel in self.channels.values()
            if channel.live_event.trouble
        }
        if self.loop_lag.trouble is not None:
            troubles["server"] = self.loop_lag.trouble
        elif self._lock is not None and not self._lock.held:
            troubles["server"] = "live channels wait: another server uses the data folder"
        good = ready and not troubles and all(state in GOOD_STATES for state in states.values())
        health: dict[str, object] = {
            "status": "ok" if good else "degraded",
            "live": True,
            "ready": ready,
            "services": states,
            "sandbox": {"complete": not self._unfenced, "missing": self._unfenced},
        }
        if troubles:
            health["troubles"] = troubles
        return health

    def _broadcast(self, channel: Channel) -> None:
        """Let a channel be what is served under its name."""
        self.broadcasts[channel.name], self.streams[channel.name] = channel, channel.stream

    def _count(self, area: str, count: int) -> None:
        self.traffic.add_bytes(area, count)

    def _services(self) -> list[Service]:
        services: list[Service] = [*self.channels.values(), *self.simulcasts.values()]
        return [*services, *self.mounts.values(), *self.stations.hidden, self.catalogue]

    async def _supervise(self, service: Service) -> None:
        """Run a service; one that breaks is started again, and the others don't notice."""
        again_in = self.limits.server.revive_seconds
        while True:
            try:
                if self._lock is not None and isinstance(service, Channel):
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


def _advised(error: OSError, root: Path) -> OSError:
    advice = "name the folder of your media with --library, or see the demo with --demo"
    return OSError(error.errno, f"{error.strerror}; {advice}", str(root))


def title_limits(limits: LimitOptions) -> TitleLimits:
    """Say what VOD of the library may cost."""
    index = IndexLimits(moov_bytes=limits.vod_moov_bytes, samples=limits.vod_samples)
    return TitleLimits(index_bytes=limits.vod_index_bytes, index=index)


def _data_of(options: LiveOptions, config: Config) -> DataFolder | None:
    if not config.server.data:
        return None
    return DataFolder(Path(config.server.data).expanduser()) / "live" / options.name


def channel_options(options: LiveOptions, config: Config) -> ChannelOptions:
    """Turn the configuration of a live channel into the packager's."""
    return ChannelOptions(
        name=options.name,
        source=options.source,
        ladder=options.ladder,
        part_duration=options.part_duration,
        segment_duration=options.segment_duration,
        dvr_window=seconds(options.dvr) or (EVENT_SECONDS if options.event else 0),
        max_waiters=config.limits.blocked_requests,
        data=_data_of(options, config),
        dvr_bytes=size(options.dvr_size),
        dvr_waiting_bytes=config.limits.dvr_waiting_bytes,
        event=options.event,
        retention=Retention(
            seconds(options.recordings),
            size(options.dvr_size if options.recordings_size is None else options.recordings_size),
        ),
        captions=options.captions,
        caption_bytes=config.limits.captions_bytes,
        receive_bytes=config.limits.udp_receive_bytes,
    )
