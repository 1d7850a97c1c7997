"""A date range ends in the log of a packager that began it when the owner of the shared log ends it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from media.hls.date_range import DateRange
from packager.window.log import DateRangeEntry, Log
from tests.origin.live.served_log import NoCommands
from tests.packager.cluster.live_nodes import clear, is_level, node, owner, playing
from tests.redis_server import RedisServer
from tests.waiting import until


class _Commands(NoCommands):
    """Lists date ranges in a packager's own log."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def continue_date_ranges(self, tags: Sequence[DateRange]) -> None:
        """Append them."""
        for tag in tags:
            self._log.append(DateRangeEntry(tag))


async def test_a_range_of_a_standby_ends_when_the_owner_ends_it(redis_server: RedisServer) -> None:
    clear(redis_server)
    first, second = playing(), playing()
    start = next(iter(first.folded.renditions.values())).window.listed[0].program_date_time
    begun = DateRange("ad", start, planned_duration=Fraction(900), client_attributes={})
    ended = replace(begun, duration=Fraction(20))
    async with node(redis_server, first) as one, node(redis_server, second) as two:
        await until(lambda: owner(one, two) is not None, "an owner")
        makers = {id(one): first, id(two): second}
        leading = owner(one, two)
        assert leading is not None
        standby = two if leading is one else one
        own, other = makers[id(leading)], makers[id(standby)]
        await until(lambda: is_level(own, standby), "the log at the standby")
        standby.node.channels["test"]._own.commands = _Commands(other.log)
        for maker in (own, other):
            maker.log.append(DateRangeEntry(begun))
        own.log.append(DateRangeEntry(ended))
        ranges = standby.node.channels["test"]._own.presentation.date_ranges
        await until(lambda: [tag.duration for tag in ranges.whole()] == [20], "the end at the standby")
        # What another packager begins isn't listed there before it owns the log.
        own.log.append(DateRangeEntry(replace(begun, id="other")))
        shared = standby.streams["test"].presentation.date_ranges
        await until(lambda: shared.start_of("other") is not None, "the next range")
        assert ranges.start_of("other") is None
