"""Secrets that a node has made, shared with the other nodes of its cluster over Redis."""

from __future__ import annotations

from typing import Any

from packager.cluster.connection import RedisUnavailableError
from packager.cluster.lease import PREFIX
from packager.cluster.limits import RedisLimits

KEPT_SECONDS = 30 * 86_400
"""For how long Redis has a secret after the last start of a node that uses it."""

MOST_CHARACTERS = 256


async def shared_secret(url: str, name: str, own: str = "", limits: RedisLimits | None = None) -> str:
    """Return a secret of a cluster; a node's own becomes the cluster's where there is none.

    Args:
        own: the node's own secret; empty to look alone.

    Returns:
        The cluster's; empty where there is none.

    Raises:
        RedisUnavailableError: Redis can't be asked; the text says why, without the URL.
    """
    # Here and not above: it is an extra, and most servers don't have it.
    try:
        from redis.exceptions import RedisError

        from packager.cluster.redis_client import CLUSTER, redis_client, redis_cluster_client
    except ModuleNotFoundError:
        raise RedisUnavailableError("the extra headwater[cluster] isn't installed") from None
    limits = limits or RedisLimits()
    key = f"{PREFIX}:secret:{name}"
    try:
        client: Any = (redis_cluster_client if CLUSTER in url else redis_client)(
            url,
            connect_seconds=limits.connect_seconds,
            answer_seconds=limits.call_seconds,
            connections=1,
        )
        try:
            if own:
                await client.set(key, own, nx=True, ex=KEPT_SECONDS)
                await client.expire(key, KEPT_SECONDS)
            found = await client.get(key)
        finally:
            await client.aclose()
    except (RedisError, OSError, ValueError) as error:
        raise RedisUnavailableError(str(error) or type(error).__name__) from None
    text = found.decode("utf-8", "replace") if isinstance(found, bytes) else ""
    return text if len(text) <= MOST_CHARACTERS else ""
