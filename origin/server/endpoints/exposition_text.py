"""Prometheus' text format, written several times faster than the client library writes it.

Of a server with thousands of channels most of a scrape is this text. Metrics are collected as the library's
own objects, and the text is its text to the byte; exemplars, timestamps, moments of creation and names
beyond ASCII don't occur.
Source: the exposition formats of Prometheus, text format 0.0.4.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from prometheus_client.core import Metric
from prometheus_client.utils import floatToGoString

KEPT = 4096
"""Most label values and numbers whose text is kept while a text is written."""


class _Numbers(dict[float, str]):
    """Numbers as Go writes them: most counters have one of few."""

    def __missing__(self, value: float) -> str:
        text: str = floatToGoString(value)  # type: ignore[no-untyped-call]
        if len(self) < KEPT:
            self[value] = text
        return text


class _LabelValues(dict[str, str]):
    """Values of labels in quotation marks."""

    def __missing__(self, value: str) -> str:
        text = value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
        text = f'"{text}"'
        if len(self) < KEPT:
            self[value] = text
        return text


class KeptLabels(dict[str, str]):
    """Labels of samples that come at each scrape, whose text is written once."""

    __slots__ = ("text",)

    def __init__(self, labels: Mapping[str, str]) -> None:
        super().__init__(labels)
        self.text = _text_of(labels, _LabelValues())


def exposition_text(metrics: Sequence[Metric]) -> bytes:
    """Write metrics as text."""
    return "".join(_lines(metrics)).encode()


def _lines(metrics: Sequence[Metric]) -> Iterator[str]:
    numbers, values = _Numbers(), _LabelValues()
    texts: dict[int, str] = {}
    for metric in metrics:
        name = f"{metric.name}_total" if metric.type == "counter" else metric.name
        documentation = metric.documentation.replace("\\", r"\\").replace("\n", r"\n")
        yield f"# HELP {name} {documentation}\n# TYPE {name} {metric.type}\n"
        for sampled, labels, number, *_ in metric.samples:
            # Labels that several samples share are written once; as none is gone, no two have the same id.
            if (text := texts.get(id(labels))) is None:
                known = labels.text if isinstance(labels, KeptLabels) else _text_of(labels, values)
                text = texts[id(labels)] = known
            yield f"{sampled}{text} {numbers[number]}\n"


def _text_of(labels: Mapping[str, str], values: _LabelValues) -> str:
    pairs = [f"{label}={values[value]}" for label, value in sorted(labels.items())]
    return f"{{{','.join(pairs)}}}" if pairs else ""
