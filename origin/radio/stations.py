"""Makes mounts and their live channels from the configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import structlog

from media.errors import MediaError
from origin.config.options import Config, RadioOptions, seconds
from origin.config.stations import expected_type, kind, lacks_fallback, page_of, stream_of
from origin.radio.limits import RadioLimits
from origin.radio.mount import Mount
from origin.radio.options import AudioSource, MountOptions
from packager.live.channel import Channel
from packager.process.tools import Tools
from packager.radio.intro import Intro, read_intro
from packager.radio.limits import SimulcastLimits
from packager.radio.simulcast import Simulcast, SimulcastOptions, StartLimit
from packager.radio.source_client_station import SourceClientStation
from packager.radio.station import Station, StationOptions
from packager.redaction import redacted_url

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Stations:
    """All mounts of a server.

    Attributes:
        mounts: those with an address, by name.
        hidden: those that only are fallbacks.
        passwords: of the mounts that accept a source client, by name.
        aliases: names of mounts by their other addresses.
    """

    mounts: dict[str, Mount] = field(default_factory=dict)
    hidden: list[Mount] = field(default_factory=list)
    passwords: dict[str, str] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)


def make_stations(
    config: Config,
    tools: Tools,
    count: Callable[[int], None],
    count_events: Callable[[int], None] = lambda _: None,
    limits: RadioLimits | None = None,
) -> Stations:
    """Make the mounts of a valid configuration.

    Args:
        config: all options.
        tools: ffmpeg, for folders.
        count: called with the bytes written to listeners.
        count_events: called with the bytes written to readers of event channels.
        limits: what isn't configured of what they may cost and wait for.
    """
    limits = limits or RadioLimits()
    stations = Stations()
    for options in config.radio:
        source = _source(options, tools, limits)
        stations.mounts[options.name] = Mount(
            options.name,
            source,
            mount_options(options, config, limits),
            count=count,
            count_events=count_events,
        )
        stations.aliases.update(dict.fromkeys(options.aliases, options.name))
        if kind(options) == "publish" and options.source_password:
            stations.passwords[options.name] = options.source_password
    for options in config.radio:
        if options.fallback and not lacks_fallback(options, config.radio):
            stations.mounts[options.name].fall_back_to(_fallback(options, tools, stations, limits))
    return stations


def _source(options: RadioOptions, tools: Tools, limits: RadioLimits) -> AudioSource:
    if kind(options) == "publish":
        return SourceClientStation(options.bitrate, expected_type(options), limits.live_source)
    if kind(options) == "relay":
        # An HTTP client takes long to import, and most servers need none.
        from origin.radio.relay import Relay, RelayOptions

        return Relay(
            RelayOptions(
                options.name, stream_of(options), options.bitrate, expected_type(options), limits.relay
            )
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


def _fallback(options: RadioOptions, tools: Tools, stations: Stations, limits: RadioLimits) -> Mount:
    name = options.fallback or ""
    if name in stations.mounts:
        return stations.mounts[name]
    title = f"{options.name} (fallback)"
    source = _folder(options, title, Path(name), tools, limits)
    # A file has no name of its own: what is configured of the station stands for it.
    described = MountOptions(
        title=options.title or options.name,
        genre=options.genre or "",
        url=page_of(options),
        on_demand=True,
        limits=limits.mount,
    )
    hidden = Mount(title, source, described)
    stations.hidden.append(hidden)
    return hidden


def mount_options(options: RadioOptions, config: Config, limits: RadioLimits) -> MountOptions:
    """Convert a station's configuration to its mount's options. Blocks, to read the intro."""
    listener = replace(
        limits.mount.listener,
        burst_bytes=config.limits.burst_bytes,
        queue_bytes=config.limits.queue_bytes,
        skips=options.lagging == "skip",
    )
    return MountOptions(
        title=options.title or "",
        genre=options.genre or "",
        url=page_of(options),
        public=options.public,
        max_listeners=options.max_listeners or config.limits.listeners,
        listener_seconds=seconds(options.max_listener_duration),
        hold_seconds=config.limits.hold_seconds,
        on_demand=options.on_demand and kind(options) == "relay",
        lead_seconds=limits.simulcast.lead_seconds if options.hls else 0.0,
        listener_password=options.listener_password or "",
        has_listener_webhook=bool(options.listener_webhook),
        intro=_intro(options, limits),
        events=replace(
            limits.events,
            history=config.limits.event_history,
            readers=config.limits.event_readers,
            queue_bytes=config.limits.event_queue_bytes,
        ),
        limits=replace(limits.mount, listener=listener),
    )


def needs_permission(station: RadioOptions) -> bool:
    """Tell whether not everybody may listen to a station."""
    return bool(station.listener_password or station.listener_webhook)


def _intro(options: RadioOptions, limits: RadioLimits) -> Intro | None:
    """Read a station's intro; one that can't be played is a line in the log. Blocks."""
    if not options.intro:
        return None
    path = Path(options.intro).expanduser()
    try:
        return read_intro(path, limits.mount.intro)
    except OSError as error:
        reason = error.strerror or str(error)
    except MediaError as error:
        reason = str(error)
    log.warning("intro isn't played", mount=options.name, file=redacted_url(options.intro), reason=reason)
    return None


def make_simulcasts(
    config: Config,
    mounts: Mapping[str, Mount],
    tools: Tools,
    on_channel: Callable[[Channel], None],
    observer: Callable[[str], Callable[[float], None]],
    limits: SimulcastLimits,
) -> dict[str, Simulcast]:
    """Make the live channels of the stations.

    Args:
        config: all options.
        mounts: by name.
        tools: ffmpeg.
        channels: where each new channel is put, by name; a configured live channel of that name takes
            precedence.
        observer: gives for a channel's name the callback that records its parts' delays.
        on_channel: told each channel, and each that takes its place. A live channel of the same name goes
            first.
        limits: how the channels begin and end.

    Returns:
        Their simulcasts, by name.
    """
    publish = limits.channel.publish.with_waiters(config.limits.blocked_requests)
    limits = replace(
        limits, starts=config.limits.hls_starts, channel=replace(limits.channel, publish=publish)
    )
    starts = StartLimit(limits)
    taken = {channel.name for channel in config.live}
    return {
        station.name: Simulcast(
            SimulcastOptions(
                station.name,
                tuple(1000 * rate for rate in station.hls_bitrates),
                station.hls_on_demand,
                config.limits.hls_idle_seconds,
                limits=limits,
            ),
            mounts[station.name].subscribers.subscribe,
            tools,
            on_part=observer(station.name),
            on_channel=on_channel,
            starts=starts,
        )
        for station in config.radio
        if station.hls and not needs_permission(station) and station.name not in taken
    }
