"""Checks the tables of live channels, and of the patterns by which publishers make some."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from origin.config.options import Config, LiveOptions, live_templates
from packager.redaction import redacted_url


def faults(config: Config) -> Iterator[str]:
    """Find what can't be in the tables of live channels. Blocks, to look for files.

    Yields:
        One line for each, beginning with the section and the key.
    """
    for channel in config.live:
        languages = [language.lower() for language in channel.captions]
        if len(set(languages)) < len(languages):
            yield f"live: captions of {channel.name!r}: each language once"
        if not channel.ladder or len(set(channel.ladder)) < len(channel.ladder):
            yield f"live: ladder of {channel.name!r}: at least one rendition, and each once"
        part, segment = channel.part_duration, channel.segment_duration
        if part > segment:
            longer = f"{part:g} is longer than its segment_duration, {segment:g}"
            yield f"live: part_duration of {channel.name!r}: {longer}"
    if config.live:
        yield from _of_sources(config.live)
    yield from _of_templates(config)


def _of_sources(channels: Sequence[LiveOptions]) -> Iterator[str]:
    """Find faults of sources, as far as that is possible without connecting to them."""
    # Imported here, as that is slow, and a server without channels doesn't need it.
    from packager.sources.probe import playable
    from packager.sources.published_source import PUBLISH
    from packager.sources.schemes import SCHEMES
    from packager.sources.source import TEST_SOURCE

    for channel in channels:
        if channel.is_template and channel.source != PUBLISH:
            yield f"live: source of {channel.name!r}: publishers make its channels; allowed: {PUBLISH!r}"
        elif channel.source != PUBLISH and not playable(channel.source):
            fault = f"{redacted_url(channel.source)!r} isn't there" if channel.source else "is missing"
            allowed = f"{PUBLISH!r}, {TEST_SOURCE!r}, a file that is there, a URL of {', '.join(SCHEMES)}"
            yield f"live: source of {channel.name!r}: {fault}; allowed: {allowed}"


def _of_templates(config: Config) -> Iterator[str]:
    names = {*(one.name for one in config.live), *(one.name for one in config.radio)}
    for template in live_templates(config):
        first = template.name.partition("/")[0]
        if first in names:
            # Tokens for all that is below /live/room are for the channels of both.
            yield f"live: the name {first!r}: {template.name!r} has its addresses; allowed: another one"
        if template.recordings_copy:
            yield f"live: recordings_copy of {template.name!r}: not for channels that publishers make"
        if config.cluster.url:
            yield f"live: the name {template.name!r}: nodes of a cluster make no channels at run time"
