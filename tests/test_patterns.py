"""No regular expression of the program takes more than a bounded time for each character of any text.

``python -m tests.patterns`` prints how long each takes for the worst texts.

One that can match the same text in several ways tries them all before it fails: up to two to the power of
the text's length. So each is tried with texts that repeat what it is made of, and end wrong.
"""

from __future__ import annotations

import importlib
import itertools
import math
import pkgutil
import re
import time
from collections.abc import Callable, Iterator
from operator import attrgetter
from typing import Any

import pytest

from origin.http.trusted_proxies import MAX_ELEMENT_CHARS
from origin.token_relay.upstream import ERROR_BYTES
from tests.loop_watch import slowness
from tests.patterns import MEBIBYTE, UsedPattern, worst
from tests.patterns import patterns as used_patterns

COUNTS = ((4, 8, 12, 16), (18, 20, 22, 24), (64,), (512,), (4096,))
"""Repetitions until each look at the clock: a bad pattern is noticed before one of them takes minutes."""

SECONDS = 0.5
MOST_CHARACTERS = 14
USUAL = " \t,;:=\"'a0-./%\r\n"


def patterns() -> Iterator[tuple[str, re.Pattern[str] | re.Pattern[bytes]]]:
    """All that stand at the top of a module, or in a tuple or a mapping there."""
    for floor in ("media", "packager", "origin"):
        for module in pkgutil.walk_packages([floor], f"{floor}."):
            if module.name.endswith("__main__") or module.name == "packager.process.launcher":
                continue
            for name, value in vars(importlib.import_module(module.name)).items():
                values = value if isinstance(value, tuple) else (value,)
                for one in values:
                    if isinstance(one, re.Pattern):
                        yield f"{module.name}.{name}", one


FOUND = {pattern: name for name, pattern in patterns()}


def units(source: str) -> list[str]:
    """Give texts to repeat: each character that it names, and pairs and threes of the first of them."""
    named = [char for char in dict.fromkeys(source) if not char.isalnum() and char not in "\\()[]{}?*+|^$"]
    words = re.findall(r"[A-Za-z0-9]{1,12}", source)
    chars = list(dict.fromkeys([*named[:MOST_CHARACTERS], *USUAL]))
    pairs = ["".join(pair) for pair in itertools.product(chars, repeat=2)]
    return [*chars, *pairs, *words, *(f"{one}    " for one in chars), *(f"a=a{one} " for one in chars)]


@pytest.mark.slow
@pytest.mark.parametrize("pattern", FOUND, ids=FOUND.values())
def test_a_pattern_takes_linear_time_for_texts_that_nearly_match(
    pattern: re.Pattern[str] | re.Pattern[bytes],
) -> None:
    source = pattern.pattern if isinstance(pattern.pattern, str) else pattern.pattern.decode("latin-1")
    # It tries all that match() tries, in the same order, and what match() would end with, too.
    fullmatch: Callable[[Any], object] = pattern.fullmatch
    begin = time.thread_time()
    for unit in units(source):
        for head, counts in itertools.product(("", unit[:1] + "x"), COUNTS):
            for count in counts:
                text = head + unit * count + "\x01"
                fullmatch(text.encode("latin-1", "replace") if isinstance(pattern.pattern, bytes) else text)
            begin, before = time.thread_time(), begin
            assert begin - before < SECONDS, (FOUND[pattern], unit, counts)


WHOLE_SECONDS = 0.1
"""Most processor time for a mebibyte of the worst text."""

STEP_SECONDS = 0.04
"""Most for the longest text of a pattern that takes more: twice what a step of the event loop may take."""

BOUNDED = {
    "origin.http.trusted_proxies: _PAIRS": MAX_ELEMENT_CHARS,
    "origin.http.trusted_proxies: _ELEMENT": MAX_ELEMENT_CHARS,
    # Error bodies of upstream servers; lines of logs and of ffmpeg are shorter.
    "packager.redaction: _FIELD": ERROR_BYTES,
    # The program's own playlists.
    "packager.recordings.recording_writer: _RENDITION": 64 << 10,
}
"""Longest texts of the patterns that take more, in characters: the code that calls them sees to it."""

PLAIN = UsedPattern("a digit", re.compile("[0-9]"), is_repeated=True)

ROUNDS = 8

PLAIN_SHARE = 2.5
"""A mebibyte of the worst text may take so many times as long as one whose characters all match a plain
pattern: the dearest of the program's takes twice as long, and what isn't linear thousands of times.
"""

MADE_LATER = {
    "packager.dvr.disk_rendition: _segment_name",
    "packager.hashed_file_cache: _name",
    "origin.vod.addresses: f'{PREFIX}(?P<film>.*)/' + below.replace('.', '\\\\.').format_map(_NAMES)",
}
"""Patterns that a running function makes of names and of texts without any choice."""


USED = {used.name: used for used in used_patterns()}


@pytest.mark.slow
@pytest.mark.parametrize(
    "used", [used for used in USED.values() if used.compiled is not None], ids=attrgetter("name")
)
def test_the_longest_text_of_a_pattern_takes_little_time(used: UsedPattern) -> None:
    most = BOUNDED.get(used.name)
    allowed = WHOLE_SECONDS if most is None else STEP_SECONDS
    most = most or MEBIBYTE
    found = worst(used, most)
    seconds, plain = found.seconds * most / found.size, math.inf
    # In turns: what else a machine does comes and goes.
    for _ in range(ROUNDS):
        if seconds < allowed:
            return
        seconds = min(seconds, used.seconds(found.unit, found.size) * most / found.size)
        plain = min(plain, PLAIN.seconds("0", MEBIBYTE))
    assert seconds < allowed * max(slowness(), PLAIN_SHARE * plain / WHOLE_SECONDS), found


def test_every_other_pattern_is_made_of_names() -> None:
    assert {used.name for used in USED.values() if used.compiled is None} == MADE_LATER
    assert USED.keys() >= BOUNDED.keys()


@pytest.mark.parametrize(
    ("pattern", "is_repeated"),
    [
        (r"(?:key|hdn[a-z]+)=", True),
        (r"(\{[^}]*\})|\\([Nnh])", True),
        (r"<p(?:[ \t][^\n]*?)?>", True),
        (r"(?:a|a )*b", False),
    ],
)
def test_a_pattern_that_takes_long_is_noticed(pattern: str, is_repeated: bool) -> None:
    found = worst(UsedPattern("", re.compile(pattern), is_repeated=is_repeated), 1 << 13)
    assert found.seconds_per_mebibyte > WHOLE_SECONDS
