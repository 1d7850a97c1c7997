"""What the configuration may say although the server doesn't do it yet: told at the start, not in silence."""

from __future__ import annotations

from collections.abc import Iterator

from origin.config import Config, LiveOptions, RadioOptions
from packager import sources


def serves_channel(options: LiveOptions) -> bool:
    """Tell whether a channel's source can be played: the test source, a file, or what can be pulled."""
    return sources.playable(options.source)


def serves_station(options: RadioOptions) -> bool:
    """Tell whether a station's source can be played: a folder."""
    return options.source == "folder"


def unserved(config: Config) -> Iterator[str]:
    """Name what is configured and has no effect.

    Yields:
        One line for each, beginning with the key.
    """
    for key, port in (("rtmp_port", config.server.rtmp_port), ("srt_port", config.server.srt_port)):
        if port:
            yield f"server.{key}: publishing by this protocol isn't served yet"
    for channel in config.live:
        if not serves_channel(channel):
            schemes = ", ".join(sources.SCHEMES)
            allowed = (
                f"only {sources.TEST_SOURCE!r}, files that are there and URLs of {schemes} can be played yet"
            )
            named = sources.redacted(channel.source)
            yield f"live {channel.name!r}: source {named!r}: {allowed}; the channel is left out"
        if channel.publish_key:
            yield f"live {channel.name!r}: publish_key: publishing isn't served yet"
    for station in config.radio:
        if not serves_station(station):
            allowed = "only 'folder' can be played yet"
            yield f"radio {station.name!r}: source {station.source!r}: {allowed}; the station is left out"
        for key in ("source_password", "fallback"):
            if getattr(station, key):
                yield f"radio {station.name!r}: {key}: isn't served yet"
    for events in config.events:
        yield f"events {events.name!r}: event channels aren't served yet"
