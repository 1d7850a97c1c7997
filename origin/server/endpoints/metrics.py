"""Prometheus metrics, read from the services when they are scraped, with a fixed set of labels."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from operator import attrgetter
from typing import TypeVar

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    Sample,
)
from prometheus_client.registry import Collector

from origin.events.channel import EventChannel
from origin.http1.access_log import RequestCounters
from origin.server.endpoints.exposition_text import KeptLabels, exposition_text
from origin.server.endpoints.s3_metrics import s3_metrics
from origin.server.services.service_states import EVENT_STATES, STATES, service_states
from origin.server.services.services import Services
from origin.server.services.worker_interface import Workers, merged
from origin.system.loop_lag import LoopLag
from origin.token_relay.relay import TokenRelay
from packager.latency_histogram import LatencyHistogram
from packager.live.channel import Channel
from packager.publish.live_stream import LiveStream
from packager.sources.published_source import PublishedSource
from packager.threads import SHARED_THREADS

ChannelT = TypeVar("ChannelT")

Described = tuple[str, str, Callable[[ChannelT], float]]
"""A metric of channels: its name without ``headwater_``, its text, and what returns a channel's value."""

STATE = "headwater_state"
"""Name of the metric of the states of services."""

SAMPLES_AT_ONCE = 2000
"""Samples that are written in a turn of the event loop: some milliseconds."""

HISTOGRAMS_AT_ONCE = 100
"""Histograms whose samples are made in a turn of the event loop."""


async def exposition(collector: Collector, workers: Workers | None = None) -> bytes:
    """Write metrics as Prometheus text, over several turns of the event loop.

    Args:
        collector: yields the metrics; the pieces of one metric follow each other.
        workers: the processes whose metrics are added; None for none.
    """
    metrics: list[Metric] = []
    for metric in collector.collect():
        _append(metrics, metric)
        await asyncio.sleep(0)
    if workers is not None:
        metrics = merged(metrics, await workers.metrics())
    if sum(len(metric.samples) for metric in metrics) <= SAMPLES_AT_ONCE:
        return exposition_text(metrics)
    return await SHARED_THREADS.run(exposition_text, metrics)


def as_one(pieces: Iterable[Metric]) -> list[Metric]:
    """Join metrics that come in pieces."""
    metrics: list[Metric] = []
    for metric in pieces:
        _append(metrics, metric)
    return metrics


def _append(metrics: list[Metric], metric: Metric) -> None:
    if metrics and metrics[-1].name == metric.name:
        metrics[-1].samples += metric.samples
    else:
        metrics.append(metric)


