"""The program of a worker: answers requests that need no state, and hands over other connections.

    python -P -m origin.workers.worker DESCRIPTOR PARENT_PID

The descriptor is the worker's end of the socket to the control process; the first message has the
configuration. That may come long after the start: until then the worker is a spare one
(`origin.workers.worker_pool`).
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import importlib
import os
import signal
import socket
import sys
from dataclasses import replace
from functools import partial

import structlog
import uvloop
from starlette.types import Scope

from origin.config import logging_setup
from origin.config.options import Config, redactor_of
from origin.http.trusted_proxies import TrustedProxies
from origin.http1.handover_target import RelayedFrom
from origin.http1.protocol import http_protocol
from origin.http2.connection import Http2Connection
from origin.server.http_config import Served, client_limits_of, fast_path_of, uvicorn_config, wire_limits
from origin.server.server import Ending, Server
from origin.server.services.access_services import take_access, take_token_keys
from origin.server.services.limits import ServerLimits
from origin.system import malloc
from origin.system.connection_acceptor import SocketListener
from origin.tls.certificates import CertificateError, GivenCertificates
from origin.tls.own_server import lead_own_requests
from origin.workers import messages
from origin.workers.control_requests import ControlRequests
from origin.workers.messages import (
    Closed,
    HandedOver,
    Logs,
    LogsWanted,
    Ready,
    Report,
    ReportedMetric,
    Sessions,
    Start,
)
from origin.workers.packet_socket import PacketSocket, receive_packet
from origin.workers.services import WorkerServices, build_app, live_handler
from packager.concurrency import background_task, wait_within
from packager.replication.log_follower import LogFollower
from packager.threads import SHARED_THREADS

log = structlog.get_logger()

PR_SET_PDEATHSIG, PR_SET_NAME = 1, 15


def main() -> None:
    """Serve until the control process ends this one, or ends itself."""
    descriptor, parent = map(int, sys.argv[1:])
    _die_with(parent)
    # A terminal signals the whole group of processes; only the control process acts on that.
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    malloc.configure()
    # Slow work that needs no configuration, so that a spare worker can take a place at once.
    with contextlib.suppress(ImportError):  # uvicorn imports it when the server starts, where it has it still
        importlib.import_module("uvicorn.lifespan.on")
    malloc.freeze_garbage_collector()
    _name("spare worker")
    sock = socket.socket(fileno=descriptor)
    try:
        start = messages.read_for_worker(receive_packet(sock, ServerLimits())[0])
    except EOFError:
        sys.exit(1)
    if not isinstance(start, Start):
        sys.exit(1)
    _name(f"worker {start.number}")
    redactor, fields = redactor_of(start.config), {"worker": start.number}
    logging_setup.configure(start.config.log.level, start.config.log.format, redactor, fields)
    lead_own_requests(start.config)
    uvloop.run(WorkerRun(start, sock).serve())


def _die_with(parent: int) -> None:
    """End with the control process, however that ends, and even while this one computes."""
    if sys.platform == "linux":
        # prctl(2): the signal is sent when the parent's thread ends.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)  # the control process ended before


def _name(name: str) -> None:
    """Name this process for ``top`` and ``ps -o comm``, which show 15 letters."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_NAME, name.encode())


class ControlProcess:
    """The target of connections that a worker hands over; see `origin.http1.handover_target.OtherProcess`.

    Args:
        services: decide which those are.
    """

    def __init__(self, services: WorkerServices, packets: PacketSocket) -> None:
        self._services = services
        self._packets = packets
        self.relay = ControlRequests(self._hand_over_request)

    @property
    def has_room(self) -> bool:
        """Whether the control process takes one more connection now."""
        return self._packets.has_room

    def answers(self, scope: Scope, *, upgrading: bool) -> bool:
        """Return whether the control process answers a request, and not this worker."""
        return self._services.leaves_to_others(scope, upgrading=upgrading)

    def hand_over(self, descriptor: int, data: bytes) -> None:
        """Hand a connection over, with what was read of the request and behind it."""
        self._packets.send(messages.encode(HandedOver(data)), (os.dup(descriptor),))

    def _hand_over_request(self, relayed_from: RelayedFrom, descriptor: int) -> None:
        self._packets.send(messages.encode(HandedOver(b"", relayed_from)), (descriptor,))


class _WorkerServer(Server):
    """A server that its control process may ask to end, and a signal, which systemd sends to all."""

    def end(self) -> None:
        """Shut down; asked again, it still has its time."""
        if not self.should_exit:
            super().end()


