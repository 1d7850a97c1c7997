"""Sections of SCTE 35: the standard's own examples (ANSI/SCTE 35 §14), and what is none."""

from __future__ import annotations

import base64
import random

import pytest

from media.errors import MalformedError, MediaError
from media.ts.splice_info import Splice, SpliceKind, read_splice
from tests.media.ts.splice_sections import back, section

INSERT = "/DAvAAAAAAAA///wFAVIAACPf+/+c2nALv4AUsz1AAAAAAAKAAhDVUVJAAABNWLbowo="
TIME_SIGNAL = "/DA0AAAAAAAA///wBQb+cr0AUAAeAhxDVUVJSAAAjn/PAAGlmbAICAAAAAAsoKGKNAIAmsnRfg=="


def of(text: str) -> Splice | None:
    return read_splice(base64.b64decode(text))


def test_the_examples_of_the_standard_say_what_it_says() -> None:
    # §14.2: out for 60.293 s at 0x07369C02E, and back by itself.
    out = of(INSERT)
    assert out == Splice(SpliceKind.OUT, f"insert-{0x4800008F}", 0x07369C02E, 0x00052CCF5, returns=True)
    # §14.1: a placement opportunity of 307 s begins.
    placement = of(TIME_SIGNAL)
    name = f"segmentation-{0x4800008E}-{0x34}"
    assert placement == Splice(SpliceKind.OUT, name, 0x072BD0050, 0x0001A599B0)


def test_the_way_back_has_the_name_of_the_way_out() -> None:
    assert read_splice(section(back(7, 900), 5)) == Splice(SpliceKind.IN, "insert-7", 900)
    # §9.6: pts_adjustment is added, modulo 2^33.
    assert read_splice(section(back(7, 900), 5, adjustment=(1 << 33) - 100)) == Splice(
        SpliceKind.IN, "insert-7", 800
    )
    # Type 0x35 ends what 0x34 begins.
    descriptor = b"\2\x0fCUEI\0\0\0\x08\x7f\xbf\0\0\x35\0\0"
    found = read_splice(section(b"\x7f", 6, descriptor))
    assert found == Splice(SpliceKind.IN, f"segmentation-8-{0x34}")


def test_what_is_sent_to_be_heard_of_says_nothing() -> None:
    assert read_splice(section(b"", 0)) is None
    assert read_splice(section(b"", 7)) is None
    assert read_splice(section(b"", 4)) == Splice(SpliceKind.COMMAND)


def test_damaged_sections_are_refused_and_never_more() -> None:
    whole = base64.b64decode(INSERT)
    for at in range(len(whole)):
        with pytest.raises(MediaError):
            read_splice(whole[:at])
        with pytest.raises(MalformedError):
            read_splice(whole[:at] + bytes((whole[at] ^ 1,)) + whole[at + 1 :])
    chance = random.Random(35)
    for _ in range(2000):
        broken = section(chance.randbytes(chance.randrange(40)), chance.choice((5, 6)), chance.randbytes(9))
        try:
            read_splice(broken)
        except MediaError:
            continue
