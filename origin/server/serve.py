"""Starts a server from its configuration and runs it; each step fails with a one-line message."""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import click
import msgspec
import structlog
import uvicorn
from starlette.types import ASGIApp

from origin.access.policy import AccessOptions, loopback_ports
from origin.config import lan_address, logging_setup
from origin.config.kept_secrets import (
    ACCESS_KEY,
    ADMIN_TOKEN,
    MadeSecret,
    StartSecrets,
    event_channel_of,
    live_channel_of,
    relay_of,
    station_of,
    with_admin_token,
    with_secrets,
)
from origin.config.options import Config, data_folder, event_channels, redactor_of, seconds
from origin.config.own_addresses import base_address, own_address
from origin.config.stations import has_dvr
from origin.config.warnings import unserved
from origin.http.answer import Headers
from origin.http.channel_patterns import ANY
from origin.http.trusted_proxies import TrustedProxies
from origin.http1.protocol import http_protocol
from origin.http2.connection import Http2Connection
from origin.ingest.rtmp import RtmpServer
from origin.ingest.srt import SrtServer
from origin.server.app import build_app, live_handler
from origin.server.changes.live_changes import LiveChanges
from origin.server.changes.radio_changes import RadioChanges
from origin.server.changes.relay_changes import RelayChanges
from origin.server.changes.service_reload import take_event_keys, take_stations
from origin.server.endpoints.metrics import ServicesCollector
from origin.server.endpoints.page import PLAYER
from origin.server.http3_config import (
    alternative_services,
    http3_listeners,
    kept_reset_key,
    require_http3,
)
from origin.server.http_config import (
    Served,
    client_limits_of,
    fast_path_of,
    take_client_limits,
    uvicorn_config,
    wire_limits,
)
from origin.server.server import Ending, Server, address_of
from origin.server.services.access_services import take_access, take_admin_token, take_token_keys
from origin.server.services.cluster_services import makes_media, of_role
from origin.server.services.demo_event_channel import CHANNEL, DemoText
from origin.server.services.demo_programmes import CHANNEL as DEMO
from origin.server.services.demo_programmes import DemoProgrammes
from origin.server.services.grpc_services import make_grpc_server, require_grpc
from origin.server.services.library_services import check_library, encoder_of, library_of
from origin.server.services.limits import Limits
from origin.server.services.mapping_view import MappingView
from origin.server.services.recording_services import recording_places
from origin.server.services.services import Services, StartFacts
from origin.server.services.worker_interface import Workers, WorkerTls
from origin.server.tables.config_reload import ConfigReload
from origin.server.tables.made_tables import MadeTables, TablesAtTakeover
from origin.system import malloc, privileges, rlimits, socket_activation
from origin.system.address_file import AddressFile
from origin.system.connection_acceptor import MakeAcceptor, MakeListener, SocketListener
from origin.system.end_signals import ended_by_signals
from origin.tls.certificates import Certificates, configured_certificates
from origin.tls.own_server import lead_own_requests
from packager.data_lock import DataInUseError, DataLock
from packager.process import sandbox
from packager.process.ffmpeg_discovery import Tools, ToolsError
from packager.record_book import RecordBook
from packager.safe_files import DataFolder
from packager.threads import SHARED_THREADS

log = structlog.get_logger()


MakeWorkers = Callable[[Services, Sequence[socket.socket], WorkerTls | None], Workers]
"""Makes the workers of a server, given its services, its listening sockets, and those of TLS."""


TAKEOVER_LOOK_SECONDS = 0.01
"""Pause between two checks whether the previous server has closed the sockets; connections wait as long."""

LOCK_LOOK_SECONDS = 0.02
"""Pause between two checks whether the previous server has left the data folder."""


@dataclass(frozen=True, kw_only=True)
class ServerStart:
    """The inputs of a server's start, beside its configuration.

    Attributes:
        reload: reads the configuration again; the functions that apply what is new are added to it.
        demo: whether to add the demo's channels, station and (without an own library) films.
        own_library: whether the configuration names a library.
        files: the configuration file, if any.
        limits: the limits that aren't configured.
        make_workers: makes the processes that serve beside this one; None for no workers.
        demo_secrets: folder of the demo's secrets; None without a demo, and where the data folder has them.
        recording_places: the place in S3 of each channel's recordings, of all packagers of the cluster.
    """

    reload: ConfigReload
    demo: bool
    own_library: bool
    files: Sequence[Path]
    limits: Limits
    make_workers: MakeWorkers | None
    demo_secrets: Path | None = None
    recording_places: Mapping[str, str] = field(default_factory=dict)


