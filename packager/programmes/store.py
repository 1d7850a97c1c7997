"""The programmes of one channel, kept on disk over restarts."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Sequence

import msgspec
import structlog

from packager.past.programmes import MOST_PROGRAMMES, Programme, Schedule
from packager.safe_files import DataFolder, NotOursError
from packager.threads import SHARED_THREADS

log = structlog.get_logger()

PROGRAMMES = "programmes"
"""File in the channel's folder with its programmes."""

MAX_FILE_BYTES = 32 << 20
"""Longest file of programmes that is read."""

_DECODER = msgspec.json.Decoder(list[Programme])


class TooManyProgrammesError(Exception):
    """A channel has room for fewer programmes."""


class ProgrammeStore:
    """The programmes of one channel.

    Args:
        channel: the channel's name, for the log.
        place: the channel's folder on disk; None: they are in memory alone.

    Attributes:
        schedule: the programmes as they are now.
        is_loaded: whether those of an earlier process are among them.
        trouble: why they can't be read or written; or empty.
        share: called with a change before it is made here, for other nodes; None: nobody else has them.
    """

    def __init__(self, channel: str, place: DataFolder | None) -> None:
        self._channel = channel
        self._place = place
        self._lock = asyncio.Lock()
        self.is_loaded = False
        self.schedule = Schedule()
        self.trouble = ""
        self.share: Callable[[Schedule], Awaitable[None]] | None = None

    async def load(self) -> None:
        """Read the programmes that an earlier process left, once."""
        async with self._lock:
            if self.is_loaded:
                return
            if self._place is None:
                self.is_loaded = True
                return
            try:
                self.schedule = await SHARED_THREADS.run(_read, self._place, self._channel)
            except OSError as error:
                self.trouble = error.strerror or str(error)
                log.warning("programmes can't be read", channel=self._channel, reason=self.trouble)
            self.is_loaded = True

    async def replace(self, programmes: Iterable[Programme], kept: Iterable[str] = ()) -> Sequence[str]:
        """Replace all programmes; they are on disk when this returns.

        Args:
            programmes: in any order; no two have the same name.
            kept: names of programmes that are recordings already, and stay as they are.

        Returns:
            The names of those that stayed although they were to change, or to go.

        Raises:
            TooManyProgrammesError: there would be too many.
            OSError: they can't be written or shared; then nothing changes.
        """
        await self.load()
        async with self._lock:
            made, stayed = await SHARED_THREADS.run(changed, self.schedule, list(programmes), set(kept))
            if self.share is not None:
                await self.share(made)
                await self._adopt(made)
                return stayed
            await self._write(made)
            self.schedule = made
        return stayed

    async def follow(self, fetch: Callable[[], Awaitable[Schedule | None]]) -> None:
        """Take over the programmes of another place, which nobody changes here meanwhile.

        Args:
            fetch: returns them; None where they are the same.
        """
        async with self._lock:
            found = await fetch()
            if found is not None and found is not self.schedule:
                await self._adopt(found)
            self.is_loaded = True

    async def _adopt(self, schedule: Schedule) -> None:
        """Replace all programmes by those that another place has already, even if the disk fails."""
        if not self.trouble and schedule.by_id == self.schedule.by_id:
            return
        self.schedule = schedule
        try:
            await self._write(schedule)
        except OSError as error:
            log.warning(
                "programmes can't be written", channel=self._channel, reason=error.strerror or str(error)
            )

    async def _write(self, schedule: Schedule) -> None:
        if self._place is None:
            return
        try:
            await SHARED_THREADS.run(_write, self._place, schedule)
        except OSError as error:
            self.trouble = error.strerror or str(error)
            raise
        self.trouble = ""


def changed(
    schedule: Schedule, programmes: Sequence[Programme], kept: set[str]
) -> tuple[Schedule, Sequence[str]]:
    """Make the schedule that takes the place of another one, without a change of what is kept."""
    found = {one.id: one for one in programmes}
    stayed = []
    for name in sorted(kept):
        own = schedule.get(name)
        if own is not None and found.get(name) != own:
            stayed.append(name)
            found[name] = own
    if len(found) > MOST_PROGRAMMES:
        raise TooManyProgrammesError(f"more than {MOST_PROGRAMMES} programmes")
    return Schedule(found.values()), stayed


def _read(place: DataFolder, channel: str) -> Schedule:
    with contextlib.suppress(FileNotFoundError), place.open() as folder:
        try:
            found = decode_programmes(folder.read(PROGRAMMES, MAX_FILE_BYTES))
        except NotOursError:
            found = None
        if found is not None:
            return Schedule(found)
        aside = folder.set_aside([PROGRAMMES])
        log.warning("a file of programmes can't be read, and was set aside", channel=channel, aside=aside)
    return Schedule()


def encode_programmes(schedule: Schedule) -> bytes:
    """Write programmes for a file or another node."""
    return msgspec.json.encode(list(schedule)) + b"\n"


def decode_programmes(data: bytes) -> list[Programme] | None:
    """Read what `encode_programmes` has written; None where it isn't of that kind."""
    try:
        found = _DECODER.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    names = {one.id for one in found}
    is_right = len(found) <= MOST_PROGRAMMES and len(names) == len(found)
    return found if is_right and not any(one.fault for one in found) else None


def _write(place: DataFolder, schedule: Schedule) -> None:
    with place.open(make=True) as folder:
        folder.write_whole(PROGRAMMES, encode_programmes(schedule))
