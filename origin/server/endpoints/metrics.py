"""Prometheus metrics, read from the services when they are scraped, with a fixed set of labels."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from operator import attrgetter
from typing import TYPE_CHECKING, Any

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
from origin.server.services.service_states import EVENT_STATES, STATES, service_states
from origin.server.services.services import Services
from origin.server.services.worker_interface import Workers, merged
from origin.system.loop_lag import LoopLag
from origin.token_relay.relay import TokenRelay
from packager.latency_histogram import LatencyHistogram
from packager.library.local_storage import Library
from packager.live.channel import Channel
from packager.threads import SHARED_THREADS

if TYPE_CHECKING:
    from packager.s3.library import S3Library

Described = tuple[str, str, str | Callable[[Any], float]]
"""A metric of channels: its name without ``headwater_``, its text, and a channel's attribute or its reader.

The name of a counter, whose values only grow while the server runs, ends in ``_total``.
"""

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
        labels = channel_labels(streams)
        yield from channel_metrics(
            streams,
            labels,
            ("live_viewers", "Clients following.", "viewers"),
            ("live_blocked_requests", "Requests waiting.", "blocked"),
        )
        yield from channel_metrics(
            live.broadcasts,
            labels,
            ("ffmpeg_restarts_total", "Times ffmpeg died.", "restarts"),
            ("source_lost_packets_total", "MPEG-TS packets that didn't come.", _lost_packets),
            (
                "source_dropped_datagrams_total",
                "Datagrams for which the system had no room.",
                "losses.datagrams",
            ),
        )
        published = {name: one.published for name, one in live.channels.items() if one.published is not None}
        yield from channel_metrics(
            published,
            labels,
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
        text = "From the end of a part's last frame to its being published; absent before a first one."
        yield from _histograms("live_part_delay_seconds", text, live.part_delays)
        if self._services_of.config.server.srt_port:
            yield from channel_metrics(
                published,
                labels,
                ("srt_lost_packets_total", "Packets that didn't come when due.", "link.lost"),
                (
                    "srt_retransmitted_packets_total",
                    "Packets that came when sent again.",
                    "link.retransmitted",
                ),
                ("srt_dropped_packets_total", "Packets that didn't come in time.", "link.dropped"),
            )
            links = {name: one.live.link for name, one in published.items() if one.live and one.live.link}
            round_trip = "srt_round_trip_seconds", "Round trip of who is on air.", "round_trip_seconds"
            yield from channel_metrics(links, labels, round_trip)
        forwarders = {
            (channel.name, str(number), one.target): one
            for channel in live.channels.values()
            for number, one in enumerate(channel.forwarders, 1)
        }
        if forwarders:
            yield from channel_metrics(
                forwarders,
                {one: dict(zip(("channel", "number", "target"), one, strict=True)) for one in forwarders},
                ("forward_sending", "1 while it is pushed on.", "is_sending"),
                ("forward_sent_bytes_total", "Bytes pushed on.", "sent"),
                ("forward_failures_total", "Failed attempts.", "failures"),
            )

    def _cluster(self) -> Iterator[Metric]:
        """Yield the state of this node's connection to Redis, and the logs that it owns."""
        if (node := self._services_of.live.cluster) is None:
            return
        connection = node.connection
        yield GaugeMetricFamily("headwater_cluster_connected", "Whether Redis is there.", connection.is_up)
        yield CounterMetricFamily("headwater_cluster_lost", "Times that Redis was lost.", connection.lost)
        channels, outcomes = {**node.channels, **node.simulcasts}, node.commands.outcomes
        owner = "1 for the owner.", "is_owner"
        dropped = "Entries of its log that Redis never got.", "dropped"
        yield from channel_metrics(
            channels,
            channel_labels(channels),
            ("cluster_owner", *owner),
            ("cluster_dropped_entries_total", *dropped),
        )
        carried = "Requests that were to be carried to the owners of channels, by what came of them."
        labels = channel_labels(outcomes, "outcome")
        yield from channel_metrics(outcomes, labels, ("cluster_commands_total", carried, float))
        if (stations := self._services_of.cluster_stations) is not None:
            labels = channel_labels(stations.stations, "mount")
            yield from channel_metrics(stations.stations, labels, ("cluster_station_owner", *owner))
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

    def _radio(self) -> Iterator[Metric]:
        sounds = "Whether the station's own source gives sound."
        yield from channel_metrics(
            self._services_of.mounts,
            channel_labels(self._services_of.mounts, "mount"),
            ("radio_listeners", "Listeners.", "listeners"),
            ("radio_dropped_total", "Listeners that lagged.", "dropped"),
            ("radio_source_connected", sounds, lambda one: not one.is_silent),
        )

    def _events(self) -> Iterator[Metric]:
        channels = {f"radio/{mount.name}": mount.now.channel for mount in self._services_of.mounts.values()}
        yield from event_metrics(channels | self._services_of.events.channels)
        histories, created = self._services_of.events.histories, self._services_of.events.created
        lost = "events_history_lost_total", "Events that the disk didn't keep.", "lost"
        yield from channel_metrics(histories, channel_labels(histories), lost)
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