class WorkerRun:
    """Runs a worker's server by the messages of the control process."""

    def __init__(self, start: Start, sock: socket.socket) -> None:
        self._start = start
        self._socket = sock
        self._sockets = [socket.socket(fileno=number) for number in start.listening]
        tls = start.tls
        self._tls_sockets = [socket.socket(fileno=number) for number in (tls.listening if tls else ())]
        self._certificates = None if tls is None else GivenCertificates(tls.certificates)
        self._renewals = asyncio.Queue[tuple[bytes, ...]]()
        self._may_listen = asyncio.Event()
        self._have_others_closed = False
        self._server: Server | None = None
        self._logs: asyncio.Future[socket.socket] | None = None
        self._key_changes = asyncio.Queue[Config]()
        self._follower: LogFollower
        self._packets: PacketSocket
        self._services: WorkerServices

    async def serve(self) -> None:
        """Serve until the control process ends it."""
        limits = self._start.limits
        self._services = await SHARED_THREADS.run(WorkerServices, self._start)
        self._packets = PacketSocket(self._socket, self._handle_message, _end_at_once, limits.server)
        self._follower = LogFollower(self._services.kinds_of_logs(), self._connect_logs, limits.replication)
        server = self._server = self._make_server()
        self._services.traffic.count_connections(lambda: server.connection_count)
        await self._may_listen.wait()
        malloc.freeze_garbage_collector()
        try:
            async with (
                background_task(self._follower.run()),
                background_task(self._change_keys()),
                background_task(self._renew_certificates()),
                background_task(self._share_sessions()),
            ):
                await self._server.serve(sockets=[*self._sockets, *self._tls_sockets])
        finally:
            # The control process takes the last connections, too.
            await wait_within(limits.server.end_seconds, self._packets.wait_until_sent())

    async def _change_keys(self) -> None:
        """Apply the keys of each configuration that the control process has read again."""
        while True:
            new = await self._key_changes.get()
            await take_token_keys(self._services.token_keys, self._start.config, new)
            await take_access(self._services.guard, new)

    async def _renew_certificates(self) -> None:
        """Use the certificates that the control process has read again, until cancelled."""
        while True:
            pems = await self._renewals.get()
            try:
                if self._certificates is not None:
                    await SHARED_THREADS.run(self._certificates.replace, pems)
            except CertificateError as error:
                log.error("the changed certificates can't be used", reason=str(error))

    async def _share_sessions(self) -> None:
        """Send the changes of viewers' sessions to the control process until cancelled."""
        if (feed := self._services.session_feed) is not None:
            while True:
                self._packets.send(messages.encode(Sessions(await feed.changes())))

    def _make_server(self) -> Server:
        config, limits, services = self._start.config, self._start.limits, self._services
        listening = replace(limits.server.listening, taken_at_once=limits.server.taken_at_once)
        proxies = TrustedProxies(config.server.trusted_proxies, config.server.forwarded_field)
        client_limits = client_limits_of(config, proxies)
        live = live_handler(services, client_limits)
        served = Served(services.library, live, services.traffic, services.guard)
        tls = self._start.tls
        redirect_port = 0 if tls is None else tls.redirect_port
        protocol = http_protocol(
            wire_limits(config, limits.http),
            fast_path_of(config, served),
            proxies,
            client_limits.connections,
            ControlProcess(services, self._packets),
            http2=Http2Connection,
            redirects_plain=bool(redirect_port),
            alternatives=() if tls is None else tls.alternatives,
        )
        context = None if self._certificates is None else self._certificates.context
        return _WorkerServer(
            uvicorn_config(config, build_app(services, client_limits, live, redirect_port), protocol),
            on_listening=lambda: self._packets.send(messages.encode(Ready())),
            ending=Ending(
                drain_seconds=config.limits.drain_seconds,
                on_listeners_closed=lambda: self._packets.send(messages.encode(Closed())),
                have_others_closed=lambda: self._have_others_closed,
                on_close=self._follower.close,
                grace_seconds=config.limits.shutdown_seconds,
            ),
            limits=limits.server,
            make_listeners=[
                *(partial(SocketListener.of, one, limits=listening) for one in self._sockets),
                *(
                    partial(SocketListener.of, one, limits=listening, context=context)
                    for one in self._tls_sockets
                ),
            ],
        )

    async def _connect_logs(self) -> socket.socket:
        """Ask the control process for the socket on which live channels' logs come."""
        self._logs = asyncio.get_running_loop().create_future()
        self._packets.send(messages.encode(LogsWanted()))
        return await self._logs

    def _handle_message(self, data: bytes, descriptors: list[int]) -> None:
        """Handle a message of the control process."""
        sockets = [socket.socket(fileno=descriptor) for descriptor in descriptors]
        message = messages.read_for_worker(data)
        if isinstance(message, Logs) and sockets and self._logs is not None and not self._logs.done():
            self._logs.set_result(sockets.pop())
        for sock in sockets:
            sock.close()
        if isinstance(message, messages.Listen):
            self._may_listen.set()
        elif isinstance(message, Sessions):
            self._services.merge_sessions(message.records)
        elif isinstance(message, messages.Revoked):
            self._services.token_keys.revocations.merge(message.records)
        elif isinstance(message, messages.ReportWanted):
            self._packets.send(messages.encode(self._report()))
        elif isinstance(message, messages.TakeLog):
            new = message.config
            redactor = redactor_of(self._start.config, message.known, new)
            fields = {"worker": self._start.number}
            logging_setup.configure(new.log.level, new.log.format, redactor, fields)
            self._key_changes.put_nowait(new)
            log.debug("log options taken")
        elif isinstance(message, messages.TakeCertificates):
            self._renewals.put_nowait(message.certificates)
        elif isinstance(message, messages.AllClosed):
            self._have_others_closed = True
        elif isinstance(message, messages.End):
            self._follower.expect_end()
            if message.at_once or self._server is None or not self._may_listen.is_set():
                _end_at_once()
            else:
                self._server.end()

    def _report(self) -> Report:
        metrics = tuple(
            ReportedMetric(
                metric.name,
                metric.documentation,
                metric.type,
                tuple((sample.name, sample.labels, sample.value) for sample in metric.samples),
            )
            for metric in self._services.metrics()
        )
        connections = 0 if self._server is None else self._server.connection_count
        return Report(connections, metrics)


def _end_at_once() -> None:
    """End without any care for clients: the control process is gone, or there are no clients yet."""
    os._exit(0)


if __name__ == "__main__":
    main()
