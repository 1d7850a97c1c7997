"""A live channel's log in a file, and what is answered by a process that folds it and has no channel.

``python -m tests.origin.live.served_log FOLDER`` reads ``log``, ``moment`` and ``targets`` of a folder, and
leaves its answers in ``answers``.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Sequence
from fractions import Fraction
from pathlib import Path

import httpx
import msgspec
from starlette.applications import Starlette

from media.hls.date_range import DateRange
from media.subtitles.webvtt import Cue
from origin.answers.asgi import handler_routes
from origin.live.handler import LiveHandler
from origin.live.requests.addresses import PATTERNS
from packager.publish.channel_commands import RecordingState
from packager.publish.live_stream import LiveStream
from packager.window.log import Entry
from packager.window.log_encoding import LogDecoder, encode

Answer = tuple[str, int, list[tuple[str, str]], bytes]
"""Target, status, header fields and body."""

ABSENT = ("packager.live", "packager.process", "packager.sources", "packager.dvr", "packager.recordings")
"""Rooms that have no business where a log is served."""

TICK_SECONDS = 0.01
LOG_BYTES = 64 << 20
"""Longest entry of a log that a test reads."""


class LogClock:
    """A clock that goes with the log: each entry takes a while, here and elsewhere the same."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> float:
        """Tell the time."""
        return self.count * TICK_SECONDS


class LogKeeper:
    """Keeps a channel's log as bytes."""

    def __init__(self) -> None:
        self.clock = LogClock()
        self.data = bytearray()

    def take(self, entry: Entry) -> None:
        """Write an entry."""
        self.data += encode(entry)
        self.clock.count += 1


class NoCommands:
    """Nobody is there to carry out what requests may cause."""

    def note_viewer(self) -> None:
        """Nobody minds."""

    def is_postponed(self) -> bool:
        """What is there is served."""
        return False

    async def end_event(self) -> RecordingState:
        """Nobody ends it."""
        return RecordingState.AWAITED

    def begin_event(self) -> bool:
        """Nobody begins it."""
        return False

    def publish_metadata(self, tag: DateRange, id3: bytes) -> None:
        """Nobody takes it."""

    def continue_date_ranges(self, tags: Sequence[DateRange]) -> None:
        """Nobody lists them."""

    @contextlib.asynccontextmanager
    async def feeding_captions(self) -> AsyncIterator[None]:
        """Nobody takes them."""
        yield

    def add_captions(self, language: str, cues: Sequence[Cue], zero: Fraction) -> int:
        """Nobody takes them."""
        del language, zero
        return len(cues)


async def answers(stream: LiveStream, targets: Sequence[str]) -> list[Answer]:
    """Ask for all of these, as a client that takes compressed text and as one that doesn't."""
    transport = httpx.ASGITransport(
        Starlette(routes=handler_routes(LiveHandler({stream.name: stream}), PATTERNS))
    )
    found = []
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        for target in targets:
            for coding in ("identity", "gzip"):
                async with client.stream("GET", target, headers={"accept-encoding": coding}) as answer:
                    body = b"".join([piece async for piece in answer.aiter_raw()])
                found.append((target, answer.status_code, list(answer.headers.items()), body))
                # Nothing waits in there: others have their turn here.
                await asyncio.sleep(0)
    return found


def folded(data: bytes, clock: LogClock) -> LiveStream:
    """Fold a log."""
    stream, reader = LiveStream("test", NoCommands(), clock=clock), LogDecoder(LOG_BYTES)
    reader.receive_data(data)
    for entry in reader.entries():
        stream.fold(entry)
        clock.count += 1
    reader.receive_eof()
    # What isn't there isn't waited for: nothing more comes.
    stream.close()
    return stream


def main(folder: Path) -> None:
    """Serve the log that lies in a folder."""
    moment = float((folder / "moment").read_text())
    targets = (folder / "targets").read_text().splitlines()
    stream = folded((folder / "log").read_bytes(), LogClock())
    stream.wall_clock = lambda: moment
    found = asyncio.run(answers(stream, targets))
    (folder / "answers").write_bytes(msgspec.msgpack.encode(found))
    print(*sorted(sys.modules), sep="\n")  # noqa: T201  # who started it looks what is loaded


if __name__ == "__main__":
    main(Path(sys.argv[1]))
