"""Makes the demo's media and adds its channels and station to the configuration (``serve --demo``)."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable
from pathlib import Path

import click
import msgspec
import structlog

from origin.config.options import Config, EventOptions, LiveOptions, RadioOptions
from origin.server.services.demo_event_channel import CHANNEL
from packager.library import demo_media as demo_media
from packager.process.ffmpeg_discovery import Tools
from packager.sources.published_source import PUBLISH
from packager.sources.source import TEST_SOURCE

log = structlog.get_logger()

EVENTS = EventOptions(name=CHANNEL, keep=300, include=("radio/demo.mp3", "live/demo"))
"""The demo's event channel: what happens at the station and the live channel, and a text
that types itself."""


def secrets_folder() -> Path:
    """Return the folder in which a demo without a data folder keeps its keys from start to start."""
    return demo_media.cache_folder() / "headwater" / "demo"


async def with_demo(config: Config, tools: Tools, *, own_library: bool) -> Config:
    """Make the demo's media and add what shows them to the configuration.

    Args:
        tools: ffmpeg; its results are kept in the user's cache folder.
        own_library: whether to show the configured library instead of the demo's films.

    Raises:
        ToolsError: this ffmpeg can't make them.
    """
    folder = demo_media.folder(demo_media.cache_folder(), tools)
    with contextlib.ExitStack() as shown:

        @functools.cache
        def advance(total: int) -> Callable[[int, str], None]:
            bar = click.progressbar(
                length=total, label="making", show_pos=True, item_show_func=lambda name: name, file=sys.stderr
            )
            return shown.enter_context(bar).update

        def show(label: str, done: int, total: int) -> None:
            if sys.stderr.isatty():
                advance(total)(min(done, 1), label)
            else:
                log.info("making demo media", item=label, done=done, of=total)

        await demo_media.make(folder, tools, progress=show)
    library = (
        config.library
        if own_library
        else msgspec.structs.replace(config.library, path=str(folder / "library"))
    )
    live, radio = config.live, config.radio
    if not any(channel.name == "demo" for channel in live):
        live = (*live, LiveOptions(name="demo", source=TEST_SOURCE))
    if config.server.rtmp_port and not any(channel.source == PUBLISH for channel in live):
        live = (*live, LiveOptions(name="studio", source=PUBLISH))
    if not any(station.name == "demo.mp3" for station in radio):
        station = RadioOptions(
            name="demo.mp3", folder=str(folder / "music"), title="Headwater demo", genre="demo"
        )
        radio = (*radio, station)
    events = config.events
    if not any(channel.name == EVENTS.name for channel in events):
        events = (*events, EVENTS)
    return msgspec.structs.replace(config, library=library, live=live, radio=radio, events=events)
