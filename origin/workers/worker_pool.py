"""Keeps workers running beside the control process, collects their metrics, and ends them with it.

One process more than there are workers runs, the *spare* one: it has imported the program, and waits for its
configuration. It takes the place of a worker that dies, and the next spare one is begun once all serve again.
Importing is nearly all of a worker's start: a second of processor time, and more of the clock's on a machine
that has much else to do. The spare one costs its memory, 48 MB, however many workers there are.

Forking workers from one process that has imported everything would share some of that among them, but numpy's
library has threads of its own by then, which a fork lacks with whatever they hold; a worker's parent would be
that process, whose death would end them all, and which would have to report their exit statuses. A spare one
is an ordinary worker without a configuration. Where there is none (several died at once, or as soon as they
served), a new process is started. The spare one also runs the control process's version, whatever an upgrade
has put on the disk meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from origin.access.revocations import Revocation, Revocations
from origin.access.viewer_sessions import ViewerSessions
from origin.config.options import Config
from origin.http1.protocol import HttpProtocol
from origin.server.services.limits import Limits
from origin.server.services.worker_interface import WorkerTls
from origin.system.connection_acceptor import (
    ConnectionAcceptor,
    ListeningLimits,
    MakeContext,
    SocketListener,
)
from origin.workers.messages import (
    AllClosed,
    Report,
    ReportedMetric,
    Revoked,
    Sessions,
    Start,
    TakeCertificates,
    TakeLog,
    TlsStart,
)
from origin.workers.worker_process import WorkerProcess, WorkerState
from packager.concurrency import wait_within
from packager.encode.renditions import EncodedRenditions
from packager.replication.log_server import LogServer
from packager.retry_policy import FailureCount, RetryPolicy

log = structlog.get_logger()

SILENT = "doesn't answer"
"""The state of a worker that serves, but doesn't answer the control process in time."""

