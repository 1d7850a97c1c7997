"""No regular expression of the program takes more than a bounded time for each character of any text.

One that can match the same text in several ways tries them all before it fails: up to two to the power of
the text's length. So each is tried with texts that repeat what it is made of, and end wrong.
"""

from __future__ import annotations

import importlib
import itertools
import pkgutil
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

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
