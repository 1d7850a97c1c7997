"""Keeps workers running beside the control process, asks them for their metrics, and ends them with it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from origin.config.options import Config
from origin.http1.connection import Connection
from origin.server.limits import Limits
from origin.server.listening import ListeningLimits, SocketListener
from origin.server.server import Listener
from origin.workers.messages import Report, ReportedMetric, Start, TakeLog
from origin.workers.worker_process import WorkerProcess, WorkerState
from packager.replication.log_server import LogServer
from packager.retry_policy import FailureCount

log = structlog.get_logger()

SILENT = "doesn't answer"
"""What is said of a worker that serves, and doesn't answer the control process in time."""

DEAD = "waits to be started again"
"""What is said of a worker that isn't there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSetup:
    """What the workers of a server are.

    Attributes:
        count: how many there are.
        config: all options, with the secrets that were made.
        limits: those that aren't configured.
        files: the configuration's files, which the library must not serve.
        thumbnails: whether there are small pictures of films.
        sockets: which the workers listen on.
        logs: sends them what the live channels publish.
    """

    count: int
    config: Config
    limits: Limits
    files: Sequence[Path]
    thumbnails: bool
    sockets: Sequence[socket.socket]
    logs: LogServer


class WorkerPool:
    """The workers of a server.

    Attributes:
        restarts: how often one was started again.
    """

    def __init__(self, setup: WorkerSetup) -> None:
        self.restarts = 0
        self._setup = setup
        self._limits = setup.limits.workers
        self._workers: dict[int, WorkerProcess] = {}
        self._may_listen = False
        self._ending = asyncio.Event()
        # What accepts connections while there is no worker, and whether it does.
        self._stand_ins: list[SocketListener] = []
        self._stands_in = False
        self._running = 0
        self._handed_over = 0
        self._make_connection: Callable[[], Connection] | None = None

    @property
    def is_over(self) -> bool:
        """Whether no worker runs any more."""
        return not self._running

    def make_listener(
        self, sock: socket.socket, protocol: Callable[[], Connection], limits: ListeningLimits
    ) -> Listener:
        """Make what takes the connections of a socket: the workers, if it is one of theirs."""
        if sock not in self._setup.sockets:
            return SocketListener.of(sock, protocol, limits)
        self._make_connection = protocol
        return _WorkersListener(self, SocketListener.of(sock, protocol, limits))

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the workers while the context is open; whatever of them is left at its end is killed."""
        async with asyncio.TaskGroup() as group:
            self._running = self._setup.count
            keeping = [group.create_task(self._keep(number)) for number in range(1, self._setup.count + 1)]
            try:
                yield
            finally:
                self.end(at_once=self._ending.is_set())
                await asyncio.wait(keeping, timeout=self._limits.end_seconds)
                for task in keeping:
                    task.cancel()

    def listen(self, stand_in: SocketListener) -> None:
        """Let all workers accept connections, and the control process as long as none is there."""
        self._may_listen = True
        self._stand_ins.append(stand_in)
        stand_in.start()
        self._stands_in = True
        self._change()
        for worker in self._workers.values():
            worker.listen()

    def _change(self) -> None:
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
        """Let all workers end, behind their last responses or at once."""
        self._ending.set()
        for worker in self._workers.values():
            worker.end(at_once=at_once)

    async def states(self) -> dict[int, str]:
        """Say what each worker does."""
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

    def take_log(self, config: Config) -> None:
        """Let all workers write their log as a configuration says that was read again."""
        for worker in self._workers.values():
            worker.tell(TakeLog(config))

    async def _keep(self, number: int) -> None:
        """Keep one worker running until the end."""
        loop, failures = asyncio.get_running_loop(), FailureCount(self._limits.restarts)
        try:
            while not self._ending.is_set():
                began = loop.time()
                reason = await self._run(number)
                if self._ending.is_set():
                    return
                failures.succeeded(loop.time() - began)
                pause = failures.failed()
                log.warning("a worker is started again", worker=number, reason=reason, again_in=pause)
                self.restarts += 1
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._ending.wait()
        finally:
            self._running -= 1

    async def _run(self, number: int) -> str:
        """Run a worker to its end, and tell in words how it ended."""
        setup = self._setup
        start = Start(
            number,
            setup.config,
            setup.limits,
            tuple(map(str, setup.files)),
            setup.thumbnails,
            tuple(sock.fileno() for sock in setup.sockets),
        )
        worker = self._workers[number] = WorkerProcess(
            start, setup.limits, self._connection, setup.logs, self._change
        )
        if self._may_listen:
            worker.listen()
        try:
            status = await worker.run()
        except OSError as error:
            return f"it can't be started: {error.strerror}"
        finally:
            self._handed_over += worker.handed_over
            del self._workers[number]
        return f"it ended with {signal.Signals(-status).name if status < 0 else f'status {status}'}"

    def _connection(self) -> Connection:
        """Make the protocol of a connection that was handed over."""
        if self._make_connection is None:
            raise RuntimeError("workers listen before the server does")
        return self._make_connection()


def as_metric(reported: ReportedMetric) -> Metric:
    """Give a metric as Prometheus' client has it."""
    metric = Metric(reported.name, reported.documentation, reported.kind)
    for name, labels, value in reported.samples:
        metric.add_sample(name, labels, value)
    return metric


class _WorkersListener:
    """Lets workers take the connections of one socket."""

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
        """Let the workers end."""
        self._pool.end()
        await self._stand_in.close()
