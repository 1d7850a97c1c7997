"""Makes a server a node of a cluster, whose live channels go over Redis, and to its own workers."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, MutableMapping

import msgspec

from origin.config.errors import CommandError
from origin.config.options import Config
from origin.server.limits import Limits
from packager.cluster.connection import RedisConnection
from packager.cluster.node import ClusterNode
from packager.publish.live_stream import LiveStream
from packager.replication.live_log import LIVE, ServedLiveLog
from packager.replication.log_server import LogServer
from packager.window.log import Entry
from packager.window.snapshot import SnapshotBeginEntry, SnapshotEndEntry

EDGE, PACKAGER = "edge", "packager"


def of_role(config: Config) -> Config:
    """Leave out the live channels of a node that makes none, so that all nodes may have one configuration.

    Raises:
        CommandError: the extra isn't installed.
    """
    if config.cluster.url and importlib.util.find_spec("redis") is None:
        raise CommandError("cluster.url: a cluster needs an extra; install headwater[cluster]")
    is_edge = bool(config.cluster.url) and config.cluster.role == EDGE
    return msgspec.structs.replace(config, live=()) if is_edge else config


def make_cluster(
    config: Config, streams: MutableMapping[str, LiveStream], logs: LogServer, limits: Limits
) -> ClusterNode | None:
    """Make what shares live channels with other machines; None where there are no others.

    Args:
        config: all options.
        streams: where channels are put, by name, as long as they can be served.
        logs: sends their logs to this server's workers.
        limits: of the server.

    Raises:
        CommandError: the address is wrong.
    """
    options = config.cluster
    if not options.url:
        return None
    try:
        connection = RedisConnection(options.url, limits.cluster.redis)
    except ValueError as error:
        raise CommandError(f"cluster.url: {error}") from None
    publish = limits.live.publish.with_waiters(config.limits.blocked_requests)
    follows_all = options.role != PACKAGER
    return ClusterNode(
        connection, streams, WorkerRelay(logs), limits.cluster, publish, follows_all=follows_all
    )


class WorkerRelay:
    """Hands the shared logs of live channels on to this server's workers.

    Args:
        logs: sends logs to them.
    """

    def __init__(self, logs: LogServer) -> None:
        self._logs = logs
        self._served: dict[str, Callable[[Entry], None]] = {}
        self._restoring: set[str] = set()

    def take(self, stream: LiveStream, entry: Entry) -> None:
        """Hand on an entry that has been folded; behind a snapshot, workers get one of their own."""
        name = stream.name
        if isinstance(entry, SnapshotBeginEntry):
            self._restoring.add(name)
        elif isinstance(entry, SnapshotEndEntry) or (
            name not in self._served and name not in self._restoring
        ):
            self._restoring.discard(name)
            self._served[name] = self._logs.serve(ServedLiveLog(stream))
        elif name not in self._restoring:
            self._served[name](entry)

    def withdraw(self, name: str) -> None:
        """Tell that a channel is gone."""
        self._restoring.discard(name)
        if self._served.pop(name, None) is not None:
            self._logs.withdraw(f"{LIVE}/{name}")
