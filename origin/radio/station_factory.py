"""Makes mounts and their live channels from the configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from media.errors import MediaError
from origin.config.options import (
    Config,
    RadioOptions,
    data_folder,
    dvr_seconds,
    listed_seconds,
    recordings_bytes,
    seconds,
    size,
)
from origin.config.stations import (
    expected_type,
    has_dvr,
    is_in_hls,
    kind,
    lacks_fallback,
    page_of,
    stream_of,
)
from origin.radio.mounts.limits import RadioLimits
from origin.radio.mounts.mount import Mount
from origin.radio.mounts.options import MountOptions
from packager.live.channel import Channel
from packager.process.ffmpeg_discovery import Tools
from packager.radio.audio_source import AudioSource
from packager.radio.folder_station import Station, StationOptions
from packager.radio.intro import Intro, read_intro
from packager.radio.limits import StationLimits
from packager.radio.simulcast import NO_DVR, Simulcast, SimulcastOptions, StartLimit, StationDvr
from packager.radio.source_client_station import SourceClientStation
from packager.reader_guard import ReaderGuard
from packager.recordings.disk_recordings import Retention
from packager.redaction import redacted_url

if TYPE_CHECKING:
    from packager.dvr.bucket.dvr_bucket import DvrBucket

log = structlog.get_logger()

ShareStation = Callable[[str, AudioSource | None, int, str], AudioSource]
"""Makes a source that all nodes have, by name, source here, expected bitrate in kbit/s and media type."""

LEAD_SECONDS = 12.0
"""Seconds of past audio with which a channel begins: three segments, which players want before they start."""


@dataclass(frozen=True, slots=True)
class Stations:
    """All mounts of a server.

    Attributes:
        mounts: the mounts with an address, by name.
        hidden: mounts that only are fallbacks, without an address, by the name of their station.
        passwords: of the mounts that accept a source client, by name.
        aliases: names of mounts by their other addresses.
        options: of the mounts, by name.
    """

    mounts: dict[str, Mount] = field(default_factory=dict)
    hidden: dict[str, Mount] = field(default_factory=dict)
    passwords: dict[str, str] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    options: dict[str, RadioOptions] = field(default_factory=dict)

    def add(self, options: RadioOptions, mount: Mount) -> None:
        """Add a station."""
        self.mounts[options.name], self.options[options.name] = mount, options
        self.aliases.update(dict.fromkeys(options.aliases, options.name))
        if kind(options) == "publish" and options.source_password:
            self.passwords[options.name] = options.source_password

    def remove(self, name: str) -> tuple[Mount, Mount | None]:
        """Remove a station, and disconnect its listeners.

        Returns:
            Its mount, and the hidden one that was its fallback.
        """
        mount, hidden = self.mounts.pop(name), self.hidden.pop(name, None)
        for alias in self.options.pop(name).aliases:
            self.aliases.pop(alias, None)
        self.passwords.pop(name, None)
        mount.fall_back_to(None)
        for one in (mount, hidden):
            if one is not None:
                one.close()
        return mount, hidden

    def falling_back_to(self, name: str) -> list[str]:
        """Name the stations whose fallback a station is."""
        mount = self.mounts.get(name)
        return [other for other, one in self.mounts.items() if mount is not None and one.fallback is mount]


class StationMaker:
    """Makes the mounts of a server's stations.

    Args:
        tools: ffmpeg, for stations that play folders; None where no station has a source here.
        count: called with the bytes written to listeners.
        count_events: called with the bytes written to readers of event channels.
        limits: limits of stations beside the configured ones.
        shared: shares the stations' audio among the nodes of a cluster; None without one.
    """

    def __init__(
        self,
        tools: Tools | None,
        count: Callable[[int], None],
        count_events: Callable[[int], None] = lambda _: None,
        limits: RadioLimits | None = None,
        shared: ShareStation | None = None,
    ) -> None:
        self._tools = tools
        self._count = count
        self._count_events = count_events
        self._limits = limits or RadioLimits()
        self._is_shared = shared is not None
        self._sources = _Sources(tools, self._limits, shared)

    def make(self, options: RadioOptions, config: Config) -> Mount:
        """Make the mount of a station, without its fallback. Blocks, to read the intro."""
        offered = mount_options(options, config, self._limits)
        own = self._sources.own(options)
        mount = Mount(
            options.name,
            self._sources.shared(options.name, own, options),
            # Listeners of other nodes aren't known here.
            replace(offered, on_demand=False) if self._is_shared else offered,
            count=self._count,
            count_events=self._count_events,
        )
        if isinstance(own, SourceClientStation):
            mount.source_station = own
        return mount

    def set_fallback(self, options: RadioOptions, stations: Stations) -> Mount | None:
        """Set the fallback of a station; return the hidden mount that was made for it, if any."""
        # A node without sources plays what others have.
        every = tuple(stations.options.values())
        if not options.fallback or (self._tools is not None and lacks_fallback(options, every)):
            return None
        other = stations.mounts.get(options.fallback)
        hidden = None
        if other is None:
            other = hidden = stations.hidden[options.name] = self._fallback_file(options, options.fallback)
        stations.mounts[options.name].fall_back_to(other)
        return hidden

    def _fallback_file(self, options: RadioOptions, path: str) -> Mount:
        """Make the mount that plays a file in the place of a station's."""
        title = f"{options.name} (fallback)"
        source = self._sources.make_file(title, Path(path), options)
        # A file has no name of its own: what is configured of the station stands for it.
        described = MountOptions(
            title=options.title or options.name,
            genre=options.genre or "",
            url=page_of(options),
            on_demand=self._tools is not None,
            limits=self._limits,
        )
        return Mount(title, source, described)