DEAD = "waits to be started again"
"""The state of a worker whose process isn't running."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSetup:
    """The number and the configuration of a server's workers.

    Attributes:
        config: all options, with the generated secrets.
        files: the configuration's files, which the library must not serve.
        thumbnails: whether there are thumbnails of films.
        renditions: the renditions of films that are encoded on request.
        sockets: the sockets that the workers listen on.
        logs: sends the logs of channels and stations to the workers.
        sessions: of viewers with names; None where they may have any number.
        revocations: the revoked tokens; None for none.
        tls: how encrypted connections are accepted; None where none are.
    """

    count: int
    config: Config
    limits: Limits
    files: Sequence[Path]
    thumbnails: bool
    renditions: EncodedRenditions
    sockets: Sequence[socket.socket]
    logs: LogServer
    sessions: ViewerSessions | None = None
    revocations: Revocations | None = None
    tls: WorkerTls | None = None

    @property
    def all_sockets(self) -> list[socket.socket]:
        """The sockets that the workers listen on, those of TLS last."""
        return [*self.sockets, *(() if self.tls is None else self.tls.sockets)]


class _WorkerPlace:
    """The place of one worker, which another process takes when the worker dies.

    Args:
        number: the worker's, from 1.
        restarts: the pauses before the next start.

    Attributes:
        failures: recent deaths of workers in this place.
        worker: the process in the place; None while it is free.
        began: when that process took the place.
    """

    def __init__(self, number: int, restarts: RetryPolicy) -> None:
        self.number = number
        self.failures = FailureCount(restarts)
        self.worker: WorkerProcess | None = None
        self.began = 0.0


class WorkerPool:
    """The workers of a server.

    Attributes:
        restarts: how often one was started again.
    """

    def __init__(self, setup: WorkerSetup) -> None:
        self.restarts = 0
        self._setup = setup
        self._limits = setup.limits.server
        places = [_WorkerPlace(number, self._limits.restarts) for number in range(1, setup.count + 1)]
        self._places = places
        # Either of these is empty.
        self._free, self._spares = deque(places), deque[WorkerProcess]()
        self._may_listen = False
        self._newest_log: TakeLog | None = None
        self._ending = asyncio.Event()
        self._changed = asyncio.Event()
        # The control process's listeners, for times without a worker, and whether they accept now.
        self._stand_ins: list[SocketListener] = []
        self._stands_in = False
        self._running = 0
        self._handed_over = 0
        self._make_connection: Callable[[], HttpProtocol] | None = None
        if setup.tls is not None:
            setup.tls.certificates.followers.append(self._take_certificates)

    @property
    def _workers(self) -> dict[int, WorkerProcess]:
        """The workers that run now, by their numbers."""
        return {one.number: one.worker for one in self._places if one.worker is not None}

    @property
    def is_over(self) -> bool:
        """Whether no worker runs any more."""
        return not self._running

    @property
    def has_closed(self) -> bool:
        """Whether the pool is ending, and no worker accepts connections any more."""
        closed = (WorkerState.CLOSED, WorkerState.ENDED)
        return self._ending.is_set() and all(one.state in closed for one in self._workers.values())

    def make_listener(
        self,
        sock: socket.socket,
        protocol: Callable[[], HttpProtocol],
        limits: ListeningLimits,
        context: MakeContext | None = None,
    ) -> ConnectionAcceptor:
        """Make what takes the connections of a socket: the workers, if it is one of theirs."""
        listener = SocketListener.of(sock, protocol, limits, context)
        if sock not in self._setup.all_sockets:
            return listener
        self._make_connection = protocol
        return _WorkersListener(self, listener)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the workers while the context is open; whatever of them is left at its end is killed."""
        async with asyncio.TaskGroup() as group:
            self._running = self._setup.count + self._limits.spares
            keeping = [group.create_task(self._keep()) for _ in range(self._running)]
            sharing = [group.create_task(one) for one in (self._share_sessions(), self._share_revocations())]
            try:
                yield
            finally:
                for one in sharing:
                    one.cancel()
                self.end(at_once=self._ending.is_set())
                await asyncio.wait(keeping, timeout=self._limits.end_seconds)
                for task in keeping:
                    task.cancel()

    def listen(self, stand_in: SocketListener) -> None:
        """Let all workers accept connections, and the control process as long as there is no worker."""
        self._may_listen = True
        self._stand_ins.append(stand_in)
        stand_in.start()
        self._stands_in = True
        self._change()
        for worker in self._workers.values():
            if worker.is_informed:
                worker.listen()

    def _change(self) -> None:
        self._changed.set()
        if self.has_closed:
            for worker in self._workers.values():
                if worker.state is WorkerState.CLOSED:
                    worker.send(AllClosed())
        is_alone = not any(worker.state is WorkerState.READY for worker in self._workers.values())
        if self._ending.is_set() or is_alone is self._stands_in:
            return
        self._stands_in = is_alone
        for one in self._stand_ins:
            if is_alone:
                one.start()
            else:
                one.pause()

    def end(self, *, at_once: bool = False) -> None:
        """Ask all workers to end, after their last responses or at once."""
        self._ending.set()
        for worker in (*self._workers.values(), *self._spares):
            worker.end(at_once=at_once)
        self._change()

    async def states(self) -> dict[int, str]:
        """Return the state of each worker."""
        reports = await self._reports()
        told = {number: worker.state.value for number, worker in self._workers.items()}
        told |= {number: SILENT for number, report in reports.items() if report is None}
        return {number: told.get(number, DEAD) for number in range(1, self._setup.count + 1)}

    async def metrics(self) -> list[Metric]:
        """Return the metrics of all workers that answer in time, and those of the pool."""
        reports = await self._reports()
        own = [*self._own_metrics(reports)]
        return own + [as_metric(one) for report in reports.values() if report for one in report.metrics]

    def _own_metrics(self, reports: Mapping[int, Report | None]) -> Iterator[Metric]:
        answering = sum(report is not None for report in reports.values())
        yield GaugeMetricFamily("headwater_workers", "Workers that serve and answer.", answering)
        yield CounterMetricFamily(
            "headwater_worker_restarts", "Times that a worker was started again.", self.restarts
        )
        handed_over = self._handed_over + sum(worker.handed_over for worker in self._workers.values())
        yield CounterMetricFamily(
            "headwater_handed_over_connections", "Connections that workers handed over.", handed_over
        )
        connections = GaugeMetricFamily(
            "headwater_worker_connections", "Connections that are open in a worker.", labels=["worker"]
        )
        for number, report in reports.items():
            if report is not None:
                connections.add_metric([str(number)], report.connections)
        yield connections

    async def _reports(self) -> dict[int, Report | None]:
        """Ask all workers that serve; None for one that doesn't answer in time."""
        workers = {n: worker for n, worker in self._workers.items() if worker.state is WorkerState.READY}
        return dict(zip(workers, await asyncio.gather(*map(self._report_of, workers.values())), strict=True))

    async def _report_of(self, worker: WorkerProcess) -> Report | None:
        try:
            async with asyncio.timeout(self._limits.report_seconds):
                return await worker.report()
        except TimeoutError:
            return None

    def take_log(self, config: Config, known: Config) -> None:
        """Let all workers write their logs by a configuration that was read again.

        Args:
            known: another configuration, with keys that were made meanwhile; the log shows the secrets of
                neither.
        """
        self._newest_log = TakeLog(config, known)
        for worker in self._workers.values():
            worker.send(self._newest_log)

    async def _share_sessions(self) -> None:
        """Send the changes of viewers' sessions to all workers until cancelled."""
        if (sessions := self._setup.sessions) is None:
            return
        feed = sessions.feed()
        while True:
            message = Sessions(await feed.changes())
            for worker in self._workers.values():
                worker.send(message)

    async def _share_revocations(self) -> None:
        """Send revocations of tokens to all workers until cancelled."""
        if (revocations := self._setup.revocations) is None:
            return
        feed = revocations.feed()
        while True:
            message = Revoked(await feed.changes())
            for worker in self._workers.values():
                worker.send(message)

    def _merge_sessions(self, message: Sessions) -> None:
        """Apply the changes of viewers' sessions in a worker, which go on to the other workers."""
        if self._setup.sessions is not None:
            self._setup.sessions.merge(message.records)

    async def _keep(self) -> None:
        """Keep one process running until the end, as a worker or as the spare one."""
        failures = FailureCount(self._limits.restarts)
        try:
            while await self._wait_until_wanted():
                began = time.monotonic()
                place, reason = await self._run()
                if self._ending.is_set():
                    return
                if place is None:
                    failures.succeeded(time.monotonic() - began)
                    pause = failures.failed()
                    log.warning("a spare worker is started again", reason=reason, again_in=pause)
                else:
                    place.failures.succeeded(time.monotonic() - place.began)
                    pause = place.failures.failed()
                    log.warning(
                        "a worker is started again", worker=place.number, reason=reason, again_in=pause
                    )
                    self.restarts += 1
                await wait_within(pause, self._ending.wait())
                if place is not None:
                    self._free.append(place)
                    self._fill()
        finally:
            self._running -= 1

    async def _wait_until_wanted(self) -> bool:
        """Wait until another process is needed, for a place or as the spare one; return False at the end."""
        while not self._ending.is_set():
            workers = self._workers.values()
            ready = sum(worker.state is WorkerState.READY for worker in workers)
            if self._free or (ready == len(self._places) and len(self._spares) < self._limits.spares):
                return True
            self._changed.clear()
            await self._changed.wait()
        return False

    async def _run(self) -> tuple[_WorkerPlace | None, str]:
        """Run a process to its end; return the place that it had, and how it ended in words."""
        setup = self._setup
        worker: WorkerProcess | None = None
        place: _WorkerPlace | None = None
        try:
            listening = [sock.fileno() for sock in setup.all_sockets]
            worker = WorkerProcess(
                listening, setup.limits, self._connection, setup.logs, self._change, self._merge_sessions
            )
            self._spares.append(worker)
            self._fill()
            status = await worker.run()
            reason = f"it ended with {signal.Signals(-status).name if status < 0 else f'status {status}'}"
        except OSError as error:
            reason = f"it can't be started: {error.strerror}"
        finally:
            if worker is not None:
                self._handed_over += worker.handed_over
                place = self._leave(worker)
        return place, reason

    def _leave(self, worker: WorkerProcess) -> _WorkerPlace | None:
        """Remove a process; return the place that it had."""
        if worker in self._spares:
            self._spares.remove(worker)
        for place in self._places:
            if place.worker is worker:
                place.worker = None
                return place
        return None

    def _fill(self) -> None:
        """Fill free places with spare workers."""
        setup = self._setup
        while self._free and self._spares:
            place, worker = self._free.popleft(), self._spares.popleft()
            place.worker, place.began = worker, time.monotonic()
            start = Start(
                place.number,
                setup.config,
                setup.limits,
                tuple(map(str, setup.files)),
                setup.thumbnails,
                setup.renditions,
                tuple(sock.fileno() for sock in setup.sockets),
                self._tls_start(),
            )
            worker.serve(start)
            for records in setup.sessions.snapshot() if setup.sessions is not None else ():
                worker.send(Sessions(records))
            if self._newest_log is not None:
                worker.send(self._newest_log)
            self._inform(worker, iter(()) if setup.revocations is None else setup.revocations.snapshot())

    def _inform(self, worker: WorkerProcess, left: Iterator[list[Revocation]]) -> None:
        """Send a new worker some revocations in each step of the loop; behind the last it listens."""
        if (revoked := next(left, None)) is not None:
            worker.send(Revoked(revoked))
            asyncio.get_running_loop().call_soon(self._inform, worker, left)
            return
        worker.is_informed = True
        if self._may_listen:
            worker.listen()

    def _tls_start(self) -> TlsStart | None:
        """Return what a new worker needs for encrypted connections, with the newest certificates."""
        tls = self._setup.tls
        if tls is None:
            return None
        listening = tuple(sock.fileno() for sock in tls.sockets)
        return TlsStart(listening, tls.certificates.pems, tuple(tls.alternatives), tls.redirect_port)

    def _take_certificates(self) -> None:
        """Send the certificates that were read again to all workers."""
        if self._setup.tls is not None:
            message = TakeCertificates(self._setup.tls.certificates.pems)
            for worker in self._workers.values():
                worker.send(message)

    def _connection(self) -> HttpProtocol:
        """Make the protocol of a connection that was handed over."""
        if self._make_connection is None:
            raise RuntimeError("workers listen before the server does")
        return self._make_connection()


def as_metric(reported: ReportedMetric) -> Metric:
    """Return a metric as Prometheus' client has it."""
    metric = Metric(reported.name, reported.documentation, reported.kind)
    for name, labels, value in reported.samples:
        metric.add_sample(name, labels, value)
    return metric


class _WorkersListener:
    """Accepts the connections of one socket in the workers."""

    def __init__(self, pool: WorkerPool, stand_in: SocketListener) -> None:
        self._pool = pool
        self._stand_in = stand_in

    @property
    def is_over(self) -> bool:
        """Whether no worker runs any more."""
        return self._pool.is_over

    def start(self) -> None:
        """Listen, and let the workers accept."""
        self._pool.listen(self._stand_in)

    async def close(self) -> None:
        """End the workers."""
        self._pool.end()
        await self._stand_in.close()
