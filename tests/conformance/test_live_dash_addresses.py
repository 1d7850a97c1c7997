"""What a live DASH manifest names is never unknown, whenever a player asks for it by its clock."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from xml.etree import ElementTree

import pytest

from packager.process.ffmpeg_discovery import Tools
from tests.conformance.handfed import OPTIONS, PARTS, HandFed, Track, on_air

NAMES = {"": "urn:mpeg:dash:schema:mpd:2011"}
FOLDER = "/live/test"
MOST_ASKED = 4
"""Segments that are asked for at either end of what is available."""


def _seconds(text: str | None) -> Fraction | None:
    found = re.fullmatch(r"PT([0-9.]+)S", text or "")
    return None if found is None else Fraction(found[1])


@dataclass(frozen=True)
class Player:
    """A player that counts segments by its clock from each period's beginning on (§5.3.9.5.3)."""

    manifest: ElementTree.Element

    def named(self, now: Fraction) -> Iterator[str]:
        """Give the addresses that are available at a time, of either end, with their init segments."""
        depth = _seconds(self.manifest.get("timeShiftBufferDepth"))
        assert depth is not None
        for period in self.manifest.findall("Period", NAMES):
            start, length = _seconds(period.get("start")), _seconds(period.get("duration"))
            assert start is not None
            for one in period.findall("AdaptationSet/Representation", NAMES):
                template, base = one.find("SegmentTemplate", NAMES), one.find("BaseURL", NAMES)
                assert template is not None
                assert base is not None
                folder = f"{FOLDER}/{base.text}"
                step = Fraction(int(template.attrib["duration"]), int(template.attrib["timescale"]))
                offset = Fraction(template.attrib["availabilityTimeOffset"])
                first, last = int(template.attrib["startNumber"]), template.get("endNumber")
                # §5.3.9.5.3: from its end, less the offset, until the buffer's depth behind that.
                newest = int((now - start + offset) // step) - 1
                if length is not None:
                    newest = min(newest, -int(-length // step) - 1)
                if last is not None:
                    newest = min(newest, int(last) - first)
                oldest = max(0, -int(-(now - depth - start) // step) - 1)
                indexes = range(oldest, newest + 1)
                if indexes:
                    yield folder + template.attrib["initialization"]
                for index in {*indexes[:MOST_ASKED], *indexes[-MOST_ASKED:]}:
                    yield folder + template.attrib["media"].replace("$Number$", str(first + index))


def manifest(fed: HandFed) -> Player:
    answer = fed.ask(f"{FOLDER}/manifest.mpd")
    assert answer.status == 200
    return Player(ElementTree.fromstring(answer.body))


LATE = [Fraction(tenths, 10) for tenths in (0, 2, 5, 8, 11, 14, 25, 90, 125, 600)]
"""Seconds by which the source, or the server, is behind the clock."""


def test_what_is_named_is_there_or_said_to_come(
    material: dict[str, Track], tools: Tools, tmp_path: Path
) -> None:
    # Nobody waits here: what would be waited for is answered with 503.
    publish = replace(OPTIONS.limits.publish, blocked_target_durations=0, segment_seconds=0)
    options = replace(OPTIONS, limits=replace(OPTIONS.limits, publish=publish))
    statuses: dict[str, set[int]] = {}
    with on_air(material, tools, tmp_path, options, patient=False) as fed:
        window = fed.channel.renditions["240p"].window
        fed.publish(8 * PARTS + 2)

        def look(what: str, held: Player | None = None) -> None:
            """Ask for all that a manifest names now, or one that was asked for before."""
            newest = window.newest
            assert newest is not None
            end, known = newest.program_date_time + newest.duration, held
            for late in LATE:
                fed.channel.stream.wall_clock = lambda now=float(end + late): now  # type: ignore[misc]
                player = known or manifest(fed)
                for address in player.named(end + late):
                    statuses.setdefault(what, set()).add(status := fed.ask(address, method="HEAD").status)
                    assert status in (200, 503), (what, float(late), address)

        look("in the middle of a segment")
        for _ in range(PARTS):
            fed.publish()
            look("part by part")
        fed.publish(2 * PARTS, "audio")
        look("where the sound is ahead")
        fed.restart(3)
        look("behind a break, before the first part")
        fed.publish()
        look("behind a break, with the first part")
        for seconds, parts in itertools.product((0, 1, 7), (1, PARTS, 3)):
            fed.publish(parts)
            fed.restart(seconds)
            fed.publish()
            look("behind many breaks")
        for _ in range(9):
            fed.publish(PARTS)
            look("where the oldest leave")
    assert {200, 503} <= set.union(*statuses.values())


@pytest.mark.parametrize("parts", [2, PARTS])
def test_what_was_named_before_the_end_of_all_is_a_time_without_samples(
    material: dict[str, Track], tools: Tools, tmp_path: Path, parts: int
) -> None:
    with on_air(material, tools, tmp_path) as fed:
        fed.publish(8 * PARTS + parts)
        newest = fed.channel.renditions["240p"].window.newest
        assert newest is not None
        end, before = newest.program_date_time + newest.duration, manifest(fed)
        fed.end()
        # A player asks for the manifest again within its update period.
        fed.channel.stream.wall_clock = lambda: float(end + 2)
        named = list(before.named(end + Fraction(2)))
        for address in named:
            assert fed.ask(address).status == 200, address
        # What is then of type static names nothing behind its end.
        fed.channel.stream.wall_clock = lambda: float(end + 100)
        statuses = {fed.ask(address).status for address in named}
        assert statuses == {200, 404}