async def serve(
    config: Config,
    finding_tools: Awaitable[Tools],
    bound: socket_activation.Sockets | None,
    start: ServerStart,
) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Args:
        finding_tools: finds ffmpeg, or raises an error that says why there is none.
        bound: the listening sockets, if they are bound already.

    Raises:
        CommandError: the address is taken, or the library is the folder of the server's data.
        ToolsError: ffmpeg is missing and the configuration needs it.
        DataInUseError: another server uses the data folder.
        SecretsError: the file of generated secrets can't be trusted.
        OSError: the library can't be read.
    """
    secrets = _demo_folder() if start.demo and not config.server.data else None
    start = replace(start, recording_places=recording_places(config), demo_secrets=secrets)
    config = of_role(config)
    require_grpc(config)
    require_http3(config)
    with contextlib.ExitStack() as until_end:
        with ended_by_signals():
            bound = bound or socket_activation.inherit_or_bind(config)
            try:
                if start.demo and not (config.server.data or config.cluster.url):
                    config = await SHARED_THREADS.run(until_end.enter_context, _with_demo_data(config))
                ready = await _make_ready(config, finding_tools, bound, start)
            except BaseException:
                for sock in bound.every:
                    sock.close()
                raise
        await _run(ready, start)


@dataclass(frozen=True)
class _PreparedServer:
    """A server that is ready to run.

    Attributes:
        http_config: the application, and its protocol.
        new_secrets: the secrets that were generated, which are printed once.
        lock: the lock of the data folder; None if nothing is stored.
        certificates: None without TLS.
        reset_key: of HTTP/3; see `kept_reset_key`.
    """

    bound: socket_activation.Sockets
    http_config: uvicorn.Config
    services: Services
    new_secrets: Sequence[MadeSecret]
    lock: DataLock | None
    certificates: Certificates | None
    reset_key: bytes


async def _make_ready(
    config: Config, finding_tools: Awaitable[Tools], bound: socket_activation.Sockets, start: ServerStart
) -> _PreparedServer:
    """Make everything that the server needs, and wait until no other one listens on its sockets."""
    limits, demo, followers = start.limits, start.demo, start.reload.followers
    # A configured channel of that name isn't the demo's.
    types_text = demo and not any(channel.name == CHANNEL for channel in config.events)
    has_programmes = demo and not any(channel.name == DEMO for channel in config.live)
    config = _fit_descriptors(config, rlimits.raise_limit())
    record_book = None if (folder := data_folder(config)) is None else RecordBook(folder)
    made_tables = await _restored_tables(config, record_book, start.reload)
    config = await SHARED_THREADS.run(made_tables.added_to, config)
    config, tools = await _prepare(config, finding_tools, demo=demo, own_library=start.own_library)
    needs_library = start.own_library or not (
        config.live or config.radio or config.events or config.relay or config.cluster.url
    )
    # Before anything is written: a start that fails leaves nothing behind.
    await SHARED_THREADS.run(check_library, library_of(config, start.files, limits), needed=needs_library)
    lock = await SHARED_THREADS.run(_lock, config, LOCK_LOOK_SECONDS, patient=bool(bound.inherited))
    secrets = await SHARED_THREADS.run(with_secrets, config, start.demo_secrets)
    if config.cluster.url and not config.server.admin_token and secrets.config.server.admin_token:
        secrets = await _with_clusters_token(secrets)
    config = secrets.config
    # The log's redaction must know the generated secrets, too.
    await SHARED_THREADS.run(
        logging_setup.configure, config.log.level, config.log.format, redactor_of(config)
    )
    facts = StartFacts(
        files=start.files,
        needs_library=needs_library,
        made_keys=secrets.made_keys,
        recording_places=start.recording_places,
        made_tables=made_tables,
        record_book=record_book,
        encoder=await encoder_of(config, tools, limits),
    )
    services = await SHARED_THREADS.run(Services, config, tools, lock, facts, limits)
    services.registry.register(ServicesCollector(services))
    followers += [
        services.publishers.take_keys,
        partial(take_token_keys, services.token_keys, config),
        partial(take_access, services.guard),
        services.state_webhooks.follow,
        partial(take_event_keys, services.events),
        partial(take_stations, services.stations),
    ]
    show = partial(_echo_secret, address_of(bound.http, config.server.host))
    start.reload.changing += [one(services, show) for one in (LiveChanges, RadioChanges, RelayChanges)]
    if services.waits_for_data:
        services.add(TablesAtTakeover(made_tables, start.reload))
    services.reload = start.reload
    if not services.waits_for_data:
        with contextlib.suppress(OSError):  # its service says so, and tries again
            await services.pattern_channels.restore()
    if types_text:
        services.add(DemoText(services.events.channels[CHANNEL], limits.server))
    if has_programmes and (programmes := services.programmes.store(DEMO)) is not None:
        services.add(DemoProgrammes(programmes))
    await SHARED_THREADS.run(services.check_library)
    certificates = None
    if config.tls.certificate:
        certificates = await SHARED_THREADS.run(configured_certificates, config)
        services.add(certificates)
        followers.append(lambda _: certificates.reload())
    lead_own_requests(config)
    reset_key = await SHARED_THREADS.run(kept_reset_key, config)
    followers.append(partial(take_admin_token, services.authorization.admin))
    services.access.options = _access_options(config, [*bound.http, *bound.https], services.events.origins)
    https_port = bound.https[0].getsockname()[1] if config.tls.redirect and bound.https else 0
    alternatives = alternative_services(bound.quic)
    if start.make_workers is not None:
        tls = None
        if certificates is not None:
            tls = WorkerTls(bound.https, certificates, alternatives, https_port)
        services.workers = start.make_workers(services, _public_sockets(config, bound), tls)
    http_config = _http_config(config, services, https_port, alternatives)
    malloc.freeze_garbage_collector()
    await _wait_for_sockets(
        bound.inherited,
        address_of(bound.http, config.server.host),
        TAKEOVER_LOOK_SECONDS,
    )
    return _PreparedServer(bound, http_config, services, secrets.made, lock, certificates, reset_key)


async def _restored_tables(config: Config, book: RecordBook | None, reload: ConfigReload) -> MadeTables:
    """Read the tables that were made at run time, and have a reload keep them."""
    tables = MadeTables(None if config.cluster.url else book)
    try:
        await tables.restore()
    except OSError as error:
        log.error("what was made at run time can't be read", reason=str(error))
    reload.with_made = tables.added_to
    reload.begin_with(await SHARED_THREADS.run(tables.added_to, reload.file))
    return tables


def _echo_secret(address: str, secret: MadeSecret) -> None:
    click.echo(_describe_secret(secret, address))


def _public_sockets(config: Config, bound: socket_activation.Sockets) -> list[socket.socket]:
    """Return the sockets that workers listen on: the administrator's port is the control process's alone."""
    admin_port = config.server.admin_port
    return [one for one in bound.http if not admin_port or one.getsockname()[1] != admin_port]


async def _run(ready: _PreparedServer, start: ServerStart) -> None:
    """Serve until a signal ends the server, then release its resources."""
    services, bound = ready.services, ready.bound
    address = address_of(bound.http, services.config.server.host)
    admission = services.publishers.admission
    rtmp = RtmpServer(admission, services.limits.ingest)
    services.add(rtmp)
    options = services.config.server
    if options.srt_port:
        passphrases = MappingView(services.live.possible_options, lambda one: one.srt_passphrase or "")
        services.add(
            SrtServer(admission, options.host, options.srt_port, services.limits.ingest, passphrases)
        )
    if services.config.grpc.port:
        app = cast(ASGIApp, ready.http_config.app)
        services.add(make_grpc_server(services, app, ready.certificates))
    server = Server(
        ready.http_config,
        on_listening=lambda: _announce(services, address, ready, start),
        ending=Ending(
            drain_seconds=services.config.limits.drain_seconds,
            on_drain=services.drain,
            have_others_closed=lambda: services.workers is None or services.workers.has_closed,
            on_close=services.close,
            grace_seconds=services.config.limits.shutdown_seconds,
        ),
        limits=services.limits.server,
        make_listeners=_listeners(ready, rtmp),
    )
    services.traffic.count_connections(lambda: server.connection_count)
    try:
        async with (
            _address_kept(ready, start),
            contextlib.nullcontext() if services.workers is None else services.workers.running(),
        ):
            await server.serve(sockets=bound.tcp)
    finally:
        services.library.close()
        if services.live.dvr_bucket is not None:
            services.live.dvr_bucket.close()
        if services.record_book is not None:
            await services.record_book.close()
        if services.access_log is not None:
            # Behind the last listeners, whose lines are written at their ends.
            await SHARED_THREADS.run(services.access_log.close)
        if ready.lock is not None:
            ready.lock.release()
    log.info("the server has ended", address=address)


@contextlib.asynccontextmanager
async def _address_kept(ready: _PreparedServer, start: ServerStart) -> AsyncIterator[None]:
    """Keep the server's own address beside its secrets, where commands on this machine find it."""
    config, http, https = ready.services.config, ready.bound.http, ready.bound.https
    folder = data_folder(config) if start.demo_secrets is None else DataFolder(start.demo_secrets)
    if folder is None or not http:
        yield
        return
    port = http[0].getsockname()[1]
    tls = config.tls if not https else msgspec.structs.replace(config.tls, port=https[0].getsockname()[1])
    server = msgspec.structs.replace(config.server, port=port)
    kept = AddressFile(folder, own_address(msgspec.structs.replace(config, server=server, tls=tls)))
    await SHARED_THREADS.run(kept.write)
    try:
        yield
    finally:
        await SHARED_THREADS.run(kept.remove)