class ServicesCollector(Collector):
    """Collects the counters of all services; those of each channel by `server.channel_metrics`."""

    def __init__(self, services: Services) -> None:
        self._services_of = services
        self._with = services.config.server.channel_metrics
        # By service, its state and the samples that say it: most are the same at the next scrape.
        self._said: dict[str, tuple[str, list[Sample]]] = {}

    def collect(self) -> Iterable[Metric]:
        """Yield all metrics."""
        yield from loop_metrics(self._services_of.loop_lag)
        yield from traffic_metrics(self._services_of.traffic)
        yield from s3_metrics(self._services_of.library.storage)
        yield self._states()
        if "live" in self._with:
            yield from self._live()
        yield from self._cluster()
        if "radio" in self._with:
            yield from self._radio()
        if "events" in self._with:
            yield from self._events()

    def _states(self) -> Metric:
        """Describe each service's state: 1 for the one that it is in, 0 for the others that it may be in."""
        states = GaugeMetricFamily(
            STATE,
            "Whether a channel or station is in a state; /health tells the reason.",
            labels=["service", "state"],
        )
        before, self._said = self._said, {}
        for name, one in service_states(self._services_of).items():
            kind, slash, _ = name.partition("/")
            if slash and kind not in self._with:
                continue
            if kind == "events":
                # Of very many with two states, to keep them would cost more memory than to make them time.
                states.samples += _state_samples(name, one.state, EVENT_STATES, dict)
                continue
            said = before.get(name)
            if said is None or said[0] != one.state:
                said = one.state, _state_samples(name, one.state, STATES, KeptLabels)
            self._said[name] = said
            states.samples += said[1]
        return states

    def _live(self) -> Iterator[Metric]:
        live = self._services_of.live
        streams = {name: live.served_stream(one) for name, one in live.broadcasts.items()}
        gauges: Iterable[Described[LiveStream]] = (
            ("live_viewers", "Clients following.", attrgetter("viewers")),
            ("live_blocked_requests", "Requests waiting.", attrgetter("blocked")),
        )
        labels = channel_labels(streams)
        yield from channel_metrics(streams, gauges, (), labels)
        counters: Iterable[Described[Channel]] = (
            ("ffmpeg_restarts", "Times ffmpeg died.", attrgetter("restarts")),
            ("source_lost_packets", "MPEG-TS packets that didn't come.", _lost_packets),
            (
                "source_dropped_datagrams",
                "Datagrams for which the system had no room.",
                attrgetter("losses.datagrams"),
            ),
        )
        yield from channel_metrics(live.broadcasts, (), counters, labels)
        of_publishers: Iterable[Described[PublishedSource]] = (
            (
                "live_publishers",
                "Publishers, spare ones included.",
                lambda one: sum(not each.is_slate for each in one.publications),
            ),
            (
                "live_publisher_bitrate",
                "Bits per second of what is published.",
                lambda one: sum(
                    each.bitrate for each in one.publications if each.is_on_air and not each.is_slate
                ),
            ),
        )
        published = {name: one.published for name, one in live.channels.items() if one.published is not None}
        yield from channel_metrics(published, of_publishers, (), labels)
        yield from _histograms(
            "headwater_live_part_delay_seconds",
            "From the end of a part's last frame to its being published; absent before a first one.",
            self._services_of.live.part_delays,
        )
        yield from self._links()
        yield from self._forwards()

    def _cluster(self) -> Iterator[Metric]:
        """Yield the state of this node's connection to Redis, and the logs that it owns."""
        if (node := self._services_of.live.cluster) is None:
            return
        connection = node.connection
        yield GaugeMetricFamily("headwater_cluster_connected", "Whether Redis is there.", connection.is_up)
        yield CounterMetricFamily("headwater_cluster_lost", "Times that Redis was lost.", connection.lost)
        owned = GaugeMetricFamily("headwater_cluster_owner", "1 for the owner.", labels=["channel"])
        dropped = CounterMetricFamily(
            "headwater_cluster_dropped_entries",
            "Entries of its log that Redis never got.",
            labels=["channel"],
        )
        for name, channel in (*node.channels.items(), *node.simulcasts.items()):
            owned.add_metric([name], channel.is_owner)
            dropped.add_metric([name], channel.dropped)
        carried = CounterMetricFamily(
            "headwater_cluster_commands",
            "Requests that were to be carried to the owners of channels, by what came of them.",
            labels=["outcome"],
        )
        for outcome, count in node.commands.outcomes.items():
            carried.add_metric([outcome], count)
        yield from (owned, dropped, carried)
        if (stations := self._services_of.cluster_stations) is not None:
            heard = GaugeMetricFamily("headwater_cluster_station_owner", "1 for the owner.", labels=["mount"])
            for name in self._services_of.mounts:
                heard.add_metric([name], stations.stations[name].is_owner)
            yield heard
        if (events := self._services_of.cluster_events) is not None:
            yield CounterMetricFamily(
                "headwater_cluster_refused_events",
                "Events that weren't published for want of Redis, or perhaps.",
                events.writer.refused,
            )
            yield CounterMetricFamily(
                "headwater_cluster_unreadable_events",
                "Entries of Redis that are no events.",
                events.reader.unreadable,
            )

    def _forwards(self) -> Iterator[Metric]:
        """Yield the state of the streams that are forwarded to other servers."""
        labels = ["channel", "number", "target"]
        sending = GaugeMetricFamily("headwater_forward_sending", "1 while it is pushed on.", labels=labels)
        sent = CounterMetricFamily("headwater_forward_sent_bytes", "Bytes pushed on.", labels=labels)
        failures = CounterMetricFamily("headwater_forward_failures", "Failed attempts.", labels=labels)
        for channel in self._services_of.live.channels.values():
            for number, one in enumerate(channel.forwarders, 1):
                named = [channel.name, str(number), one.target]
                sending.add_metric(named, one.is_sending)
                sent.add_metric(named, one.sent)
                failures.add_metric(named, one.failures)
        if sending.samples:
            yield from (sending, sent, failures)

    def _links(self) -> Iterator[Metric]:
        """Yield SRT's statistics of the publishers' networks: round trips, losses, retransmissions."""
        if not self._services_of.config.server.srt_port:
            return
        lost = CounterMetricFamily(
            "headwater_srt_lost_packets", "Packets that didn't come when due.", labels=["channel"]
        )
        retransmitted = CounterMetricFamily(
            "headwater_srt_retransmitted_packets", "Packets that came when sent again.", labels=["channel"]
        )
        dropped = CounterMetricFamily(
            "headwater_srt_dropped_packets", "Packets that didn't come in time.", labels=["channel"]
        )
        round_trip = GaugeMetricFamily(
            "headwater_srt_round_trip_seconds", "Round trip of who is on air.", labels=["channel"]
        )
        for channel in self._services_of.live.channels.values():
            if (published := channel.published) is not None:
                lost.add_metric([channel.name], published.link.lost)
                retransmitted.add_metric([channel.name], published.link.retransmitted)
                dropped.add_metric([channel.name], published.link.dropped)
                if published.live is not None and published.live.link is not None:
                    round_trip.add_metric([channel.name], published.live.link.round_trip_seconds)
        yield from (lost, retransmitted, dropped, round_trip)

    def _radio(self) -> Iterator[Metric]:
        listeners = GaugeMetricFamily("headwater_radio_listeners", "Listeners.", labels=["mount"])
        dropped = CounterMetricFamily("headwater_radio_dropped", "Listeners that lagged.", labels=["mount"])
        sources = GaugeMetricFamily(
            "headwater_radio_source_connected",
            "Whether the station's own source gives sound.",
            labels=["mount"],
        )
        for mount in self._services_of.mounts.values():
            listeners.add_metric([mount.name], mount.listeners)
            dropped.add_metric([mount.name], mount.dropped)
            sources.add_metric([mount.name], not mount.is_silent)
        yield from (listeners, dropped, sources)

    def _events(self) -> Iterator[Metric]:
        channels = {f"radio/{mount.name}": mount.now.channel for mount in self._services_of.mounts.values()}
        yield from event_metrics(channels | self._services_of.events.channels)
        lost = CounterMetricFamily(
            "headwater_events_history_lost", "Events that the disk didn't keep.", labels=["channel"]
        )
        for name, history in self._services_of.events.histories.items():
            lost.add_metric([name], history.lost)
        yield lost
        created = self._services_of.events.created
        yield GaugeMetricFamily(
            "headwater_created_event_channels", "Event channels that were made at run time.", len(created)
        )
        yield GaugeMetricFamily(
            "headwater_created_event_channel_bytes",
            "Bytes of the events of these channels in memory.",
            created.open.event_bytes,
        )
        if self._services_of.events.relays:
            yield from relay_metrics(self._services_of.events.relays)


