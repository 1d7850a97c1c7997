"""Makes the demo's media, and adds its channels and station to the configuration (``serve --demo``)."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import msgspec
import structlog

from origin.config.options import Config, EventOptions, LiveOptions, RadioOptions
from origin.server.services.demo_event_channel import CHANNEL
from origin.server.services.demo_programmes import CHANNEL as DEMO
from packager.data_lock import NAME as LOCK
from packager.data_lock import DataInUseError, DataLock
from packager.ffmpeg.demo_media import MUSIC
from packager.library import demo_media as demo_media
from packager.process.ffmpeg_discovery import Tools
from packager.sources.published_source import PUBLISH
from packager.sources.source import TEST_SOURCE

DVR = "1h"
"""The past of the demo's channel."""

DATA_PREFIX = "demo-data-"
ABANDONED_SECONDS = 60.0
"""Age from which a data folder that nobody has locked was left by a demo that was killed."""

log = structlog.get_logger()

EVENTS = EventOptions(name=CHANNEL, keep=300, include=("radio/demo.mp3", "live/demo"))
"""The demo's event channel: what happens at the station and the live channel, and a text
that types itself."""


def secrets_folder() -> Path:
    """Return the folder in which a demo without a data folder keeps its keys from start to start."""
    return demo_media.cache_folder() / "headwater" / "demo"


@contextlib.contextmanager
def data_folder() -> Iterator[Path]:
    """Make a data folder in the user's cache folder, which is removed at the end of the block. Blocks.

    Those of demos that were killed are removed, too.

    Raises:
        OSError: the cache folder can't be written.
    """
    place = demo_media.cache_folder() / "headwater"
    place.mkdir(parents=True, exist_ok=True)
    for former in place.glob(f"{DATA_PREFIX}*"):
        _remove_abandoned(former)
    folder = Path(tempfile.mkdtemp(prefix=DATA_PREFIX, dir=place))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_abandoned(folder: Path) -> None:
    with contextlib.suppress(OSError, DataInUseError):
        facts = folder.lstat()
        is_ours = stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.getuid()
        # A demo that still makes its media hasn't locked its folder yet.
        was_locked = (folder / LOCK).exists()
        if is_ours and was_locked and time.time() - facts.st_mtime > ABANDONED_SECONDS:
            lock = DataLock(folder)
            lock.acquire()
            shutil.rmtree(folder, ignore_errors=True)
            lock.release()


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
    return demo_config(config, folder, own_library=own_library)


def demo_config(config: Config, folder: Path, *, own_library: bool) -> Config:
    """Add what shows the demo's media to a configuration.

    Args:
        folder: the place of the media, perhaps not made yet.
        own_library: see `with_demo`.
    """
    library = config.library
    if not own_library:
        library = msgspec.structs.replace(library, path=str(folder / "library"))
    live, radio = config.live, config.radio
    if not any(channel.name == DEMO for channel in live):
        # Nodes of a cluster have a DVR in S3 alone.
        dvr = "0" if config.cluster.url else DVR
        live = (*live, LiveOptions(name=DEMO, source=TEST_SOURCE, dvr=dvr))
    if config.server.rtmp_port and not any(channel.source == PUBLISH for channel in live):
        live = (*live, LiveOptions(name="studio", source=PUBLISH))
    if not any(station.name == "demo.mp3" for station in radio):
        station = RadioOptions(
            name="demo.mp3", folder=str(folder / MUSIC), title="Headwater demo", genre="demo"
        )
        radio = (*radio, station)
    events = config.events
    if not any(channel.name == EVENTS.name for channel in events):
        events = (*events, EVENTS)
    return msgspec.structs.replace(config, library=library, live=live, radio=radio, events=events)
