"""The spans of a channel's time that are to be recordings, which are stored so that a restart loses none."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from fractions import Fraction
from typing import Annotated

import msgspec
import structlog
from msgspec import Meta, Struct

from packager.past.programmes import LATEST, MOST_TITLE
from packager.recordings.recording_writer import RecordingNames
from packager.safe_files import DataFolder, NotOursError
from packager.threads import SHARED_THREADS

log = structlog.get_logger()

SPANS = "spans"
"""File in the channel's folder with the spans that are to be kept."""

MAX_STATE_BYTES = 8 << 20
"""Longest file of spans that is read."""

_Name = Annotated[str, Meta(min_length=1, max_length=200)]
_Milliseconds = Annotated[int, Meta(ge=0, le=LATEST)]


class KeptSpan(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """A span of a channel's time that is to be a recording.

    Attributes:
        id: a name that no other span of the channel ever has.
        start_ms: milliseconds since the epoch.
        end_ms: milliseconds since the epoch; None while a publication goes on.
        title: text of one line for people, which may be empty.
        programme: the name of the programme that it is; empty for none.
        pinned: whether its recording is never removed by its age.
    """

    id: _Name
    start_ms: _Milliseconds
    end_ms: _Milliseconds | None = None
    title: Annotated[str, Meta(max_length=MOST_TITLE)] = ""
    programme: Annotated[str, Meta(max_length=200)] = ""
    pinned: bool = False

    @property
    def bounds(self) -> tuple[Fraction, Fraction]:
        """Its beginning and end in seconds since the epoch; the latest date while it goes on."""
        return Fraction(self.start_ms, 1000), Fraction(self.end_ms or LATEST, 1000)

    @property
    def names(self) -> RecordingNames:
        """The names that its recording gets, and its bounds where these were asked for."""
        shown = (self.start_ms, self.end_ms) if self.pinned and self.end_ms is not None else None
        return RecordingNames(self.title, self.programme, self.id, self.pinned, shown)


class SpansState(Struct, frozen=True, forbid_unknown_fields=True):
    """The spans of a channel that are to be kept.

    Attributes:
        spans: asked for or begun, and no recordings yet.
        done: names of spans of programmes that were recorded, or of which nothing came.
    """

    spans: tuple[KeptSpan, ...] = ()
    done: tuple[str, ...] = ()

    def added(self, span: KeptSpan) -> SpansState:
        """Return the state with one more span."""
        return SpansState((*self.spans, span), self.done)

    def replaced(self, span: KeptSpan) -> SpansState:
        """Return the state with a span in the place of the one of its name, if that is there."""
        return SpansState(tuple(span if one.id == span.id else one for one in self.spans), self.done)

    def without(self, name: str) -> SpansState:
        """Return the state without the span of a name."""
        return SpansState(tuple(one for one in self.spans if one.id != name), self.done)


_STATE = msgspec.json.Decoder(SpansState)


def decode_state(data: bytes) -> SpansState | None:
    """Read spans; None where they aren't ours."""
    try:
        return _STATE.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def read_state(place: DataFolder) -> tuple[SpansState, str]:
    """Read the spans of an earlier process, and where a damaged file was set aside. Blocks.

    Raises:
        OSError: they can't be read.
    """
    with contextlib.suppress(FileNotFoundError), place.open() as folder:
        state = None
        with contextlib.suppress(NotOursError):
            state = decode_state(folder.read(SPANS, MAX_STATE_BYTES))
        return (SpansState(), folder.set_aside([SPANS])) if state is None else (state, "")
    return SpansState(), ""


def write_state(place: DataFolder, state: SpansState) -> None:
    """Write the spans. Blocks.

    Raises:
        OSError: they can't be written.
    """
    with place.open(make=True) as folder:
        folder.write_whole(SPANS, msgspec.json.encode(state) + b"\n")


class DiskSpans:
    """The spans of a channel on this machine's disk, where they outlive this process."""

    def __init__(self, channel: str, place: DataFolder) -> None:
        self._channel = channel
        self._place = place

    async def load(self) -> SpansState:
        """Read the spans of an earlier process.

        Raises:
            OSError: they can't be read.
        """
        state, aside = await SHARED_THREADS.run(read_state, self._place)
        if aside:
            log.warning(
                "a file of spans can't be read, and was set aside", channel=self._channel, aside=aside
            )
        return state

    async def save(self, state: SpansState) -> None:
        """Write the spans.

        Raises:
            OSError: they can't be written.
        """
        await SHARED_THREADS.run(write_state, self._place, state)


class KeptSpans:
    """The spans of a channel that are to be kept, which change where they are stored first.

    Attributes:
        store: keeps the spans over restarts.
        state: the spans as they are stored.
        loaded: set once those of an earlier process are known, or can't be read.
    """

    def __init__(self, store: DiskSpans) -> None:
        self.store = store
        self.state = SpansState()
        self.loaded = asyncio.Event()
        self._lock = asyncio.Lock()

    async def load(self) -> None:
        """Read the spans, which another process may have changed.

        Raises:
            OSError: they can't be read.
        """
        async with self._lock:
            self.state = await self.store.load()

    async def change(self, change: Callable[[SpansState], SpansState]) -> None:
        """Store the spans as they are to be.

        Raises:
            OSError: they can't be written; then they stay as they were.
        """
        async with self._lock:
            state = change(self.state)
            if state != self.state:
                await self.store.save(state)
                self.state = state