def _state_samples(
    service: str, current: str, states: Iterable[str], labels: Callable[[dict[str, str]], dict[str, str]]
) -> list[Sample]:
    """Make a sample for each state that a service may be in: 1 for the current one."""
    return [
        Sample(STATE, labels({"service": service, "state": one}), float(one == current)) for one in states
    ]


def loop_metrics(loop_lag: LoopLag) -> Iterator[Metric]:
    """Describe a process's event loop."""
    yield GaugeMetricFamily("headwater_tasks", "Tasks of the event loop.", len(asyncio.all_tasks()))
    yield GaugeMetricFamily(
        "headwater_loop_lag_seconds",
        "How late the event loop was, at most, in the last fifteen seconds.",
        loop_lag.lag,
    )
    yield CounterMetricFamily(
        "headwater_loop_holds",
        "Times that the event loop was held by computing; the log tells where.",
        loop_lag.holds,
    )


def traffic_metrics(traffic: RequestCounters) -> Iterator[Metric]:
    """Describe the requests that were answered."""
    requests = CounterMetricFamily(
        "headwater_requests", "Requests answered, by area and status.", labels=["area", "status"]
    )
    for (area, status), count in traffic.requests.items():
        requests.add_metric([area, str(status)], count)
    yield requests
    sent = CounterMetricFamily("headwater_sent_bytes", "Body bytes sent, by area.", labels=["area"])
    for area, count in traffic.sent_bytes.items():
        sent.add_metric([area], count)
    yield sent
    yield GaugeMetricFamily("headwater_connections", "Open connections of HTTP clients.", traffic.connections)


def event_metrics(channels: Mapping[str, EventChannel]) -> Iterator[Metric]:
    """Describe event channels.

    Histograms have a dozen samples a channel, and come in pieces; those that counted nothing are absent.
    """
    gauges: Iterable[Described[EventChannel]] = (
        ("events_readers", "Readers.", lambda channel: channel.readers_here),
        ("events_lag", "Events that the slowest reader has not had yet.", lambda channel: channel.lag),
    )
    counters: Iterable[Described[EventChannel]] = (
        ("events_published", "Events.", lambda channel: channel.published),
        ("events_dropped", "Readers that lagged.", lambda channel: channel.counters.dropped),
        (
            "events_lagged",
            "Readers that were told of a gap since they lagged.",
            lambda one: one.counters.lagged,
        ),
        ("events_resumed", "Readers that came again and missed nothing.", lambda one: one.counters.resumed),
        ("events_reset", "Readers that came again and had missed events.", lambda one: one.counters.reset),
    )
    yield from channel_metrics(channels, gauges, counters, channel_labels(channels))
    histograms: tuple[tuple[str, str, Callable[[EventChannel], LatencyHistogram]], ...] = (
        ("gap", "Between two events.", lambda channel: channel.gaps),
        ("first_event", "From a reader's coming to its first event.", lambda channel: channel.first_events),
        (
            "cleanup",
            "From when a reader's connection is gone until nothing of it is left.",
            lambda channel: channel.cleanups,
        ),
    )
    for name, text, latencies in histograms:
        counted = {channel: found for channel, one in channels.items() if (found := latencies(one)).count}
        yield from _histograms(f"headwater_events_{name}_seconds", text, counted)


