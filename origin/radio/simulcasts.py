"""From the configuration to the stations' channels: ``/live/NAME/…`` of each, unless told otherwise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from origin.config.options import Config
from origin.radio.mount import Mount
from packager.live.channel import Channel
from packager.process.tools import Tools
from packager.radio.limits import SimulcastLimits
from packager.radio.simulcast import Simulcast, SimulcastOptions, Starts


def make_simulcasts(
    config: Config,
    mounts: Mapping[str, Mount],
    tools: Tools,
    on_channel: Callable[[Channel], None],
    observer: Callable[[str], Callable[[float], None]],
    limits: SimulcastLimits,
) -> dict[str, Simulcast]:
    """Make the channels of a configuration's stations.

    Args:
        config: all options.
        mounts: by name.
        tools: the ffmpeg that they use.
        on_channel: told each channel, and each that takes its place. A live channel of the same name goes
            first.
        observer: gives for a channel's name who is told its parts' delays.
        limits: how the channels begin and end.

    Returns:
        What keeps them, by name.
    """
    starts = Starts(replace(limits, starts=config.limits.hls_starts))
    taken = {channel.name for channel in config.live}
    return {
        station.name: Simulcast(
            SimulcastOptions(
                station.name,
                tuple(1000 * rate for rate in station.hls_bitrates),
                station.hls_on_demand,
                config.limits.hls_idle_seconds,
                config.limits.blocked_requests,
                limits=limits,
            ),
            mounts[station.name].taps.tapped,
            tools,
            on_part=observer(station.name),
            on_channel=on_channel,
            starts=starts,
        )
        for station in config.radio
        if station.hls and not station.listener_password and station.name not in taken
    }