def s3_metrics(storage: Library | S3Library) -> Iterator[Metric]:
    """Describe the requests to S3 and the cache of their answers; empty for a library in a folder."""
    if isinstance(storage, Library):
        return
    reasons = storage.counters.failures
    labels = channel_labels(reasons, "reason")
    yield from channel_metrics(
        {0: storage},
        {0: {}},
        ("s3_requests_total", "Requests to S3.", "counters.requests"),
        ("s3_received_bytes_total", "Bytes of objects from S3.", "counters.received_bytes"),
        (
            "s3_cache_hits_total",
            "Blocks that were in the cache when they were asked for.",
            "counters.hits",
        ),
        ("s3_cache_misses_total", "Blocks that weren't.", "counters.misses"),
        ("s3_cache_bytes", "What the cache holds, on disk and in memory.", "cache.kept_bytes"),
    )
    yield from channel_metrics(reasons, labels, ("s3_failures_total", "Requests to S3 that failed.", float))
    seconds = HistogramMetricFamily(
        "headwater_s3_request_seconds", "How long requests to S3 took, their bodies included."
    )
    seconds.add_metric([], *storage.counters.seconds.cumulative())
    yield seconds


def event_metrics(channels: Mapping[str, EventChannel]) -> Iterator[Metric]:
    """Describe event channels.

    Histograms have a dozen samples a channel, and come in pieces; those that counted nothing are absent.
    """
    yield from channel_metrics(
        channels,
        channel_labels(channels),
        ("events_readers", "Readers.", "readers_here"),
        ("events_lag", "Events that the slowest reader has not had yet.", "lag"),
        ("events_published_total", "Events.", "published"),
        ("events_dropped_total", "Readers that lagged.", "counters.dropped"),
        ("events_lagged_total", "Readers that were told of a gap since they lagged.", "counters.lagged"),
        ("events_resumed_total", "Readers that came again and missed nothing.", "counters.resumed"),
        ("events_reset_total", "Readers that came again and had missed events.", "counters.reset"),
    )
    for name, text, part in (
        ("gap", "Between two events.", "gaps"),
        ("first_event", "From a reader's coming to its first event.", "first_events"),
        ("cleanup", "From when a reader's connection is gone until nothing of it is left.", "cleanups"),
    ):
        latencies = {channel: getattr(one, part) for channel, one in channels.items()}
        counted = {channel: one for channel, one in latencies.items() if one.count}
        yield from _histograms(f"events_{name}_seconds", text, counted)


def _histograms(name: str, text: str, latencies: Mapping[str, LatencyHistogram]) -> Iterator[Metric]:
    """Describe the histograms of channels, a dozen samples each: in pieces."""
    names = list(latencies)
    for at in range(0, max(len(names), 1), HISTOGRAMS_AT_ONCE):
        family = HistogramMetricFamily(f"headwater_{name}", text, labels=["channel"])
        for channel in names[at : at + HISTOGRAMS_AT_ONCE]:
            family.add_metric([channel], *latencies[channel].cumulative())
        yield family


def channel_labels(names: Iterable[str], label: str = "channel") -> dict[str, dict[str, str]]:
    """Return the labels of channels, whose text is written once for all metrics that share them."""
    return {name: {label: name} for name in names}


def channel_metrics(
    channels: Mapping[Any, object], labels: Mapping[Any, dict[str, str]], *described: Described
) -> Iterator[Metric]:
    """Describe channels, of which there may be very many: each metric is made when it is written.

    Args:
        labels: of each channel, as `channel_labels` makes them for names.
    """
    for full, text, value in described:
        name, kind = full.removesuffix("_total"), "counter" if full.endswith("_total") else "gauge"
        family = Metric(f"headwater_{name}", text, kind)
        value_of = attrgetter(value) if isinstance(value, str) else value
        full = f"headwater_{full}"
        family.samples = [Sample(full, labels[key], value_of(one)) for key, one in channels.items()]
        yield family


def _lost_packets(channel: Channel) -> int:
    return channel.losses.packets + (0 if channel.published is None else channel.published.lost_packets)


def relay_metrics(relays: Mapping[str, TokenRelay]) -> Iterator[Metric]:
    """Describe relays of token streams."""
    cancelled = "Requests that were cancelled since the last reader had left."
    yield from channel_metrics(
        relays,
        channel_labels(relays),
        ("relay_running", "Requests under way.", "running"),
        ("relay_requests_total", "Requests to the upstream server.", "counters.requests"),
        ("relay_shared_total", "Callers that shared a request that was under way.", "counters.shared"),
        ("relay_refused_total", "Requests for which there was no room.", "counters.refused"),
        ("relay_failed_total", "Requests whose answer isn't there, or not whole.", "counters.failed"),
        ("relay_cancelled_total", cancelled, "counters.cancelled"),
    )
    for name, text in (
        ("first_event", "From a request to the first event of its answer."),
        ("cleanup", "From the last reader's leaving until the upstream connection is closed."),
    ):
        latencies = {key: getattr(one.counters, name) for key, one in relays.items()}
        yield from _histograms(f"relay_{name}_seconds", text, latencies)
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
