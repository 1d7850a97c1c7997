"""Metrics of a library in S3, for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from packager.library.local_storage import Library

if TYPE_CHECKING:
    from packager.s3.library import S3Library


def s3_metrics(storage: Library | S3Library) -> Iterator[Metric]:
    """Describe the requests to S3 and the cache of their answers; empty for a library in a folder."""
    if isinstance(storage, Library):
        return
    counters = storage.counters
    yield CounterMetricFamily("headwater_s3_requests", "Requests to S3.", counters.requests)
    failures = CounterMetricFamily("headwater_s3_failures", "Requests to S3 that failed.", labels=["reason"])
    for reason, count in counters.failures.items():
        failures.add_metric([reason], count)
    yield failures
    yield CounterMetricFamily(
        "headwater_s3_received_bytes", "Bytes of objects from S3.", counters.received_bytes
    )
    seconds = HistogramMetricFamily(
        "headwater_s3_request_seconds", "How long requests to S3 took, their bodies included."
    )
    seconds.add_metric([], *counters.seconds.cumulative())
    yield seconds
    yield CounterMetricFamily(
        "headwater_s3_cache_hits", "Blocks that were in the cache when they were asked for.", counters.hits
    )
    yield CounterMetricFamily("headwater_s3_cache_misses", "Blocks that weren't.", counters.misses)
    yield GaugeMetricFamily(
        "headwater_s3_cache_bytes", "What the cache holds, on disk and in memory.", storage.cache.kept_bytes
    )
