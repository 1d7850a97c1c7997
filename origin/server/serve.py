"""``headwater serve``: from the configuration to a running server, each step failing with one line."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import signal
import socket
from collections.abc import Awaitable, Iterator, Sequence
from pathlib import Path

import click
import msgspec
import structlog
import uvicorn

from origin.access.policy import AccessOptions, loopback_ports
from origin.config import logs
from origin.config.kept_secrets import MadeSecret, station_of, with_secrets
from origin.config.options import Config, redactor_of
from origin.config.warnings import unserved
from origin.files.fast_path import FileFastPath
from origin.http.client_limits import ClientLimits
from origin.http.trusted_proxies import TrustedProxies
from origin.http1.access_log import AccessLog
from origin.http1.fast_path import FastPath
from origin.http1.protocol import http_protocol
from origin.http1.request_head import HttpLimits
from origin.live.fast_path import LiveFastPath
from origin.responses.common_headers import common_headers
from origin.server import malloc, privileges, rlimits, socket_activation
from origin.server.app import build_app
from origin.server.server import Server, address_of
from origin.server.services import Services
from packager.data_lock import DataInUseError, DataLock
from packager.process import sandbox
from packager.process.tools import Tools, ToolsError

log = structlog.get_logger()

PLAYER = Path(__file__).resolve().parents[2] / "player"


async def serve(
    config: Config,
    asking: Awaitable[Tools],
    bound: socket_activation.Sockets | None = None,
    *,
    demo: bool,
    own_library: bool,
    file: Path | None = None,
) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Args:
        config: all options.
        asking: gives ffmpeg, or says why there is none.
        bound: what is listened on, where that was bound already.
        demo: whether the demo's channel, station and (without an own library) films are added.
        own_library: whether the configuration names a library.
        file: where it was read from, if from a file.

    Raises:
        CommandError: the address is taken, or the library is the folder of the server's data.
        ToolsError: ffmpeg is missing and something configured needs it.
        DataInUseError: another server uses the data folder.
        SecretsError: the file with secrets that were made isn't to be trusted.
        OSError: the library can't be read.
    """
    with _ending_early():
        handed, sockets = bound or socket_activation.or_bound(config)
        config = _within(config, rlimits.raise_limit())
        try:
            config, tools = await _equipped(config, asking, demo=demo, own_library=own_library)
            lock = await asyncio.to_thread(_lock, config, patient=bool(handed))
            config, made = await asyncio.to_thread(with_secrets, config)
            # What was made or kept is to be in no line of the log either.
            await asyncio.to_thread(logs.configure, config.log.level, config.log.format, redactor_of(config))
            make = functools.partial(
                Services,
                files=() if file is None else (file,),
                needs_library=own_library or not (config.live or config.radio or config.events),
            )
            services = await asyncio.to_thread(make, config, tools, lock)
            await asyncio.to_thread(services.check_library)
            options = AccessOptions.of(config, loopback_ports([one.getsockname()[:2] for one in sockets]))
            listening = _listening(config, services, options)
            _tell_what_is_open(options, sockets)
            malloc.keep()
            await _turn(handed, address_of(sockets, config.server.host))
        except BaseException:
            for sock in sockets:
                sock.close()
            raise
    server = Server(
        listening,
        on_listening=lambda: _announce(services, address_of(sockets, config.server.host), made, demo=demo),
        on_close=services.close,
        grace=config.limits.shutdown_seconds,
    )
    try:
        await server.serve(sockets=sockets)
    finally:
        services.open_files.close()
        if lock is not None:
            lock.release()


def _tell_what_is_open(options: AccessOptions, sockets: Sequence[socket.socket]) -> None:
    """Say what anybody may read on a server that others than this machine reach."""
    reached = any(one.getsockname()[1] not in options.loopback_ports for one in sockets)
    areas = sorted({"api", "health", "metrics"} - options.protected)
    if reached and areas:
        advice = "name in server.protected what needs the admin token"
        log.info("open to everybody", areas=", ".join(areas), advice=advice)


async def _turn(handed: Sequence[socket.socket], address: str) -> None:
    """Wait until the server before listens no more on the sockets that were handed over, all being ready."""
    if not socket_activation.is_free(handed):
        click.echo(f"Headwater is at {_bold(address)} as soon as the server that is there now ends")
        log.info("ready", waits_for="another server listens on this socket; end it with SIGTERM")
        await socket_activation.turn(handed)


