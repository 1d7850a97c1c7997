"""Keeps the readers' connections of many event channels alive, in one task for all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

import structlog

from origin.events.channel import EventChannel
from packager.step_budget import StepBudget

log = structlog.get_logger()


def beat_safely(channel: EventChannel) -> None:
    """Keep the readers of a channel alive; what breaks is logged, as other channels go on."""
    try:
        channel.beat()
    except Exception:  # other channels go on
        log.exception("an event channel's readers can't be written to", channel=channel.name)


class ChannelBeats:
    """The service that keeps the readers of event channels alive, and disconnects them at its end.

    Args:
        channels: returns the channels that there are.
        seconds: between two rounds of all channels.
    """

    name = "event channels"

    def __init__(self, channels: Callable[[], Collection[EventChannel]], seconds: float) -> None:
        self._channels = channels
        self._seconds = seconds

    async def run(self) -> None:
        """Keep connections alive until cancelled."""
        while True:
            await asyncio.sleep(self._seconds)
            budget = StepBudget()
            for channel in tuple(self._channels()):
                await budget.spend()
                beat_safely(channel)

    def close(self) -> None:
        """Disconnect all readers, who come again to the next server."""
        for channel in tuple(self._channels()):
            channel.close()