def _listeners(ready: _PreparedServer, rtmp: RtmpServer) -> list[MakeAcceptor]:
    """Return what makes the acceptors of all sockets."""
    services, bound = ready.services, ready.bound
    limits = services.limits.server.listening
    context = None if ready.certificates is None else ready.certificates.context
    make_http: MakeListener = (
        SocketListener.of if services.workers is None else services.workers.make_listener
    )
    return [
        *(lambda http, sock=one: make_http(sock, http, limits, None) for one in bound.http),
        *(lambda http, sock=one: make_http(sock, http, limits, context) for one in bound.https),
        *(lambda _, sock=one: SocketListener.of(sock, rtmp.protocol, limits) for one in bound.rtmp),
        *(lambda _, sock=one: SocketListener.of(sock, rtmp.protocol, limits, context) for one in bound.rtmps),
        *http3_listeners(ready.certificates, bound.quic, ready.reset_key),
    ]


async def _with_clusters_token(secrets: StartSecrets) -> StartSecrets:
    """Share the administrator's token that a node has made with the cluster, or use the cluster's."""
    from packager.cluster.connection import RedisUnavailableError, shared_secret

    config = secrets.config
    try:
        token = await shared_secret(config.cluster.url, ADMIN_TOKEN, config.server.admin_token or "")
    except RedisUnavailableError as error:
        advice = "set server.admin_token, the same on all nodes"
        log.warning("the cluster's admin token isn't known", reason=str(error), advice=advice)
        return secrets
    return await SHARED_THREADS.run(with_admin_token, secrets, token)


