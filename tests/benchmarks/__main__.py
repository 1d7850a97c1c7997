"""``make bench``: runs the benchmarks, prints each figure beside its ratio to the first peer's.

``python -m tests.benchmarks WORD...`` runs only those whose names contain one of the words.
"""

from __future__ import annotations

import itertools
import json
import sys
from dataclasses import asdict
from pathlib import Path

from tests.benchmarks import (
    cluster,
    connections,
    distance,
    encoding,
    events,
    floods,
    growth,
    handshakes,
    http2,
    http3,
    live,
    log_followers,
    neighbours,
    packaging,
    publishers,
    radio,
    ranges,
    relays,
    reloads,
    signed,
    slow,
    stages,
    tls,
    vod,
    vod_in_s3,
    workers,
)

PARTS = (
    ranges,
    signed,
    tls,
    handshakes,
    http2,
    http3,
    distance,
    connections,
    slow,
    radio,
    events,
    relays,
    floods,
    live,
    reloads,
    log_followers,
    cluster,
    packaging,
    publishers,
    stages,
    vod,
    vod_in_s3,
    workers,
    encoding,
    neighbours,
    growth,
)
RESULTS = Path("artifacts/benchmarks.jsonl")


def main() -> None:
    """Run everything, or what the arguments name."""
    RESULTS.parent.mkdir(exist_ok=True)
    reference: dict[str, float] = {}
    with RESULTS.open("a", encoding="utf-8") as results:
        words = tuple(sys.argv[1:])
        for figure in itertools.chain.from_iterable(part.run(words) for part in PARTS):
            first = reference.setdefault(figure.benchmark, figure.value)
            ratio = figure.value / first if figure.ratio is None else figure.ratio
            line = f"{figure.benchmark:28} {figure.server:14} {figure.value:10.3f} {figure.unit:16}"
            line += f" {ratio:6.2f} x"
            if figure.kernel is not None:
                line += f"  {figure.kernel:4.0%} of it in the kernel"
            print(line, flush=True)  # noqa: T201  # its purpose
            results.write(json.dumps({**asdict(figure), "ratio": round(ratio, 3)}) + "\n")


if __name__ == "__main__":
    main()
