"""Very many revoked tokens: kept, written and shared in steps, and forgotten when their time is over."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import pytest

from origin.access.revocation_file import NAME, RevocationFile
from origin.access.revocations import RECORDS_AT_ONCE, SPARE_SECONDS, Revocation, Revocations, messages_of
from packager.safe_files import DataFolder
from tests.loop_watch import LoopWatch, slowness

MANY = 100_000
NOW = 1_800_000_000.0
LONGEST_STEP = 0.02
"""Seconds of processor time: what one step may take."""


def digest(number: int) -> str:
    return hashlib.sha256(b"%d" % number).hexdigest()[:32]


def many(begin: int, end: int) -> dict[str, float]:
    return {digest(number): NOW + 60 + number for number in range(begin, end)}


def revocations(most: int = MANY) -> Revocations:
    return Revocations(most, clock=lambda: NOW)


@pytest.mark.clause("Nothing holds the event loop for 20 ms")
async def test_a_full_table_is_written_and_merged_without_holding_the_event_loop(
    tmp_path: Path, nothing_holds_the_event_loop: LoopWatch
) -> None:
    place = DataFolder(tmp_path / "data") / "revocations"
    here, known, other = revocations(), many(0, MANY), revocations()
    file, others = RevocationFile(here, place), RevocationFile(other, place)
    nothing_holds_the_event_loop.reset()
    await other.merge_in_steps(many(MANY // 2, MANY))
    await others.save()
    await here.merge_in_steps(many(0, MANY // 2))
    await file.save()
    here.merge([Revocation(digest(0), NOW + 10_000_000)])
    await file.save()
    held = nothing_holds_the_event_loop.longest
    assert held.seconds < LONGEST_STEP * slowness(), held.where
    expected = known | {digest(0): NOW + 10_000_000}
    assert here.ends() == expected
    lines = (tmp_path / "data" / "revocations" / NAME).read_text().split("\n")
    assert len(lines) == MANY + 1
    again = revocations()
    await asyncio.to_thread(RevocationFile(again, place).restore)
    assert again.ends() == expected


def test_what_is_over_makes_room_and_what_is_put_off_stays() -> None:
    now = NOW
    kept = Revocations(3, clock=lambda: now)
    for number in range(3):
        kept.merge([Revocation(digest(number), NOW + 10 * number)])
    assert kept.is_full
    kept.merge([Revocation(digest(9), NOW + 1000)])
    assert digest(9) not in kept
    kept.merge([Revocation(digest(0), NOW + 500)])
    now = NOW + SPARE_SECONDS + 10
    assert kept.ends() == {digest(0): NOW + 500, digest(2): NOW + 20}
    kept.merge([Revocation(digest(9), NOW + 1000)])
    now = NOW + SPARE_SECONDS + 500
    assert kept.ends() == {digest(9): NOW + 1000}
    assert len(kept) == 1


def test_a_revocation_that_is_put_off_again_and_again_takes_no_more_memory() -> None:
    kept = revocations(10)
    for number in range(10_000):
        kept.merge([Revocation(digest(1), NOW + number), Revocation(digest(number), NOW)])
        assert len(kept._ends) <= 2 * 10 + 2
    assert kept.ends()[digest(1)] == NOW + 9_999


def test_messages_have_all_of_them_once() -> None:
    known = many(0, 2 * RECORDS_AT_ONCE + 1)
    messages = list(messages_of(known))
    assert [len(one) for one in messages] == [RECORDS_AT_ONCE, RECORDS_AT_ONCE, 1]
    assert {one.digest: one.until for message in messages for one in message} == known
