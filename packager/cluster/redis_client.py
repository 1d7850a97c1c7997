"""Makes clients of Redis for logs, leases and jobs: of a server, by Sentinels, or of a Redis Cluster.

The module needs the extra ``cluster``, so it is imported only where a Redis is configured.
"""

from __future__ import annotations

from typing import Any

from redis._parsers import _AsyncRESP2Parser
from redis.asyncio import Redis
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import InvalidResponse

from packager.cluster.limits import MAX_SNAPSHOT_BYTES

SENTINEL = "+sentinel://"
CLUSTER = "+cluster://"


class BoundedParser(_AsyncRESP2Parser):
    """A parser of replies that reads no string which is longer than any that nodes write."""

    async def _read(self, length: int) -> bytes:
        if length > MAX_SNAPSHOT_BYTES:
            raise InvalidResponse(f"a reply of {length} bytes: more than {MAX_SNAPSHOT_BYTES}")
        found: bytes = await super()._read(length)
        return found


class _SentinelPool(SentinelConnectionPool):
    """The connections to a master, with which those to the Sentinels end: redis-py leaves them open."""

    async def aclose(self) -> None:
        """Close all connections."""
        await super().aclose()
        for one in self.sentinel_manager.sentinels:
            await one.aclose()


def redis_client(
    url: str, *, connect_seconds: float, answer_seconds: float | None, connections: int
) -> Redis:
    """Make a client that repeats no command by itself; its callers decide about retries.

    Args:
        url: as ``redis.asyncio.Redis.from_url`` takes it; or with Sentinels
            ``redis+sentinel://USER:PASSWORD@HOST:PORT,HOST:PORT/SERVICE/DATABASE``, or ``rediss``. The
            Sentinels' own user and password are ``sentinel_username`` and ``sentinel_password`` in its query.
        connect_seconds: how long a connection may take.
        answer_seconds: how long an answer may take; None where callers limit that.
        connections: most connections at once.

    Raises:
        ValueError: the URL is wrong, or that of a Redis Cluster.
    """
    options = _options(connect_seconds, answer_seconds, connections)
    if CLUSTER in url:
        raise ValueError("a Redis Cluster can't be used for this; name a single Redis or Sentinels")
    scheme, separator, rest = url.partition(SENTINEL)
    found = _by_sentinels(scheme, rest, options) if separator else Redis.from_url(url, **options)
    found.connection_pool.connection_kwargs["parser_class"] = BoundedParser
    return found


def redis_cluster_client(
    url: str, *, connect_seconds: float, answer_seconds: float | None, connections: int
) -> RedisCluster:
    """Make a client of a Redis Cluster, which learns all servers from any of them.

    Args:
        url: ``redis+cluster://USER:PASSWORD@HOST:PORT,HOST:PORT``, or ``rediss``, with options behind a
            question mark as ``redis.asyncio.Redis.from_url`` takes them.
        connect_seconds: as for ``redis_client``, as is ``answer_seconds``.
        connections: most connections to each server at once.

    Raises:
        ValueError: the URL is wrong.
    """
    scheme, _, rest = url.partition(CLUSTER)
    place, _, query = rest.partition("?")
    user, at, place = place.rpartition("@")
    hosts, _, path = place.partition("/")
    if scheme not in ("redis", "rediss") or path not in ("", "0"):
        raise ValueError(
            "the URL of a Redis Cluster is redis+cluster://host:port,host:port, without a database"
        )
    addresses = [_address(host) for host in hosts.split(",")]
    own = _own_options(scheme, f"{user}{at}", 0, query)
    own.pop("db", None)
    found = RedisCluster(
        startup_nodes=[ClusterNode(*one) for one in addresses],
        ssl=scheme == "rediss",
        **_options(connect_seconds, answer_seconds, connections),
        **own,
    )
    found.connection_kwargs["parser_class"] = BoundedParser
    return found


def _options(connect_seconds: float, answer_seconds: float | None, connections: int) -> dict[str, Any]:
    return {
        "socket_connect_timeout": connect_seconds,
        "socket_timeout": answer_seconds,
        "socket_keepalive": True,
        "max_connections": connections,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
        # The client would read its own version from the disk for each connection.
        "driver_info": None,
    }


def _own_options(scheme: str, user: str, database: int | str, query: str) -> dict[str, Any]:
    """Read what is the same of an address with one server and with several."""
    own: dict[str, Any] = dict(parse_url(f"{scheme}://{user}several/{database}?{query}"))
    for name in ("host", "connection_class"):
        own.pop(name, None)
    return own


def _by_sentinels(scheme: str, rest: str, options: dict[str, Any]) -> Redis:
    place, _, query = rest.partition("?")
    user, at, place = place.rpartition("@")
    hosts, _, path = place.partition("/")
    service, _, database = path.partition("/")
    if scheme not in ("redis", "rediss") or not service or not (database or "0").isdecimal():
        raise ValueError("the URL of Sentinels is redis+sentinel://host:port,host:port/service/database")
    addresses = [_address(host) for host in hosts.split(",")]
    own = _own_options(scheme, f"{user}{at}", database or 0, query)
    is_secret = scheme == "rediss"
    asking = {
        "ssl": is_secret,
        "username": own.pop("sentinel_username", None),
        "password": own.pop("sentinel_password", None),
        **{name: value for name, value in own.items() if name.startswith("ssl_")},
        **options,
        # A Sentinel's answers are short, and one that is silent isn't waited for.
        "socket_timeout": options["socket_connect_timeout"],
    }
    make: Any = Sentinel  # has no types
    found: Redis = make(addresses, sentinel_kwargs=asking).master_for(
        service, connection_pool_class=_SentinelPool, **options, **own, ssl=is_secret
    )
    return found


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal():  # the message doesn't quote the text, which may hold a password
        raise ValueError("a server's address is host:port")
    return host.strip("[]"), int(port)