async def _equipped(
    config: Config, asking: Awaitable[Tools], *, demo: bool, own_library: bool
) -> tuple[Config, Tools | None]:
    """Find ffmpeg, make the demo's media where they are wanted, and say which options have no effect."""
    tools = await _tools(asking, needed=demo or bool(config.live or config.radio))
    if demo and tools is not None:
        from origin.server.demo import with_demo

        config = await with_demo(config, tools, own_library=own_library)
    for line in await asyncio.to_thread(lambda: list(unserved(config))):
        log.warning("no effect", reason=line)
    return config, tools


def _listening(config: Config, services: Services, options: AccessOptions) -> uvicorn.Config:
    """Say how connections are served: by the application, and before it by what answers on the wire."""
    access_log = AccessLog(services.traffic, log_requests=config.log.requests)
    proxies = TrustedProxies(config.server.trusted_proxies)
    of_clients = ClientLimits.of(config, proxies)
    shared_headers = common_headers(config.server.allow_origin)
    fast_path = FastPath(
        {
            "media": FileFastPath(services.open_files, access_log),
            "live": LiveFastPath(
                services.streams,
                access_log,
                shared_headers,
                config.server.carried_parameters,
                of_clients.blocked_requests,
            ),
        }
    )
    return uvicorn.Config(
        build_app(services, PLAYER, options, of_clients),
        http=http_protocol(_wire_limits(config), fast_path, proxies, of_clients.connections),
        # uvicorn believes whoever is on this machine, and on the application's way alone.
        proxy_headers=False,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=round(config.limits.keep_alive_seconds),
    )


def _lock(config: Config, *, patient: bool) -> DataLock | None:
    """Take the data folder for this server, where live channels keep something in it.

    Args:
        config: all options.
        patient: whether the channels wait for it where another server has it, which is about to end.

    Raises:
        DataInUseError: another server has it, and nobody waits.
        OSError: it can't be made or written.
    """
    if not config.server.data or not config.live:
        return None
    lock = DataLock(Path(config.server.data).expanduser())
    try:
        lock.take()
    except DataInUseError as error:
        if not patient:
            raise
        log.info("live channels wait", reason=str(error))
    return lock


async def _tools(asking: Awaitable[Tools], *, needed: bool) -> Tools | None:
    try:
        tools = await asking
    except ToolsError as error:
        if needed:
            raise
        log.warning("no ffmpeg: files are served without facts about them", reason=str(error))
        return None
    log.debug("ffmpeg found", path=str(tools.ffmpeg), version=tools.version)
    return tools


def _tell_what_is_unprotected() -> None:
    """Say what the system doesn't keep a program from that somebody else's media took over."""
    if lacking := sandbox.missing():
        advice = "don't open files or streams of people you don't trust; server.require_sandbox refuses this"
        log.warning("ffmpeg's sandbox is incomplete", lacking=" and ".join(lacking), advice=advice)
    if privileges.is_root():
        log.warning("running as root", advice="name a user in server.user, which it becomes once it listens")


def _wire_limits(config: Config) -> HttpLimits:
    limits = config.limits
    return HttpLimits(
        header_seconds=limits.header_seconds,
        header_bytes=limits.header_bytes,
        header_fields=limits.header_fields,
        target_bytes=limits.target_bytes,
        stalled_seconds=limits.stalled_seconds,
        body_seconds=limits.body_seconds,
        body_rate=limits.body_rate,
        connections=limits.connections,
    )


def _within(config: Config, allowed: int) -> Config:
    """The configuration, with no more connections and files than there are descriptors for."""
    connections = rlimits.connections_within(allowed, config.limits.connections)
    if connections < config.limits.connections:
        log.info("fewer connections than configured", rlimits=allowed, connections=connections)
    limits = msgspec.structs.replace(
        config.limits,
        connections=connections,
        open_files=rlimits.files_within(allowed, config.limits.open_files),
    )
    return msgspec.structs.replace(config, limits=limits)


def _announce(services: Services, address: str, made: Sequence[MadeSecret], *, demo: bool) -> None:
    log.info("serving", address=address, library=str(services.library.root))
    _tell_what_is_unprotected()
    click.echo(f"Headwater is at {_bold(address)}")
    for secret in made:
        click.echo(_shown(secret, address))
    if demo:
        click.echo("Stop it with Ctrl-C.")


def _bold(text: str) -> str:
    """Make a text bold; where nobody sees it on a terminal, ``click.echo`` takes that out."""
    return click.style(text, bold=True)


def _shown(secret: MadeSecret, address: str) -> str:
    """Show a secret that was made: where it is kept, for the only time."""
    station = station_of(secret.name)
    use = "The admin token is"
    if station is not None:
        use = f"Publish to {address}radio/{station} as source, password"
    key = secret.name.rpartition(".")[2]
    later = f"set {key} to keep one" if secret.file is None else f"kept in {secret.file}, not shown again"
    return f"{use} {secret.text} ({later})"


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
