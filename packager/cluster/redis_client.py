"""The client of Redis that logs, leases and jobs share: from a URL, straight to a server or by Sentinels.

It needs the extra, and is imported by who has been told of a Redis.
"""

from __future__ import annotations

from typing import Any

from redis.asyncio import Redis
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff

SENTINEL = "+sentinel://"


class _SentinelPool(SentinelConnectionPool):
    """The connections to a master, with which those to the Sentinels end: redis-py leaves them open."""

    async def aclose(self) -> None:
        """Close them."""
        await super().aclose()
        for one in self.sentinel_manager.sentinels:
            await one.aclose()


def redis_client(
    url: str, *, connect_seconds: float, answer_seconds: float | None, connections: int
) -> Redis:
    """Make a client, which doesn't try anything again by itself: who asks decides when.

    Args:
        url: as ``redis.asyncio.Redis.from_url`` takes it; or with Sentinels
            ``redis+sentinel://USER:PASSWORD@HOST:PORT,HOST:PORT/SERVICE/DATABASE``, or ``rediss``. The
            Sentinels' own user and password are ``sentinel_username`` and ``sentinel_password`` in its query.
        connect_seconds: how long a connection may take.
        answer_seconds: how long an answer may take; None where who asks has a limit for that.
        connections: most that there are at once.

    Raises:
        ValueError: the URL is wrong.
    """
    options: dict[str, Any] = {
        "socket_connect_timeout": connect_seconds,
        "socket_timeout": answer_seconds,
        "socket_keepalive": True,
        "max_connections": connections,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
        # What it would tell Redis of itself it reads from the disk, again for each connection.
        "driver_info": None,
    }
    scheme, separator, rest = url.partition(SENTINEL)
    if not separator:
        return Redis.from_url(url, **options)
    return _by_sentinels(scheme, rest, options)


def _by_sentinels(scheme: str, rest: str, options: dict[str, Any]) -> Redis:
    place, _, query = rest.partition("?")
    user, at, place = place.rpartition("@")
    hosts, _, path = place.partition("/")
    service, _, database = path.partition("/")
    if scheme not in ("redis", "rediss") or not service or not (database or "0").isdecimal():
        raise ValueError("Sentinel's is redis+sentinel://host:port,host:port/service/database")
    addresses = [_address(host) for host in hosts.split(",")]
    # What is the same with and without Sentinels is read in one way.
    own: dict[str, Any] = dict(parse_url(f"{scheme}://{user}{at}sentinel/{database or 0}?{query}"))
    for name in ("host", "connection_class"):
        own.pop(name, None)
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
    return host.strip("[]"), int(port)
