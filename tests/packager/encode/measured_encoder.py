"""Encodes a film in segments or in one pass, and prints what that took, in a process of its own.

The children of the process are the encoders alone, so that the kernel's figures of children are theirs.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from pathlib import Path

from packager.process.ffmpeg_discovery import discover
from tests.benchmarks.encoding import by_hand, in_segments, rendition_of


def processor_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def main(name: str, height: str, way: str) -> None:
    """Encode a film, and print the processor time and the peak of the resident memory of one encoder."""
    film = Path(name)
    tools, rendition = asyncio.run(discover()), rendition_of(film, int(height))
    out = film.with_name(f"{film.name}.{way}.mp4")
    before = processor_seconds()
    if way == "pass":
        by_hand(film, rendition, 0, float(rendition.track.duration), out)
    else:
        out.write_bytes(asyncio.run(in_segments(tools, film, rendition)))
    seconds = processor_seconds() - before
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss << 10
    sys.stdout.write(json.dumps({"seconds": seconds, "peak": peak, "size": out.stat().st_size}))


if __name__ == "__main__":
    main(*sys.argv[1:])
