"""Interprets and checks the configuration of radio stations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from origin.config.options import dvr_seconds
from origin.http.path_prefixes import AREAS

if TYPE_CHECKING:
    from origin.config.options import Config, RadioOptions, ServerOptions

SCHEMES = ("http://", "https://")

OGG_ENDINGS = (".ogg", ".oga", ".opus")
"""Extensions of names and files that are Ogg; a source client may send Ogg under any name."""


OWN_PATHS = AREAS | {"admin", "status.xsl", "embed", "oembed"}
"""First segments of paths at which no station can have another address."""

AAC_ENDINGS = (".aac", ".aacp")
"""Extensions of station names that are AAC."""


def kind(options: RadioOptions) -> str:
    """Return the kind of a station's source: ``folder``, ``publish``, ``relay``, or "" if invalid."""
    if options.source in ("folder", "publish", "relay"):
        return options.source
    return "relay" if options.source.startswith(SCHEMES) else ""


def stream_of(options: RadioOptions) -> str:
    """Return the URL that a relay plays."""
    return (options.url or "") if options.source == "relay" else options.source


def page_of(options: RadioOptions) -> str:
    """Return the URL of the station's web page."""
    return "" if options.source == "relay" else options.url or ""


def lacks_fallback(options: RadioOptions, stations: Sequence[RadioOptions]) -> bool:
    """Return whether the configured fallback is neither another station nor an existing file. Blocks."""
    if not options.fallback or options.fallback in {station.name for station in stations}:
        return False
    return not Path(options.fallback).expanduser().is_file()


def asks_listeners(station: RadioOptions) -> bool:
    """Return whether a password or a webhook decides who may listen to a station."""
    return bool(station.listener_password or station.listener_webhook or station.listener_add)


def is_in_hls(station: RadioOptions, config: Config) -> bool:
    """Return whether a station is a live channel, too; a configured one of its name takes precedence."""
    is_taken = any(channel.name == station.name for channel in config.live)
    # Nodes that don't configure a station serve its HLS, too, to everybody unless access.channels names it.
    is_known = station.access == "open" or not config.cluster.url or station.name in config.access.channels
    return station.hls and not asks_listeners(station) and not is_taken and is_known


def has_dvr(station: RadioOptions, config: Config) -> bool:
    """Return whether what a station has played is kept: the nodes of a cluster share a DVR in S3 alone."""
    is_served = not config.cluster.url or bool(config.server.dvr_path)
    return is_in_hls(station, config) and dvr_seconds(station) > 0 and is_served


def is_ogg(name: str) -> bool:
    """Return whether a name has an extension of Ogg."""
    return name.lower().endswith(OGG_ENDINGS)


def expected_type(options: RadioOptions) -> str:
    """Return a station's media type, which is valid until its source declares another."""
    if is_ogg(options.name):
        return "application/ogg"
    return "audio/aac" if options.name.lower().endswith(AAC_ENDINGS) else "audio/mpeg"


def faults(stations: Sequence[RadioOptions], server: ServerOptions) -> Iterator[str]:
    """Find errors in the configuration of stations.

    Yields:
        One line for each, beginning with the station.
    """
    by_name = {station.name: station for station in stations}
    for station in stations:
        place = f"radio {station.name!r}"
        if not kind(station):
            allowed = "allowed: folder, publish, relay, or an address that begins with http:// or https://"
            yield f"{place}: source: not possible; {allowed}"
        elif kind(station) == "relay" and not stream_of(station).startswith(SCHEMES):
            yield f"{place}: url: a relay needs the stream's address, beginning with http:// or https://"
        elif kind(station) == "relay" and not is_address(stream_of(station)):
            yield f"{place}: not the address of a server; signs such as '/' in passwords are percent-encoded"
        elif kind(station) == "folder" and is_ogg(station.name):
            yield f"{place}: name: a folder goes out as MP3; Ogg is for the sources publish and relay"
        if station.intro and is_ogg(station.name):
            yield f"{place}: intro: only a station of MP3 or AAC has one; this one is Ogg"
        if station.fallback is not None and _is_unlike(station, by_name):
            yield f"{place}: fallback: not possible, one of the two is Ogg and the other isn't"
    yield from _alias_faults(stations)
    edges = {station.name: tuple(_sources(station, by_name, server)) for station in stations}
    for station in stations:
        if loop := _way_back(station.name, edges):
            yield f"radio {station.name!r}: it would hear itself: {' → '.join(loop)}"


def _alias_faults(stations: Sequence[RadioOptions]) -> Iterator[str]:
    """Yield faults of aliases that are an address of this server already."""
    names = {station.name for station in stations}
    owners: dict[str, str] = {}
    for station in stations:
        for alias in station.aliases:
            place = f"radio {station.name!r}: aliases: {alias!r}"
            first, _, rest = alias[1:].partition("/")
            is_stations = rest in names or rest.rpartition(".")[0] in names or "/" in rest
            if alias in owners:
                yield f"{place}: radio {owners[alias]!r} has it too; each address is of one station"
            elif is_stations if first == "radio" else first in OWN_PATHS:
                yield f"{place}: something else is there; allowed: a path that isn't this server's own"
            owners.setdefault(alias, station.name)


def is_address(url: str) -> bool:
    """Return whether a URL has a valid host, and port if any (RFC 3986 §3.2)."""
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False


def _is_unlike(station: RadioOptions, by_name: Mapping[str, RadioOptions]) -> bool:
    """Return whether a fallback certainly has another media type; files are MP3."""
    other = by_name.get(station.fallback or "")
    if other is None:
        return is_ogg(station.name) or is_ogg(station.fallback or "")
    # A name without such an ending says nothing, but a folder is MP3.
    plain = {one.name for one in (station, other) if kind(one) == "folder" or one.name.endswith(".mp3")}
    return is_ogg(station.name) != is_ogg(other.name) and bool(plain)


def _sources(
    station: RadioOptions, by_name: Mapping[str, RadioOptions], server: ServerOptions
) -> Iterator[str]:
    """Yield the stations of this server whose audio a station uses."""
    if station.fallback is not None and station.fallback in by_name:
        yield station.fallback
    if kind(station) != "relay":
        return
    try:
        parts = urlsplit(stream_of(station))
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        return
    own = {server.host, "localhost", "127.0.0.1", "::1", "0.0.0.0"}  # noqa: S104  # compared, not bound
    name = unquote(parts.path).removeprefix("/radio/")
    if parts.hostname in own and port == server.port and name in by_name:
        yield name


def _way_back(name: str, edges: Mapping[str, Sequence[str]]) -> list[str]:
    """Find a cycle from a station to itself; [] for none."""
    ways = [[name]]
    seen = set[str]()
    while ways:
        way = ways.pop()
        for following in edges[way[-1]]:
            if following == name:
                return [*way, name]
            if following not in seen:
                seen.add(following)
                ways.append([*way, following])
    return []