def make_stations(config: Config, maker: StationMaker) -> Stations:
    """Make the mounts of a valid configuration. Blocks."""
    stations = Stations()
    for options in config.radio:
        stations.add(options, maker.make(options, config))
    for options in config.radio:
        maker.set_fallback(options, stations)
    return stations


class _Sources:
    """Makes the sources of stations: of this node, or shared by the nodes of a cluster.

    Args:
        tools: ffmpeg; None where no station has a source here.
        shared: shares the stations' audio; None without a cluster.
    """

    def __init__(self, tools: Tools | None, limits: RadioLimits, shared: ShareStation | None) -> None:
        self._tools = tools
        self._shared = shared
        self._limits = limits

    def own(self, options: RadioOptions) -> AudioSource | None:
        """Make this node's own source of a station; None where nodes only follow others."""
        return None if self._tools is None else _source(options, self._tools, self._limits)

    def make_file(self, name: str, path: Path, options: RadioOptions) -> AudioSource:
        """Make the source that plays a file or folder in the place of a station's."""
        own = None if self._tools is None else _folder(options, name, path, self._tools, self._limits)
        return self.shared(name, own, options)

    def shared(self, name: str, own: AudioSource | None, options: RadioOptions) -> AudioSource:
        """Return the source that all nodes have, which is the own one without a cluster."""
        if self._shared is not None:
            return self._shared(name, own, options.bitrate, expected_type(options))
        if own is None:
            raise RuntimeError("a station without a source")
        return own


def _source(options: RadioOptions, tools: Tools, limits: RadioLimits) -> AudioSource:
    if kind(options) == "publish":
        return SourceClientStation(options.bitrate, expected_type(options), limits.live_source)
    if kind(options) == "relay":
        # An HTTP client takes long to import, and most servers need none.
        from origin.radio.relay import Relay, RelayOptions

        return Relay(
            RelayOptions(options.name, stream_of(options), options.bitrate, expected_type(options), limits)
        )
    return _folder(options, options.name, Path(options.folder), tools, limits)


def _folder(options: RadioOptions, name: str, path: Path, tools: Tools, limits: RadioLimits) -> Station:
    return Station(
        StationOptions(
            name=name,
            folder=path.expanduser(),
            bitrate=options.bitrate,
            sample_rate=options.sample_rate,
            shuffle=options.shuffle,
            loudness=options.loudness,
            crossfade=options.crossfade,
            limits=limits.station,
        ),
        tools,
    )


