"""``headwater serve``: from the configuration to a running server, each step failing with one line."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import structlog
import uvicorn
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from origin import descriptors
from origin.app import build_app
from origin.config import Config, LiveOptions, RadioOptions
from origin.edge import Ledger, edge_headers
from origin.fileshortcut import FileShortcut
from origin.house import House
from origin.http1.answers import Shortcuts
from origin.live.shortcut import LiveShortcut
from origin.server import Server, address_of, bind
from origin.unserved import unserved
from origin.wire import WireLimits, wire_protocol
from packager import cage
from packager import demo as demo_media
from packager.datalock import DataLock
from packager.tools import Tools, ToolsError, discover

log = structlog.get_logger()

PLAYER = Path(__file__).resolve().parent.parent / "player"


async def serve(config: Config, *, demo: bool, own_library: bool) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Args:
        config: all options.
        demo: whether the demo's channel, station and (without an own library) films are added.
        own_library: whether the configuration names a library.

    Raises:
        BindError: the address is taken.
        ToolsError: ffmpeg is missing and something configured needs it.
        DataInUseError: another server uses the data folder.
        OSError: the library can't be read.
    """
    with _ending_early():
        sockets = bind(config.server.host, config.server.port, config.limits.unacknowledged_seconds)
        config = _within(config, descriptors.raise_limit())
        try:
            tools = await _tools(needed=demo or bool(config.live or config.radio))
            if demo and tools is not None:
                config = await _with_demo(config, tools, own_library=own_library)
            for line in await asyncio.to_thread(lambda: list(unserved(config))):
                log.warning("no effect", reason=line)
            lock = await asyncio.to_thread(_lock, config)
            house = await asyncio.to_thread(House, config, tools)
            await asyncio.to_thread(house.check_library)
        except BaseException:
            for sock in sockets:
                sock.close()
            raise
    ledger = Ledger(house.traffic, log_requests=config.log.requests)
    server = Server(
        uvicorn.Config(
            build_app(house, PLAYER),
            http=wire_protocol(
                _wire_limits(config),
                Shortcuts(
                    {
                        "media": FileShortcut(house.open_files, ledger),
                        "live": LiveShortcut(
                            house.broadcasts, ledger, edge_headers(config.server.allow_origin)
                        ),
                    }
                ),
            ),
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=round(config.limits.keep_alive_seconds),
        ),
        on_listening=lambda: _announce(house, address_of(sockets, config.server.host), demo=demo),
        on_close=house.close,
        grace=config.limits.shutdown_seconds,
    )
    try:
        await server.serve(sockets=sockets)
    finally:
        house.open_files.close()
        if lock is not None:
            lock.release()


def _lock(config: Config) -> DataLock | None:
    """Take the data folder for this server, where live channels keep something in it."""
    if not config.server.data or not config.live:
        return None
    return DataLock(Path(config.server.data).expanduser())


async def _tools(*, needed: bool) -> Tools | None:
    try:
        tools = await discover()
    except ToolsError as error:
        if needed:
            raise
        log.warning("no ffmpeg: files are served without facts about them", reason=str(error))
        return None
    log.debug("ffmpeg found", path=str(tools.ffmpeg), version=tools.version)
    if lacking := cage.missing():
        advice = "don't open files or streams of people you don't trust"
        log.warning("ffmpeg isn't caged", lacking=" and ".join(lacking), advice=advice)
    return tools


async def _with_demo(config: Config, tools: Tools, *, own_library: bool) -> Config:
    """Make the demo's media and add what shows them to the configuration."""
    folder = demo_media.folder(demo_media.cache_folder(), tools)
    console = Console(stderr=True)
    columns = (TextColumn("{task.description:<28}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=not sys.stderr.isatty()) as bar:
        task = bar.add_task("demo media", total=None)

        def show(label: str, done: int, total: int) -> None:
            bar.update(task, description=f"making {label}", completed=done, total=total)
            if not console.is_terminal:
                log.info("making demo media", item=label, done=done, of=total)

        await demo_media.make(folder, tools, progress=show)
    library = (
        config.library
        if own_library
        else msgspec.structs.replace(config.library, path=str(folder / "library"))
    )
    live, radio = config.live, config.radio
    if not any(channel.name == "demo" for channel in live):
        live = (*live, LiveOptions(name="demo"))
    if not any(station.name == "demo.mp3" for station in radio):
        station = RadioOptions(
            name="demo.mp3", folder=str(folder / "music"), title="Headwater demo", genre="demo"
        )
        radio = (*radio, station)
    return msgspec.structs.replace(config, library=library, live=live, radio=radio)


def _wire_limits(config: Config) -> WireLimits:
    limits = config.limits
    return WireLimits(
        header_seconds=limits.header_seconds,
        header_bytes=limits.header_bytes,
        header_fields=limits.header_fields,
        target_bytes=limits.target_bytes,
        stalled_seconds=limits.stalled_seconds,
        connections=limits.connections,
    )


def _within(config: Config, allowed: int) -> Config:
    """The configuration, with no more connections and files than there are descriptors for."""
    connections = descriptors.connections_within(allowed, config.limits.connections)
    if connections < config.limits.connections:
        log.info("fewer connections than configured", descriptors=allowed, connections=connections)
    limits = msgspec.structs.replace(
        config.limits,
        connections=connections,
        open_files=descriptors.files_within(allowed, config.limits.open_files),
    )
    return msgspec.structs.replace(config, limits=limits)


def _announce(house: House, address: str, *, demo: bool) -> None:
    log.info("serving", address=address, library=str(house.library.root))
    Console().print(f"Headwater is at [bold]{address}[/bold]", highlight=False, soft_wrap=True)
    for name, password in house.stations.made.items():
        line = f"Publish to {address}radio/{name} as source, password {password}"
        console = Console(soft_wrap=True, highlight=False)
        console.print(f"{line} (set source_password to keep one)", markup=False)
    if demo:
        Console().print("Stop it with Ctrl-C.", highlight=False)


@contextlib.contextmanager
def _ending_early() -> Iterator[None]:
    """Until the server takes the signals itself, SIGTERM ends the start-up as Ctrl-C does."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    if task is None:
        raise RuntimeError("outside of a task")
    loop.add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
