"""Segments of four renditions in which anything may be missing, for tests of what playlists say of them."""

from __future__ import annotations

import random
from collections.abc import Mapping
from fractions import Fraction

from hypothesis import strategies as st
from msgspec.structs import replace

from packager.past.outlines import BLOCK_SEGMENTS
from packager.window.model import WEBVTT_ENTRY, LiveSegment, StoredSegment, Timeline

NAMES = ("720p", "480p", "audio", "captions-en")
FIRST = 4 * BLOCK_SEGMENTS - 100
DURATIONS = (Fraction(2), Fraction(1921, 1000), Fraction(90 * 1024, 44100))
RUNS = st.lists(
    st.tuples(st.lists(st.sampled_from("....GDM-"), min_size=4, max_size=4), st.integers(1, 200)),
    min_size=1,
    max_size=8,
)
"""How a run begins in each rendition, and how long it is: as before, with a gap, with a discontinuity and
another init segment, with that alone, or with a number that is missing. A short run is so as a whole."""

Segments = Mapping[str, list[LiveSegment]]


def segments_of(runs: list[tuple[list[str], int]], timeline: Timeline) -> dict[str, list[LiveSegment]]:
    found: dict[str, list[LiveSegment]] = {name: [] for name in NAMES}
    chosen, date = random.Random(str(runs)), Fraction(1_795_000_000)
    current = {name: Timeline(FIRST, timeline.init, timeline.entry) for name in NAMES}
    current[NAMES[-1]] = Timeline(FIRST, b"WEBVTT\n", WEBVTT_ENTRY)
    number = FIRST
    for states, count in runs:
        for at in range(count):
            duration = chosen.choice(DURATIONS)
            for name, state in zip(NAMES, states, strict=True):
                begins, lacks = at == 0, at == 0 or count < 10
                if begins and state in "DM":
                    current[name] = Timeline(number, current[name].init, current[name].entry)
                if lacks and state == "-":
                    continue
                is_gap = lacks and state == "G"
                stored = StoredSegment.of((chosen.randrange(1, 9999), 5), (number, 1), 0, 77)
                found[name].append(
                    LiveSegment(
                        number,
                        current[name],
                        date.as_integer_ratio(),
                        discontinuity=begins and state == "D",
                        gap=is_gap,
                        duration=duration,
                        stored=None if is_gap else stored,
                    )
                )
            number, date = number + 1, date + duration
    return found


def aligned(segments: Segments) -> dict[str, list[LiveSegment]]:
    """Put gaps where a rendition lacks a number that another one has."""
    known = {one.number: one for own in reversed(list(segments.values())) for one in own}
    found = {}
    for name, own in segments.items():
        there = {one.number: one for one in own}
        found[name] = [
            there.get(number) or replace(known[number], timeline=None, gap=True, stored=None)
            for number in sorted(known)
        ]
    return found
