"""The interface to a server's worker processes, and the addition of their metrics to the server's."""

from __future__ import annotations

import operator
import socket
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from prometheus_client.core import Metric

from origin.config.options import Config
from origin.http.answer import Headers
from origin.system.connection_acceptor import MakeListener
from origin.tls.certificates import Certificates

LARGEST = frozenset({"headwater_loop_lag_seconds", "headwater_events_lag"})
"""Metrics of which the largest of all processes counts."""

STARTED = frozenset({"process_start_time_seconds", "process_max_fds"})
"""Metrics of which that of the started process counts; all others are summed."""


@dataclass(frozen=True, slots=True)
class WorkerTls:
    """The encrypted connections that workers accept.

    Attributes:
        sockets: the listening sockets of `tls.port`.
        alternatives: header fields of responses on them, which name other wires.
        redirect_port: to which plain HTTP is led; 0: it is answered.
    """

    sockets: Sequence[socket.socket]
    certificates: Certificates
    alternatives: Headers
    redirect_port: int


class Workers(Protocol):
    """The worker processes of a server; see `origin.workers`."""

    @property
    def make_listener(self) -> MakeListener:
        """Makes what takes the connections of a socket: the workers, where it is one of theirs."""

    @property
    def has_closed(self) -> bool:
        """Whether the workers are ending, and none accepts connections any more."""

    def running(self) -> AbstractAsyncContextManager[None]:
        """Run the workers while the context is open."""

    def take_log(self, config: Config, known: Config) -> None:
        """Apply a configuration's log options in all workers, and redact the secrets of both."""

    async def states(self) -> Mapping[int, str]:
        """Return the state of each worker: ``ready`` where all is well."""

    async def metrics(self) -> Iterable[Metric]:
        """Return the metrics of all workers."""


READY = "ready"
"""The state of a worker that serves."""


def merged(own: Iterable[Metric], others: Iterable[Metric]) -> list[Metric]:
    """Merge the metrics of several processes, each name once.

    Args:
        own: the metrics of the started process.
    """
    found = {metric.name: metric for metric in own}
    for metric in others:
        if (known := found.get(metric.name)) is None:
            found[metric.name] = metric
        elif metric.name not in STARTED:
            _add(known, metric)
    return list(found.values())


def _add(known: Metric, other: Metric) -> None:
    """Add the samples of a metric to those of the same one."""
    combine = max if known.name in LARGEST else operator.add
    places = {(one.name, *sorted(one.labels.items())): place for place, one in enumerate(known.samples)}
    for sample in other.samples:
        place = places.get((sample.name, *sorted(sample.labels.items())))
        if place is None:
            known.samples.append(sample)
        else:
            value = combine(known.samples[place].value, sample.value)
            known.samples[place] = known.samples[place]._replace(value=value)