def _access_options(
    config: Config, sockets: Sequence[socket.socket], origins: Mapping[str, Collection[str]]
) -> AccessOptions:
    """Return which areas are protected, and log those that anybody can read from other machines."""
    server = config.server
    options = AccessOptions(
        frozenset(server.protected),
        server.admin_port,
        frozenset(name.lower() for name in server.names),
        loopback_ports([one.getsockname()[:2] for one in sockets]),
        origins,
    )
    reached = any(one.getsockname()[1] not in options.loopback_ports for one in sockets)
    areas = sorted({"api", "health", "metrics"} - options.protected)
    if reached and areas:
        advice = "name in server.protected what needs the admin token"
        log.info("open to everybody", areas=", ".join(areas), advice=advice)
    return options


async def _wait_for_sockets(inherited: Sequence[socket.socket], address: str, look_seconds: float) -> None:
    """Wait until the previous server has closed the inherited sockets; this one is ready to take over."""
    if not socket_activation.is_free(inherited):
        click.echo(f"Headwater is at {_bold(address)} as soon as the server that is there now ends")
        log.info(
            "the server is ready, and waits for its socket",
            waits_for="another server listens on this socket; end it with SIGTERM",
        )
        await socket_activation.wait_until_free(inherited, look_seconds)


async def _prepare(
    config: Config, finding_tools: Awaitable[Tools], *, demo: bool, own_library: bool
) -> tuple[Config, Tools | None]:
    """Find ffmpeg, make the demo's media if asked for, and log options that have no effect."""
    tools = await _tools(finding_tools, needed=demo or makes_media(config))
    if demo and tools is not None:
        from origin.server.demo import with_demo

        config = await with_demo(config, tools, own_library=own_library)
    for line in await SHARED_THREADS.run(lambda: list(unserved(config))):
        log.warning("an option has no effect", reason=line)
    return config, tools


