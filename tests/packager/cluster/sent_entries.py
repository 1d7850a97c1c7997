"""Which entries a node has sent to Redis."""

from __future__ import annotations

from tests.packager.cluster.live_nodes import Node


def is_sent(one: Node) -> bool:
    """Tell whether Redis has all that an owner has appended."""
    channel = one.node.channels["test"]
    return channel._writer.sent == channel.shared.position > 0