def _histograms(name: str, text: str, latencies: Mapping[str, LatencyHistogram]) -> Iterator[Metric]:
    """Describe the histograms of channels, a dozen samples each: in pieces."""
    names = list(latencies)
    for at in range(0, max(len(names), 1), HISTOGRAMS_AT_ONCE):
        family = HistogramMetricFamily(name, text, labels=["channel"])
        for channel in names[at : at + HISTOGRAMS_AT_ONCE]:
            family.add_metric([channel], *latencies[channel].cumulative())
        yield family


def channel_labels(names: Iterable[str]) -> dict[str, dict[str, str]]:
    """Return the labels of channels, whose text is written once for all metrics that share them."""
    return {name: {"channel": name} for name in names}


def channel_metrics(
    channels: Mapping[str, ChannelT],
    gauges: Iterable[Described[ChannelT]],
    counters: Iterable[Described[ChannelT]],
    labels: Mapping[str, dict[str, str]],
) -> Iterator[Metric]:
    """Describe channels, of which there may be very many: each metric is made when it is written.

    Args:
        gauges: metrics whose values rise and fall.
        counters: metrics whose values only grow while the server runs.
        labels: as `channel_labels` makes them for the names.
    """
    for kind, ending, described in (("gauge", "", gauges), ("counter", "_total", counters)):
        for name, text, value in described:
            family = Metric(f"headwater_{name}", text, kind)
            name = family.name + ending
            family.samples = [Sample(name, labels[key], value(one)) for key, one in channels.items()]
            yield family


def _lost_packets(channel: Channel) -> int:
    return channel.losses.packets + (0 if channel.published is None else channel.published.lost_packets)


def relay_metrics(relays: Mapping[str, TokenRelay]) -> Iterator[Metric]:
    """Describe relays of token streams."""
    running = GaugeMetricFamily("headwater_relay_running", "Requests under way.", labels=["channel"])
    counters = {
        name: CounterMetricFamily(f"headwater_relay_{name}", text, labels=["channel"])
        for name, text in (
            ("requests", "Requests to the upstream server."),
            ("shared", "Callers that shared a request that was under way."),
            ("refused", "Requests for which there was no room."),
            ("failed", "Requests whose answer isn't there, or not whole."),
            ("cancelled", "Requests that were cancelled since the last reader had left."),
        )
    }
    histograms = {
        name: HistogramMetricFamily(f"headwater_relay_{name}_seconds", text, labels=["channel"])
        for name, text in (
            ("first_event", "From a request to the first event of its answer."),
            ("cleanup", "From the last reader's leaving until the upstream connection is closed."),
        )
    }
    for name, relay in relays.items():
        running.add_metric([name], relay.running)
        for key, counter in counters.items():
            counter.add_metric([name], getattr(relay.counters, key))
        for key, histogram in histograms.items():
            histogram.add_metric([name], *getattr(relay.counters, key).cumulative())
    yield from (running, *counters.values(), *histograms.values())
    yield from answer_metrics(relays)


ANSWER_METRICS = {
    "first_token": ("gen_ai_server_time_to_first_token_seconds", "From a request to its first token."),
    "per_token": ("gen_ai_server_time_per_output_token_seconds", "For each token behind the first."),
    "duration": ("gen_ai_server_request_duration_seconds", "From a request to the end of its answer."),
    "gap": ("headwater_relay_gap_seconds", "Between two events of an answer."),
    "tokens": ("gen_ai_client_token_usage", "Tokens of an answer, where the upstream server names them."),
    "chunks": ("headwater_relay_chunks", "Events of an answer whose tokens aren't named."),
    "rate": ("headwater_relay_tokens_per_second", "Tokens a second of an answer behind the first event."),
}
"""Names of the histograms of relays' answers, by the figure: OpenTelemetry's where it has one."""


def answer_metrics(relays: Mapping[str, TokenRelay]) -> Iterator[Metric]:
    """Describe how fast the answers of relays came, by relay, API, model and upstream server."""
    labels = ["relay", "gen_ai_operation_name", "gen_ai_request_model", "server_address"]
    for key, (name, text) in ANSWER_METRICS.items():
        family = HistogramMetricFamily(name, text, labels=labels)
        for relay, one in relays.items():
            for named, figures in one.counters.figures.by_model.items():
                family.add_metric([relay, *named], *getattr(figures, key).cumulative())
        yield family