def _http_config(
    config: Config, services: Services, https_port: int = 0, alternatives: Headers = ()
) -> uvicorn.Config:
    """Build the application, and the connection protocol with its fast paths before it.

    Args:
        https_port: where requests without encryption are led; 0: nowhere.
        alternatives: header fields of responses on encrypted connections, which name other wires.
    """
    proxies = TrustedProxies(config.server.trusted_proxies, config.server.forwarded_field)
    client_limits = client_limits_of(config, proxies)
    if services.reload is not None:
        services.reload.followers.append(partial(take_client_limits, client_limits, config))
    live = live_handler(services, client_limits)
    served = Served(services.library, live, services.traffic, services.guard)
    protocol = http_protocol(
        wire_limits(config, services.limits.http),
        fast_path_of(config, served),
        proxies,
        client_limits.connections,
        http2=Http2Connection,
        redirects_plain=bool(https_port),
        alternatives=alternatives,
    )
    app = build_app(services, PLAYER, client_limits, live, https_port)
    return uvicorn_config(config, app, protocol)


def _lock(config: Config, look_seconds: float, *, patient: bool) -> DataLock | None:
    """Lock the data folder, if live channels, stations or event channels store anything there.

    Args:
        look_seconds: between two checks whether it is free.
        patient: whether to go on without it while another server, which is about to end, has it.

    Raises:
        DataInUseError: another server has it, and ``patient`` is false.
        OSError: it can't be created or written.
    """
    has_histories = any(seconds(one.history) for one in event_channels(config))
    # Of a station in a cluster, nothing is on this disk.
    stores_stations = not config.cluster.url and any(has_dvr(one, config) for one in config.radio)
    has_channels = config.live or stores_stations
    if not config.server.data or not (has_channels or has_histories):
        return None
    lock = DataLock(Path(config.server.data).expanduser(), look_seconds)
    try:
        lock.acquire()
    except DataInUseError as error:
        if not patient:
            raise
        log.info("live channels wait", reason=str(error))
    return lock


async def _tools(finding_tools: Awaitable[Tools], *, needed: bool) -> Tools | None:
    try:
        tools = await finding_tools
    except ToolsError as error:
        if needed:
            raise
        log.warning("no ffmpeg: files are served without facts about them", reason=str(error))
        return None
    log.debug("ffmpeg found", path=str(tools.ffmpeg), version=tools.version)
    return tools


def _log_missing_protection() -> None:
    """Log which protection against manipulated media the system lacks."""
    if lacking := sandbox.missing():
        advice = "don't open files or streams of people you don't trust; server.require_sandbox refuses this"
        log.warning("ffmpeg's sandbox is incomplete", lacking=" and ".join(lacking), advice=advice)
    if privileges.is_root():
        log.warning("running as root", advice="name a user in server.user, which it becomes once it listens")


def _fit_descriptors(config: Config, allowed: int) -> Config:
    """Limit connections and open files to the descriptors that the system allows."""
    connections = rlimits.connections_within(allowed, config.limits.connections)
    if connections < config.limits.connections:
        log.info("fewer connections than configured", rlimits=allowed, connections=connections)
    limits = msgspec.structs.replace(
        config.limits,
        connections=connections,
        open_files=rlimits.files_within(allowed, config.limits.open_files),
    )
    return msgspec.structs.replace(config, limits=limits)


def _announce(services: Services, address: str, ready: _PreparedServer, start: ServerStart) -> None:
    bound = ready.bound
    log.info("the server listens", address=address, library=str(services.library.storage))
    _log_missing_protection()
    click.echo(f"Headwater is at {_bold(address)}")
    encrypted = ""
    if ready.certificates is not None:
        encrypted = address_of(bound.https, services.config.server.host, "https")
        kind = "self-signed, " if ready.certificates.is_self_signed else ""
        click.echo(f"and at {_bold(encrypted)} ({kind}SHA-256 {ready.certificates.fingerprint})")
    if bound.quic:
        click.echo(f"HTTP/3 is at UDP port {bound.quic[0].getsockname()[1]}")
    _announce_to_others(services.config.server.host, encrypted or address)
    # A request whose body comes at once, as curl sends it, doesn't follow a redirect.
    used = encrypted if services.config.tls.redirect else address
    for secret in ready.new_secrets:
        click.echo(_describe_secret(secret, used))
    host = address.removeprefix("http://").rpartition(":")[0]
    if services.config.grpc.port:
        click.echo(f"gRPC is at {host}:{services.config.grpc.port}")
    server = services.config.server
    named = urlsplit(base_address(services.config)).hostname if server.public_url or server.names else None
    for line in _publishing_lines(services.config, ready.new_secrets, bound, named or host):
        click.echo(line)
    if start.demo:
        click.echo("Stop it with Ctrl-C.")


