"""``python -m tests.benchmarks.kills``: a channel whose ffmpeg is killed a hundred times, and what stays.

Not part of ``make bench``: it takes as long as it is told, ten minutes as it is.
"""

from __future__ import annotations

import argparse
import asyncio
from dataclasses import asdict

from packager.live.channel import Channel
from packager.live.options import ChannelOptions
from packager.process.ffmpeg_discovery import discover
from tests.packager.kills import kill_again_and_again


async def main(times: int, every: float) -> None:
    """Kill, and print what there is more of afterwards."""
    options = ChannelOptions("killed", ladder=("240p",), part_duration=0.25, segment_duration=1.0)
    report = await kill_again_and_again(Channel(options, await discover()), times=times, every=every)
    print(", ".join(f"{name} {value:+d}" for name, value in asdict(report).items()))  # noqa: T201  # its purpose


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=100)
    parser.add_argument("--every", type=float, default=5.0, help="seconds that an ffmpeg gets to run")
    arguments = parser.parse_args()
    asyncio.run(main(arguments.times, arguments.every))
