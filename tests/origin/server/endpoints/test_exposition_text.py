"""The text of metrics is the client library's to the byte, and leaves out what isn't wanted."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.core import (
    REGISTRY,
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    Sample,
)
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from origin.server.endpoints.exposition_text import KeptLabels, exposition_text
from origin.server.services.service_states import STATES
from tests.conftest import start_server
from tests.copied_channel import copied_channel
from tests.waiting import wait_for

TEXTS = st.one_of(st.sampled_from(("", "demo", 'a "b"\\\nc', "ä€😀", "{},=")), st.text(max_size=12))
NUMBERS = st.one_of(
    st.integers(0, 2**60),
    st.floats(allow_nan=False).filter(lambda number: number != 0 or math.copysign(1, number) > 0),
    st.booleans(),
)


FAMILIES: st.SearchStrategy[type[GaugeMetricFamily | CounterMetricFamily | HistogramMetricFamily]]
FAMILIES = st.sampled_from((GaugeMetricFamily, CounterMetricFamily, HistogramMetricFamily))


class Collected(Collector):
    def __init__(self, metrics: list[Metric]) -> None:
        self.metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self.metrics


@st.composite
def families(draw: st.DrawFn) -> Metric:
    labels = draw(st.sampled_from(((), ("channel",), ("service", "state"))))
    family = draw(FAMILIES)
    metric = family("headwater_a", draw(TEXTS), labels=labels)
    for _ in range(draw(st.integers(0, 3))):
        values = [draw(TEXTS) for _ in labels]
        if isinstance(metric, HistogramMetricFamily):
            metric.add_metric(values, [("0.5", draw(NUMBERS)), ("+Inf", draw(NUMBERS))], draw(NUMBERS))
        else:
            metric.add_metric(values, draw(NUMBERS))
    return metric


@given(metrics=st.lists(families(), max_size=4))
def test_metrics_are_written_as_the_client_library_writes_them(metrics: list[Metric]) -> None:
    assert exposition_text(metrics) == generate_latest(Collected(metrics))


def test_labels_that_are_kept_have_the_text_of_others() -> None:
    labels = {"state": "live", "service": 'a"b\\c\n'}
    samples = [Sample("kept", one, 1.0) for one in (labels, KeptLabels(labels))]
    metric = Metric("kept", "", "gauge")
    metric.samples = samples
    assert exposition_text([metric]) == generate_latest(Collected([metric]))


def test_so_are_those_of_a_process() -> None:
    metrics = list(REGISTRY.collect())
    assert exposition_text(metrics) == generate_latest(Collected(metrics))


@pytest.mark.promise("server.channel_metrics")
@pytest.mark.parametrize(
    ("kinds", "live", "events"), [('["live"]', True, False), ('["events"]', False, True), (None, True, True)]
)
def test_series_of_each_channel_can_be_left_out(
    tmp_path: Path, kinds: str | None, live: bool, events: bool
) -> None:
    key = "" if kinds is None else f"channel_metrics = {kinds}\n"
    channels = '[[events]]\nname = "chat"\n[[live]]\nname = "news"\nsource = "publish"\n'
    (tmp_path / "headwater.toml").write_text(f"[server]\nport = 0\n{key}{channels}")
    server = start_server("--config", "headwater.toml", cwd=tmp_path)
    try:
        text = httpx.get(f"{server.url}/metrics").text
    finally:
        server.stop()
    assert "headwater_loop_lag_seconds" in text
    for name in ('headwater_events_readers{channel="chat"}', 'headwater_state{service="events/chat"'):
        assert (name in text) == events
    for name in ('headwater_live_viewers{channel="news"}', 'headwater_state{service="live/news"'):
        assert (name in text) == live
    # Of its dozen series an idle channel has none.
    assert 'seconds_bucket{channel="news"' not in text


def test_a_state_that_has_changed_since_the_last_scrape_is_said(tmp_path: Path) -> None:
    (tmp_path / "headwater.toml").write_text(f"[server]\nport = 0\n{copied_channel('news')}")
    server = start_server("--config", "headwater.toml", cwd=tmp_path)

    def said() -> dict[str, float]:
        lines = [one for one in httpx.get(f"{server.url}/metrics").text.splitlines() if "live/news" in one]
        return {line.partition('state="')[2].partition('"')[0]: float(line.split()[-1]) for line in lines}

    try:
        assert set(said()) == {*STATES}
        wait_for(lambda: said()["live"], "the channel")
        assert said() == {state: float(state == "live") for state in STATES}
    finally:
        server.stop()