def _publishing_lines(
    config: Config, made: Sequence[MadeSecret], bound: socket_activation.Sockets, host: str
) -> Iterator[str]:
    """Yield what is typed into encoders, with each key that this start shows; a configured one is named."""
    published = [one for one in config.live if one.source == "publish"]
    shown = {channel: one.text for one in made if (channel := live_channel_of(one.name)) is not None}
    keys = [(one.name, shown[one.name], "") for one in published if one.name in shown]
    configured = [one.name for one in published if one.publish_key and one.name not in shown]
    hashed = [one.name for one in published if not one.publish_key and one.name not in shown]
    for names, known in ((configured, "in the configuration"), (hashed, "shown at its first start")):
        if names:
            name = names[0] if len(names) == 1 else "CHANNEL"
            keys.append((name, "KEY", f"; KEY is the channel's publish_key, {known}"))
    for name, key, where in keys:
        # A pattern stands for names that publishers choose.
        channel = name.replace(ANY, "NAME")
        for scheme, sockets in (("rtmp", bound.rtmp), ("rtmps", bound.rtmps)):
            if sockets:
                server = f"{scheme}://{host}:{sockets[0].getsockname()[1]}/live"
                yield f"In OBS: Server {server}, Stream Key {channel}?key={key}{where}"
        if config.server.srt_port:
            target = f"srt://{host}:{config.server.srt_port}?streamid=publish:{channel}:{key}"
            yield f"Encoders publish over SRT to {target}{where}"


def _bold(text: str) -> str:
    """Make a text bold; ``click.echo`` removes that outside of terminals."""
    return click.style(text, bold=True)


def _announce_to_others(host: str, address: str) -> None:
    """Print where phones and televisions find the server; a QR code only where there is a terminal."""
    scheme, _, rest = address.rstrip("/").partition("://")
    others = lan_address.address_for_others(host, int(rest.rpartition(":")[2]), scheme)
    if others is None:
        return
    if others != address:
        click.echo(f"Other devices find it at {_bold(others)}")
    if sys.stdout.isatty():
        click.echo(lan_address.qr_code(others))


def _demo_folder() -> Path:
    from origin.server.demo import secrets_folder

    return secrets_folder()


@contextlib.contextmanager
def _with_demo_data(config: Config) -> Iterator[Config]:
    """Make a configuration whose data folder lasts for the block."""
    from origin.server.demo import data_folder

    with data_folder() as folder:
        yield msgspec.structs.replace(config, server=msgspec.structs.replace(config.server, data=str(folder)))


def _describe_secret(secret: MadeSecret, address: str) -> str:
    """Describe a generated secret and where it is kept; it is never shown again."""
    station = station_of(secret.name)
    if secret.name == ACCESS_KEY:
        kept = (
            "ends with this server: set access.keys" if secret.file is None else f"is kept in {secret.file}"
        )
        return f"Addresses are signed with a key that {kept}"
    use = "The admin token is"
    if station is not None:
        use = f"Publish to {address}radio/{station} as source, password"
    channel = event_channel_of(secret.name)
    if channel is not None:
        use = f"Publish to {address}events/{channel} with the token"
    relay = relay_of(secret.name)
    if relay is not None:
        use = f"Ask {address}relay/{relay}/v1 with the token"
    live = live_channel_of(secret.name)
    if live is not None:
        live = live.replace(ANY, "NAME")
        return f"Publish to {address}live/{live}/ingest?key={secret.text} ({_kept_where(secret)})"
    return f"{use} {secret.text} ({_kept_where(secret)})"


def _kept_where(secret: MadeSecret) -> str:
    """Describe where a generated secret is kept."""
    if secret.file is None:
        return f"set {secret.name.rpartition('.')[2]} to keep one"
    if secret.is_shown_again:
        return f"kept in {secret.file}"
    kept = "its hash is kept" if live_channel_of(secret.name) is not None else "kept"
    return f"{kept} in {secret.file}, not shown again"
