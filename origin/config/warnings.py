"""Finds configured options that have no effect, to be logged at the start."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from origin.config import stations
from origin.config.options import (
    GAPS,
    Config,
    EventOptions,
    LiveOptions,
    RadioOptions,
    TlsOptions,
    seconds,
)
from packager.redaction import redacted_url
from packager.sources.published_source import PUBLISH
from packager.sources.schemes import is_url


def unserved(config: Config) -> Iterator[str]:
    """Find options without effect.

    Yields:
        One line for each, beginning with its key.
    """
    if not config.tls.certificate:
        for key in ("key", "port", "rtmps_port", "redirect", "http3"):
            if getattr(config.tls, key) != getattr(TlsOptions(), key):
                yield f"tls.{key}: there is no TLS without tls.certificate"
    yield from _of_channels(config)
    yield from _of_stations(config)
    yield from _of_event_channels(config)
    yield from _of_relays(config)


def _of_channels(config: Config) -> Iterator[str]:
    for key in ("rtmp_port", "srt_port", "publish_webhook"):
        if getattr(config.server, key) and all(channel.source != PUBLISH for channel in config.live):
            yield f"server.{key}: no live channel has source = {PUBLISH!r}"
    for channel in config.live:
        if config.cluster.url and not config.server.dvr_path and channel.dvr != LiveOptions(channel.name).dvr:
            yield f"live {channel.name!r}: dvr: nodes of a cluster serve a DVR in server.dvr_path alone"
        is_stored = config.server.dvr_path or (config.server.data and not config.cluster.url)
        if channel.playlist_window != LiveOptions(channel.name).playlist_window and (
            channel.event or not is_stored
        ):
            yield f"live {channel.name!r}: playlist_window: not of an event, nor of a DVR in memory"
        if channel.event and config.server.dvr_path and not config.cluster.url:
            yield f"live {channel.name!r}: event: a DVR in server.dvr_path isn't made a recording of"
        elif channel.event and not config.server.data:
            yield f"live {channel.name!r}: event: without server.data only its live window is kept"
        yield from _of_rule(channel, config)
        if channel.source != PUBLISH:
            defaults = LiveOptions(channel.name)
            for key in ("takeover", "after_end", "srt_passphrase", "forward"):
                if getattr(channel, key) != getattr(defaults, key):
                    yield f"live {channel.name!r}: {key}: only source = {PUBLISH!r} takes publishers"
        if channel.offline != GAPS:
            yield from _of_slate(channel)


def _of_rule(channel: LiveOptions, config: Config) -> Iterator[str]:
    if channel.record != "none" and not config.server.data:
        yield f"live {channel.name!r}: record: recordings are made in server.data"
    elif channel.record == "publications" and channel.source != PUBLISH:
        yield f"live {channel.name!r}: record: only source = {PUBLISH!r} has publications"
    elif channel.record != "none" and config.cluster.url and not channel.recordings_copy:
        reason = "without recordings_copy only the node that made a recording serves it"
        yield f"live {channel.name!r}: record: {reason}"


def _of_station_rule(station: RadioOptions, config: Config) -> Iterator[str]:
    if station.record == "none":
        return
    if not stations.is_in_hls(station, config):
        yield f"radio {station.name!r}: record: only a station in HLS has recordings"
    elif config.cluster.url and not config.server.dvr_path:
        yield f"radio {station.name!r}: record: nodes of a cluster keep recordings in server.dvr_path alone"
    elif not config.server.data and config.cluster.role != "edge":
        yield f"radio {station.name!r}: record: recordings are made in server.data"
    elif station.record == "publications" and stations.kind(station) != "publish":
        yield f"radio {station.name!r}: record: only source = 'publish' has source clients"


def _of_slate(channel: LiveOptions) -> Iterator[str]:
    if channel.source != PUBLISH and not is_url(channel.source):
        yield f"live {channel.name!r}: offline: only a channel that is published to or pulled has a slate"
    elif not Path(channel.offline).expanduser().is_file():
        named = redacted_url(channel.offline)
        yield f"live {channel.name!r}: offline {named!r}: no file that is there; gaps stand in its place"


def _of_event_channels(config: Config) -> Iterator[str]:
    sources = {f"live/{channel.name}" for channel in config.live}
    sources |= {f"radio/{station.name}" for station in config.radio}
    for channel in config.events:
        for key in () if channel.is_template else ("create", "expires"):
            if getattr(channel, key) != getattr(EventOptions(channel.name), key):
                yield f"events {channel.name!r}: {key}: only a pattern such as room/* has this"
        if config.cluster.url and channel.is_template:
            yield f"events {channel.name!r}: nodes of a cluster make no channels at run time"
        if config.cluster.url and seconds(channel.history):
            yield f"events {channel.name!r}: history: what the nodes of a cluster share is kept in Redis"
        if channel.relay_key and not channel.relay:
            yield f"events {channel.name!r}: relay_key: there is no relay that would need it"
        for name in channel.include:
            if name not in sources:
                yield f"events {channel.name!r}: include: {name!r} is neither a station nor a live channel"


def _of_relays(config: Config) -> Iterator[str]:
    for relay in config.relay:
        if not config.limits.created_channels:
            reason = "servers with created_channels = 0 keep no answers"
            yield f"relay {relay.name!r}: {reason}, so that no reader can come again"
        elif relay.history and config.cluster.url:
            yield f"relay {relay.name!r}: history: what the nodes of a cluster share is kept in Redis"
        elif relay.history and not config.server.data:
            yield f"relay {relay.name!r}: history: without server.data answers end with the server"


def _of_stations(config: Config) -> Iterator[str]:
    channels = {channel.name for channel in config.live}
    is_edge = bool(config.cluster.url) and config.cluster.role == "edge"
    for station in config.radio:
        if station.source_password and stations.kind(station) != "publish":
            yield f"radio {station.name!r}: source_password: only source = 'publish' takes source clients"
        if station.source_webhook and stations.kind(station) != "publish":
            yield f"radio {station.name!r}: source_webhook: only source = 'publish' takes source clients"
        if not is_edge and stations.lacks_fallback(station, config.radio):
            named = redacted_url(station.fallback or "")
            yield f"radio {station.name!r}: fallback {named!r}: neither another station nor a file"
        if station.hls and station.name in channels:
            yield f"radio {station.name!r}: hls: the live channel of that name has its address"
        if station.dvr != RadioOptions(station.name).dvr and not stations.has_dvr(station, config):
            reason = "nodes of a cluster serve a DVR in server.dvr_path alone"
            if not stations.is_in_hls(station, config):
                reason = "only a station in HLS has one"
            yield f"radio {station.name!r}: dvr: {reason}"
        yield from _of_station_rule(station, config)
        is_stored = stations.has_dvr(station, config) and (config.server.dvr_path or config.server.data)
        if station.playlist_window != RadioOptions(station.name).playlist_window and not is_stored:
            yield f"radio {station.name!r}: playlist_window: only of a DVR on disk or in S3"
        if station.on_demand and stations.kind(station) != "relay":
            yield f"radio {station.name!r}: on_demand: only a relay is asked for on demand"
        elif station.on_demand and config.cluster.url:
            yield f"radio {station.name!r}: on_demand: who listens at other nodes of a cluster isn't known"
