"""Metrics of very many event channels: all are told, and to write them holds nobody up."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from origin.events.channel import EventChannel
from origin.events.limits import ChannelLimits
from origin.server.endpoints.metrics import SAMPLES_AT_ONCE, event_metrics, exposition


class Channels(Collector):
    """The metrics of these channels."""

    def __init__(self, channels: dict[str, EventChannel]) -> None:
        self.channels = channels

    def collect(self) -> Iterable[Metric]:
        return event_metrics(self.channels)


async def test_metrics_of_a_thousand_channels_hold_nobody_up() -> None:
    """That they don't is judged after each test: the event loop computes for no tenth of a second."""
    channels: dict[str, EventChannel] = {}
    for number in range(1000):
        channels[f"c{number}"] = EventChannel(f"c{number}", "e", ChannelLimits())
        for text in ("x", "y"):
            channels[f"c{number}"].publish_text(text)
        await asyncio.sleep(0)
    channels["c7"].publish_text("x")
    text = (await exposition(Channels(channels))).decode()
    assert 'headwater_events_published_total{channel="c7"} 3.0\n' in text
    assert 'headwater_events_published_total{channel="c8"} 2.0\n' in text
    for name in ("readers", "lag", "gap_seconds_count"):
        assert text.count(f"\nheadwater_events_{name}{{") == 1000
    # Nobody has read anything yet.
    assert "first_event_seconds_sum" not in text
    assert text.count("# HELP headwater_events_gap_seconds ") == 1
    for metric in event_metrics(channels):
        assert len(metric.samples) <= SAMPLES_AT_ONCE
        await asyncio.sleep(0)