def mount_options(options: RadioOptions, config: Config, limits: RadioLimits) -> MountOptions:
    """Convert a station's configuration to its mount's options. Blocks, to read the intro."""
    listener = replace(
        limits,
        burst_bytes=config.limits.burst_bytes,
        queue_bytes=config.limits.queue_bytes,
        skips=options.lagging == "skip",
    )
    return MountOptions(
        title=options.title or "",
        genre=options.genre or "",
        url=page_of(options),
        public=options.public,
        is_hidden=options.hidden,
        max_listeners=options.max_listeners or config.limits.listeners,
        listener_seconds=seconds(options.max_listener_duration),
        hold_seconds=config.limits.hold_seconds,
        on_demand=options.on_demand and kind(options) == "relay",
        lead_seconds=LEAD_SECONDS if options.hls else 0.0,
        is_in_hls=is_in_hls(options, config),
        listener_password=options.listener_password or "",
        has_listener_webhook=bool(options.listener_webhook or options.listener_add),
        intro=_intro(options, limits),
        events=replace(
            limits.events,
            history=config.limits.event_history,
            readers=config.limits.event_readers,
            queue_bytes=config.limits.event_queue_bytes,
        ),
        limits=listener,
    )


def _intro(options: RadioOptions, limits: RadioLimits) -> Intro | None:
    """Read a station's intro; one that can't be played is a line in the log. Blocks."""
    if not options.intro:
        return None
    path = Path(options.intro).expanduser()
    try:
        with ReaderGuard(path):
            return read_intro(path, limits.station)
    except OSError as error:
        reason = error.strerror or str(error)
    except MediaError as error:
        reason = str(error)
    log.warning("intro isn't played", mount=options.name, file=redacted_url(options.intro), reason=reason)
    return None


def simulcast_options(
    config: Config,
    limits: StationLimits,
    dvr_bucket: DvrBucket | None = None,
    stations: Sequence[RadioOptions] | None = None,
) -> dict[str, SimulcastOptions]:
    """Return the options of the stations' live channels, by name.

    Args:
        config: all options; a configured live channel of a station's name takes precedence.
        limits: how the channels begin and end.
        dvr_bucket: the bucket of DVRs; None for DVRs on disk.
        stations: whose; None: of all.
    """
    publish = limits.channel.publish.with_waiters(config.limits.blocked_requests)
    dvr = replace(limits.channel.dvr, waiting_bytes=config.limits.dvr_waiting_bytes)
    limits = replace(
        limits, starts=config.limits.hls_starts, channel=replace(limits.channel, publish=publish, dvr=dvr)
    )
    return {
        station.name: SimulcastOptions(
            station.name,
            tuple(1000 * rate for rate in station.hls_bitrates),
            station.hls_on_demand and not has_dvr(station, config),
            config.limits.hls_idle_seconds,
            lead_seconds=LEAD_SECONDS,
            dvr=_dvr(station, config, dvr_bucket),
            limits=limits,
        )
        for station in (config.radio if stations is None else stations)
        if is_in_hls(station, config)
    }


def _dvr(station: RadioOptions, config: Config, bucket: DvrBucket | None) -> StationDvr:
    # The nodes of a cluster share one DVR, and none has its own.
    if not has_dvr(station, config) or config.cluster.url:
        return NO_DVR
    # Not that of live channels: one of the same name before may have an event that is over.
    data = data_folder(config, "radio", station.name)
    kept = window = dvr_seconds(station)
    if bucket is not None or data is not None:
        window = listed_seconds(station)
    return StationDvr(
        window,
        data,
        size(station.dvr_size),
        bucket,
        kept if window < kept else 0.0,
        record=station.record,
        retention=Retention(seconds(station.recordings), recordings_bytes(station)),
    )


def make_simulcasts(
    options: Mapping[str, SimulcastOptions],
    mounts: Mapping[str, Mount],
    tools: Tools,
    on_channel: Callable[[Channel], None],
    observer: Callable[[str], Callable[[float], None]],
    starts: StartLimit,
) -> dict[str, Simulcast]:
    """Make the live channels of the stations.

    Args:
        on_channel: called with each channel, and each that replaces it. A live channel of the same name has
            precedence.
        observer: returns for a channel's name the callback that records its parts' delays.
        starts: the limit that all stations share.

    Returns:
        The stations' simulcasts, by name.
    """
    made = {
        name: Simulcast(
            one,
            mounts[name].subscribers.subscribe,
            tools,
            on_part=observer(name),
            on_channel=on_channel,
            starts=starts,
        )
        for name, one in options.items()
    }
    for name, simulcast in made.items():
        simulcast.publishers = mounts[name].source_station
    return made
